from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from spd.camera import Intrinsics
from spd.data.rgbd import RGBDDataset
from spd.depth_range import EIGEN_DEPTH_RANGE, DepthRange
from spd.evaluation.predictions import Identity, data_checksum, read_predictions, write_predictions
from spd.evaluation.protocol import ImagePrediction

MakePrediction = Callable[..., ImagePrediction]
IDENTITY = Identity("spd", "a1", "nyu", "b2", "val", "eigen", EIGEN_DEPTH_RANGE, "256")


@pytest.fixture
def predictions(image_prediction: MakePrediction) -> list[ImagePrediction]:
    return [
        image_prediction("rgb/a.png", [2.0, np.nan], [1.0, 3.5], points=[(3, 4), (79, 0)], scene="küche"),
        image_prediction("rgb/b.png", [np.inf], [5.0], seconds=0.125, intrinsics=Intrinsics(70.5, 71, 39.5, 23.25)),
    ]


def test_a_file_gives_back_what_was_written(predictions: list[ImagePrediction], tmp_path: Path) -> None:
    write_predictions(tmp_path / "k.npz", predictions, IDENTITY)
    read = read_predictions(tmp_path / "k.npz", IDENTITY)
    for ours, expected in zip(read, predictions, strict=True):
        assert (ours.image, ours.scene, ours.seconds, ours.size, ours.intrinsics) == (
            expected.image,
            expected.scene,
            expected.seconds,
            expected.size,
            expected.intrinsics,
        )
        for name in ("query_points", "true_m", "predicted_m"):
            np.testing.assert_array_equal(getattr(ours, name), getattr(expected, name))
    assert [path.name for path in tmp_path.iterdir()] == ["k.npz"]


@pytest.mark.parametrize(
    ("changed", "told"),
    [
        ({"model_checksum": "ff"}, "model_checksum a1, now ff"),
        ({"data_checksum": "ff"}, "data_checksum b2, now ff"),
        ({"protocol_version": 99}, "protocol_version 2, now 99"),
        ({"split": "test", "crop": "none"}, "split val, now test; crop eigen, now none"),
        ({"depth_range": DepthRange(0.001, 80.0)}, "depth_range 0.001 to 10 m, now 0.001 to 80 m"),
        ({"model": "median"}, "model spd, now median"),
        ({"asking": "dense"}, "asking 256, now dense"),
    ],
)
def test_a_file_of_something_else_is_refused(
    predictions: list[ImagePrediction], tmp_path: Path, changed: dict[str, Any], told: str
) -> None:
    write_predictions(tmp_path / "k.npz", predictions, IDENTITY)
    with pytest.raises(ValueError, match=rf"k\.npz holds other predictions .{told}.; pass --overwrite"):
        read_predictions(tmp_path / "k.npz", IDENTITY._replace(**changed))


def test_a_file_of_an_earlier_format_is_refused(predictions: list[ImagePrediction], tmp_path: Path) -> None:
    path = tmp_path / "k.npz"
    write_predictions(path, predictions, IDENTITY)
    with np.load(path) as archive:
        arrays = dict(archive)
    header = json.loads(arrays["header"].tobytes())
    del header["depth_range"]
    del arrays["cameras"]
    arrays["header"] = np.frombuffer(json.dumps({**header, "format_version": 1}).encode(), np.uint8)
    np.savez(path, **arrays)
    with pytest.raises(ValueError, match=r"k\.npz has format version 1, expected 2; pass --overwrite to replace it"):
        read_predictions(path, IDENTITY)


def test_a_data_set_may_move(predictions: list[ImagePrediction], tmp_path: Path) -> None:
    write_predictions(tmp_path / "k.npz", predictions, IDENTITY)
    assert len(read_predictions(tmp_path / "k.npz", IDENTITY._replace(data="nyu-copy"))) == 2


@pytest.mark.parametrize("damage", [lambda data: data[:300], lambda data: b"", lambda data: b"PK" + data[9:]])
def test_a_damaged_file_is_refused(
    predictions: list[ImagePrediction], tmp_path: Path, damage: Callable[[bytes], bytes]
) -> None:
    path = tmp_path / "k.npz"
    write_predictions(path, predictions, IDENTITY)
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(ValueError, match=r"k\.npz is no file of predictions, or a damaged one"):
        read_predictions(path, IDENTITY)


def test_a_file_without_our_arrays_is_refused(predictions: list[ImagePrediction], tmp_path: Path) -> None:
    path = tmp_path / "k.npz"
    np.savez(path, numbers=np.arange(3))
    with pytest.raises(ValueError, match="is no file of predictions"):
        read_predictions(path, IDENTITY)
    for header in (b"{}", b"[]"):
        np.savez(path, header=np.frombuffer(header, np.uint8))
        with pytest.raises(ValueError, match="has format version None, expected 2"):
            read_predictions(path, IDENTITY)
    write_predictions(path, predictions, IDENTITY)
    with np.load(path) as archive:
        arrays = dict(archive)
    del arrays["seconds"]
    np.savez(path, **arrays)
    with pytest.raises(ValueError, match="or a damaged one: it lacks seconds; delete it"):
        read_predictions(path, IDENTITY)


def test_nothing_is_unpickled(tmp_path: Path) -> None:
    np.savez(tmp_path / "k.npz", header=np.array([{"a": 1}], dtype=object))
    with pytest.raises(ValueError, match="is no file of predictions"):
        read_predictions(tmp_path / "k.npz", IDENTITY)


def test_the_checksum_of_data_sees_the_manifest_and_the_files(tmp_path: Path) -> None:
    Image.new("RGB", (80, 48)).save(tmp_path / "a.png")
    np.save(tmp_path / "a.npy", np.ones((48, 80), np.float32))
    manifest = tmp_path / "manifest.csv"
    manifest.write_text("image,depth,split\na.png,a.npy,test\n")
    before = data_checksum(RGBDDataset(tmp_path), tmp_path)
    assert data_checksum(RGBDDataset(tmp_path), tmp_path) == before
    np.save(tmp_path / "a.npy", np.ones((48, 80), np.float64))
    after = data_checksum(RGBDDataset(tmp_path), tmp_path)
    manifest.write_text("image,depth,split,scene\na.png,a.npy,test,hall\n")
    assert len({before, after, data_checksum(RGBDDataset(tmp_path), tmp_path)}) == 3
