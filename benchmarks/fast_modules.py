"""What each quick module of ``spd.fast`` saves: it and the plain one that it stands in for, interleaved in one process.

The inputs are those that the modules of a preset get for one image and one question. Times are medians of a single call
of the largest module of its kind.

Example:
  python benchmarks/fast_modules.py --presets tiny lite --rounds 20
"""

from __future__ import annotations

import json
import statistics
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
import tyro
from timm.models._efficientnet_blocks import InvertedResidual
from timm.models.convnext import ConvNeXtBlock
from torch import nn

from spd.allocator import keep_freed_memory
from spd.config import ModelConfig
from spd.fast.library import library
from spd.fast.quicken import QUICK, quick_module
from spd.model.decoder import DecoderLayer
from spd.model.spatial_canvas import CanvasAccess, SpatialCanvas
from spd.model.spd import SPD
from spd.runtime.torch_runtime import Precision

_METHODS: dict[type[nn.Module], tuple[str, ...]] = {
    DecoderLayer: ("cross_attend", "self_attend"),
    SpatialCanvas: ("write",),
    CanvasAccess: ("read",),
}
"""What is called of modules that are not called themselves."""


@dataclass(frozen=True, kw_only=True)
class Options:
    """Options of this script."""

    presets: tuple[str, ...] = ("tiny", "lite")
    precisions: tuple[Precision, ...] = ("float32", "bfloat16")
    size: tuple[int, int] = (480, 640)
    """Height and width of the image."""
    num_queries: int = 256
    rounds: int = 20
    """Timed calls of each module, after three that are not."""


class Call(NamedTuple):
    """One call of a module, as it was seen."""

    module: nn.Module
    method: str
    arguments: tuple[Any, ...]
    named: dict[str, Any]


def main(options: Options) -> int:
    """Time every pair."""
    if library() is None:
        print("the kernels need Linux and a C++ compiler such as g++, and SPD_NATIVE must not be 0", file=sys.stderr)
        return 2
    keep_freed_memory()
    rows = []
    print(f"{'preset':<8} {'precision':<9} {'module':<36} {'plain':>9} {'quick':>9} {'ratio':>6}    milliseconds")
    for preset in options.presets:
        calls = _calls(preset, options)
        for precision in options.precisions:
            for name, call in calls.items():
                plain_s, quick_s = _times(call, precision, options.rounds)
                rows.append(
                    {"preset": preset, "precision": precision, "module": name, "plain_s": plain_s, "quick_s": quick_s}
                )
                print(
                    f"{preset:<8} {precision:<9} {name:<36} {1e3 * plain_s:9.3f} {1e3 * quick_s:9.3f} "
                    f"{quick_s / plain_s:6.3f}",
                    flush=True,
                )
    print(json.dumps({"size": options.size, "threads": torch.get_num_threads(), "rows": rows}))
    return 0


def _calls(preset: str, options: Options) -> dict[str, Call]:
    """The largest call of each kind of module, by name, in one encode and one decode."""
    torch.manual_seed(0)
    network = SPD(ModelConfig.preset(preset, train_size=options.size)).eval()
    seen: dict[str, Call] = {}
    for module in network.modules():
        if type(module) in QUICK or isinstance(module, (ConvNeXtBlock, InvertedResidual)):
            for method in _METHODS.get(type(module), ("forward",)):
                _watch(module, method, seen)
    images, points = torch.rand(1, 3, *options.size), torch.rand(1, options.num_queries, 2) * (min(options.size) - 1)
    with torch.inference_mode():
        network(images, points)
    for module in network.modules():
        for method in ("forward", *_METHODS.get(type(module), ())):
            vars(module).pop(method, None)
    return seen


def _watch(module: nn.Module, method: str, seen: dict[str, Call]) -> None:
    """Keep the largest call of that kind of module."""
    name = type(module).__name__ + ("" if method == "forward" else f".{method}")
    original = getattr(module, method)

    def watched(*arguments: Any, **named: Any) -> Any:
        call = Call(module, method, arguments, named)
        if name not in seen or _numbers(call) > _numbers(seen[name]):
            seen[name] = call
        return original(*arguments, **named)

    vars(module)[method] = watched


def _numbers(call: Call) -> int:
    return sum(tensor.numel() for tensor in call.arguments if isinstance(tensor, torch.Tensor))


def _times(call: Call, precision: Precision, rounds: int) -> tuple[float, float]:
    plain = getattr(call.module, call.method)
    quick = getattr(quick_module(call.module, "answer", precision), call.method)
    seconds: dict[bool, list[float]] = {False: [], True: []}
    autocast = torch.autocast("cpu", torch.bfloat16, enabled=precision == "bfloat16")
    with torch.inference_mode(), autocast:
        for turn in range(-3, rounds):
            # The order turns: the second finds the inputs in the cache.
            for is_quick in (True, False) if turn % 2 else (False, True):
                elapsed = _elapsed(quick if is_quick else plain, call)
                if turn >= 0:
                    seconds[is_quick].append(elapsed)
    return statistics.median(seconds[False]), statistics.median(seconds[True])


def _elapsed(function: Callable[..., Any], call: Call) -> float:
    start = time.perf_counter()
    function(*call.arguments, **call.named)
    return time.perf_counter() - start


if __name__ == "__main__":
    sys.exit(main(tyro.cli(Options, description=__doc__)))
