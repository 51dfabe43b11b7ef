"""Which layout a source has, and which options go with it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from spd.data.nyu import LAYOUTS, import_nyu, open_nyu
from spd.data.nyu.importing import recognise

NAMES = {
    "labeled": "nyu_depth_v2_labeled.mat",
    "bts": "nyudepthv2_train_files_with_gt.txt",
    "hf": "train-000003.tar",
    "densedepth": "nyu_data.zip",
}


@pytest.mark.parametrize(
    ("name", "layout"),
    [
        *((name, layout) for layout, name in NAMES.items()),
        ("nyudepthv2_train_files_with_gt_dense.txt", "bts"),
        ("data/val-000000.tar", "hf"),
        ("val/official/00001.h5", "hf"),
        ("nyudepthv2/train/kitchen_0003/00001.h5", "hf"),
        ("nyu2_train.csv", "densedepth"),
        ("nyu_data/data/nyu2_train.csv", "densedepth"),
    ],
)
def test_a_folder_is_known_by_a_name_in_it(name: str, layout: str, tmp_path: Path) -> None:
    (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
    (tmp_path / name).touch()
    assert recognise(tmp_path) == layout


@pytest.mark.parametrize("layout", ["labeled", "hf", "densedepth"])
def test_a_file_is_known_by_its_kind(layout: str, tmp_path: Path) -> None:
    path = tmp_path / f"copy{Path(NAMES[layout]).suffix}"
    path.touch()
    assert recognise(path) == layout


def test_lists_may_lie_elsewhere(tmp_path: Path) -> None:
    (tmp_path / "lists").mkdir()
    (tmp_path / "lists" / NAMES["bts"]).touch()
    (tmp_path / "sync").mkdir()
    assert recognise(tmp_path / "sync", tmp_path / "lists") == "bts"


def test_none_and_several_layouts_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=f"cannot tell the layout of {tmp_path} ") as caught:
        open_nyu(tmp_path)
    assert all(f"{layout}: " in str(caught.value) for layout in LAYOUTS)
    for layout in ("labeled", "hf"):
        (tmp_path / NAMES[layout]).touch()
    with pytest.raises(ValueError, match=f"{tmp_path} looks like labeled and hf; say which with --layout"):
        open_nyu(tmp_path)
    with pytest.raises(ValueError, match=r"there is no .*nowhere"):
        open_nyu(tmp_path / "nowhere")


def test_an_option_of_another_layout_is_refused(tmp_path: Path, write_bts: Callable[[Path], Path]) -> None:
    source = write_bts(tmp_path / "nyu")
    with pytest.raises(ValueError, match="depth is an option of layout labeled, this is bts"):
        import_nyu(source, tmp_path / "out", depth="filled", allow_partial=True)
    with pytest.raises(ValueError, match="lists is an option of layout bts, this is hf"):
        import_nyu(source, tmp_path / "out", "hf", lists=source, allow_partial=True)
    with pytest.raises(ValueError, match="lists must be a folder"):
        import_nyu(source, tmp_path / "out", lists=tmp_path / "none", allow_partial=True)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("layout", LAYOUTS)
def test_a_named_layout_that_is_not_there_says_what_it_needs(layout: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=rf"{tmp_path}"):
        open_nyu(tmp_path, layout)


def test_a_part_says_so(tmp_path: Path, write_bts: Callable[[Path], Path]) -> None:
    source = open_nyu(write_bts(tmp_path / "nyu"), allow_partial=True)
    assert source.remarks[-1] == "this is a part of the set, which has 24,231 train and 654 test frames"
