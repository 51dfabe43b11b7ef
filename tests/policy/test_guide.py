"""Every block of the guide runs, one after the other, as a reader would run them."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import spd
from spd.cli.main import parse

ROOT = Path(__file__).parents[2]
GUIDE = (ROOT / "docs/guide.md").read_text(encoding="utf-8")


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", GUIDE, flags=re.MULTILINE | re.DOTALL)


def test_python_blocks_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("cv2")
    monkeypatch.chdir(tmp_path)
    pixels = np.random.default_rng(0).integers(0, 255, (12, 16, 3), dtype=np.uint8)
    Image.fromarray(pixels).resize((640, 480)).save("photo.jpg")
    names: dict[str, object] = {}
    assert len(blocks("python")) == 8
    for block in blocks("python"):
        exec(compile(block, "docs/guide.md", "exec"), names)
    # What the guide makes of them: the known distance is what the corrected predictor answers.
    corrected = names["corrected"]
    assert isinstance(corrected, spd.Predictor)
    assert corrected.measure("photo.jpg", [(320, 240)]).range_m.tolist() == pytest.approx([2.35], rel=1e-4)


def test_commands_parse() -> None:
    lines = [line for block in blocks("bash") for line in block.splitlines() if line.startswith("spd ")]
    assert lines
    for line in lines:
        parse(line.split()[1:])
