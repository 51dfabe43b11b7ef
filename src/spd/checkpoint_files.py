"""The files of a checkpoint on disk: whose they are, and what a killed save left of them."""

from __future__ import annotations

import contextlib
import hashlib
import json
from pathlib import Path

from spd.files import staged_files

WEIGHTS_FILE = "model.safetensors"
CONFIG_FILE = "config.json"
CARD_FILE = "README.md"


def finish_interrupted_save(folder: Path) -> None:
    """Move ``config.json`` to its place where a kill came between the weights' move and its own."""
    if (waiting := waiting_config(folder)) is not None:
        waiting.replace(folder / CONFIG_FILE)


def waiting_config(folder: Path) -> Path | None:
    """The configuration that a killed save left beside its place, if the weights in the folder are those of it."""
    staged = staged_files(folder / CONFIG_FILE)
    if not staged or not (folder / WEIGHTS_FILE).is_file():
        return None
    found = checksum_of((folder / WEIGHTS_FILE).read_bytes())
    for path in (folder / CONFIG_FILE, *staged):
        with contextlib.suppress(OSError, ValueError, RecursionError, TypeError, KeyError):
            if json.loads(path.read_bytes())["checksum"] == found:
                return path if path in staged else None
    return None


def refuse_files_of_others(folder: Path) -> None:
    """Raise ``ValueError`` where a save would replace something that is no checkpoint's."""
    taken = [name for name in (CARD_FILE, WEIGHTS_FILE, CONFIG_FILE) if (folder / name).exists()]
    try:
        own = not taken or {"format", "checksum"} <= set(json.loads((folder / CONFIG_FILE).read_bytes()))
    except (OSError, ValueError, RecursionError, TypeError):
        own = False
    if not own:
        raise ValueError(f"{folder} has a {taken[0]} that is of no checkpoint of SPD; choose another folder")


def checksum_of(contents: bytes) -> str:
    """As ``config.json`` has that of the weights."""
    return f"sha256:{hashlib.sha256(contents).hexdigest()}"
