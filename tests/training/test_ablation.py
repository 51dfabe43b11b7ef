from __future__ import annotations

import json
import math
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest

from spd.config import ModelConfig
from spd.data.rooms import write_rooms
from spd.training.ablation import Row, compare, pending, read_rows, row_config, run_row
from spd.training.studies import STUDIES, AblationProtocol, StudyName

BASELINE = "baseline"
CHOICES, INTERACTION = STUDIES["choices"], STUDIES["interaction"]
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


@pytest.mark.parametrize("name", CHOICES.variants)
def test_a_variant_changes_what_it_says_and_nothing_else(name: str, tmp_path: Path) -> None:
    variant = CHOICES.variants[name]
    baseline = row_config(Row(BASELINE, 3), CHOICES, PROTOCOL, tmp_path, tmp_path / "run")
    config = row_config(Row(name, 3), CHOICES, PROTOCOL, tmp_path, tmp_path / "run")
    for part in ("model", "data", "loss"):
        changed = {
            key: value
            for key, value in asdict(getattr(config, part)).items()
            if value != asdict(getattr(baseline, part))[key]
        }
        # The plan names fields that the defaults share with it.
        named = dict(getattr(variant, part))
        if part == "model":
            named["variant"] = {**asdict(baseline.model.variant), **variant.variant}
        assert changed.items() <= named.items()
    assert replace(config, model=baseline.model, data=baseline.data, loss=baseline.loss) == baseline
    assert (name == BASELINE) == (config == baseline)
    assert (config.seed, config.max_steps, config.model.dropout, config.validate_every) == (3, 7, 0.0, 0)


def test_the_variant_of_the_plan_is_the_plan(tmp_path: Path) -> None:
    model = row_config(Row("plan-v14", 0), CHOICES, PROTOCOL, tmp_path, tmp_path).model
    letter = ModelConfig.plan_v14()
    assert model.variant == letter.variant


def test_differences_are_paired_by_seed_and_their_interval_is_student_s() -> None:
    # Differences .01, .03 and .02: mean .02, deviation .01; t of two degrees of freedom at 97.5 % is 4.3027.
    figures = {BASELINE: (0.40, 0.50, 0.30), "edges": (0.41, 0.53, 0.32)}
    rows = {Row(name, seed): document(name, seed, v) for name, vs in figures.items() for seed, v in enumerate(vs)}
    rows[Row("edges", 9)] = document("edges", 9, 0.9)  # Has no partner.
    comparison = compare(rows, "edges", BASELINE, 64, "abs_rel")
    assert comparison is not None
    assert comparison.mean == pytest.approx(0.02)
    assert comparison.half_width == pytest.approx(4.3027 * 0.01 / math.sqrt(3), rel=1e-4)
    assert not comparison.separated
    silog = compare(rows, "edges", BASELINE, 256, "silog")
    assert silog is not None
    assert (silog.mean, silog.half_width, silog.separated) == (0, 0, False)


def test_one_pair_separates_nothing() -> None:
    rows = {Row(name, 0): document(name, 0, value) for name, value in ((BASELINE, 0.4), ("corner", 0.9))}
    comparison = compare(rows, "corner", BASELINE, 64, "abs_rel")
    assert comparison is not None
    assert comparison.mean == pytest.approx(0.5)
    assert not comparison.separated
    assert compare(rows, BASELINE, BASELINE, 64, "abs_rel") is None
    assert compare(rows, "no-canvas", BASELINE, 64, "abs_rel") is None


def test_what_is_pending_comes_seed_by_seed() -> None:
    rows = {Row(BASELINE, 0): {}, Row("corner", 1): {}}
    assert pending(rows, CHOICES, [BASELINE, "corner"], [0, 1]) == [Row("corner", 0), Row(BASELINE, 1)]


def test_a_variant_with_another_s_weights_takes_its_training() -> None:
    rows = {Row("joint", 0): {}, Row("joint-with-grid", 0): {}}
    wanted = ["joint", "joint-with-grid", "joint-as-anchored"]
    assert pending(rows, INTERACTION, wanted, [0]) == [Row("joint", 0)]
    assert pending({**rows, Row("joint-as-anchored", 0): {}}, INTERACTION, wanted, [0]) == []


def test_all_of_a_comparison_of_interactions_have_as_many_supervised_points(tmp_path: Path) -> None:
    # At 128x160: 80 anchors of stride 16, 20 of stride 32, 6 of stride 64.
    expected = {"joint": 144, "anchored-16": 64, "anchored": 124, "anchored-64": 138, "anchored-unsupervised": 144}
    for name, num_queries in expected.items():
        config = row_config(Row(name, 0), INTERACTION, INTERACTION.protocol, tmp_path, tmp_path / "run")
        assert config.data.num_queries == num_queries


def test_rows_of_another_protocol_are_refused(tmp_path: Path) -> None:
    (tmp_path / "edges-1.json").write_text(json.dumps(document("edges", 1, 0.4)))
    assert read_rows(tmp_path, CHOICES, PROTOCOL).keys() == {Row("edges", 1)}
    with pytest.raises(ValueError, match=r"edges-1\.json is of another protocol \(steps 7, now 9\)"):
        read_rows(tmp_path, CHOICES, replace(PROTOCOL, steps=9))
    with pytest.raises(ValueError, match=r"edges-1\.json is of another study"):
        read_rows(tmp_path, INTERACTION, PROTOCOL)
    (tmp_path / "edges-1.json").write_text('{"variant": "edges"')
    with pytest.raises(ValueError, match=r"edges-1\.json is no finished row"):
        read_rows(tmp_path, CHOICES, PROTOCOL)


def test_no_folder_has_no_rows(tmp_path: Path) -> None:
    assert read_rows(tmp_path / "nothing", CHOICES, PROTOCOL) == {}


@pytest.mark.parametrize("name", STUDIES)
def test_a_study_compares_with_its_first_variant_at_numbers_that_it_scores(name: StudyName) -> None:
    study = STUDIES[name]
    assert study.variants[study.baseline].weights_of is None
    assert set(study.compared_queries) <= set(study.protocol.scored_queries)
    assert study.compared_queries[0] == study.protocol.scored_queries[0]


def test_the_baseline_s_weights_are_asked_in_all_its_ways(tmp_path: Path) -> None:
    data = write_rooms(tmp_path / "rooms", num=10, seed=0, size=(96, 128), workers=1).parent
    protocol = replace(INTERACTION.protocol, size=(64, 96), steps=1, batch_size=2, scored_queries=(64, 1), crop="none")
    run_row(Row("joint", 0), INTERACTION, protocol, data, tmp_path / "rows")
    rows = read_rows(tmp_path / "rows", INTERACTION, protocol)
    assert sorted(rows) == [Row("joint", 0), Row("joint-as-anchored", 0), Row("joint-with-grid", 0)]
    figures = {row.variant: document["scores"]["1"]["abs_rel"] for row, document in rows.items()}
    assert len(set(figures.values())) == 3
    changes = {row.variant: document["consistency"]["1008"]["mean"] for row, document in rows.items()}
    assert changes["joint-as-anchored"] < 1e-5 < changes["joint"]
    assert changes["joint-with-grid"] > 1e-5
