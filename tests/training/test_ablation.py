from __future__ import annotations

import json
import math
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest

from spd.config import ModelConfig
from spd.training.ablation import (
    BASELINE,
    VARIANTS,
    AblationProtocol,
    Row,
    compare,
    pending,
    read_rows,
    row_config,
)

PROTOCOL = AblationProtocol(steps=7, scored_queries=(64, 256))


def document(variant: str, seed: int, abs_rel: float, protocol: AblationProtocol = PROTOCOL) -> dict[str, Any]:
    scores = {str(number): {"abs_rel": abs_rel, "silog": 30.0} for number in protocol.scored_queries}
    return {
        "variant": variant,
        "seed": seed,
        "protocol": json.loads(json.dumps(asdict(protocol))),
        "training_seconds": 5.0,
        "scores": scores,
    }


@pytest.mark.parametrize("name", VARIANTS)
def test_a_variant_changes_what_it_says_and_nothing_else(name: str, tmp_path: Path) -> None:
    variant = VARIANTS[name]
    baseline = row_config(Row(BASELINE, 3), PROTOCOL, tmp_path, tmp_path / "run")
    config = row_config(Row(name, 3), PROTOCOL, tmp_path, tmp_path / "run")
    for part in ("model", "data", "loss"):
        changed = {
            key: value
            for key, value in asdict(getattr(config, part)).items()
            if value != asdict(getattr(baseline, part))[key]
        }
        # The plan names fields that the defaults share with it.
        assert changed.items() <= dict(getattr(variant, part)).items()
    assert replace(config, model=baseline.model, data=baseline.data, loss=baseline.loss) == baseline
    assert (name == BASELINE) == (config == baseline)
    assert (config.seed, config.max_steps, config.model.dropout, config.validate_every) == (3, 7, 0.0, 0)


def test_the_variant_of_the_plan_is_the_plan(tmp_path: Path) -> None:
    model = row_config(Row("plan-v14", 0), PROTOCOL, tmp_path, tmp_path).model
    letter = ModelConfig.plan_v14()
    for name in ("canvas_write", "alignment", "offset_unit", "canvas_source", "fourier_lowest_octave"):
        assert getattr(model, name) == getattr(letter, name)


def test_differences_are_paired_by_seed_and_their_interval_is_student_s() -> None:
    # Differences .01, .03 and .02: mean .02, deviation .01; t of two degrees of freedom at 97.5 % is 4.3027.
    figures = {BASELINE: (0.40, 0.50, 0.30), "edges": (0.41, 0.53, 0.32)}
    rows = {Row(name, seed): document(name, seed, v) for name, vs in figures.items() for seed, v in enumerate(vs)}
    rows[Row("edges", 9)] = document("edges", 9, 0.9)  # Has no partner.
    comparison = compare(rows, "edges", 64, "abs_rel")
    assert comparison is not None
    assert comparison.mean == pytest.approx(0.02)
    assert comparison.half_width == pytest.approx(4.3027 * 0.01 / math.sqrt(3), rel=1e-4)
    assert not comparison.separated
    silog = compare(rows, "edges", 256, "silog")
    assert silog is not None
    assert (silog.mean, silog.half_width, silog.separated) == (0, 0, False)


def test_one_pair_separates_nothing() -> None:
    rows = {Row(name, 0): document(name, 0, value) for name, value in ((BASELINE, 0.4), ("corner", 0.9))}
    comparison = compare(rows, "corner", 64, "abs_rel")
    assert comparison is not None
    assert comparison.mean == pytest.approx(0.5)
    assert not comparison.separated
    assert compare(rows, BASELINE, 64, "abs_rel") is None
    assert compare(rows, "no-canvas", 64, "abs_rel") is None


def test_what_is_pending_comes_seed_by_seed() -> None:
    rows = {Row(BASELINE, 0): {}, Row("corner", 1): {}}
    assert list(pending(rows, [BASELINE, "corner"], [0, 1])) == [Row("corner", 0), Row(BASELINE, 1)]


def test_rows_of_another_protocol_are_refused(tmp_path: Path) -> None:
    (tmp_path / "edges-1.json").write_text(json.dumps(document("edges", 1, 0.4)))
    assert read_rows(tmp_path, PROTOCOL).keys() == {Row("edges", 1)}
    with pytest.raises(ValueError, match=r"edges-1\.json is of another protocol \(steps 7, now 9\)"):
        read_rows(tmp_path, replace(PROTOCOL, steps=9))
    (tmp_path / "edges-1.json").write_text('{"variant": "edges"')
    with pytest.raises(ValueError, match=r"edges-1\.json is no finished row"):
        read_rows(tmp_path, PROTOCOL)


def test_no_folder_has_no_rows(tmp_path: Path) -> None:
    assert read_rows(tmp_path / "nothing", PROTOCOL) == {}
