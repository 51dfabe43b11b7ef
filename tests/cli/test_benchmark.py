from __future__ import annotations

import json
from pathlib import Path

import pytest
from PIL import Image
from torch import Tensor, nn

from spd.cli.main import main

SMALL = "benchmark --presets atto --size 64 96 --num-queries 1 5 --rounds 1 --threads 1"


def test_it_prints_a_table_and_one_json_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("transformers")
    folder = tmp_path / "out"
    assert main(f"{SMALL} --depth-anything 28x42 --output {folder}".split()) == 0
    table, last = capsys.readouterr().out.strip().rsplit("\n", 1)
    document = json.loads(last)
    assert json.loads((folder / "benchmark.json").read_text()) == document
    names = ["spd atto joint", "spd atto anchored", "bilinear atto", "depth-anything 28x42"]
    assert [row["model"] for row in document["results"]] == names
    assert all(name in table for name in names)
    assert sorted(document["results"][0]["decode_s"]) == ["1", "5"]
    assert document["threads"] == 1
    with Image.open(folder / "benchmark.png") as picture:
        assert picture.format == "PNG"


class Dense(nn.Module):
    """In the place of Ultralytics' network, whose package a plain install does not have."""

    def __init__(self, name: str) -> None:
        super().__init__()
        assert name == "yolo26n-depth"
        self.convolution = nn.Conv2d(3, 1, 1)

    def encode(self, images: Tensor) -> Tensor:
        return self.convolution(images)

    def decode(self, memory: Tensor, query_points: Tensor) -> Tensor:
        return memory.mean() + query_points.sum(-1)


def test_lite_is_timed_beside_a_network_of_ultralytics(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Totals are then compared with that network's."""
    monkeypatch.setattr("spd.profiling.contestants.YoloNetwork", Dense)
    options = f"{SMALL} --presets lite0 --interactions anchored --bilinear False --depth-anything none"
    assert main(f"{options} --yolo yolo26n-depth".split()) == 0
    table, last = capsys.readouterr().out.strip().rsplit("\n", 1)
    lite, yolo = json.loads(last)["results"]
    assert (lite["model"], yolo["model"]) == ("spd lite0 anchored", "yolo26n-depth")
    assert (yolo["encode_macs"], yolo["decode_macs"]) == (64 * 96 * 3, {"1": 0, "5": 0})
    assert yolo["input_size"] == [64, 96]
    assert lite["encode_macs"] > 50e6
    assert "ratio: total to that of yolo26n-depth, torch, float32" in " ".join(table.split())


def test_ultralytics_is_asked_for_by_one_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("spd.profiling.yolo.find_spec", lambda name: None)
    assert main(f"{SMALL} --bilinear False --depth-anything none --yolo yolo26n-depth".split()) == 2
    errors = [line for line in capsys.readouterr().err.splitlines() if line.startswith("spd: ")]
    assert len(errors) == 1
    assert "yolo26n-depth needs ultralytics: pip install ultralytics (Ultralytics is under AGPL-3.0" in errors[0]


@pytest.mark.parametrize(
    ("more", "told"),
    [
        ("--size 60 96", "--size must be height and width in multiples of 32"),
        ("--num-queries 0", "--num-queries must be at least 1"),
        ("--rounds 0", "--rounds must be at least 1"),
        ("--depth-anything 476", "--depth-anything must be HEIGHTxWIDTH such as 476x630, or none, got '476'"),
        ("--runtimes onnx --precisions bfloat16 --depth-anything none", "nothing to time"),
        ("--device nowhere", "device must be one that this machine has"),
        ("--threads 0", "--threads must be at least 1"),
        ("--yolo yolo26n", "yolo26n"),
    ],
)
def test_what_a_user_may_get_wrong(more: str, told: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = tmp_path / "out"
    assert main(f"{SMALL} {more} --output {folder}".split()) == 2
    errors = [line for line in capsys.readouterr().err.splitlines() if line.startswith("spd: ")]
    assert len(errors) == 1
    assert told in errors[0]
    assert not folder.exists()
