"""Files that are there whole or not at all."""

from __future__ import annotations

import errno
import os
from collections.abc import Mapping
from pathlib import Path


def write_files(contents: Mapping[Path, bytes]) -> None:
    """Write every file beside its place, and once all are written move each to its place, in the order given.

    Where one cannot be written, none has changed.

    Raises:
        OSError: a folder is missing, is not writable or is full, or one of the paths is itself a folder.
    """
    for path in contents:
        if path.is_dir():
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))
    temporary = {path: path.with_name(f".{path.name}.{os.getpid()}.tmp") for path in contents}
    try:
        for path, beside in temporary.items():
            beside.write_bytes(contents[path])
        for path, beside in temporary.items():
            beside.replace(path)
    finally:
        for beside in temporary.values():
            beside.unlink(missing_ok=True)
