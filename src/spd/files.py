"""Files that are there whole or not at all, whatever ends the process that writes them."""

from __future__ import annotations

import contextlib
import errno
import os
import socket
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import IO, TYPE_CHECKING

from spd.messages import one_line

if TYPE_CHECKING:
    import numpy as np

_UNSEEN = ("lost+found",)
"""What a file system puts into an empty folder of its own."""


def write_files(contents: Mapping[Path, bytes], *, synced: bool = True) -> None:
    """Write every file beside its place, and once all are on the disk move each to its place, in the order given.

    Where one cannot be written, none has changed. A process that is killed leaves at most files beside, whose names
    begin with a dot and end in ``.tmp``: :func:`remove_leftovers` takes them away.

    Args:
        contents: the files.
        synced: wait until the disk has them, so that they outlast a power cut too. For thousands of small files that
            can be made again it takes too long.

    Raises:
        OSError: a folder is missing, is not writable or is full, or one of the paths is itself a folder; it names the
            file that was asked for.
    """
    for path in contents:
        _refuse_folder(path)
    staged = {path: _beside(path) for path in contents}
    try:
        for path, beside in staged.items():
            with _naming(path), beside.open("wb") as file:
                file.write(contents[path])
                if synced:
                    _to_disk(file)
        for path, beside in staged.items():
            with _naming(path):
                beside.replace(path)
        if synced:
            for folder in {path.parent for path in contents}:
                _folder_to_disk(folder)
    finally:
        for beside in staged.values():
            beside.unlink(missing_ok=True)


@contextlib.contextmanager
def replacing(path: Path) -> Iterator[IO[bytes]]:
    """A file to write into, which takes the place of ``path`` at the end of the block; not where that raises.

    Raises:
        OSError: as of :func:`write_files`.

    Example:
        >>> with replacing(Path("numbers.bin")) as file:  # doctest: +SKIP
        ...     file.write(bytes(range(10)))
    """
    _refuse_folder(path)
    beside = _beside(path)
    try:
        with _naming(path), beside.open("wb") as file:
            yield file
            _to_disk(file)
        with _naming(path):
            beside.replace(path)
        _folder_to_disk(path.parent)
    finally:
        beside.unlink(missing_ok=True)


@contextlib.contextmanager
def staged(path: Path) -> Iterator[Path]:
    """Where another program is to write ``path``: it is moved to its place at the end of the block, as by
    :func:`replacing`."""
    beside = _beside(path)
    try:
        yield beside
        with beside.open("rb") as file:
            os.fsync(file.fileno())
        with _naming(path):
            beside.replace(path)
        _folder_to_disk(path.parent)
    finally:
        beside.unlink(missing_ok=True)


def remove_leftovers(folder: Path) -> None:
    """Take away what writes that were killed on this machine left in ``folder``; no folder, nothing to do."""
    if folder.is_dir():
        for path in folder.glob(f".*.{_host()}-*.tmp"):
            _remove_if_abandoned(path)


def require_free_or_own(folder: Path, marks: Sequence[str], holds: str, option: str = "--output") -> None:
    """Refuse to write into somebody else's folder.

    Args:
        folder: may be absent. Names that begin with a dot do not count.
        marks: names, or patterns of names, of which a folder that SPD wrote for this purpose has one.
        holds: what such a folder holds, for the message.
        option: how the user named it.

    Raises:
        ValueError: it is a file, or has files and none of ``marks``.
    """
    if folder.exists() and not folder.is_dir():
        raise ValueError(f"{option} must be a folder, got the file {folder}")
    if not folder.is_dir() or any(next(folder.glob(mark), None) for mark in marks):
        return
    others = sorted(path.name for path in folder.iterdir() if path.name[0] != "." and path.name not in _UNSEEN)
    if others:
        raise ValueError(
            f"{option} must be a new or empty folder or one that holds {holds}, got {folder} with {others[0]}"
            + (f" and {len(others) - 1} more" if len(others) > 1 else "")
        )


def read_npy(path: Path) -> np.ndarray:
    """The array of a ``.npy`` file; executes nothing that it holds.

    Raises:
        ValueError: it is damaged or holds something else.
        OSError: there is no such file.
    """
    import numpy as np

    try:
        array = np.load(path, allow_pickle=False)
    except OSError:
        raise
    except Exception as error:  # Of a damaged header: of syntax, of tokens, of memory and more.
        raise ValueError(f"{path} is not a .npy array of numbers: {one_line(error, 160)}") from None
    if not isinstance(array, np.ndarray):
        raise ValueError(f"{path} must hold one .npy array, got an archive of arrays")
    return array


def expanded(path: str | Path) -> Path:
    """The path with ``~`` and ``~name`` as a shell would have it.

    Raises:
        ValueError: there is no such user.
    """
    try:
        return Path(path).expanduser()
    except RuntimeError as error:
        raise ValueError(f"there is no home folder for {path}: {error}") from None


def staged_files(path: Path) -> list[Path]:
    """What writes of ``path`` left beside it, those under way too; the newest first."""
    found = []
    for beside in path.parent.glob(f".{path.name}.*.tmp"):
        with contextlib.suppress(OSError):
            found.append((beside.stat().st_mtime_ns, beside))
    return [beside for _, beside in sorted(found, reverse=True)]


def _beside(path: Path) -> Path:
    """Where ``path`` is written first."""
    return path.with_name(f".{path.name}.{_host()}-{os.getpid()}.tmp")


def _host() -> str:
    """Of this machine, as part of a file's name: a folder may be shared by several, whose process ids are their own."""
    return "".join(letter for letter in socket.gethostname() if letter.isalnum() or letter == "_") or "here"


def _remove_if_abandoned(path: Path) -> None:
    number = path.name.removesuffix(".tmp").rpartition("-")[2]
    if number.isdigit() and int(number) != os.getpid() and not _is_running(int(number)):
        with contextlib.suppress(OSError):
            path.unlink()


def _is_running(process: int) -> bool:
    try:
        os.kill(process, 0)
    except (ProcessLookupError, OverflowError):
        return False
    except OSError:
        return True
    return True


def _refuse_folder(path: Path) -> None:
    if path.is_dir():
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))


@contextlib.contextmanager
def _naming(path: Path) -> Iterator[None]:
    """An error of writing names the file that was asked for: a full disk names none, others the one beside it."""
    try:
        yield
    except OSError as error:
        if error.errno is None:
            raise
        raise OSError(error.errno, os.strerror(error.errno), str(path)) from error


def _to_disk(file: IO[bytes]) -> None:
    file.flush()
    os.fsync(file.fileno())


def _folder_to_disk(folder: Path) -> None:
    """The names of moved files are on the disk once their folder is; not every file system can be asked for that."""
    with contextlib.suppress(OSError):
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
