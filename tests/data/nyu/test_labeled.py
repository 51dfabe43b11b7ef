"""The labelled set, from MATLAB's files."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
import pytest
import scipy.io

from spd.camera import Intrinsics
from spd.data.nyu import import_nyu
from spd.data.rgbd import RGBDDataset

Pixels = Callable[[int], np.ndarray]
Write = Callable[..., Path]


def test_frames_arrive_upright_in_their_split(
    tmp_path: Path, write_labeled: Write, rgb: Pixels, depth_m: Pixels
) -> None:
    rooms = ["kitchen", "living_room", "study", "bath"]
    source = write_labeled(tmp_path / "mat", rooms=rooms)
    counts = import_nyu(source, tmp_path / "out", depth="raw", allow_partial=True)
    assert counts == {"train": 2, "test": 2}
    # The splits count from 1: 2 and 4 are indices 1 and 3.
    for split, indices in (("train", (1, 3)), ("test", (0, 2))):
        data = RGBDDataset(tmp_path / "out", [split])
        assert [frame.image.name for frame in data.frames] == [f"{k:05d}.png" for k in indices]
        assert [frame.scene for frame in data.frames] == [rooms[k] for k in indices]
        for sample, k in zip(data, indices, strict=True):
            np.testing.assert_array_equal(sample.image.permute(1, 2, 0).numpy(), rgb(k))
            millimetres = np.round(depth_m(k).astype(np.float64) * 1000)
            np.testing.assert_allclose(sample.depth_m.numpy(), millimetres / 1000, rtol=1e-6)
            assert sample.intrinsics == Intrinsics(518.8579, 519.4696, 325.5824, 253.7362)
            assert sample.depth_step == 0


def test_depth_is_filled_unless_raw_is_asked(tmp_path: Path, write_labeled: Write, depth_m: Pixels) -> None:
    write_labeled(tmp_path / "mat")
    holes = depth_m(0) == 0
    for option, expected in ((None, 3.25), ("filled", 3.25), ("raw", 0.0)):
        import_nyu(tmp_path / "mat", tmp_path / f"{option}", depth=option, allow_partial=True)
        first = RGBDDataset(tmp_path / f"{option}", ["test"])[0].depth_m.numpy()
        np.testing.assert_allclose(first[holes], expected)
        np.testing.assert_allclose(first[~holes], depth_m(0)[~holes], atol=5.01e-4)


def test_filled_and_raw_do_not_mix_in_one_folder(tmp_path: Path, write_labeled: Write) -> None:
    write_labeled(tmp_path / "mat")
    import_nyu(tmp_path / "mat", tmp_path / "out", allow_partial=True)
    with pytest.raises(ValueError, match=r"is of another data set: it lists rgb/00000.png"):
        import_nyu(tmp_path / "mat", tmp_path / "out", depth="raw", allow_partial=True)


def test_rooms_are_optional(tmp_path: Path, write_labeled: Write) -> None:
    import_nyu(write_labeled(tmp_path / "mat"), tmp_path / "out", allow_partial=True)
    assert {frame.scene for frame in RGBDDataset(tmp_path / "out").frames} == {None}


def replaced(name: str, array: np.ndarray) -> Callable[[h5py.File], None]:
    def change(file: h5py.File) -> None:
        del file[name]
        file[name] = array

    return change


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (replaced("images", np.zeros((4, 3, 480, 640), np.uint8)), r"\(4, 3, 640, 480\) .* got \(4, 3, 480, 640\)"),
        (replaced("images", np.zeros((4, 3, 640, 480), np.uint16)), "and uint8, got .* of uint16"),
        (replaced("depths", np.zeros((4, 640, 480), np.float64)), "and float32, got .* of float64"),
        (replaced("depths", np.zeros((3, 640, 480), np.float32)), r"depths of shape \(4, 640, 480\).*\(3, 640, 480\)"),
        (lambda file: file.pop("depths"), "must hold the array depths, it holds images, rawDepths"),
        (lambda file: file.create_dataset("sceneTypes", (1, 3), dtype=h5py.ref_dtype), "hold 4 sceneTypes, got 3"),
        (lambda file: file.create_dataset("sceneTypes", (1, 4), dtype=h5py.ref_dtype), "cannot read .*: Invalid HDF5"),
    ],
)  # fmt: skip
def test_another_content_is_refused(
    change: Callable[[h5py.File], None], message: str, tmp_path: Path, write_labeled: Write
) -> None:
    write_labeled(tmp_path / "mat", change=change)
    with pytest.raises(ValueError, match=message):
        import_nyu(tmp_path / "mat", tmp_path / "out", allow_partial=True)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("left", [100, 3000])
def test_a_file_cut_short_is_named(left: int, tmp_path: Path, write_labeled: Write) -> None:
    path = write_labeled(tmp_path / "mat")
    path.write_bytes(path.read_bytes()[:left])
    with pytest.raises(ValueError, match=rf"cannot read {path}, {left:,} bytes: .*; expected HDF5 of 2.97 GB"):
        import_nyu(tmp_path / "mat", tmp_path / "out", allow_partial=True)
    assert not (tmp_path / "out").exists()


def test_a_damaged_block_leaves_no_manifest(tmp_path: Path, write_labeled: Write) -> None:
    path = write_labeled(tmp_path / "mat")
    with h5py.File(path) as file:
        stored = file["depths"].id.get_chunk_info(file["depths"].id.get_num_chunks() - 1)
    content = bytearray(path.read_bytes())
    # HDF5 counts from the end of MATLAB's header.
    start = stored.byte_offset + (0 if content[stored.byte_offset] == 0x78 else 512)
    content[start : start + stored.size] = b"\xff" * stored.size
    path.write_bytes(content)
    with pytest.raises(ValueError, match=f"cannot read {path}"):
        import_nyu(path, tmp_path / "out", allow_partial=True)
    assert not (tmp_path / "out/manifest.csv").exists()


@pytest.mark.parametrize(
    ("train", "test", "message"),
    [
        ((1, 2), (0, 3), "each of the frames 1 to 4 once, got 0 in testNdxs"),
        ((2, 3), (1, 5), "got 5 in testNdxs"),
        ((2, 3), (1, 3), "got 3 in testNdxs"),
        ((2, 3), (1,), "4 is in no split"),
        ((2, 2.5), (1, 4), "got 2.5 in trainNdxs"),
    ],
)
def test_splits_name_each_frame_once(
    train: tuple[float, ...], test: tuple[float, ...], message: str, tmp_path: Path, write_labeled: Write
) -> None:
    write_labeled(tmp_path / "mat", train=train, test=test)
    with pytest.raises(ValueError, match=message):
        import_nyu(tmp_path / "mat", tmp_path / "out", allow_partial=True)


def test_bad_splits_are_named(tmp_path: Path, write_labeled: Write) -> None:
    splits = write_labeled(tmp_path / "mat").with_name("splits.mat")
    for content in (b"", b"<html>not found</html>" * 20, splits.read_bytes()[:200]):
        splits.write_bytes(content)
        with pytest.raises(ValueError, match=rf"(cannot read|must hold trainNdxs).*{splits}|{splits} must hold"):
            import_nyu(tmp_path / "mat", tmp_path / "out", allow_partial=True)
    scipy.io.savemat(splits, {"trainNdxs": np.array([[2], [3]])})
    with pytest.raises(ValueError, match=r"there is no testNdxs"):
        import_nyu(tmp_path / "mat", tmp_path / "out", allow_partial=True)
    splits.unlink()
    with pytest.raises(ValueError, match=rf"in one folder, there is no {splits}"):
        import_nyu(tmp_path / "mat", tmp_path / "out", allow_partial=True)


def test_an_incomplete_set_is_refused(tmp_path: Path, write_labeled: Write) -> None:
    path = write_labeled(tmp_path / "mat")
    with pytest.raises(
        ValueError, match=r"holds 2 train and 2 test frames .* the whole set has 795 train and 654 test"
    ):
        import_nyu(path, tmp_path / "out")
    assert not (tmp_path / "out").exists()
