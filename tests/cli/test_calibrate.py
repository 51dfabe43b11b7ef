"""``spd calibrate`` and what its file does to ``spd predict``."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from spd.checkpoint import save
from spd.cli.main import main
from spd.config import ModelConfig
from spd.model.spd import SPD


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    torch.manual_seed(0)
    save(SPD(ModelConfig.atto(train_size=(64, 96))).eval(), tmp_path / "model")
    pixels = np.random.default_rng(0).integers(0, 255, (48, 80, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(tmp_path / "a.png")
    return tmp_path


def test_predictions_are_corrected(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (folder / "known.csv").write_text("image,u,v,metres\na.png,30,20,2.5\n")
    common = ["--checkpoint", str(folder / "model"), "--device", "cpu", "--json"]
    words = [str(folder / "known.csv"), "--output", str(folder / "room.json"), "--kind", "depth"]
    assert main(["calibrate", *words, *common]) == 0
    assert json.loads(capsys.readouterr().out)["observations"][0]["residual"] == 0
    asked = ["predict", str(folder / "a.png"), "--points", "30,20", *common]
    assert main([*asked, "--calibration", str(folder / "room.json")]) == 0
    assert json.loads(capsys.readouterr().out)[0]["depth_m"] == pytest.approx(2.5, abs=1e-5)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "must have a header image,u,v,metres"),
        ("image,u,v\na.png,1,2\n", "line 2 must have image, and the numbers u, v and metres"),
        ("image,u,v,metres\na.png,1,2,far\n", "line 2 must have image"),
        ("image,u,v,metres\na.png,1,2,-3\n", "known distances must be positive"),
        ("image,u,v,metres\nb.png,1,2,3\n", "cannot read the image"),
    ],
)
def test_bad_distances_are_one_line(text: str, words: str, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (folder / "known.csv").write_text(text)
    given = [str(folder / "known.csv"), "--output", str(folder / "room.json"), "--checkpoint", str(folder / "model")]
    assert main(["calibrate", *given, "--device", "cpu"]) == 2
    told = capsys.readouterr().err
    assert words in told
    assert told.count("\n") == 1
    assert not (folder / "room.json").exists()
