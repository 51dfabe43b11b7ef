"""Recipes: functions that return a whole training run; every field of it is a flag of ``spd train``."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from pathlib import Path

from spd.config import ModelConfig
from spd.train_config import DataConfig, LossConfig, OptimizerConfig, TrainConfig

_EDGES = 0.3
"""Of the query points: the one choice of the ablations that is separated from the plan's uniform ones."""


def nyu_tiny() -> TrainConfig:
    """The tiny model on NYU Depth V2, its encoder from timm's ImageNet weights (CC BY-NC 4.0)."""
    return TrainConfig(
        model=ModelConfig.tiny(pretrained=True),
        data=DataConfig(root=_nyu(), edge_fraction=_EDGES),
        loss=LossConfig(relative_weight=1.0),
        output=Path("runs/nyu-tiny"),
    )


def plan_v14() -> TrainConfig:
    """The plan to the letter on NYU Depth V2, to measure every later decision against."""
    return TrainConfig(
        model=ModelConfig.plan_v14(pretrained=True),
        data=DataConfig(root=_nyu()),
        output=Path("runs/plan-v14"),
    )


def nyu_atto() -> TrainConfig:
    """The small model on NYU Depth V2 from random weights: under two hours on two CPU cores."""
    return TrainConfig(
        model=ModelConfig.atto(dropout=0.0),
        data=DataConfig(
            root=_nyu(),
            # Strong, since 695 images are soon known by heart.
            zoom=(0.65, 1.5),
            color_jitter=(0.4, 0.4, 0.4, 0.1),
            edge_fraction=_EDGES,
            query_schedule="log_uniform",
            query_range=(16, 256),
        ),
        optimizer=OptimizerConfig(learning_rate=4e-4, warmup_steps=200),
        # SILog alone is least at a depth that is too large for AbsRel: a tenth of it, after a short training.
        loss=LossConfig(relative_weight=1.0),
        output=Path("runs/nyu-atto"),
        max_steps=5200,
        validate_every=5,
        # Validation swings while the rate is high: an average over about a thousand steps does not.
        ema_decay=0.999,
    )


def rooms_atto() -> TrainConfig:
    """The small model on procedural rooms from random weights: a first model in minutes."""
    return TrainConfig(
        model=ModelConfig.atto(dropout=0.0),
        data=DataConfig(edge_fraction=_EDGES),
        optimizer=OptimizerConfig(learning_rate=4e-4),
        output=Path("runs/rooms-atto"),
        max_steps=1000,
    )


RECIPES: Mapping[str, Callable[[], TrainConfig]] = {
    "nyu-tiny": nyu_tiny,
    "nyu-atto": nyu_atto,
    "rooms-atto": rooms_atto,
    "plan-v14": plan_v14,
}


def _nyu() -> Path | None:
    root = os.environ.get("SPD_NYU")
    return Path(root) if root else None
