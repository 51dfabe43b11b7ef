from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from spd.camera import Intrinsics, odd_focal_length
from spd.data.rgbd import RGBDDataset
from spd.data.summary import FRAMES_READ, summarize


def write_set(root: Path, depths: list[np.ndarray], cameras: list[str] | None = None) -> RGBDDataset:
    root.mkdir()
    lines = ["image,depth,split,fx,fy,cx,cy"]
    for number, depth_m in enumerate(depths):
        height, width = depth_m.shape
        Image.fromarray(np.zeros((height, width, 3), np.uint8)).save(root / f"{number}.png")
        np.save(root / f"{number}.npy", depth_m.astype(np.float32))
        lines.append(f"{number}.png,{number}.npy,train,{cameras[number] if cameras else ',,,'}")
    (root / "manifest.csv").write_text("\n".join(lines))
    return RGBDDataset(root, ("train",))


def test_figures_by_hand(tmp_path: Path) -> None:
    half = np.zeros((4, 6))
    half[:2] = 2.0
    whole = np.full((4, 6), 4.0)
    empty = np.zeros((4, 6))
    first = write_set(tmp_path / "a", [half, empty], ["5,5,3,2", "5,5,3,2"])
    second = write_set(tmp_path / "b", [whole])
    summary = summarize([first, second])
    assert (summary.frames, summary.frames_read, summary.cameras, summary.without_camera) == (3, 3, 1, 1)
    assert summary.valid_share == pytest.approx((12 + 0 + 24) / 72)
    # Twelve pixels of 2 m and twenty-four of 4 m.
    assert summary.percentiles_m == (2.0, 4.0, 4.0)
    assert summary.without_depth == (str(tmp_path / "a" / "1.npy"),)
    assert summary.warnings == ()
    assert str(summary).startswith("3 frames, depth at 50 % of pixels, 1 of 3 without any, from 2 m over 4 m to 4 m")


def test_no_valid_depth_is_refused_and_one_among_many_is_found(tmp_path: Path) -> None:
    empty = [np.zeros((2, 3))] * (3 * FRAMES_READ)
    with pytest.raises(ValueError, match=r"none of the 192 frames has a valid depth: .*0\.npy, .* and 189 more"):
        summarize([write_set(tmp_path / "none", empty)])
    empty[1] = np.ones((2, 3))
    assert summarize([write_set(tmp_path / "one", empty)]).percentiles_m == (1.0, 1.0, 1.0)


@pytest.mark.parametrize(("depth", "words"), [(1500.0, "millimetres"), (0.002, "depth_scale, now 1000"), (1.5, None)])
def test_other_units_are_told(depth: float, words: str | None, tmp_path: Path) -> None:
    told = summarize([write_set(tmp_path / "set", [np.full((2, 3), depth)])]).warnings
    assert len(told) == (words is not None)
    assert words is None or words in told[0]


@pytest.mark.parametrize(
    ("fx", "fy", "odd"),
    [(64, 64, None), (640, 640, None), (63, 64, "fx=63"), (64, 6401, "fy=6401"), (0.8, 0.8, "fx=0.8")],
)
def test_implausible_lenses_are_told(fx: float, fy: float, odd: str | None) -> None:
    told = odd_focal_length(Intrinsics(fx, fy, 320, 240), 640)
    assert (told is None) == (odd is None)
    assert odd is None or (told is not None and told.startswith(odd) and "between 64 and 6400" in told)


def test_the_frame_of_an_odd_lens_is_named(tmp_path: Path) -> None:
    depths = [np.ones((4, 6))] * 2
    told = summarize([write_set(tmp_path / "set", depths, ["5,5,3,2", "500,500,3,2"])]).warnings
    assert told[0].startswith("1.png: fx=500 is implausible for an image 6 pixels wide")
