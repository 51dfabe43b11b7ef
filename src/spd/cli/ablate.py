"""Measure what each part and each choice of the model is worth, by short paired trainings.

Study choices takes parts away and turns decisions around; study interaction compares points that see each other with
points that see a fixed grid of anchors. Every variant is trained with the same seeds as the baseline and scored on the
validation split. Each finished row is one JSON file in the folder --output, so a command that was cut off goes on where
it stopped, and two commands may share the work (--seeds, --variants). The table is printed and written to table.md;
differences whose 95 % interval holds zero, which are not separated, stand in brackets.

Example:
  spd ablate --data rooms --output ablations --crop none --steps 20 --seeds 0 1 --variants no-canvas
"""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import tyro

from spd.cli.errors import CommandFailed
from spd.cli.output import note, print_json, print_table

if TYPE_CHECKING:
    from spd.training.ablation import Row
    from spd.training.studies import AblationProtocol, Study

_METRICS = ("abs_rel", "silog")
"""Compared with the baseline: the main figure, and the one that forgives an image's error of scale."""


@dataclass(frozen=True, kw_only=True)
class Options:
    """Options of ``spd ablate``."""

    data: Path
    """Folder of the data set, with manifest.csv."""
    study: Literal["choices", "interaction"] = "choices"
    """Which table."""
    output: Path | None = None
    """Folder of the finished rows and of the table; ablations/STUDY if not given."""
    variants: tuple[str, ...] = ()
    """Which to train beside the baseline; none named is all."""
    seeds: tuple[int, ...] = (0, 1, 2)
    """Seeds, the same for every variant."""
    preset: Literal["tiny", "plan_v14", "nano", "atto"] = "atto"
    """Sizes of the model."""
    size: tuple[int, int] = (128, 160)
    """Height and width of the training images."""
    steps: int = 600
    """Steps of each training."""
    batch_size: int = 8
    """Images of a step."""
    num_queries: int | None = None
    """Supervised points per image in training, anchors included; 64 for choices and 144 for interaction if not
    given."""
    scored_queries: tuple[int, ...] = ()
    """Numbers of points that are asked at once when scoring; those of the study if not given."""
    learning_rate: float = 4e-4
    """Peak rate."""
    train_split: str = "train"
    """Split that is trained on."""
    val_split: str = "val"
    """Split that is scored; choices are never made on test."""
    crop: Literal["eigen", "none"] = "eigen"
    """As for spd evaluate."""
    table_only: tyro.conf.FlagCreatePairsOff[bool] = False
    """Train nothing: make the table of the rows that are there."""
    json: tyro.conf.FlagCreatePairsOff[bool] = False
    """Print the table as one JSON document."""


def run(options: Options) -> None:
    """Train what is missing, then make the table."""
    from spd.files import require_free_or_own
    from spd.training.ablation import pending, read_rows, require_trainable, run_row
    from spd.training.module import NonFiniteLossError
    from spd.training.studies import STUDIES

    study = STUDIES[options.study]
    if unknown := [name for name in options.variants if name not in study.variants]:
        raise ValueError(f"variants must be of {', '.join(study.variants)}, got {unknown[0]!r}")
    protocol = _protocol(study, options)
    folder = options.output or Path("ablations", options.study)
    require_free_or_own(folder, ("table.md", "*-[0-9]*.json"), "an ablation")
    rows = read_rows(folder, study, protocol)
    names = dict.fromkeys((study.baseline, *(options.variants or study.variants)))
    missing = [] if options.table_only else pending(rows, study, list(names), options.seeds)
    if missing:
        require_trainable(missing, study, protocol, options.data)
        folder.mkdir(parents=True, exist_ok=True)
    for number, row in enumerate(missing, start=1):
        note(f"training {number} of {len(missing)}: {row.variant}, seed {row.seed}")
        try:
            # Lightning's bars belong on standard error: the table, or the one JSON document, is all that goes out.
            with contextlib.redirect_stdout(sys.stderr):
                run_row(row, study, protocol, options.data, folder)
        except NonFiniteLossError as error:
            raise CommandFailed(f"{row.variant}, seed {row.seed}: {error}") from error
    rows = read_rows(folder, study, protocol)
    if not rows:
        raise ValueError(f"{folder} has no finished rows to make a table of")
    _report(rows, study, protocol, folder, options.json)


def _protocol(study: Study, options: Options) -> AblationProtocol:
    return replace(
        study.protocol,
        preset=options.preset,
        size=options.size,
        steps=options.steps,
        batch_size=options.batch_size,
        num_queries=study.protocol.num_queries if options.num_queries is None else options.num_queries,
        learning_rate=options.learning_rate,
        scored_queries=options.scored_queries or study.protocol.scored_queries,
        train_split=options.train_split,
        val_split=options.val_split,
        crop=options.crop,
    )


def _report(rows: Mapping[Row, Any], study: Study, protocol: AblationProtocol, folder: Path, as_json: bool) -> None:
    from spd.files import write_files

    table = _table(rows, study, protocol)
    columns = list(table[0])
    cells = [[_cell(value) for value in line.values()] for line in table]
    lines = [columns, ["---"] * len(columns), *cells]
    markdown = "".join(f"| {' | '.join(line)} |\n" for line in lines)
    write_files({folder / "table.md": markdown.encode()})
    if as_json:
        print_json(table)
        return
    height, width = protocol.size
    print_table(
        columns,
        cells,
        title=f"{protocol.preset}, {protocol.steps} steps of {protocol.batch_size} images {width}x{height}, "
        f"{protocol.num_queries} points; scored on {protocol.val_split}",
        caption="Δ: variant minus baseline over paired seeds, with its 95 % interval, in brackets where it holds zero; "
        "s: training",
        text_columns=("variant", "what it does"),
    )


def _table(rows: Mapping[Row, Any], study: Study, protocol: AblationProtocol) -> list[dict[str, Any]]:
    """One line per variant, in the order of the variants."""
    import statistics

    from spd.training.ablation import compare

    main = protocol.scored_queries[0]
    compared = [number for number in study.compared_queries if number in protocol.scored_queries] or [main]
    table = []
    for name, variant in study.variants.items():
        documents = [document for row, document in rows.items() if row.variant == name]
        if not documents:
            continue
        line: dict[str, Any] = {"variant": name, "what it does": variant.question, "seeds": len(documents)}
        for number in protocol.scored_queries:
            values = [document["scores"][str(number)]["abs_rel"] for document in documents]
            line[f"abs_rel K={number}"] = statistics.fmean(values)
        values = [document["scores"][str(main)]["abs_rel"] for document in documents]
        line["sd"] = statistics.stdev(values) if len(values) > 1 else None
        for number in compared:
            line[f"Δ abs_rel K={number}"] = _verdict(compare(rows, name, study.baseline, number, "abs_rel"))
        # The figure that forgives an image's error of scale.
        line[f"Δ silog K={main}"] = _verdict(compare(rows, name, study.baseline, main, "silog"))
        if study.consistency:
            changes = [change["mean"] for document in documents for change in document["consistency"].values()]
            line["change, %"] = f"{100 * max(changes):.2g}"
        line["s"] = round(statistics.fmean(document["training_seconds"] for document in documents))
        table.append(line)
    return table


def _verdict(comparison: Any) -> str:
    if comparison is None:
        return ""
    interval = f"{comparison.mean:+.4f} ± {comparison.half_width:.4f}"
    return interval if comparison.separated else f"({interval})"


def _cell(value: Any) -> str:
    if value is None:
        return ""
    return f"{value:.4f}" if isinstance(value, float) else str(value)
