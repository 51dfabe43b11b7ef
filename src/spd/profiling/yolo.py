"""Ultralytics' dense depth networks, to be timed beside SPD.

Ultralytics is under AGPL-3.0. Nothing of it is part of this project or of what it installs: it is imported here alone,
where a user who has it asks for its time.
"""

from __future__ import annotations

from importlib.util import find_spec
from typing import Any, Literal, TypeAlias

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from spd.coordinates import pixels_to_cells, read_bilinear
from spd.weighted_rows import WeightedRows

YoloName: TypeAlias = Literal["yolo26n-depth", "yolo26s-depth", "yolo26m-depth", "yolo26l-depth", "yolo26x-depth"]


class YoloNetwork(nn.Module):
    """A depth network of Ultralytics with random weights, as its own predictor runs it.

    Norms are folded into the convolutions, and on a CPU weights lie channels last. The network answers at a quarter of
    the image's size; its predictor brings that to the size of the image, and so does this one.

    Args:
        name: of the model, without the ending of a file.

    Raises:
        ValueError: Ultralytics is not installed, or cannot be imported.
    """

    def __init__(self, name: YoloName) -> None:
        super().__init__()
        network = _depth_model(name)(f"{name}.yaml", verbose=False)
        self.network = network.eval().fuse(verbose=False).requires_grad_(False)
        self.network.to(memory_format=torch.channels_last)
        self.sum_rows = WeightedRows()

    def encode(self, images: Float[Tensor, "B 3 H W"]) -> Float[Tensor, "B 1 H W"]:
        """The map of metres of RGB in [0, 1], its sides multiples of 32."""
        depth_m = self.network(images).float()
        return F.interpolate(depth_m, images.shape[2:], mode="bilinear", align_corners=True)

    def decode(self, memory: Float[Tensor, "B 1 H W"], query_points: Float[Tensor, "B K 2"]) -> Float[Tensor, "B K"]:
        """The map at the points."""
        return read_bilinear(memory, pixels_to_cells(query_points, 1, "center"), self.sum_rows).squeeze(-1)


def _depth_model(name: YoloName) -> Any:
    """The class of Ultralytics' depth networks."""
    told = "Ultralytics is under AGPL-3.0 and comes with no extra of spd-depth"
    if find_spec("ultralytics") is None:
        raise ValueError(f"{name} needs ultralytics: pip install ultralytics ({told})")
    try:
        from ultralytics.nn.tasks import DepthModel  # pyright: ignore[reportMissingImports]
    except ImportError as error:
        raise ValueError(
            f"{name} needs ultralytics with its depth models, and importing them failed ({error}): "
            f"pip install --upgrade ultralytics ({told})"
        ) from error
    return DepthModel
