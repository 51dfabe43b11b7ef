"""Beginning to write a data set: in a folder of its own, which the next try knows again."""

from __future__ import annotations

from pathlib import Path

from spd.data.manifest import MANIFEST
from spd.files import remove_leftovers, require_free_or_own

_MARK = ".spd-data"
"""A file that says that what lies beside it was written by SPD: the manifest comes last."""


def begin_data_set(folder: Path) -> None:
    """Make the folder and mark it as begun, or find one that was begun or is whole; take leftovers of kills away.

    Raises:
        ValueError: it has files of something else.
    """
    require_free_or_own(folder, (_MARK, MANIFEST), "a data set", "the folder of the data set")
    folder.mkdir(parents=True, exist_ok=True)
    (folder / _MARK).touch()
    remove_leftovers(folder)


def end_data_set(folder: Path) -> None:
    """Take the mark away, once the manifest is written."""
    (folder / _MARK).unlink(missing_ok=True)
