"""Parameters and multiply-accumulates (MACs) of a model, by component, beside the plan's figures where it gives them.

Counted from the modules and the sizes that flow through them, for one image and one question; nothing is computed.
Bilinear sampling is a row of its own, in no total.

Example:
  spd info --preset tiny --size 480 640
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, Literal

import tyro

from spd.cli.output import print_json, print_table
from spd.config import ModelConfig

if TYPE_CHECKING:
    from spd.profiling.cost import ModelCost, PlanFigure


@dataclass(frozen=True, kw_only=True)
class Options:
    """Options of ``spd info``."""

    preset: str | None = None
    """tiny, plan-v14, nano or atto; without it and without a checkpoint, tiny."""
    checkpoint: str | None = None
    """Folder of a checkpoint, or owner/name on the Hugging Face hub, in place of a preset."""
    size: tuple[int, int] | None = None
    """Height and width of the image in pixels; None is the size that the model is trained at."""
    num_queries: int = 256
    """Points that are asked at once."""
    interaction: Literal["joint", "anchored"] | None = None
    """What points see of each other, if not what the model's configuration says."""
    json: tyro.conf.FlagCreatePairsOff[bool] = False
    """Print one JSON document in place of the table."""


def run(options: Options) -> None:
    """Print the costs."""
    config = _config(options)
    if options.interaction is not None:
        config = config.with_interaction(options.interaction)
    from spd.profiling.cost import model_cost, plan_figure

    size = options.size or config.train_size
    cost = model_cost(config, size, options.num_queries)
    plan = partial(plan_figure, config, size, options.num_queries)
    if options.json:
        preset = None if options.checkpoint else options.preset or "tiny"
        asked = {"preset": preset, "checkpoint": options.checkpoint, "size": size, "num_queries": options.num_queries}
        print_json({**asked, **_document(cost, plan)})
    else:
        name = options.checkpoint or options.preset or "tiny"
        _print(f"{name}, image {size[1]}x{size[0]}, {options.num_queries} queries", cost, plan)


def _config(options: Options) -> ModelConfig:
    if options.checkpoint is None:
        return ModelConfig.preset((options.preset or "tiny").replace("-", "_"))
    if options.preset is not None:
        raise ValueError("give --preset or --checkpoint, not both")
    from spd.checkpoint import load_model

    return load_model(options.checkpoint).config


def _document(cost: ModelCost, plan: Callable[[str], PlanFigure]) -> dict[str, Any]:
    def planned(name: str) -> dict[str, Any]:
        figure = plan(name)
        entries = {"plan_parameters": figure.parameters, "plan_macs": figure.macs, "plan_macs_note": figure.note}
        return {key: value for key, value in entries.items() if value}

    totals = {
        "parameters": cost.parameters(),
        "macs": cost.macs(),
        **planned("total"),
        "encode": {"parameters": cost.parameters("encode"), "macs": cost.macs("encode"), **planned("encode")},
        "decode": {"parameters": cost.parameters("decode"), "macs": cost.macs("decode"), **planned("decode")},
        "sampling_macs": cost.sampling_macs,
    }
    return {"components": [{**row._asdict(), **planned(row.name)} for row in cost.components], "totals": totals}


def _print(title: str, cost: ModelCost, plan: Callable[[str], PlanFigure]) -> None:
    def row(name: str, label: str, parameters: int, macs: int) -> list[str]:
        figure = plan(name)
        planned_parameters = f"{figure.parameters / 1e3:,.0f} K" if figure.parameters else ""
        planned_macs = f"{figure.macs / 1e9:.3f} G" if figure.macs else ""
        return [label, f"{parameters:,}", planned_parameters, f"{macs / 1e9:.3f} G", planned_macs, figure.note]

    rows: list[list[str]] = []
    for stage in ("encode", "decode"):
        rows += [row(c.name, f"  {c.name}", c.parameters, c.macs) for c in cost.components if c.stage == stage]
        rows.append(row(stage, stage, cost.parameters(stage), cost.macs(stage)))
    rows.append(row("total", "total", cost.parameters(), cost.macs()))
    rows.append(["sampling, in no total", "", "", f"{cost.sampling_macs / 1e9:.3f} G", "", ""])
    columns = ("component", "parameters", "plan", "MACs", "plan's MACs", "note")
    shown = [index for index in range(len(columns)) if any(cells[index] for cells in rows)]
    print_table(
        [columns[index] for index in shown],
        [[cells[index] for index in shown] for cells in rows],
        title=title,
        caption="plan: v14, section 9; its encoder includes a classifier" if plan("total").parameters else None,
        text_columns=("component", "note"),
    )
