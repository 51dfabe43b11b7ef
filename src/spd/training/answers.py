"""The checkpoint that answers, as a run writes it: its weights, and where they come from."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any, NamedTuple

import torch

from spd.checkpoint import locate, read_config, save
from spd.train_config import TrainConfig
from spd.training.module import SPDModule
from spd.training.saving import SaveState


class Run(NamedTuple):
    """What all parts of a run know of it."""

    config: TrainConfig
    origin: Mapping[str, Any]
    """Of :func:`origin_of`."""
    state: SaveState


def save_answers(run: Run, module: SPDModule, steps: int, figures: Mapping[str, float]) -> None:
    """Write the checkpoint of the network's weights as they are, after ``steps``, with their validation figures."""
    save(module.model, run.config.output, provenance=_provenance(run, steps, figures))


def origin_of(config: TrainConfig) -> dict[str, Any]:
    """What the weights come from: the terms of all their data and whether their encoder began with pretrained weights.

    Both include what ``config.init`` says of itself.
    """
    if config.init is None:
        return {"data_terms": _joined(config.data.terms), "pretrained_encoder": config.model.pretrained}
    first = read_config(locate(config.init))
    terms = [_joined(config.data.terms), first["provenance"].get("data_terms")]
    known = None if None in terms else "; ".join(dict.fromkeys("; ".join(map(str, terms)).split("; ")))
    started_from = {"checksum": first["checksum"], **first["provenance"]}
    pretrained = first["provenance"].get("pretrained_encoder", False)
    return {"data_terms": known, "pretrained_encoder": pretrained, "started_from": started_from}


def _joined(terms: tuple[str, ...]) -> str | None:
    """The terms of all data sets, each once; None where none is known."""
    return "; ".join(dict.fromkeys(terms)) or None


def _provenance(run: Run, steps: int, figures: Mapping[str, float]) -> dict[str, Any]:
    config = run.config
    # Of images that the run learns from, they would say nothing.
    validated = config.data.val_split not in config.data.train_splits
    extended = {"extended_at": run.state.extended_at} if run.state.extended_at else {}
    return {
        "data": " + ".join(config.data.set_names),
        **run.origin,
        "splits": list(config.data.train_splits),
        "train_fraction": config.data.train_fraction,
        "loss": asdict(config.loss),
        "steps": steps,
        **extended,
        "batch_size": config.data.batch_size,
        "num_queries": config.data.num_queries,
        "seed": config.seed,
        "ema_decay": config.ema_decay,
        "validation": dict(figures) if validated else {},
        "torch": torch.__version__,
    }
