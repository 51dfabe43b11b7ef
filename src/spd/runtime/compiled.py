"""A network's two calls through ``torch.compile``."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from threading import Lock
from typing import Any

import torch
import torch._dynamo.config
import torch._inductor.config
from torch import Tensor, nn
from torch._dynamo.exc import BackendCompilerFailed
from torch.utils._pytree import tree_map_only

from spd.runtime.graphs import has_log_std

_SETTINGS = Lock()


def check_compiler() -> None:
    """Refuse where PyTorch has no C++ compiler at hand, before anything waits for it.

    Raises:
        ValueError: there is none.
    """
    from torch._inductor.cpp_builder import get_cpp_compiler
    from torch._inductor.exc import InvalidCxxCompiler

    try:
        get_cpp_compiler()
    except InvalidCxxCompiler as error:
        raise ValueError("compiling for a CPU needs a C++ compiler such as g++, and none was found") from error


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
        with _frozen():
            return encode(images)

    def decode_frozen(memory: Any, query_points: Tensor) -> Any:
        if query_points.shape[1] == 0:
            return answer(memory, query_points)
        if query_points.shape[1] > 1:
            query_points = query_points.view(query_points.shape)
            torch._dynamo.mark_dynamic(query_points, 1)
        with _frozen():
            return decode(memory, query_points)

    return encode_frozen, decode_frozen


def _with_memory_of_its_own(call: Callable[..., Any]) -> Callable[..., Any]:
    """Copies what recorded kernels wrote, which they write over when any of them run again."""

    def run(*arguments: Any) -> Any:
        return tree_map_only(Tensor, torch.clone, call(*arguments))

    return run


@contextmanager
def _frozen() -> Iterator[None]:
    """Settings of the process, that are read while it compiles: one thread at a time may have them.

    As an option of ``torch.compile`` freezing has no effect. Sizes of maps are never taken to vary, whatever was asked
    before: a program for any size is slower than that for one.

    Raises:
        ValueError: a program could not be made.
    """
    with (
        _SETTINGS,
        torch._inductor.config.patch(freezing=True),
        torch._dynamo.config.patch(automatic_dynamic_shapes=False),
    ):
        try:
            yield
        except BackendCompilerFailed as error:
            raise ValueError(
                f"torch.compile failed; it needs a C++ compiler and Python's headers ({str(error).splitlines()[0]})"
            ) from error
