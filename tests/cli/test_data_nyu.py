from __future__ import annotations

import csv
from pathlib import Path
from typing import get_args, get_type_hints

import numpy as np
import pytest
from PIL import Image

from spd.cli.data_nyu import Options
from spd.cli.main import main
from spd.data.nyu import LAYOUTS


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """A sync folder with seven training frames and one test frame, and its lists."""
    folder = tmp_path / "nyu"
    lists: dict[str, list[str]] = {"train": [], "test": []}
    for k in range(8):
        split, place = ("test", "official_splits/test/study") if k == 7 else ("train", "sync/study_0001")
        (folder / place).mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (640, 480), (k, 0, 0)).save(folder / place / f"rgb_{k}.jpg")
        Image.fromarray(np.full((480, 640), 1000 + k, np.uint16)).save(folder / place / f"sync_depth_{k}.png")
        take = Path(place).name
        lists[split].append(f"{take}/rgb_{k}.jpg {take}/sync_depth_{k}.png 518.8579")
    for split, lines in lists.items():
        (folder / f"nyudepthv2_{split}_files_with_gt.txt").write_text("\n".join(lines))
    return folder


def test_a_source_is_recognised_and_imported(source: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    output = tmp_path / "out"
    assert main(["data", "nyu", str(source), str(output), "--val", "2", "--allow-partial"]) == 0
    said = capsys.readouterr()
    assert said.out == ""
    assert f"{source} has layout bts, 7 train and 1 test frames\n" in said.err
    assert "this is a part of the set, which has 24,231 train and 654 test frames\n" in said.err
    assert "8/8" in said.err
    assert said.err.endswith(f"wrote {output}/manifest.csv: 5 train, 2 val and 1 test frames\n")
    with (output / "manifest.csv").open(newline="") as file:
        splits = [row["split"] for row in csv.DictReader(file)]
    assert sorted(splits) == ["test"] + ["train"] * 5 + ["val"] * 2
    # Once more, over what is there.
    assert main(["data", "nyu", str(source), str(output), "--layout", "bts", "--allow-partial"]) == 0


def test_the_layouts_are_those_of_the_importers() -> None:
    choices, nothing = get_args(get_type_hints(Options)["layout"])
    assert (get_args(choices), nothing) == (LAYOUTS, type(None))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ("", "holds 7 train and 1 test frames of layout bts, the whole set has 24,231 train and 654 test"),
        ("--allow-partial --depth raw", "depth is an option of layout labeled, this is bts"),
        ("--allow-partial --val 7", "val must be at least 0 and less than the 7 training frames, got 7"),
        ("--layout labeled", "needs nyu_depth_v2_labeled.mat and splits.mat in one folder"),
        ("--layout kitti", "kitti"),
    ],
)
def test_errors_are_one_line_and_write_nothing(
    options: str, message: str, source: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["data", "nyu", str(source), str(tmp_path / "out"), *options.split()]) == 2
    errors = [line for line in capsys.readouterr().err.splitlines() if line.startswith("spd: ")]
    assert len(errors) == 1
    assert message in errors[0]
    assert not (tmp_path / "out").exists()


def test_a_damaged_file_is_one_line(source: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    broken = source / "sync/study_0001/rgb_3.jpg"
    broken.write_bytes(broken.read_bytes()[:500])
    assert main(["data", "nyu", str(source), str(tmp_path / "out"), "--allow-partial"]) == 2
    last = capsys.readouterr().err.splitlines()[-1]
    assert last.startswith(f"spd: error: cannot read the image {broken}, 500 bytes: ")
    assert not (tmp_path / "out/manifest.csv").exists()
