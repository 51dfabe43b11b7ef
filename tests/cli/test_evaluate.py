from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

import spd
from spd.cli.main import main
from spd.config import ModelConfig
from spd.data.rgbd import RGBDDataset
from spd.depth_range import OPEN_DEPTH_RANGE
from spd.evaluation.alignment import ALIGNMENTS
from spd.evaluation.contenders import model_checksum
from spd.evaluation.protocol import Asking, predict
from spd.evaluation.scores import score
from spd.model.spd import SPD
from spd.runtime.loading import run_by_torch


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("checkpoint")
    torch.manual_seed(0)
    spd.save(SPD(ModelConfig.atto(train_size=(64, 96), interaction="joint")), folder)
    return folder


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """Two images of split test, one to fit to; one of split holes has no depth; split some has one of each kind."""
    root = tmp_path / "data"
    root.mkdir()
    random = np.random.default_rng(0)
    with (root / "manifest.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["image", "depth", "split"])
        kinds = [("a", "test"), ("b", "test"), ("c", "holes"), ("d", "train"), ("e", "some"), ("f", "some")]
        for name, split in kinds:
            Image.fromarray(random.integers(0, 256, (48, 80, 3), np.uint8)).save(root / f"{name}.png")
            depth_m = np.zeros((48, 80)) if name in "ce" else random.uniform(1, 4, (48, 80))
            np.save(root / f"{name}.npy", depth_m.astype(np.float32))
            writer.writerow([f"{name}.png", f"{name}.npy", split])
    return root


def only_set(document: dict[str, Any]) -> dict[str, Any]:
    """What the report of a run says of its one data set."""
    (of_set,) = document["data_sets"]
    return of_set


def evaluate(data: Path, checkpoint: Path, output: Path, more: str = "") -> int:
    """The command's exit status."""
    return main(f"evaluate --data {data} --checkpoint {checkpoint} --crop none --output {output} {more}".split())


def test_json_holds_the_scores(
    data: Path, checkpoint: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert evaluate(data, checkpoint, tmp_path / "e", "--num-queries 64 1024 --dense --device cpu --json") == 0
    output = capsys.readouterr()
    document = only_set(json.loads(output.out))
    assert (document["images"], document["shared_points_per_image"]) == (2, 1024)
    assert (document["split"], document["crop"], document["protocol_version"]) == ("test", "none", 2)
    (model,) = document["models"]
    assert [result["num_queries"] for result in model["results"]] == [64, 1024, "dense"]
    rows = predict(spd.load(checkpoint), RGBDDataset(data, ["test"]), data, ways=[Asking(64)], crop="none")
    predictions = [prediction for (prediction,) in rows]
    result = model["results"][0]
    means = set()
    for alignment in ALIGNMENTS:
        expected, told = score(predictions, OPEN_DEPTH_RANGE, alignment), result[alignment]
        assert told["mean"] == pytest.approx(expected.mean._asdict(), rel=1e-4)
        assert told["pooled"] == pytest.approx(expected.pooled._asdict(), rel=1e-4)
        assert expected.standard_error is not None
        assert told["standard_error"] == pytest.approx(expected.standard_error._asdict(), rel=1e-3)
        assert told["sampling_error"] == pytest.approx(expected.sampling_error._asdict(), rel=1e-3)
        assert told["over_scenes"] is None
        means.add(told["mean"]["abs_rel"])
    assert len(means) == 3
    assert result["pair_distance"] is None
    assert "mean" not in result
    assert result["raw_shared_abs_rel"] == pytest.approx(result["raw"]["mean"]["abs_rel"])
    assert [part["points"] for part in model["results"]] == [2048, 2048, 2 * 12 * 20]
    assert result["images_per_second"] > 0
    assert "2/2" in output.err


def test_folder_of_an_evaluation(
    data: Path, checkpoint: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "e"
    assert evaluate(data, checkpoint, folder, "--num-queries 1 1024 --model median spd") == 0
    folder = folder / "data-test"
    report = json.loads((folder / "report.json").read_text())
    names = ["median", "spd-" + checkpoint.name]
    assert [model["name"] for model in report["models"]] == names
    for model in report["models"]:
        one_by_one, together = model["results"]
        assert [(image["image"], image["points"]) for image in together["per_image"]] == [
            ("a.png", 1024),
            ("b.png", 1024),
        ]
        for alignment in ALIGNMENTS:
            of_images = [image[alignment]["abs_rel"] for image in together["per_image"]]
            assert np.mean(of_images) == pytest.approx(together[alignment]["mean"]["abs_rel"])
        assert one_by_one["points"] == 128
    # A constant has one answer, whatever is asked with it.
    median = report["models"][0]["results"]
    assert median[0]["raw_shared_abs_rel"] == pytest.approx(median[1]["raw_shared_abs_rel"])
    table = capsys.readouterr().out
    cells = [[cell.strip() for cell in line.strip("│").split("│")] for line in table.splitlines() if "│" in line]
    for alignment in ALIGNMENTS:
        first, *_ = [row for row in cells if row[:3] == ["median", "1024", alignment]]
        expected = [median[1][alignment][kind]["abs_rel"] for kind in ("mean", "standard_error", "sampling_error")]
        assert first[3:6] == [f"{figure:.4f}" for figure in expected]
    files = {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}
    pictures = {"abs_rel_by_queries.png", "error_by_depth.png", "error_by_part.png"}
    pictures |= {f"worst_and_best-{name}.png" for name in names}
    assert files == pictures | {"report.json"} | {f"{name}/{k}.npz" for name in names for k in (1, 1024)}


def test_consistency_of_both_modes_and_of_a_constant(
    data: Path, checkpoint: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    more = "--num-queries 64 --consistency --model spd median --split test"
    assert evaluate(data, checkpoint, tmp_path / "joint", more) == 0
    assert "Change of log depth at fixed pixels" in capsys.readouterr().out
    with pytest.warns(UserWarning, match="was trained with joint queries"):
        assert evaluate(data, checkpoint, tmp_path / "anchored", f"{more} --interaction anchored --json") == 0
    output = capsys.readouterr()
    joint = json.loads((tmp_path / "joint" / "data-test" / "report.json").read_text())["models"]
    anchored = only_set(json.loads(output.out))["models"]
    assert [row["companions"] for row in joint[0]["consistency"]] == [0, 48, 240, 1008]
    assert min(row["mean"] for row in joint[0]["consistency"]) > 1e-5
    assert max(row["percentile99"] for row in anchored[0]["consistency"]) < 1e-5
    assert max(row["percentile99"] for row in joint[1]["consistency"]) == 0


def test_scores_come_from_the_files(
    data: Path, checkpoint: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "e"
    assert evaluate(data, checkpoint, folder, "--num-queries 64 --json") == 0
    first = only_set(json.loads(capsys.readouterr().out))
    (path,) = folder.rglob("*.npz")
    written = path.stat().st_mtime_ns
    assert evaluate(data, checkpoint, folder, "--num-queries 64 256 --json") == 0
    second = only_set(json.loads(capsys.readouterr().out))
    assert path.stat().st_mtime_ns == written
    # Even the time is the stored one.
    assert second["models"][0]["results"][0] == first["models"][0]["results"][0]


def test_predictions_of_another_checkpoint_are_refused(
    data: Path, checkpoint: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "e"
    other = tmp_path / "other" / checkpoint.name
    torch.manual_seed(1)
    spd.save(SPD(ModelConfig.atto(train_size=(64, 96))), other)
    assert evaluate(data, checkpoint, folder) == 0
    report = (folder / "data-test/report.json").read_bytes()
    capsys.readouterr()
    assert evaluate(data, other, folder) == 2
    assert "holds other predictions (model_checksum" in capsys.readouterr().err
    assert (folder / "data-test/report.json").read_bytes() == report
    assert evaluate(data, other, folder, "--overwrite") == 0
    assert (folder / "data-test/report.json").read_bytes() != report


def test_answers_of_another_depth_range_are_refused(
    data: Path, checkpoint: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    figures = {}
    for limits in ("", "--depth-range 0.5 3"):
        folder = tmp_path / f"e{limits[-1:]}"
        assert evaluate(data, checkpoint, folder, f"--num-queries 64 --json {limits}") == 0
        document = only_set(json.loads(capsys.readouterr().out))
        figures[tuple(document["depth_range_m"])] = document["models"][0]["results"][0]["raw"]["mean"]["abs_rel"]
    assert figures.keys() == {(0.001, 1000.0), (0.5, 3.0)}
    assert len(set(figures.values())) == 2
    assert evaluate(data, checkpoint, tmp_path / "e3", "--num-queries 64") == 2
    told = "holds other predictions (depth_range 0.5 to 3 m, now 0.001 to 1000 m); pass --overwrite"
    assert told in capsys.readouterr().err


def test_another_precision_gives_answers_of_its_own(
    data: Path, checkpoint: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    depths = []
    for precision in ("float32", "bfloat16"):
        assert evaluate(data, checkpoint, tmp_path / precision, f"--precision {precision} --num-queries 64 --json") == 0
        (model,) = only_set(json.loads(capsys.readouterr().out))["models"]
        depths.append(model["results"][0]["raw"]["mean"]["abs_rel"])
    assert depths[0] != depths[1] == pytest.approx(depths[0], rel=0.02)
    assert evaluate(data, checkpoint, tmp_path / "float32", "--precision bfloat16 --num-queries 64") == 2
    assert "holds other predictions (model_checksum" in capsys.readouterr().err


def test_what_runs_a_model_is_part_of_its_checksum(checkpoint: Path) -> None:
    eager = spd.load(checkpoint, device="cpu")
    compiled = run_by_torch(eager, "compile", "float32")
    assert len({model_checksum(eager), model_checksum(compiled)}) == 2
    assert model_checksum(compiled) == model_checksum(run_by_torch(eager, "compile", "float32"))


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ("--split holes --crop none", "c.npy has no valid depth"),
        ("--split val --crop none", "no frame in split val; it has holes, some, test, train"),
        ("", "crop eigen is defined for 640x480, got depth of 80x48"),
        ("--crop none --depth-range 5 2", "0 < MIN < MAX, got 5.0 2.0"),
        ("--split holes --crop none --skip-empty", "no image of split holes of"),
        ("--crop none eigen", "--crop must be given once, or once for each of the 1 data sets, got 2"),
        ("--crop none --data {data} {data}", "two data sets would both be called data-test"),
        ("--crop none --num-queries 0", "num_queries must be at least 1, got 0"),
        ("--crop none --device warp9", "warp9"),
        ("--crop middle", "--crop"),
        ("--crop none --data no/such/folder", "no/such/folder"),
        ("--crop none --checkpoint no/such/folder", "no/such/folder"),
        ("--crop none --output {data}/manifest.csv", "output must be a folder, got the file"),
        ("--crop none --num-queries 64 64", "must not repeat a number"),
        ("--crop none --model median", "--checkpoint must name none for median; got 1"),
        ("--crop none --model spd bilinear", "--checkpoint must name one for each of spd, bilinear"),
        ("--crop none --train-splits early --model median spd", "no frame in split early"),
    ],
)
def test_what_a_user_may_get_wrong(
    options: str, told: str, data: Path, checkpoint: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "e"
    line = f"evaluate --data {data} --checkpoint {checkpoint} --output {folder} {options.format(data=data)}"
    assert main(line.split()) == 2
    output = capsys.readouterr()
    assert output.out == ""
    errors = [line for line in output.err.splitlines() if line.startswith("spd: error: ")]
    assert len(errors) == 1
    assert told in errors[0]
    assert not folder.exists()


def test_a_damaged_image_is_named(
    data: Path, checkpoint: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = data / "b.png"
    path.write_bytes(path.read_bytes()[:200])
    assert evaluate(data, checkpoint, tmp_path / "e") == 2
    assert f"cannot read the image {path}" in capsys.readouterr().err


def test_a_flipped_model_has_a_name_and_answers_of_its_own(
    data: Path, checkpoint: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "e"
    results = []
    for more in ("--json", "--json --flip"):
        assert evaluate(data, checkpoint, folder, more) == 0
        (model,) = only_set(json.loads(capsys.readouterr().out))["models"]
        results.append((model["name"], model["results"][0]["raw"]["mean"]["abs_rel"]))
    (plain, before), (flipped, after) = results
    assert flipped == f"{plain}+flip"
    assert after != before
    assert after == pytest.approx(before, rel=0.5)
    assert {path.name for path in (folder / "data-test").iterdir() if path.is_dir()} == {plain, flipped}


@pytest.fixture
def desks(tmp_path: Path) -> Path:
    """Three images of two scenes with cameras, one of them of a depth beyond 10 m, and one to fit to."""
    root = tmp_path / "desks"
    root.mkdir()
    random = np.random.default_rng(1)
    lines = ["image,depth,split,scene,fx,fy,cx,cy"]
    for name, split, scene, depth in (("a", "val", "one", 1), ("b", "val", "one", 2), ("c", "val", "two", 30)):
        Image.fromarray(random.integers(0, 256, (48, 80, 3), np.uint8)).save(root / f"{name}.png")
        np.save(root / f"{name}.npy", (depth * random.uniform(1, 2, (48, 80))).astype(np.float32))
        lines.append(f"{name}.png,{name}.npy,{split},{scene},70,70,39.5,23.5")
    (root / "manifest.csv").write_text("\n".join([*lines, lines[1].replace("val", "train")]))
    return root


def test_several_data_sets_have_a_report_each(
    data: Path, desks: Path, checkpoint: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "e"
    more = f"--data {data} {desks} --split test val --num-queries 64 --model spd median"
    assert evaluate(data, checkpoint, folder, f"{more} --json") == 0
    first, second = json.loads(capsys.readouterr().out)["data_sets"]
    assert (first["data"], first["split"], first["images"], first["images_without_camera"]) == ("data", "test", 2, 2)
    assert (second["data"], second["split"], second["images"], second["images_without_camera"]) == (
        "desks",
        "val",
        3,
        0,
    )
    assert first["notes"] == [
        "2 of the 2 images have no camera in the manifest, so one is assumed: raw metres are not meaningful for them, "
        "the aligned figures are"
    ]
    assert second["notes"] == []
    for name, of_set in (("data-test", first), ("desks-val", second)):
        written = json.loads((folder / name / "report.json").read_text())
        for model in written["models"]:
            for result in model["results"]:
                del result["per_image"]
        assert written == of_set
    # The constant is fitted to each set's own frames: 2.5 m in the first, 1.5 m in the second.
    constant = second["models"][1]["results"][0]
    image_errors = {}
    for name in "abc":
        truth = np.load(desks / f"{name}.npy").astype(float)
        image_errors[name] = np.mean(np.abs(1.5 - truth) / truth)
    expected = ((image_errors["a"] + image_errors["b"]) / 2 + image_errors["c"]) / 2
    assert constant["raw"]["over_scenes"]["scenes"] == 2
    assert constant["raw"]["over_scenes"]["mean"]["abs_rel"] == pytest.approx(expected, rel=0.03)
    assert constant["raw"]["mean"]["abs_rel"] == pytest.approx(np.mean(list(image_errors.values())), rel=0.03)
    assert constant["pair_distance"]["raw"]["images"] == 3
    # A flat wall whose scale is right is a third off, and half as near as the true depths lie apart.
    assert constant["pair_distance"]["raw"]["mean"] > constant["pair_distance"]["median_aligned"]["mean"] > 0
    assert evaluate(data, checkpoint, folder, more) == 0
    told = capsys.readouterr().out
    for title in (
        "Mean over the 2 images of test of data, crop none, true depth 0.001 to 1000 m",
        "Note: 2 of the 2 images have no camera",
        "Mean over the 3 images of val of desks",
        "Mean over the 2 scenes of val of desks",
        "All data sets: abs_rel",
    ):
        assert title in told
    assert told.count("over the 2 scenes") == 1
    summary = [line for line in told[told.index("All data sets") :].splitlines() if "desks val" in line]
    means = [f"{second['models'][1]['results'][0][kind]['mean']['abs_rel']:.4f}" for kind in ALIGNMENTS]
    assert [cell.strip() for cell in summary[1].strip("│").split("│")][4:7] == means


def test_an_image_without_depth_may_be_left_out_and_is_told(
    data: Path, checkpoint: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    more = "--split some --num-queries 64 --consistency"
    assert evaluate(data, checkpoint, tmp_path / "e", more) == 2
    assert "e.npy has no valid depth (0.001 to 1000 m) anywhere; --skip-empty leaves" in capsys.readouterr().err
    assert evaluate(data, checkpoint, tmp_path / "e", f"{more} --skip-empty --json") == 0
    document = only_set(json.loads(capsys.readouterr().out))
    assert (document["images"], document["skipped_images"]) == (1, ["e.png"])
    assert "left out for want of a valid depth: 1 of 2 images (e.png)" in document["notes"]
    # Its file is no answer about all images either.
    assert evaluate(data, checkpoint, tmp_path / "e", more) == 2
    assert "holds answers about 1 of the 2 images" in capsys.readouterr().err
    assert evaluate(data, checkpoint, tmp_path / "e", f"{more} --skip-empty") == 0
    assert "Note: left out for want of a valid depth: 1 of 2 images (e.png)." in capsys.readouterr().out
