"""Procedural rooms and the files they become."""

from __future__ import annotations

import csv
import math
import multiprocessing
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from spd.data.rgbd import RGBDDataset
from spd.data.rooms import dataset, render_room, write_rooms
from spd.data.rooms.textures import Material

SIZE = (36, 52)
ROOM = (4.0, 5.0, 3.0)
GREY = Material("plain", (0.5, 0.5, 0.5), (0.5, 0.5, 0.5))

SIZE = (36, 52)


class TestRoom:
    def test_depends_on_seed_and_index_only(self) -> None:
        first, again = render_room(3, 5, SIZE), render_room(3, 5, SIZE)
        np.testing.assert_array_equal(first.image, again.image)
        np.testing.assert_array_equal(first.depth_m, again.depth_m)
        assert first.intrinsics == again.intrinsics
        for other in (render_room(3, 6, SIZE), render_room(4, 5, SIZE)):
            assert np.abs(first.depth_m - other.depth_m).mean() > 0.05

    @pytest.mark.parametrize("index", range(4))
    @pytest.mark.parametrize("near", [0.0, 0.5, 1.0])
    def test_same_room_at_every_size(self, near: float, index: int) -> None:
        """At three times the size, the middle of each 3 × 3 pixels looks along the same ray."""
        small, large = (render_room(0, index, (n * SIZE[0], n * SIZE[1]), near) for n in (1, 3))
        np.testing.assert_allclose(large.depth_m[1::3, 1::3], small.depth_m, rtol=1e-5)
        resized = small.intrinsics.resized(SIZE, (3 * SIZE[0], 3 * SIZE[1]))
        np.testing.assert_allclose(large.intrinsics, resized, rtol=1e-12)
        colours = large.image.reshape(SIZE[0], 3, SIZE[1], 3, 3).mean((1, 3))
        assert np.abs(colours - small.image).mean() < 12

    def test_every_pixel_has_a_depth_of_a_room(self) -> None:
        medians = []
        for index in range(20):
            room = render_room(11, index, (40, 50), near=0.0)
            assert room.image.shape == (40, 50, 3)
            assert room.image.std() > 10
            assert np.isfinite(room.depth_m).all()
            assert room.depth_m.min() > 0.4
            assert room.depth_m.max() < 10.0
            medians.append(np.median(room.depth_m))
            field = 2 * math.atan(25 / room.intrinsics.fx)
            assert 0.7 <= field / math.radians(63.3) <= 1.2
        assert 2.3 < np.mean(medians) < 3.5

    @pytest.mark.parametrize("near", [-0.1, 1.1, math.nan])
    def test_refuses_a_share_that_is_none(self, near: float) -> None:
        with pytest.raises(ValueError, match="near must be a share between 0 and 1, got"):
            render_room(0, 0, SIZE, near)

    @pytest.mark.parametrize("size", [(31, 64), (64, 31), (0, 0)])
    def test_refuses_small_size(self, size: tuple[int, int]) -> None:
        with pytest.raises(ValueError, match="at least 32 pixels"):
            render_room(0, 0, size)


class TestWriteRooms:
    def test_round_trip(self, tmp_path: Path) -> None:
        done: list[int] = []
        manifest = write_rooms(tmp_path / "rooms", num=11, seed=4, size=SIZE, workers=1, progress=done.append)
        assert manifest == tmp_path / "rooms" / "manifest.csv"
        assert sum(done) == 11
        assert len(done) > 1
        rows = list(csv.DictReader(manifest.open()))
        assert list(rows[0]) == ["image", "depth", "split", "scene", "fx", "fy", "cx", "cy"]
        assert [row["split"] for row in rows] == ["train"] * 9 + ["val"] * 2
        for index, row in enumerate(rows):
            room = render_room(4, index, SIZE)
            with Image.open(manifest.parent / row["depth"]) as picture:
                assert picture.size == SIZE[::-1]
                millimetres = np.asarray(picture)
            assert millimetres.dtype == np.uint16
            assert np.abs(millimetres / 1000 - room.depth_m).max() <= 0.5e-3 + 1e-6
            with Image.open(manifest.parent / row["image"]) as picture:
                assert np.abs(np.asarray(picture).astype(int) - room.image).mean() < 8
            camera = [float(row[name]) for name in ("fx", "fy", "cx", "cy")]
            np.testing.assert_allclose(camera, room.intrinsics, atol=1e-4)

    def test_reads_as_a_data_set(self, tmp_path: Path) -> None:
        write_rooms(tmp_path, num=4, size=SIZE, val_fraction=0.25, workers=1)
        train, val = RGBDDataset(tmp_path, ["train"]), RGBDDataset(tmp_path, ["val"])
        assert (len(train), len(val)) == (3, 1)
        np.testing.assert_allclose(val[0].depth_m, render_room(0, 3, SIZE).depth_m, atol=0.51e-3)

    def test_same_bytes_for_any_number_of_workers(self, tmp_path: Path) -> None:
        for workers in (1, 3):
            write_rooms(tmp_path / str(workers), num=10, seed=1, size=(32, 40), workers=workers)
        one, three = (
            {path.relative_to(root).as_posix(): path.read_bytes() for path in sorted(root.rglob("*.*"))}
            for root in (tmp_path / "1", tmp_path / "3")
        )
        assert len(one) == 2 * 10 + 1
        assert one == three

    def test_spawned_worker(self, tmp_path: Path) -> None:
        """What a worker is given and gives back crosses to a process that inherits nothing."""
        for folder in ("rgb", "depth"):
            (tmp_path / folder).mkdir()
        work = partial(dataset._write_chunk, tmp_path, 0, (32, 40), 0.5)
        with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
            rows = pool.submit(work, range(2)).result(timeout=120)
        assert [row["image"] for row in rows] == ["rgb/00000.jpg", "rgb/00001.jpg"]
        assert (tmp_path / "depth" / "00001.png").is_file()

    def test_broken_off_run_leaves_no_manifest(self, tmp_path: Path) -> None:
        def stop(_: int) -> None:
            raise KeyboardInterrupt

        for workers in (1, 2):
            with pytest.raises(KeyboardInterrupt):
                write_rooms(tmp_path, num=9, size=(32, 40), workers=workers, progress=stop)
            assert not list(tmp_path.glob("*manifest*"))
        assert write_rooms(tmp_path, num=1, size=(32, 40), workers=1).is_file()

    def test_refuses_a_folder_with_a_manifest(self, tmp_path: Path) -> None:
        (tmp_path / "manifest.csv").write_text("image,depth,split\n")
        with pytest.raises(ValueError, match=r"already holds a data set"):
            write_rooms(tmp_path, num=1, workers=1)
        assert [path.name for path in tmp_path.iterdir()] == ["manifest.csv"]

    @pytest.mark.parametrize(
        ("changed", "message"),
        [
            ({"num": 0}, "num must be at least 1, got 0"),
            ({"seed": -1}, "seed must be at least 0, got -1"),
            ({"size": (31, 40)}, "at least 32 pixels"),
            ({"val_fraction": 1.0}, "val_fraction must be"),
            ({"val_fraction": -0.1}, "val_fraction must be"),
            ({"near": 1.5}, "near must be a share between 0 and 1, got 1.5"),
            ({"workers": 0}, "workers must be at least 1"),
        ],
    )
    def test_refuses_bad_arguments(self, tmp_path: Path, changed: dict, message: str) -> None:
        with pytest.raises(ValueError, match=message):
            write_rooms(tmp_path / "rooms", **{"num": 2, **changed})
        assert not (tmp_path / "rooms").exists()

    def test_one_room_is_for_training(self, tmp_path: Path) -> None:
        manifest = write_rooms(tmp_path, num=1, size=(32, 40), val_fraction=0.9)
        assert [row["split"] for row in csv.DictReader(manifest.open())] == ["train"]
