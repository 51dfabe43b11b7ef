"""The kernels' shared library: compiled once for a machine, and kept.

As Triton's kernels for a GPU are, those for a CPU are compiled where they run, for the vectors that it has; it takes a
few seconds. There is none without a C++ compiler, elsewhere than on Linux, or with ``SPD_NATIVE=0`` in the
environment: PyTorch's own operators then do the same in more passes over memory.
"""

from __future__ import annotations

import ctypes
import hashlib
import os
import shlex
import shutil
import subprocess
import sys
import tempfile
import warnings
from functools import lru_cache
from pathlib import Path
from threading import Lock

from spd.files import remove_leftovers, staged

SWITCH = "SPD_NATIVE"
"""Of the environment: 0, false, no or off turns the kernels off."""
_OFF = ("0", "false", "no", "off")
_SOURCES = Path(__file__).parent / "kernels"
_FLAGS = (
    *("-std=c++17", "-O3", "-march=native", "-fopenmp", "-shared", "-fPIC"),
    # Nobody reads errno or floating-point exceptions, and functions with vectors are never called from outside.
    *("-fno-math-errno", "-fno-trapping-math", "-Wno-psabi"),
)


_COMPILING = Lock()
"""Threads that ask at once would write the same file."""


def is_switched_off() -> bool:
    """Whether the environment turns the kernels, and all other quick modules, off."""
    return os.environ.get(SWITCH, "").lower() in _OFF


@lru_cache
def library() -> ctypes.CDLL | None:
    """The kernels, compiled at the first call on a machine; None where there are none.

    Warns, once, of a compiler that fails.
    """
    compiler = find_compiler()
    if compiler is None or is_switched_off():
        return None
    try:
        with _COMPILING:
            return _load(compiler)
    except (OSError, subprocess.CalledProcessError) as error:
        warnings.warn(
            f"SPD's kernels for CPUs could not be compiled, PyTorch's own operators answer instead "
            f"({_reason(error)}); {SWITCH}=0 leaves them out",
            RuntimeWarning,
            stacklevel=2,
        )
        return None


def _reason(error: OSError | subprocess.CalledProcessError) -> str:
    """In one line."""
    if isinstance(error, OSError):
        return str(error)
    said = error.stderr.strip().splitlines()
    return said[0] if said else f"{error.cmd[0]} ended with status {error.returncode}"


def find_compiler() -> list[str] | None:
    """The command of a C++ compiler: ``CXX`` of the environment or, where that is not set, a usual one."""
    if not sys.platform.startswith("linux"):
        return None  # Elsewhere OpenMP, which shares PyTorch's threads, takes more than a flag.
    try:
        named = shlex.split(os.environ.get("CXX", ""))
    except ValueError as error:
        warnings.warn(f"CXX={os.environ['CXX']} is no command ({error}); SPD's kernels are left out", stacklevel=2)
        return None
    for command in [named] if named else [["g++"], ["clang++"]]:
        if shutil.which(command[0]):
            return command
    return None


def cache_folder() -> Path:
    """Where compiled kernels are kept: ``spd`` in the user's cache folder."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "spd"


def _load(compiler: list[str]) -> ctypes.CDLL:
    name = f"kernels-{_fingerprint(compiler)}.so"
    folder = _existing_cache()
    if folder is not None and (folder / name).exists():
        return ctypes.CDLL(str(folder / name))
    if folder is not None and not os.access(folder, os.W_OK):
        folder = None
    if folder is None:
        with tempfile.TemporaryDirectory() as temporary:
            # Mapped into memory it needs its file no more.
            return ctypes.CDLL(str(_compile(compiler, Path(temporary, name))))
    remove_leftovers(folder)
    with staged(folder / name) as beside:
        # Moved when it is whole: another process may be at it too.
        _compile(compiler, beside)
        return ctypes.CDLL(str(beside))


def _existing_cache() -> Path | None:
    """None where there is no home, or none for a cache."""
    try:
        folder = cache_folder()
        folder.mkdir(parents=True, exist_ok=True)
    except (OSError, RuntimeError):
        return None
    return folder


def _compile(compiler: list[str], target: Path) -> Path:
    command = [*compiler, *_FLAGS, str(_SOURCES / "kernels.cpp"), "-o", str(target)]
    subprocess.run(command, check=True, capture_output=True, text=True)
    return target


def _fingerprint(compiler: list[str]) -> str:
    """Of all that the library depends on: the sources, the flags, the compiler, and what it takes this machine for."""
    command = [*compiler, *_FLAGS, "-dM", "-E", "-x", "c++", os.devnull]
    macros = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    found = hashlib.sha256((macros + " ".join((*compiler, *_FLAGS))).encode())
    for source in sorted(_SOURCES.iterdir()):
        found.update(source.read_bytes())
    return found.hexdigest()[:16]
