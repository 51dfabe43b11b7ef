"""A picture of time against the number of points."""

from __future__ import annotations

import io
from collections.abc import Sequence

from matplotlib.figure import Figure

from spd.profiling.latency import Result


def draw_latency(results: Sequence[Result]) -> bytes:
    """Encode and decode together against K, on logarithmic axes, one line per model and engine; a PNG file."""
    figure = Figure(figsize=(8, 5), layout="constrained")
    axes = figure.subplots()
    for result in results:
        contestant = result.contestant
        numbers = sorted(result.decode)
        axes.plot(
            numbers,
            [1e3 * result.total(number) for number in numbers],
            marker="o",
            linestyle="--" if contestant.is_dense else "-",
            label=f"{contestant.name}, {contestant.runtime}, {contestant.precision}",
        )
    axes.set(xscale="log", yscale="log", xlabel="points asked of one image", ylabel="encode + decode, ms")
    axes.grid(visible=True, which="both", alpha=0.3)
    figure.legend(loc="outside upper center", ncols=2, fontsize="small")
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=150)
    return buffer.getvalue()
