"""Frames of several data sets, decoded when asked for, kept in memory or on disk: the same frames."""

from __future__ import annotations

import os
import pickle
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from spd.data import frame_sets
from spd.data.frame_sets import FrameSets
from spd.data.rgbd import RGBDDataset

HEIGHT, WIDTH = 12, 20


def make(folder: Path, number: int, seed: int) -> RGBDDataset:
    rng = np.random.default_rng(seed)
    folder.mkdir()
    lines = ["image,depth,split,fx,fy,cx,cy,scene"]
    for index in range(number):
        Image.fromarray(rng.integers(0, 256, (HEIGHT, WIDTH, 3), dtype=np.uint8)).save(folder / f"{index}.png")
        Image.fromarray(rng.integers(0, 9000, (HEIGHT, WIDTH), dtype=np.uint16)).save(folder / f"{index}d.png")
        lines.append(f"{index}.png,{index}d.png,train,{50 + seed},48,9.5,5.5,s{index % 2}")
    (folder / "manifest.csv").write_text("\n".join(lines))
    return RGBDDataset(folder, ["train"])


@pytest.fixture
def two(tmp_path: Path) -> FrameSets:
    return FrameSets(("one", "two"), (make(tmp_path / "one", 3, 1), make(tmp_path / "two", 4, 2)))


def assert_are_the_files(frames: FrameSets) -> None:
    """Every sample is what Pillow reads of the files its frame names."""
    assert len(frames) == 7
    for index in range(7):
        sample, frame = frames[index], frames.frame(index)
        assert torch.equal(sample.image.permute(1, 2, 0), torch.from_numpy(np.array(Image.open(frame.image))))
        millimetres = np.array(Image.open(frame.depth)).astype(np.float64)
        np.testing.assert_allclose(sample.depth_m.numpy(), millimetres / 1000, rtol=1e-6)
        assert sample.intrinsics == frame.intrinsics


def test_one_set_comes_after_the_other(two: FrameSets):
    assert [two.set_of(index) for index in range(7)] == [0, 0, 0, 1, 1, 1, 1]
    assert [two.frame(index).image.name for index in range(7)] == [f"{n}.png" for n in (0, 1, 2, 0, 1, 2, 3)]
    assert [two.frame(index).intrinsics.fx for index in (2, 3)] == [51, 52]  # type: ignore[union-attr]
    assert_are_the_files(two)


def test_frames_in_memory_need_no_file(two: FrameSets):
    seen: list[int] = []
    two.keep_in_memory(seen.append)
    assert sum(seen) == 7
    assert_are_the_files(two)
    for frame in two.frames:
        frame.image.rename(frame.image.with_suffix(".gone"))
    assert two[5].image.shape == (3, HEIGHT, WIDTH)


def test_frames_on_disk_are_decoded_once(two: FrameSets, tmp_path: Path):
    two.keep_on_disk(tmp_path / "cache")
    assert_are_the_files(two)
    again = pickle.loads(pickle.dumps(two))  # As a loading process gets it.
    for frame in two.frames:
        os.truncate(frame.image, 10)
    assert torch.equal(again[5].image, two[5].image)
    assert len(list((tmp_path / "cache").iterdir())) == 14


def test_too_little_memory_is_one_line_before_anything_is_decoded(two: FrameSets, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(frame_sets, "_free_memory", lambda: 7 * HEIGHT * WIDTH * 7)
    with pytest.raises(ValueError, match=r"need about 0\.0 GB of memory, 0\.0 GB are free; .*--data\.cache disk"):
        two.keep_in_memory()
    monkeypatch.setattr(frame_sets, "_free_memory", lambda: 9 * HEIGHT * WIDTH * 7)
    two.keep_in_memory()
