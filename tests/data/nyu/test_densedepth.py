"""DenseDepth's archive, and its folder."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from spd.data.nyu import import_nyu, open_nyu
from spd.data.rgbd import RGBDDataset

Pixels = Callable[[int], np.ndarray]
Write = Callable[..., Path]


def unpack(folder: Path, files: Mapping[str, bytes]) -> Path:
    for name, data in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(data)
    return folder


def check(output: Path, depth_m: Pixels) -> None:
    """What the manifest gives: an 8-bit truth in training, millimetres in the test."""
    train, test = RGBDDataset(output, ["train"]), RGBDDataset(output, ["test"])
    assert [frame.scene for frame in train.frames] == ["living_room", "study", "living_room"]
    assert [frame.scene for frame in test.frames] == [None]
    for k, sample in enumerate(train):
        levels = np.round(depth_m(k) / 10 * 255).astype(np.float64)
        np.testing.assert_allclose(sample.depth_m.numpy(), levels / 255 * 10, rtol=1e-6)
        assert sample.depth_step == pytest.approx(10 / 255, abs=1e-6)
    np.testing.assert_allclose(test[0].depth_m.numpy(), depth_m(3), atol=5.01e-4)
    assert test[0].depth_step == 0


def test_an_archive_is_imported_byte_for_byte(
    tmp_path: Path, write_zip: Write, densedepth_files: dict[str, bytes], depth_m: Pixels
) -> None:
    write_zip(tmp_path / "in/nyu_data.zip", densedepth_files)
    output = tmp_path / "out"
    assert import_nyu(tmp_path / "in", output, allow_partial=True) == {"train": 3, "test": 1}
    check(output, depth_m)
    kept = [name for name in densedepth_files if name.endswith(".jpg") or "nyu2_test/" in name]
    assert len(kept) == 5
    for name in kept:
        kind = "depth" if name.endswith("_depth.png") else "rgb"
        assert (output / kind / name.removeprefix("data/")).read_bytes() == densedepth_files[name]
    # No value of the 8-bit truth is lost or merged.
    with Image.open(output / "depth/nyu2_train/living_room_0038_out/37.png") as stored:
        np.testing.assert_array_equal(np.array(stored), np.round(depth_m(0) / 10 * 255))


@pytest.mark.parametrize("place", ["data", ""])
def test_unpacked_images_stay_where_they_are(
    place: str, tmp_path: Path, densedepth_files: dict[str, bytes], depth_m: Pixels
) -> None:
    source = unpack(tmp_path / "in", densedepth_files)
    if not place:
        source = (source / "data").rename(tmp_path / "renamed")
    import_nyu(source, tmp_path / "out", allow_partial=True)
    check(tmp_path / "out", depth_m)
    written = sorted(path.relative_to(tmp_path / "out").as_posix() for path in (tmp_path / "out").rglob("*.*"))
    assert written == [
        "depth/nyu2_train/living_room_0038_out/37.png",
        "depth/nyu2_train/living_room_0038_out/6.png",
        "depth/nyu2_train/study_0004_out/115.png",
        "manifest.csv",
    ]


def test_the_source_may_be_the_output(tmp_path: Path, densedepth_files: dict[str, bytes], depth_m: Pixels) -> None:
    source = unpack(tmp_path, densedepth_files) / "data"
    before = {path: path.read_bytes() for path in source.rglob("*.*")}
    import_nyu(source, source, allow_partial=True)
    check(source, depth_m)
    assert all(path.read_bytes() == data for path, data in before.items())


def test_an_archive_cut_short_is_named(tmp_path: Path, write_zip: Write, densedepth_files: dict[str, bytes]) -> None:
    archive = write_zip(tmp_path / "in/nyu_data.zip", densedepth_files)
    archive.write_bytes(archive.read_bytes()[:50_000])
    with pytest.raises(ValueError, match=rf"cannot read {archive}, 50,000 bytes: .*; is the download complete\?"):
        import_nyu(archive, tmp_path / "out", allow_partial=True)
    assert not (tmp_path / "out").exists()


def test_a_damaged_member_is_named(tmp_path: Path, write_zip: Write, densedepth_files: dict[str, bytes]) -> None:
    archive = write_zip(tmp_path / "in/nyu_data.zip", densedepth_files)
    name = "data/nyu2_train/study_0004_out/115.jpg"
    content = archive.read_bytes()
    start = content.index(densedepth_files[name]) + 1000
    archive.write_bytes(content[:start] + b"\0" * 50 + content[start + 50 :])
    with pytest.raises(ValueError, match=f"cannot read {name} in {archive}: Bad CRC-32"):
        import_nyu(archive, tmp_path / "out", allow_partial=True)
    assert not (tmp_path / "out/manifest.csv").exists()


@pytest.mark.parametrize(
    ("name", "take_from", "message"),
    [
        ("data/nyu2_train/study_0004_out/115.png", "data/nyu2_test/00000_depth.png", "must be an 8-bit greyscale PNG"),
        ("data/nyu2_test/00000_depth.png", "data/nyu2_train/study_0004_out/115.png", "must be a 16-bit greyscale PNG"),
        (
            "data/nyu2_train/study_0004_out/115.jpg",
            "data/nyu2_test.csv",
            "cannot read the image .*115.jpg, .*: no image",
        ),
    ],
)
def test_another_content_is_refused(
    name: str, take_from: str, message: str, tmp_path: Path, write_zip: Write, densedepth_files: dict[str, bytes]
) -> None:
    archive = write_zip(tmp_path / "nyu_data.zip", {**densedepth_files, name: densedepth_files[take_from]})
    with pytest.raises(ValueError, match=message):
        import_nyu(archive, tmp_path / "out", allow_partial=True)


@pytest.mark.parametrize(
    ("row", "message"),
    [
        (
            b"data/nyu2_train/a/1.jpg\n",
            r"nyu2_train.csv line 4 in .*: expected image,depth, got 'data/nyu2_train/a/1.jpg'",
        ),
        (b"\xff\xfe", r"nyu2_train.csv in .* must be CSV in UTF-8"),
        (b"../evil.jpg,data/x.png\n", r"names '../evil.jpg', which is no path inside its folder"),
        (b"data/../../evil.jpg,data/x.png\n", "is no path inside its folder"),
        (
            b"data/nyu2_train/a/1.jpg,data/nyu2_train/a/1.png\n",
            "lacks nyu2_train/a/1.jpg and so on, files of 1 of the 4",
        ),
    ],
)
def test_a_list_with_another_line_is_refused(
    row: bytes, message: str, tmp_path: Path, write_zip: Write, densedepth_files: dict[str, bytes]
) -> None:
    densedepth_files["data/nyu2_train.csv"] += row
    archive = write_zip(tmp_path / "in/nyu_data.zip", densedepth_files)
    with pytest.raises(ValueError, match=message):
        import_nyu(archive, tmp_path / "out")
    assert [path.name for path in tmp_path.iterdir()] == ["in"]


def test_what_is_missing_may_be_left_out(tmp_path: Path, write_zip: Write, densedepth_files: dict[str, bytes]) -> None:
    del densedepth_files["data/nyu2_test.csv"]
    del densedepth_files["data/nyu2_train/study_0004_out/115.png"]
    archive = write_zip(tmp_path / "nyu_data.zip", densedepth_files)
    with pytest.raises(ValueError, match=r"lacks nyu2_train/study_0004_out/115.png"):
        open_nyu(archive)
    assert open_nyu(archive, allow_partial=True).counts == {"train": 2, "test": 0}
    densedepth_files["data/nyu2_train.csv"] = densedepth_files["data/nyu2_train.csv"].splitlines()[0]
    with pytest.raises(ValueError, match=r"there is no nyu2_test.csv in"):
        open_nyu(write_zip(archive, densedepth_files))


def test_an_incomplete_set_is_refused(tmp_path: Path, write_zip: Write, densedepth_files: dict[str, bytes]) -> None:
    archive = write_zip(tmp_path / "nyu_data.zip", densedepth_files)
    with pytest.raises(
        ValueError, match=r"holds 3 train and 1 test frames .* the whole set has 50,688 train and 654 test"
    ):
        open_nyu(archive)
