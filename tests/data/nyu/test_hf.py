"""The Hugging Face copy, in shards and unpacked."""

from __future__ import annotations

import tarfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from spd.data.nyu import import_nyu, open_nyu
from spd.data.rgbd import RGBDDataset

Pixels = Callable[[int], np.ndarray]
Write = Callable[..., Path]
FRAMES = {
    "rgb/train/kitchen_0028b/00003.png": 1,
    "rgb/train/kitchen_0028b/00012.png": 0,
    "rgb/train/study_0004/00001.png": 2,
    "rgb/test/official/00001.png": 3,
}
"""Image and what is in it, in the order of the manifest within a split."""


@pytest.fixture
def source(tmp_path: Path, write_hf: Write) -> Path:
    return write_hf(tmp_path / "hf")


def check(output: Path, rgb: Pixels, depth_m: Pixels) -> None:
    data = RGBDDataset(output, ["train"]), RGBDDataset(output, ["test"])
    frames = [frame for part in data for frame in part.frames]
    assert [frame.image.relative_to(output).as_posix() for frame in frames] == list(FRAMES)
    assert [frame.scene for frame in frames] == ["kitchen", "kitchen", "study", None]
    for sample, k in zip((sample for part in data for sample in part), FRAMES.values(), strict=True):
        np.testing.assert_array_equal(sample.image.permute(1, 2, 0).numpy(), rgb(k))
        np.testing.assert_array_equal(sample.depth_m.numpy() == 0, depth_m(k) == 0)
        np.testing.assert_allclose(sample.depth_m.numpy(), depth_m(k), atol=5.01e-4)


def test_shards_are_read_without_unpacking(source: Path, tmp_path: Path, rgb: Pixels, depth_m: Pixels) -> None:
    assert import_nyu(source, tmp_path / "out", allow_partial=True) == {"train": 3, "test": 1}
    check(tmp_path / "out", rgb, depth_m)


def test_shards_may_lie_in_data(source: Path, tmp_path: Path) -> None:
    frames = open_nyu(source, allow_partial=True).frames
    source.rename(tmp_path / "data")
    assert open_nyu(tmp_path, allow_partial=True).frames == frames


def test_one_shard_may_come_alone(source: Path) -> None:
    assert open_nyu(source / "val-000000.tar", allow_partial=True).counts == {"train": 0, "test": 1}
    (source / "val-000001.tar").symlink_to((source / "val-000000.tar").rename(source / "4f0a"))
    assert open_nyu(source / "val-000001.tar", allow_partial=True).counts == {"train": 0, "test": 1}
    (source / "4f0a").rename(source / "nyu.tar")
    with pytest.raises(ValueError, match=r"must be named train-000000.tar or val-000000.tar, got .*nyu.tar"):
        open_nyu(source / "nyu.tar", allow_partial=True)


def test_an_unpacked_copy_gives_the_same(source: Path, tmp_path: Path, rgb: Pixels, depth_m: Pixels) -> None:
    for shard in source.glob("*.tar"):
        with tarfile.open(shard) as archive:
            for entry in archive:
                file = archive.extractfile(entry)
                assert file is not None
                place = tmp_path / "unpacked" / entry.name
                place.parent.mkdir(parents=True, exist_ok=True)
                place.write_bytes(file.read())
    import_nyu(tmp_path / "unpacked", tmp_path / "out", allow_partial=True)
    check(tmp_path / "out", rgb, depth_m)


def test_other_members_are_passed_over(tmp_path: Path, write_tar: Write, h5_bytes: Callable[..., bytes]) -> None:
    members = {"./train/README.md": b"x", "./train/cafe_0001/00001.h5": h5_bytes(0)}
    shard = write_tar(tmp_path / "train-000000.tar", members)
    with tarfile.open(shard, "a") as archive:
        link = tarfile.TarInfo("train/cafe_0001/00002.h5")
        link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
        archive.addfile(link)
    (frame,) = open_nyu(shard, allow_partial=True).frames
    assert (frame.image.as_posix(), frame.scene) == ("rgb/train/cafe_0001/00001.png", "cafe")


def test_a_shard_cut_short_is_named_before_anything_is_written(source: Path, tmp_path: Path) -> None:
    shard = source / "train-000001.tar"
    shard.write_bytes(shard.read_bytes()[:20_000])
    with pytest.raises(ValueError, match=rf"cannot read {shard}, 20,000 bytes: .*; is the download complete\?"):
        import_nyu(source, tmp_path / "out", allow_partial=True)
    shard.write_bytes(b"<html>" * 1000)
    with pytest.raises(ValueError, match=rf"cannot read {shard}"):
        import_nyu(source, tmp_path / "out", allow_partial=True)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda h5: h5(0)[:9000], "cannot read .*train-000000.tar train/a_0001/00001.h5, 9,000 bytes"),
        (lambda h5: b"no HDF5", "cannot read .*00001.h5, 7 bytes"),
        (lambda h5: h5(0, rgb=np.zeros((480, 640, 3), np.uint8)), r"must hold rgb \(3, 480, 640\) of uint8, got \(480"),
        (
            lambda h5: h5(0, depth=np.zeros((640, 480), np.float32)),
            r"must hold depth \(480, 640\) of float32, got \(640",
        ),
        (lambda h5: h5(0, depth=np.zeros((480, 640), np.uint16)), "got .* of uint16"),
        (lambda h5: h5(0, depth=np.full((480, 640), 1500, np.float32)), "must hold metres up to 65.535, got 1500"),
    ],
)
def test_a_damaged_frame_is_named(
    make: Callable[[Callable[..., bytes]], bytes],
    message: str,
    tmp_path: Path,
    write_tar: Write,
    h5_bytes: Callable[..., bytes],
) -> None:
    write_tar(tmp_path / "train-000000.tar", {"train/a_0001/00001.h5": make(h5_bytes)})
    with pytest.raises(ValueError, match=message):
        import_nyu(tmp_path, tmp_path / "out", allow_partial=True)
    assert not (tmp_path / "out/manifest.csv").exists()


@pytest.mark.parametrize("name", ["../../evil.h5", "/evil.h5", "train/../../evil.h5", "c:/evil.h5", "..\\evil.h5"])
def test_a_name_that_leads_outside_is_refused(name: str, tmp_path: Path, write_tar: Write) -> None:
    write_tar(tmp_path / "in/train-000000.tar", {name: b""})
    with pytest.raises(ValueError, match=r"is no path inside its folder"):
        import_nyu(tmp_path / "in", tmp_path / "out", allow_partial=True)
    assert [path.name for path in tmp_path.iterdir()] == ["in"]


def test_a_shard_that_is_there_twice_is_refused(source: Path) -> None:
    (source / "train-000001 (1).tar").write_bytes((source / "train-000001.tar").read_bytes())
    with pytest.raises(ValueError, match=r"train-000001.tar has train/study_0004/00001.h5, which .*\(1\).tar has too"):
        open_nyu(source, allow_partial=True)


def test_an_incomplete_set_is_refused(source: Path, tmp_path: Path) -> None:
    with pytest.raises(
        ValueError, match=r"holds 3 train and 1 test frames .* the whole set has 47,584 train and 654 test"
    ):
        import_nyu(source, tmp_path / "out")
