"""Time SPD beside dense networks and the bilinear baseline, in one process, their runs interleaved.

Prints encode, decode and total apart, the multiply-accumulates behind them, the rate of a plain matrix product in the
same run and the fraction of it that encode reaches, peak memory, and from how many points on SPD takes as long as the
dense model. Weights are random: they take the same time. The last line of the output is one JSON document.

Example:
  spd benchmark --presets tiny --runtimes torch openvino --num-queries 1 64 256 1024 4096 --output benchmark
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from spd.cli.output import has_plots, note, print_table, progress
from spd.engines import Precision

YoloName = Literal["yolo26n-depth", "yolo26s-depth", "yolo26m-depth", "yolo26l-depth", "yolo26x-depth"]

if TYPE_CHECKING:
    from spd.profiling.latency import Contestant, Result


@dataclass(frozen=True, kw_only=True)
class Options:
    """Options of ``spd benchmark``."""

    presets: tuple[Literal["lite", "lite0", "tiny", "nano", "atto"], ...] = ("tiny",)
    """Sizes of SPD."""
    interactions: tuple[Literal["joint", "anchored"], ...] = ("joint", "anchored")
    """Modes of SPD."""
    size: tuple[int, int] = (480, 640)
    """Height and width of the image."""
    depth_anything: tuple[str, ...] = ("476x630",)
    """Input sizes HEIGHTxWIDTH of Depth Anything V2 Small: 476x630 has the pixels of 480x640, 518x518 is that of its
    training, 518x686 what its own preparation makes of 480x640. none leaves it out."""
    yolo: tuple[YoloName, ...] = ()
    """Depth networks of Ultralytics at the image's size, in the same engines. They need pip install ultralytics, which
    is under AGPL-3.0 and comes with no extra of spd-depth."""
    bilinear: bool = True
    """Also the bilinear baseline of each preset."""
    runtimes: tuple[Literal["torch", "compile", "cudagraphs", "onnx", "openvino"], ...] = ("torch",)
    """Engines."""
    precisions: tuple[Precision, ...] = ("float32",)
    """bfloat16 is left out for onnx, which has none on a CPU."""
    num_queries: tuple[int, ...] = (1, 64, 256, 1024, 4096)
    """Numbers of points K that are asked at once."""
    rounds: int = 10
    """Timed rounds; in each, every model has one turn."""
    threads: int | None = None
    """Of PyTorch; as many as there are cores if not given."""
    device: str | None = None
    """cpu, cuda, cuda:1...; None is cuda where there is one."""
    output: Path | None = None
    """Also write the JSON document and a plot of time against K into this folder."""


def run(options: Options) -> None:
    """Build, measure, print."""
    dense_sizes = _check(options)

    import torch

    from spd.allocator import keep_freed_memory
    from spd.inputs import choose_device
    from spd.profiling.latency import measure

    keep_freed_memory()
    if options.output is not None:
        from spd.files import require_free_or_own

        require_free_or_own(options.output, ("benchmark.json",), "a benchmark")

    device = choose_device(options.device)
    if options.threads is not None:
        torch.set_num_threads(options.threads)
    contestants = _contestants(options, dense_sizes, device)
    with progress("turns", len(contestants) * (options.rounds + 2)) as advance:
        results = measure(contestants, num_queries=options.num_queries, rounds=options.rounds, progress=advance)
    _print(results, options)
    document = _document(results, options, device)
    if options.output is not None:
        from spd.files import write_files

        options.output.mkdir(parents=True, exist_ok=True)
        files = {options.output / "benchmark.json": f"{json.dumps(document, indent=2)}\n".encode()}
        if has_plots():
            from spd.profiling.latency_plot import draw_latency

            files[options.output / "benchmark.png"] = draw_latency(results)
        write_files(files)
        note(f"wrote {' and '.join(file.name for file in files)} to {options.output}")
    print(json.dumps(document))


def _check(options: Options) -> list[tuple[int, int]]:
    """The input sizes of Depth Anything.

    Raises:
        ValueError: an option that nothing can be made of.
    """
    if min(options.size) < 32 or any(side % 32 for side in options.size):
        raise ValueError(f"--size must be height and width in multiples of 32, got {options.size}")
    if not options.num_queries or min(options.num_queries) < 1:
        raise ValueError(f"--num-queries must be at least 1, got {options.num_queries}")
    if options.rounds < 1:
        raise ValueError(f"--rounds must be at least 1, got {options.rounds}")
    if options.threads is not None and options.threads < 1:
        raise ValueError(f"--threads must be at least 1, got {options.threads}")
    sizes = []
    for text in options.depth_anything:
        if text == "none":
            continue
        height, cross, width = text.partition("x")
        if not (cross and height.isdigit() and width.isdigit() and int(height) and int(width)):
            raise ValueError(f"--depth-anything must be HEIGHTxWIDTH such as 476x630, or none, got {text!r}")
        sizes.append((int(height), int(width)))
    return sizes


def _contestants(options: Options, dense_sizes: Sequence[tuple[int, int]], device: Any) -> list[Contestant]:
    from spd.profiling.contestants import (
        bilinear_contestant,
        depth_anything_contestant,
        spd_contestant,
        yolo_contestant,
    )

    found = []
    for runtime in options.runtimes:
        for precision in options.precisions:
            if runtime == "onnx" and precision == "bfloat16":
                continue
            note(f"building for {runtime}, {precision}")
            for preset in options.presets:
                for interaction in options.interactions:
                    found.append(spd_contestant(preset, interaction, options.size, runtime, precision, device))
                if options.bilinear:
                    found.append(bilinear_contestant(preset, options.size, runtime, precision, device))
            for size in dense_sizes:
                found.append(depth_anything_contestant(size, options.size, runtime, precision, device))
            for name in options.yolo:
                found.append(yolo_contestant(name, options.size, runtime, precision, device))
    if not found:
        raise ValueError("nothing to time: onnx has no bfloat16 on a CPU, or no model was named")
    return found


def _print(results: Sequence[Result], options: Options) -> None:
    reference = _reference(results)
    main = 256 if 256 in options.num_queries else options.num_queries[0]
    rows = []
    for result in results:
        contestant = result.contestant
        row = [contestant.name, contestant.runtime, contestant.precision]
        row += [_ms(result.encode.median), _ms(result.encode.p90)]
        row += [_ms(result.decode[number].median) for number in options.num_queries]
        row += [_ms(result.total(main))]
        if reference is not None:
            row.append(f"{result.total(main) / reference.total(main):.3f}")
        row += [f"{(contestant.encode_macs + contestant.decode_macs(main)) / 1e9:.2f}", f"{result.gemm_fraction:.2f}"]
        row += ["" if result.peak_bytes is None else f"{result.peak_bytes / 1e6:.0f}", _crossing(result, results)]
        rows.append(row)
    columns = ["model", "runtime", "precision", "encode", "p90"]
    columns += [f"K={number}" for number in options.num_queries]
    columns += [f"total {main}"]
    if reference is not None:
        columns.append("ratio")
    columns += ["GMAC", "of GEMM", "MB", "dense from K"]
    rates = {result.contestant.precision: result.gemm_rate for result in results}
    told = ", ".join(f"{rate / 1e9:.0f} GMAC/s in {precision}" for precision, rate in rates.items())
    against = "" if reference is None else f"; ratio: total to that of {_named(reference)}"
    height, width = options.size
    print_table(
        columns,
        rows,
        title=f"Image {width}x{height}, batch 1, milliseconds, medians of {options.rounds} interleaved rounds",
        caption=f"a product of 2048x2048 matrices: {told}{against}; MB: peak above what the process held; dense from "
        "K: points from which the dense model of the same engine is as fast",
        text_columns=("model", "runtime", "precision"),
    )


def _reference(results: Sequence[Result]) -> Result | None:
    """The first dense model: what every total is compared with."""
    return next((result for result in results if result.contestant.is_dense), None)


def _crossing(result: Result, results: Sequence[Result]) -> str:
    from spd.profiling.latency import crossing

    own = result.contestant
    dense = next(
        (
            other
            for other in results
            if other.contestant.is_dense
            and (other.contestant.runtime, other.contestant.precision) == (own.runtime, own.precision)
        ),
        None,
    )
    if dense is None or own.is_dense:
        return ""
    number = crossing(result, dense)
    return f"> {max(result.decode)}" if number is None else f"{number:.0f}"


def _document(results: Sequence[Result], options: Options, device: Any) -> dict[str, Any]:
    from importlib.metadata import version

    import torch

    rows = [
        {
            "model": result.contestant.name,
            "runtime": result.contestant.runtime,
            "precision": result.contestant.precision,
            "input_size": result.contestant.size,
            "encode_s": result.encode._asdict(),
            "decode_s": {str(number): timing._asdict() for number, timing in result.decode.items()},
            "encode_macs": result.contestant.encode_macs,
            "decode_macs": {str(number): result.contestant.decode_macs(number) for number in result.decode},
            "gemm_macs_per_s": result.gemm_rate,
            "gemm_fraction": result.gemm_fraction,
            "peak_bytes": result.peak_bytes,
        }
        for result in results
    ]
    return {
        "size": options.size,
        "rounds": options.rounds,
        "device": str(device),
        "threads": torch.get_num_threads(),
        "torch": version("torch"),
        "results": rows,
    }


def _named(result: Result) -> str:
    return f"{result.contestant.name}, {result.contestant.runtime}, {result.contestant.precision}"


def _ms(seconds: float) -> str:
    return f"{1e3 * seconds:.1f}"
