"""Recipes: functions that return a whole training run; every field of it is a flag of ``spd train``."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path

from spd.config import ModelConfig
from spd.train_config import DataConfig, LossConfig, OptimizerConfig, TrainConfig

_OPEN = (1e-3, 65.0)
"""Metres, for data that does not end with a room; a PNG in millimetres ends at 65.5."""
_EDGES = 0.3
"""Of the query points: the one choice of the ablations that is separated from the plan's uniform ones."""


def nyu_tiny() -> TrainConfig:
    """The tiny model on NYU Depth V2, its encoder from timm's ImageNet weights (CC BY-NC 4.0)."""
    return TrainConfig(
        model=ModelConfig.tiny(pretrained=True),
        data=DataConfig(root=_folders("SPD_NYU"), edge_fraction=_EDGES),
        loss=LossConfig(relative_weight=1.0),
        output=Path("runs/nyu-tiny"),
    )


def plan_v14() -> TrainConfig:
    """The plan to the letter on NYU Depth V2, to measure every later decision against."""
    return TrainConfig(
        model=ModelConfig.plan_v14(pretrained=True),
        data=DataConfig(root=_folders("SPD_NYU")),
        output=Path("runs/plan-v14"),
    )


def nyu_atto() -> TrainConfig:
    """The small model on NYU Depth V2 from random weights: under two hours on two CPU cores."""
    return TrainConfig(
        model=ModelConfig.atto(dropout=0.0),
        data=DataConfig(
            root=_folders("SPD_NYU"),
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


def lite() -> TrainConfig:
    """EfficientNet-Lite2 from ImageNet weights (Apache-2.0) on several data sets; those of SPD_NYU and SPD_RGBD unless
    --data.root names others.
    """
    return TrainConfig(
        model=ModelConfig.lite(pretrained=True, dropout=0.0, train_size=(192, 256), depth_range=_OPEN),
        data=DataConfig(
            root=_folders("SPD_NYU", "SPD_RGBD"),
            # Strong: other focal lengths, off-centre crops, other light.
            zoom=(0.6, 2.0),
            color_jitter=(0.4, 0.4, 0.4, 0.1),
            edge_fraction=_EDGES,
            query_schedule="log_uniform",
            query_range=(16, 256),
            cache="memory",
        ),
        optimizer=OptimizerConfig(learning_rate=4e-4, encoder_lr_factor=0.25, warmup_steps=200),
        loss=LossConfig(relative_weight=1.0),
        output=Path("runs/lite"),
        max_steps=8000,
        validate_every=2,
        ema_decay=0.999,
    )


def lite0() -> TrainConfig:
    """EfficientNet-Lite0, the quicker one, trained as ``lite``."""
    recipe = lite()
    model = ModelConfig.lite0(pretrained=True, dropout=0.0, train_size=(192, 256), depth_range=_OPEN)
    return replace(recipe, model=model, output=Path("runs/lite0"))


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
    "lite": lite,
    "lite0": lite0,
    "nyu-tiny": nyu_tiny,
    "nyu-atto": nyu_atto,
    "rooms-atto": rooms_atto,
    "plan-v14": plan_v14,
}


def _folders(*variables: str) -> tuple[Path, ...]:
    """The folders that environment variables name; those that are not set are left out."""
    return tuple(Path(folder) for name in variables if (folder := os.environ.get(name)))
