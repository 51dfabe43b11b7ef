"""A network's two calls through ``torch.compile``."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_map_only

from spd.fast.torch_internals import frozen_weights, vary_in_points
from spd.runtime.graphs import has_log_std


def compiled_calls(network: nn.Module, mode: str, *, on_cuda: bool) -> tuple[Callable[..., Any], Callable[..., Any]]:
    """``encode`` and ``decode`` of a network that only answers, compiled at their first calls.

    Of one that says how sure it is, the second is ``decode_with_std``: one program, so that depth has the same bits.

    Both are compiled for each image size, ``decode`` of a CPU once for one point and once for any greater number.

    Args:
        network: its weights become constants of the programs on a CPU, laid out for its products: what is written to
            them afterwards is not seen.
        mode: of ``torch.compile``; ``reduce-overhead`` records CUDA graphs.
        on_cuda: ``decode`` is then compiled for each number of points, as CUDA graphs want it.
    """
    encode = torch.compile(network.encode, mode=mode, dynamic=False)  # type: ignore[arg-type]
    answer: Callable[..., Any] = network.decode_with_std if has_log_std(network) else network.decode  # type: ignore
    decode = torch.compile(answer, mode=mode)
    if mode == "reduce-overhead":
        return _with_memory_of_its_own(encode), _with_memory_of_its_own(decode)
    if on_cuda:
        return encode, decode

    def encode_frozen(images: Tensor) -> Any:
        with frozen_weights():
            return encode(images)

    def decode_frozen(memory: Any, query_points: Tensor) -> Any:
        if query_points.shape[1] == 0:
            return answer(memory, query_points)
        if query_points.shape[1] > 1:
            query_points = vary_in_points(query_points)
        with frozen_weights():
            return decode(memory, query_points)

    return encode_frozen, decode_frozen


def _with_memory_of_its_own(call: Callable[..., Any]) -> Callable[..., Any]:
    """Copies what recorded kernels wrote, which they write over when any of them run again."""

    def run(*arguments: Any) -> Any:
        return tree_map_only(Tensor, torch.clone, call(*arguments))

    return run
