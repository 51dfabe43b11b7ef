from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import spd
from spd.cli.main import main
from spd.config import ModelConfig
from spd.data.rgbd import RGBDDataset
from spd.evaluation.protocol import predict, score
from spd.model.spd import SPD


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("checkpoint")
    torch.manual_seed(0)
    spd.save(SPD(ModelConfig.atto(train_size=(64, 96))), folder)
    return folder


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """Two images of split test; one of split holes has no depth."""
    root = tmp_path / "data"
    root.mkdir()
    random = np.random.default_rng(0)
    with (root / "manifest.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["image", "depth", "split"])
        for name, split in (("a", "test"), ("b", "test"), ("c", "holes")):
            Image.fromarray(random.integers(0, 256, (48, 80, 3), np.uint8)).save(root / f"{name}.png")
            depth_m = random.uniform(1, 4, (48, 80)) if split == "test" else np.zeros((48, 80))
            np.save(root / f"{name}.npy", depth_m.astype(np.float32))
            writer.writerow([f"{name}.png", f"{name}.npy", split])
    return root


def test_json_holds_the_scores(data: Path, checkpoint: Path, capsys: pytest.CaptureFixture[str]) -> None:
    line = f"evaluate --data {data} --checkpoint {checkpoint} --crop none --device cpu --json"
    assert main(line.split()) == 0
    output = capsys.readouterr()
    document = json.loads(output.out)
    dataset = RGBDDataset(data, ["test"])
    expected = score(list(predict(spd.load(checkpoint), dataset, data, num_queries=256, crop="none")))
    assert document["mean"] == pytest.approx(expected.mean._asdict(), rel=1e-4)
    assert document["pooled"] == pytest.approx(expected.pooled._asdict(), rel=1e-4)
    assert expected.standard_error is not None
    assert document["standard_error"] == pytest.approx(expected.standard_error._asdict(), rel=1e-3)
    assert (document["images"], document["points"], document["num_queries"]) == (2, 2048, 256)
    assert (document["split"], document["crop"], document["protocol_version"]) == ("test", "none", 1)
    assert document["images_per_second"] > 0
    assert "2/2" in output.err


def test_table_and_report(data: Path, checkpoint: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    report = tmp_path / "report.json"
    line = f"evaluate --data {data} --checkpoint {checkpoint} --crop none --num-queries 1024 --output {report}"
    assert main(line.split()) == 0
    document = json.loads(report.read_text())
    table = capsys.readouterr().out
    (row,) = [line for line in table.splitlines() if "abs_rel" in line]
    mean, pooled = document["mean"]["abs_rel"], document["pooled"]["abs_rel"]
    error = document["standard_error"]["abs_rel"]
    assert [cell.strip() for cell in row.strip("│").split("│")] == [
        "abs_rel",
        f"{mean:.4f}",
        f"{error:.4f}",
        f"{pooled:.4f}",
    ]
    assert [(image["image"], image["points"]) for image in document["per_image"]] == [("a.png", 1024), ("b.png", 1024)]
    assert np.mean([image["abs_rel"] for image in document["per_image"]]) == pytest.approx(mean)
    assert [path.name for path in tmp_path.iterdir() if path.is_file()] == ["report.json"]


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ("--split holes --crop none", "c.npy has no valid depth"),
        ("--split val --crop none", "no frame in split val; it has holes, test"),
        ("", "crop eigen is defined for 640x480, got depth of 80x48"),
        ("--crop none --num-queries 0", "num_queries must be at least 1, got 0"),
        ("--crop none --device warp9", "warp9"),
        ("--crop middle", "--crop"),
        ("--crop none --data no/such/folder", "no/such/folder"),
        ("--crop none --checkpoint no/such/folder", "no/such/folder"),
        ("--crop none --output no/such/folder/report.json", "no/such/folder/report.json"),
    ],
)
def test_what_a_user_may_get_wrong(
    options: str, told: str, data: Path, checkpoint: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    report = tmp_path / "report.json"
    line = f"evaluate --data {data} --checkpoint {checkpoint} --output {report} {options}"
    assert main(line.split()) == 2
    output = capsys.readouterr()
    assert output.out == ""
    errors = [line for line in output.err.splitlines() if line.startswith("spd: error: ")]
    assert len(errors) == 1
    assert told in errors[0]
    assert not report.exists()


def test_a_damaged_image_is_named(data: Path, checkpoint: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = data / "b.png"
    path.write_bytes(path.read_bytes()[:200])
    assert main(f"evaluate --data {data} --checkpoint {checkpoint} --crop none".split()) == 2
    assert f"cannot read the image {path}" in capsys.readouterr().err
