"""From an exception to one line on standard error and an exit status; only a bug shows a traceback."""

from __future__ import annotations

import contextlib
import os
import re
import sys
import warnings
from collections.abc import Iterator

from spd.training.stopping import Stopped

STANDARD_OUTPUT = "standard output"
FAILED, CORRECTABLE, INTERRUPTED, BROKEN_PIPE = 1, 2, 130, 141

EXTRA_OF_MODULE = {
    "lightning": "train",
    "tensorboard": "train",
    "h5py": "data",
    "scipy": "data",
    "matplotlib": "plot",
    "transformers": "baselines",
    "onnx": "onnx",
    "onnxscript": "onnx",
    "onnxruntime": "onnx",
    "openvino": "openvino",
    "fastapi": "serve",
    "uvicorn": "serve",
    "multipart": "serve",
    "prometheus_client": "serve",
    "gradio": "serve",
    "ray": "batch",
    "pyarrow": "batch",
}
"""Modules that a plain install lacks, and the extra that brings each."""


class UsageError(ValueError):
    """A command line that cannot be understood; names the command whose help says how."""

    def __init__(self, prog: str, message: str) -> None:
        super().__init__(f"{message} (see {prog} --help)")


class CommandFailed(Exception):
    """A run that started well and failed, such as a training whose loss is no longer finite; exit status 1."""


def report(error: BaseException) -> int:
    """Print the one line of ``error`` and return the exit status; raise again what only a bug can raise."""
    if isinstance(error, BrokenPipeError):
        # The reader went away, as `head` does. Python flushes standard output once more at exit: give it a sink.
        _silence_standard_output()
        return BROKEN_PIPE
    if isinstance(error, KeyboardInterrupt):
        return say("interrupted", INTERRUPTED)
    if isinstance(error, Stopped):
        return say(str(error), error.status)
    if isinstance(error, CommandFailed):
        return say(f"error: {error}", FAILED)
    if isinstance(error, ImportError) and (extra := missing_extra(error)):
        return say(f"error: {error.name} is not installed; pip install 'spd-depth[{extra}]'", CORRECTABLE)
    if isinstance(error, OSError) and error.filename == STANDARD_OUTPUT:
        _silence_standard_output()
    if isinstance(error, OSError) and error.strerror and error.filename is not None:
        return say(f"error: {error.filename}: {error.strerror}", CORRECTABLE)
    if isinstance(error, OSError) and error.strerror:
        # Files are named where they are written.
        return say(f"error: standard output or a temporary file: {error.strerror}", CORRECTABLE)
    if isinstance(error, (ValueError, OSError)):
        return say(f"error: {_without_traceback(str(error))}", CORRECTABLE)
    raise error


def _silence_standard_output() -> None:
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _without_traceback(message: str) -> str:
    """What a process that loads data met: PyTorch raises it again with the whole traceback as its message."""
    if "Original Traceback (most recent call last)" not in message:
        return message
    return re.sub(r"^[\w.]+: ", "", message.strip().splitlines()[-1])


@contextlib.contextmanager
def one_line_warnings() -> Iterator[None]:
    """Meanwhile a warning is one line that begins as an error does, without the place in the code that gave it."""
    before = warnings.formatwarning
    warnings.formatwarning = lambda message, *_, **__: f"spd: warning: {' '.join(str(message).split())}\n"
    try:
        yield
    finally:
        warnings.formatwarning = before


def missing_extra(error: ImportError) -> str | None:
    """The extra that would have brought the module; None for any other module."""
    return EXTRA_OF_MODULE.get((error.name or "").partition(".")[0])


def say(message: str, status: int) -> int:
    """Print ``spd: message`` on standard error, as one line whatever it holds, and return ``status``."""
    print("spd:", " ".join(message.split()), file=sys.stderr)
    return status
