"""From a name to its encoder: the one place that knows which families there are."""

from __future__ import annotations

from spd.model.convnext import ConvNeXtEncoder
from spd.model.efficientnet_lite import EfficientNetLiteEncoder
from spd.model.encoder import Encoder

FAMILIES: tuple[type[ConvNeXtEncoder] | type[EfficientNetLiteEncoder], ...] = (
    EfficientNetLiteEncoder,
    ConvNeXtEncoder,
)


def create_encoder(name: str, num_stages: int = 4) -> Encoder:
    """The encoder of a network of timm, with random weights and without self-attention.

    Args:
        name: the network, with or without the tag of its weights.
        num_stages: 1 to 4.

    Raises:
        ValueError: no family has such a network.
    """
    for family in FAMILIES:
        if family.accepts(name):
            return family(name, num_stages)
    families = " or ".join(family.family for family in FAMILIES)
    raise ValueError(f"encoder must be {families} of timm, got {name!r}")
