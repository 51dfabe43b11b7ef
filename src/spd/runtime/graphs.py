"""The model as two graphs with tensors at their ends: images → memory, and points with memory → depth.

What lies between them is whatever ``encode`` returns, flattened. The modules here only rename and reorder; everything
that computes is the model itself.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.utils import _pytree as pytree


class MemoryLayout:
    """How the memory of one network at one image size becomes a list of named tensors, and back.

    A tensor that the memory holds twice is listed once. Maps that lie channel-last in memory, (B, C, H, W) by name,
    are listed as (B, H, W, C), so that an engine that knows no strides need not turn them in every question.

    Args:
        memory: of a network, for any image of that size.
    """

    def __init__(self, memory: Any) -> None:
        paths_and_leaves, self._structure = pytree.tree_flatten_with_path(memory)
        self.names: list[str] = []
        self._channel_last: list[bool] = []
        self._leaves: list[int | tuple[Any]] = []
        """Per leaf of the memory: its place in the list, or in a tuple a value that depends on the size alone."""
        places: dict[int, int] = {}
        for path, leaf in paths_and_leaves:
            if not isinstance(leaf, Tensor):
                self._leaves.append((leaf,))
                continue
            if id(leaf) not in places:
                places[id(leaf)] = len(self.names)
                self.names.append(_name(pytree.keystr(path)))
                self._channel_last.append(_lies_channel_last(leaf))
            self._leaves.append(places[id(leaf)])

    def flatten(self, memory: Any) -> tuple[Tensor, ...]:
        """The tensors in the order of ``names``."""
        tensors: dict[int, Tensor] = {}
        for place, leaf in zip(self._leaves, pytree.tree_leaves(memory), strict=True):
            if isinstance(place, int):
                tensors.setdefault(place, leaf)
        return tuple(
            tensors[place].permute(0, 2, 3, 1) if turned else tensors[place]
            for place, turned in enumerate(self._channel_last)
        )

    def unflatten(self, tensors: Sequence[Tensor]) -> Any:
        """The inverse of :meth:`flatten`."""
        maps = [
            tensor.permute(0, 3, 1, 2) if turned else tensor
            for tensor, turned in zip(tensors, self._channel_last, strict=True)
        ]
        leaves = [maps[place] if isinstance(place, int) else place[0] for place in self._leaves]
        return pytree.tree_unflatten(leaves, self._structure)


class EncodeGraph(nn.Module):
    """Images (B, 3, H, W) to the tensors of the memory."""

    def __init__(self, network: nn.Module, layout: MemoryLayout) -> None:
        super().__init__()
        self.network = network
        self.layout = layout

    def forward(self, images: Float[Tensor, "B 3 H W"]) -> tuple[Tensor, ...]:
        """RGB in [0, 1]; normalised inside."""
        return self.layout.flatten(self.network.encode(images))  # type: ignore[operator]


class DecodeGraph(nn.Module):
    """Points (B, K, 2), xy pixel indices of the encoded images, and the tensors of the memory to metres (B, K).

    Where the network says how sure it is, the standard deviation of log depth, (B, K) too, is the second output.
    """

    def __init__(self, network: nn.Module, layout: MemoryLayout) -> None:
        super().__init__()
        self.network = network
        self.layout = layout

    def forward(
        self, query_points: Float[Tensor, "B K 2"], memory: tuple[Tensor, ...]
    ) -> Float[Tensor, "B K"] | tuple[Tensor, ...]:
        """Depth in metres along the optical axis, float32."""
        restored = self.layout.unflatten(memory)
        if has_log_std(self.network):
            return tuple(self.network.decode_with_std(restored, query_points))  # type: ignore[operator]
        return self.network.decode(restored, query_points)  # type: ignore[operator]


def has_log_std(network: nn.Module) -> bool:
    """Whether a network says how sure it is."""
    return getattr(network, "scale_head", None) is not None


def output_names(*, log_std: bool) -> list[str]:
    """Of the graph that decodes, in their order."""
    return ["depth_m", "log_std"] if log_std else ["depth_m"]


def _name(path: str) -> str:
    """``.levels[0]`` to ``levels_0``; the memory itself is ``memory``."""
    return re.sub(r"\W+", "_", path).strip("_") or "memory"


def _lies_channel_last(tensor: Tensor) -> bool:
    return tensor.ndim == 4 and tensor.is_contiguous(memory_format=torch.channels_last) and not tensor.is_contiguous()
