"""Small models that the tests of the network share; nobody changes their weights (copy first)."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from spd.config import ModelConfig
from spd.model.spd import SPD

SMALL = ModelConfig(
    encoder="test_convnext2",
    encoder_heads=6,
    neck_channels=(8, 16, 24, 32),
    neck_heads=4,
    embed_dim=24,
    num_heads=3,
    fourier_bands=4,
    interaction="joint",
    train_size=(64, 96),
)
"""All seven layers over timm's own 0.5 M ConvNeXt for tests, joint as in the plan; anchored ones are made of it."""


@pytest.fixture(scope="session")
def small() -> ModelConfig:
    """The configuration of :func:`lively`."""
    return SMALL


@pytest.fixture(scope="session")
def atto() -> SPD:
    """``atto`` as it is initialised, without dropout."""
    torch.manual_seed(0)
    return SPD(ModelConfig.atto(train_size=(64, 96), interaction="joint")).eval()


@pytest.fixture(scope="session")
def lively() -> SPD:
    """A small model in float64 with noise on every weight, so that nothing agrees only because it starts at zero."""
    return _make_lively(SMALL)


@pytest.fixture(scope="session")
def lively_corner() -> SPD:
    """:func:`lively` under the plan's own conventions: corner alignment, sums on the canvas, normalised offsets."""
    return _make_lively(replace(SMALL, variant=ModelConfig.plan_v14().variant))


def _make_lively(config: ModelConfig) -> SPD:
    torch.manual_seed(0)
    model = SPD(config).eval().double()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter += 0.05 * torch.randn_like(parameter)
    return model
