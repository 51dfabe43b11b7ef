"""The sync folder of BTS with its lists; the files stay where they are."""

from __future__ import annotations

import csv
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from spd.data.nyu import import_nyu, open_nyu
from spd.data.rgbd import RGBDDataset, read_image

Pixels = Callable[[int], np.ndarray]
Write = Callable[..., Path]
TRAIN, TEST = "nyudepthv2_train_files_with_gt.txt", "nyudepthv2_test_files_with_gt.txt"
DENSE = "nyudepthv2_train_files_with_gt_dense.txt"


@pytest.fixture
def source(tmp_path: Path, write_bts: Write) -> Path:
    return write_bts(tmp_path / "nyu")


def test_the_lists_are_as_bts_has_them(source: Path) -> None:
    first = (source / TRAIN).read_bytes().splitlines()[0]
    assert first == b"/kitchen_0028b/rgb_00045.jpg /kitchen_0028b/sync_depth_00045.png 518.8579"
    assert (source / TEST).read_bytes().endswith(b"kitchen/sync_depth_00002.png 518.8579")


def test_frames_stay_where_they_are(source: Path, tmp_path: Path, depth_m: Pixels) -> None:
    output = tmp_path / "out"
    assert import_nyu(source, output, allow_partial=True) == {"train": 3, "test": 2}
    assert [path.name for path in output.iterdir()] == ["manifest.csv"]
    with (output / "manifest.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert rows[0] == {
        "image": "../nyu/sync/kitchen_0028b/rgb_00045.jpg",
        "depth": "../nyu/sync/kitchen_0028b/sync_depth_00045.png",
        "split": "train",
        "scene": "kitchen",
        "fx": "518.8579",
        "fy": "519.4696",
        "cx": "325.5824",
        "cy": "253.7362",
        "depth_scale": "1000",
        "depth_step": "0",
    }
    assert [row["scene"] for row in rows] == ["kitchen", "study", "kitchen", "bathroom", "kitchen"]
    assert rows[3]["image"] == "../nyu/official_splits/test/bathroom/rgb_00045.jpg"
    for k, sample in enumerate(RGBDDataset(output)):
        np.testing.assert_allclose(sample.depth_m.numpy(), depth_m(k), atol=5.01e-4)
        np.testing.assert_array_equal(sample.image.permute(1, 2, 0).numpy(), read_image(output / rows[k]["image"]))


def test_the_sync_folder_itself_will_do(source: Path, tmp_path: Path) -> None:
    sync = source / "sync"
    frames = open_nyu(sync, lists=source, allow_partial=True).frames
    assert frames == open_nyu(source, allow_partial=True).frames
    # An output in the source's own folder names the files without a way up.
    import_nyu(sync, sync, lists=source, allow_partial=True)
    assert RGBDDataset(sync, ["train"]).frames[0].image == sync / "kitchen_0028b/rgb_00045.jpg"


def test_paths_hold_through_links(source: Path, tmp_path: Path) -> None:
    (tmp_path / "deep/down").mkdir(parents=True)
    (tmp_path / "out").symlink_to(tmp_path / "deep/down")
    (tmp_path / "link").symlink_to(source)
    import_nyu(tmp_path / "link", tmp_path / "out", allow_partial=True)
    assert len(RGBDDataset(tmp_path / "out")[0].image) == 3


def test_a_dense_list_gives_the_measured_depth(source: Path, tmp_path: Path) -> None:
    lines = [line.split() for line in (source / TRAIN).read_text().splitlines()]
    (source / TRAIN).unlink()
    dense = (
        f"{image[1:]} {depth[1:]} {Path(depth[1:]).parent}/dense/sync_depth_dense_00000.png"
        for image, depth, _ in lines
    )
    (source / DENSE).write_text("\n".join(dense) + "\n")
    opened = open_nyu(source, allow_partial=True)
    assert opened.published == {"train": 36_253, "test": 654}
    assert any("NeWCRFs" in remark for remark in opened.remarks)
    assert [frame.depth.name for frame in opened.frames][:3] == [Path(depth).name for _, depth, _ in lines]
    with pytest.raises(
        ValueError, match=r"holds 3 train and 2 test frames of layout bts, the whole set has 36,253 train"
    ):
        open_nyu(source)


def test_missing_files_are_counted(source: Path, tmp_path: Path) -> None:
    (source / "sync/study_0004/sync_depth_00012.png").unlink()
    (source / "sync/kitchen_0028b/rgb_00007.jpg").unlink()
    with pytest.raises(
        ValueError, match=r"lacks study_0004/sync_depth_00012.png and so on, files of 2 of the 3 listed"
    ):
        import_nyu(source, tmp_path / "out")
    assert import_nyu(source, tmp_path / "out", allow_partial=True) == {"train": 1, "test": 2}


def test_a_missing_folder_says_where_it_was_sought(source: Path) -> None:
    (source / "official_splits").rename(source / "elsewhere")
    with pytest.raises(
        ValueError, match=rf"lists bathroom, which is in none of the folders {source}/official_splits/test"
    ):
        open_nyu(source)
    assert open_nyu(source, allow_partial=True).counts == {"train": 3, "test": 0}


def test_missing_lists_are_named(source: Path) -> None:
    (source / TEST).unlink()
    with pytest.raises(ValueError, match=f"there is no {TEST} in {source}"):
        open_nyu(source)
    (source / TRAIN).unlink()
    with pytest.raises(ValueError, match=f"there is no {TRAIN} in {source}; --lists names"):
        open_nyu(source, "bts")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"/a/rgb_1.jpg /a/sync_depth_1.png\n", "line 1: expected image, depth and focal length, got '/a/rgb"),
        (b"\n/a/b.jpg /a/b.png 5 6\n", "line 2: expected image"),
        (b"/a/b.jpg /a/b.png None\n", "line 1: expected image"),
        (b"\n", "must list images and depth maps, got no line"),
        (b"\xff\xfe", "must be text in UTF-8"),
    ],
)
def test_a_list_of_another_form_is_refused(content: bytes, message: str, source: Path) -> None:
    (source / TRAIN).write_bytes(content)
    with pytest.raises(ValueError, match=message):
        open_nyu(source, allow_partial=True)


def cut_short(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-2000])


@pytest.mark.parametrize(
    ("name", "harm", "message"),
    [
        ("rgb_00012.jpg", cut_short, "cannot read the image .*study_0004/rgb_00012.jpg, .* bytes: .*truncated"),
        ("sync_depth_00012.png", cut_short, "cannot read the image .*sync_depth_00012.png"),
        ("rgb_00012.jpg", lambda path: path.write_bytes(b"<html>"), "rgb_00012.jpg, 6 bytes: no image"),
        ("rgb_00012.jpg", lambda path: Image.new("RGB", (480, 640)).save(path), "must be 640x480, got 480x640"),
        ("sync_depth_00012.png", lambda path: Image.new("L", (640, 480)).save(path), "must be a 16-bit .* PIL mode L"),
    ],
)
def test_a_damaged_file_is_named(
    name: str, harm: Callable[[Path], None], message: str, source: Path, tmp_path: Path
) -> None:
    harm(source / "sync/study_0004" / name)
    with pytest.raises(ValueError, match=message):
        import_nyu(source, tmp_path / "out", allow_partial=True)
    assert not (tmp_path / "out/manifest.csv").exists()
