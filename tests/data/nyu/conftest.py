"""Small copies of NYU Depth V2 in each of its four layouts, to the byte-level facts of the real ones."""

from __future__ import annotations

import io
import tarfile
import zipfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import h5py
import numpy as np
import pytest
import scipy.io
from PIL import Image

HEIGHT, WIDTH = 480, 640
ROWS, COLUMNS = np.mgrid[0:HEIGHT, 0:WIDTH]

Pixels = Callable[[int], np.ndarray]


@pytest.fixture(scope="session")
def rgb() -> Pixels:
    """(480, 640, 3) uint8 of frame k: another ramp in each channel, on each axis and in each frame."""
    return lambda k: np.stack((ROWS // 2, COLUMNS // 3, (ROWS + 2 * COLUMNS + 40 * k) // 8), axis=-1).astype(np.uint8)


@pytest.fixture(scope="session")
def depth_m() -> Pixels:
    """(480, 640) float32 metres of frame k, between millimetres, with a hole that is not in the middle."""

    def make(k: int) -> np.ndarray:
        depth = 0.7 + 0.01 * k + ROWS / 100 + COLUMNS / 300
        depth[20:60, 500:600] = 0
        return depth.astype(np.float32)

    return make


@pytest.fixture
def write_labeled(rgb: Pixels, depth_m: Pixels) -> Callable[..., Path]:
    """Write both files of the labelled set; frame k of ``num`` has a kind of room of its own."""

    def write(
        folder: Path,
        num: int = 4,
        train: Sequence[float] = (2, 4),
        test: Sequence[float] = (3, 1),
        rooms: Sequence[str] | None = None,
        change: Callable[[h5py.File], None] | None = None,
    ) -> Path:
        folder.mkdir(parents=True, exist_ok=True)
        path = folder / "nyu_depth_v2_labeled.mat"
        with h5py.File(path, "w", userblock_size=512) as file:
            # MATLAB stores columns first: every axis comes in reverse.
            file["images"] = np.stack([rgb(k).transpose(2, 1, 0) for k in range(num)])
            file["rawDepths"] = raw = np.stack([depth_m(k).T for k in range(num)])
            filled = np.where(raw > 0, raw, np.float32(3.25))
            file.create_dataset("depths", data=filled, chunks=(1, 160, 480), compression="gzip", compression_opts=1)
            if rooms is not None:
                names = file.create_group("#refs#")
                references = file.create_dataset("sceneTypes", (1, num), dtype=h5py.ref_dtype)
                for k, room in enumerate(rooms):
                    word = names.create_dataset(f"{k}", data=np.array([[ord(sign)] for sign in room], np.uint16))
                    references[0, k] = word.ref
            if change is not None:
                change(file)
        with path.open("r+b") as bare:
            bare.write(b"MATLAB 7.3 MAT-file, Platform: GLNXA64".ljust(512))
        write_splits(folder, train, test)
        return path

    return write


def write_splits(folder: Path, train: Sequence[float], test: Sequence[float]) -> None:
    columns = {"trainNdxs": np.array(train, np.float64)[:, None], "testNdxs": np.array(test, np.uint16)[:, None]}
    scipy.io.savemat(folder / "splits.mat", columns)


@pytest.fixture
def write_pair(rgb: Pixels, depth_m: Pixels) -> Callable[[Path, Path, int], None]:
    """Write frame k as BTS has it: JPEG, and 16-bit PNG in millimetres."""

    def write(image: Path, depth: Path, k: int) -> None:
        image.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(rgb(k)).save(image, quality=95)
        Image.fromarray(np.round(depth_m(k) * 1000).astype(np.uint16)).save(depth)

    return write


@pytest.fixture
def write_bts(write_pair: Callable[[Path, Path, int], None]) -> Callable[[Path], Path]:
    """Write the sync folder with three training frames, two test frames and both lists, as BTS lays them out."""

    def write(folder: Path) -> Path:
        train = ("kitchen_0028b/00045", "study_0004/00012", "kitchen_0028b/00007")
        test = ("bathroom/00045", "kitchen/00002")
        for k, (place, name) in enumerate(
            [("sync", name) for name in train] + [("official_splits/test", n) for n in test]
        ):
            take, number = name.split("/")
            takes = folder / place / take
            write_pair(takes / f"rgb_{number}.jpg", takes / f"sync_depth_{number}.png", k)
        text = (
            "".join(f"/{line(name)}\n" for name in train).replace(" kitchen", " /kitchen").replace(" study", " /study")
        )
        (folder / "nyudepthv2_train_files_with_gt.txt").write_bytes(text.encode())
        (folder / "nyudepthv2_test_files_with_gt.txt").write_bytes("\n".join(map(line, test)).encode())
        return folder

    return write


def line(name: str) -> str:
    take, number = name.split("/")
    return f"{take}/rgb_{number}.jpg {take}/sync_depth_{number}.png 518.8579"


@pytest.fixture
def h5_bytes(rgb: Pixels, depth_m: Pixels) -> Callable[..., bytes]:
    """Frame k as FastDepth has it: channels first, metres."""

    def make(k: int, **other: np.ndarray) -> bytes:
        arrays = {"rgb": rgb(k).transpose(2, 0, 1), "depth": depth_m(k), **other}
        buffer = io.BytesIO()
        with h5py.File(buffer, "w") as file:
            for name, array in arrays.items():
                file.create_dataset(name, data=array, compression="gzip", compression_opts=1)
        return buffer.getvalue()

    return make


@pytest.fixture
def write_tar() -> Callable[[Path, Mapping[str, bytes]], Path]:
    """Write a tar shard of files by name."""

    def write(path: Path, members: Mapping[str, bytes]) -> Path:
        path.parent.mkdir(parents=True, exist_ok=True)
        with tarfile.open(path, "w") as archive:
            for name, data in members.items():
                entry = tarfile.TarInfo(name)
                entry.size = len(data)
                archive.addfile(entry, io.BytesIO(data))
        return path

    return write


@pytest.fixture
def write_hf(h5_bytes: Callable[..., bytes], write_tar: Callable[..., Path]) -> Callable[[Path], Path]:
    """Write two training shards with three frames and a validation shard with one."""

    def write(folder: Path) -> Path:
        write_tar(
            folder / "train-000000.tar", {f"train/kitchen_0028b/{n:05d}.h5": h5_bytes(k) for k, n in ((0, 12), (1, 3))}
        )
        write_tar(folder / "train-000001.tar", {"train/study_0004/00001.h5": h5_bytes(2)})
        write_tar(folder / "val-000000.tar", {"val/official/00001.h5": h5_bytes(3)})
        return folder

    return write


@pytest.fixture
def densedepth_files(rgb: Pixels, depth_m: Pixels) -> dict[str, bytes]:
    """The files of DenseDepth's archive with three training frames and one test frame."""
    train = [
        f"data/nyu2_train/{name}"
        for name in ("living_room_0038_out/37", "study_0004_out/115", "living_room_0038_out/6")
    ]
    files = {
        "data/nyu2_train.csv": "".join(f"{name}.jpg,{name}.png\n" for name in train).encode(),
        "data/nyu2_test.csv": b"data/nyu2_test/00000_colors.png,data/nyu2_test/00000_depth.png\n",
    }
    for k, name in enumerate(train):
        files[f"{name}.jpg"] = encoded(rgb(k), "JPEG")
        files[f"{name}.png"] = encoded(eight_bit(depth_m(k)), "PNG")
    files["data/nyu2_test/00000_colors.png"] = encoded(rgb(3), "PNG")
    files["data/nyu2_test/00000_depth.png"] = encoded(np.round(depth_m(3) * 1000).astype(np.uint16), "PNG")
    return files


def encoded(pixels: np.ndarray, kind: str) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, format=kind)
    return buffer.getvalue()


def eight_bit(depth: np.ndarray) -> np.ndarray:
    """v/255 · 10 m."""
    return np.round(depth / 10 * 255).astype(np.uint8)


@pytest.fixture
def write_zip() -> Callable[[Path, Mapping[str, bytes]], Path]:
    """Write an archive of files by name."""

    def write(path: Path, files: Mapping[str, bytes]) -> Path:
        path.parent.mkdir(parents=True, exist_ok=True)
        with zipfile.ZipFile(path, "w") as archive:
            for name, data in files.items():
                archive.writestr(name, data)
        return path

    return write
