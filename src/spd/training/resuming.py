"""What the folder of a run holds, and whether a configuration may begin, continue or extend it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any, NamedTuple

from spd.checkpoint import WEIGHTS_FILE, finish_interrupted_save, read_config
from spd.checkpoint_files import checksum_of
from spd.files import remove_leftovers, require_free_or_own, write_files
from spd.train_config import TrainConfig
from spd.training.saving import RESUME_FILE, read_state
from spd.training.surroundings import is_first_process
from spd.variant import with_nested_variant

CONFIG_FILE = "train.json"
# What may change between a run and its continuation without changing what is learnt.
_FREE_FIELDS = {"output", "resume", "extend", "accelerator", "log_every", "checkpoint_every", "validate_every"}
_FREE_DATA_FIELDS = {"root", "num_workers", "terms", "cache"}
_FIRST_PRECISIONS = {"32": "float32", "bf16": "bfloat16"}
"""As a first version called them."""
_LENGTH_FIELDS = {"epochs", "max_steps"}


class Progress(NamedTuple):
    """How far a run is, as ``last.ckpt`` says."""

    steps: int
    total_steps: int | None
    """None where an earlier version wrote it."""
    validation: Mapping[str, float]
    """The last figures, by name."""
    extended_at: tuple[int, ...]
    """Steps at which the run was to end and was made longer."""


def prepare_folder(config: TrainConfig) -> Progress | None:
    """Where the run begins: None is at its beginning, in a folder that is new or was left before the first save.

    Raises:
        ValueError: the folder is somebody else's; it holds a run and ``resume`` is off, or none and it is on; the
            configurations differ in more than ``resume`` and ``extend`` allow; or the state is damaged.
    """
    folder = config.output
    require_free_or_own(folder, (CONFIG_FILE, RESUME_FILE, WEIGHTS_FILE), "a run")
    has_state, has_weights = (folder / RESUME_FILE).is_file(), (folder / WEIGHTS_FILE).exists()
    first = is_first_process()
    if first:
        finish_interrupted_save(folder)
        remove_leftovers(folder)
    if config.resume and has_state and (folder / CONFIG_FILE).is_file():
        _require_same_run(config)
        return read_progress(folder, checked=first)
    if not first:
        # The first process has looked, and may have begun to write.
        return None
    if has_state and not config.resume:
        raise ValueError(f"{folder} already holds a run; continue it with --resume or choose another --output")
    if has_state:
        raise ValueError(f"{folder} has {RESUME_FILE} without {CONFIG_FILE}, so nobody knows what it continues")
    if has_weights:
        raise ValueError(
            f"{folder} already holds a run of which only the weights are left, without {RESUME_FILE}; choose another "
            f"--output, and start from these weights with --init {folder}"
        )
    if config.resume is True:
        raise ValueError(
            f"{folder} has nothing to resume: expected {RESUME_FILE} and {CONFIG_FILE} in it; leave out --resume, or "
            "say --resume auto"
        )
    return None


def read_progress(folder: Path, *, checked: bool = True) -> Progress:
    """How far the run in ``folder`` is; see :func:`spd.training.saving.read_state`."""
    state = read_state(folder / RESUME_FILE, checked=checked)
    kept = state["callbacks"].get("SaveState", {})
    return Progress(
        steps=state["global_step"],
        total_steps=kept.get("total_steps"),
        validation=kept.get("validation", {}),
        extended_at=tuple(kept.get("extended_at", ())),
    )


def has_answers_of(folder: Path, steps: int) -> bool:
    """Whether the checkpoint for answering is whole and has the weights after so many steps."""
    try:
        config = read_config(folder)
        weights = (folder / WEIGHTS_FILE).read_bytes()
    except (ValueError, OSError):
        return False
    return config["provenance"].get("steps") == steps and config["checksum"] == checksum_of(weights)


def write_config(config: TrainConfig) -> None:
    """Write the configuration of the run into its folder, which is made where it is missing."""
    config.output.mkdir(parents=True, exist_ok=True)
    write_files({config.output / CONFIG_FILE: (json.dumps(_as_json(config), indent=2) + "\n").encode()})


def _require_same_run(config: TrainConfig) -> None:
    before, now = _read_config(config.output / CONFIG_FILE), _as_json(config)
    differing = sorted(_fixed_differences(before, now))
    changed = [name for name in differing if not (config.extend and name in _LENGTH_FIELDS)]
    if not changed:
        return
    way = "; a run is made longer with --resume --extend" if set(changed) <= _LENGTH_FIELDS else ""
    raise ValueError(
        f"--resume continues a run as it was configured, but these fields differ: {', '.join(changed)}{way}"
    )


def _read_config(stored: Path) -> dict[str, Any]:
    """The configuration of a run; a field that came after it was begun had what is its default now."""
    defaults = _as_json(TrainConfig())
    try:
        config = json.loads(stored.read_text("utf-8"))
        config["model"] = with_nested_variant(config["model"])
        config["precision"] = _FIRST_PRECISIONS.get(config["precision"], config["precision"])
        filled = {name: _filled_up(config.get(name, value), value) for name, value in defaults.items()}
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        raise ValueError(f"{stored} is not the configuration of a run: {error}") from None
    return {**config, **filled}


def _filled_up(value: Any, default: Any) -> Any:
    if not isinstance(default, dict):
        return value
    return {**value, **{name: _filled_up(value.get(name, of), of) for name, of in default.items()}}


def _fixed_differences(before: dict[str, Any], now: dict[str, Any]) -> list[str]:
    differing = []
    for name in now.keys() | before.keys():
        old, new = before.get(name), now.get(name)
        if name in _FREE_FIELDS or old == new:
            continue
        if isinstance(old, dict) and isinstance(new, dict):
            free = _FREE_DATA_FIELDS if name == "data" else set()
            inner = sorted((old.keys() | new.keys()) - free)
            differing += [f"{name}.{key}" for key in inner if old.get(key) != new.get(key)]
        else:
            differing.append(name)
    return differing


def _as_json(config: TrainConfig) -> dict[str, Any]:
    return json.loads(json.dumps(asdict(config), default=str))
