"""Procedural rooms: exact depth against hand-computed cases and a slow scalar caster, and the files they become."""

from __future__ import annotations

import csv
import math
import multiprocessing
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from spd.camera import lift
from spd.data.rgbd import RGBDDataset
from spd.data.rooms import dataset, furniture, render_room, storage, walls, write_rooms
from spd.data.rooms import light as light_module
from spd.data.rooms import render as render_module
from spd.data.rooms.geometry import SHELL, Camera, Primitive, cast, look
from spd.data.rooms.layout import Footprint
from spd.data.rooms.scene import _FURNISHING, sample_scene
from spd.data.rooms.shapes import interval
from spd.data.rooms.style import draw_style
from spd.data.rooms.textures import _PATTERNS, Material, albedo

SIZE = (36, 52)
ROOM = (4.0, 5.0, 3.0)
GREY = Material("plain", (0.5, 0.5, 0.5), (0.5, 0.5, 0.5))


def _level_camera(y: float = 1.0, height: float = 1.5) -> Camera:
    """In the middle of the room's width, looking level along the world's Y."""
    return Camera(np.array((2.0, y, height)), look(math.pi / 2, 0.0, 0.0), 0.7, (0.011, -0.017))


def _pixel_rays(camera: Camera, size: tuple[int, int]) -> tuple[np.ndarray, np.ndarray]:
    """X / Z and Y / Z of every pixel, from the intrinsics."""
    rows, columns = np.mgrid[: size[0], : size[1]].astype(float)
    fx, fy, cx, cy = camera.intrinsics(size)
    return (columns - cx) / fx, (rows - cy) / fy


class TestExactDepth:
    def test_empty_room(self) -> None:
        """Straight ahead every pixel of the wall is 4 m away in z, though its rays are longer."""
        camera = _level_camera()
        depth, owner = cast(ROOM, (), camera, SIZE)
        x, y = _pixel_rays(camera, SIZE)
        # Facing +Y, the world's X is the camera's X: both side walls are 2 m away, floor and ceiling 1.5 m.
        expected = np.minimum(np.minimum(4.0, 2.0 / np.abs(x)), 1.5 / np.abs(y))
        np.testing.assert_allclose(depth, expected, rtol=1e-12)
        assert (owner == SHELL).all()
        assert depth[18, 26] == pytest.approx(4.0, abs=1e-12)
        assert depth[0, 26] < 4.0

    def test_sphere(self) -> None:
        camera = _level_camera()
        sphere = Primitive("sphere", (2.0, 3.5, 1.5), (0.6, 0.6, 0.6), 0.3, GREY)
        depth, owner = cast(ROOM, (sphere,), camera, SIZE)
        x, y = _pixel_rays(camera, SIZE)
        # |(x, y, 1) t - (0, 0, 2.5)| = 0.6
        a, b, c = x**2 + y**2 + 1, -5.0, 2.5**2 - 0.36
        discriminant = b * b - 4 * a * c
        hit = discriminant > 0
        np.testing.assert_array_equal(owner == 0, hit)
        assert 50 < hit.sum() < hit.size / 2
        np.testing.assert_allclose(depth[hit], (-b - np.sqrt(discriminant[hit])) / (2 * a[hit]), rtol=1e-12)

    def test_cylinder_side_and_cap(self) -> None:
        """Seen from above its top: the cap where the ray is inside the circle at that height, else the side."""
        camera = _level_camera(height=2.0)
        bin_ = Primitive("cylinder", (2.0, 2.7, 0.7), (0.4, 0.4, 0.7), 1.1, GREY)
        depth, owner = cast(ROOM, (bin_,), camera, (60, 84))
        x, y = _pixel_rays(camera, (60, 84))
        top, bottom = 0.6, 2.0
        with np.errstate(all="ignore"):
            on_cap = top / y
            cap = (y > 0) & (np.hypot(x * on_cap, on_cap - 1.7) <= 0.4)
            on_side = (1.7 - np.sqrt(1.7**2 - (1 + x**2) * (1.7**2 - 0.16))) / (1 + x**2)
            side = ~cap & (on_side * y >= top) & (on_side * y <= bottom)
        np.testing.assert_array_equal(owner == 0, cap | side)
        assert cap.sum() > 20
        assert side.sum() > 20
        np.testing.assert_allclose(depth[cap], on_cap[cap], rtol=1e-12)
        np.testing.assert_allclose(depth[side], on_side[side], rtol=1e-12)

    def test_turned_box(self) -> None:
        """A box on its edge: turned by 45 degrees, its nearest line is half a diagonal before its middle."""
        camera = _level_camera()._replace(shift=(0.0, 0.0))
        crate = Primitive("box", (2.0, 3.5, 1.5), (0.5, 0.5, 0.3), math.pi / 4, GREY)
        depth, owner = cast(ROOM, (crate,), camera, (35, 53))
        assert owner[17, 26] == 0
        assert depth[17, 26] == pytest.approx(2.5 - math.sqrt(0.5), abs=1e-12)
        x, _ = _pixel_rays(camera, (35, 53))
        # The two faces that are seen run at 45 degrees: z = 2.5 - sqrt(0.5) + |x| z.
        seen = owner == 0
        np.testing.assert_allclose(depth[seen], (2.5 - math.sqrt(0.5)) / (1 - np.abs(x[seen])), rtol=1e-12)

    @pytest.mark.parametrize("seed", range(6))
    def test_equals_slow_reference(self, seed: int) -> None:
        """Whole rooms against a loop over rays and primitives that knows nothing of unit shapes or bounds."""
        rng = np.random.default_rng(seed)
        scene = sample_scene(rng)
        depth, owner = cast(scene.size, scene.primitives, scene.camera, SIZE)
        x, y = _pixel_rays(scene.camera, SIZE)
        for row, column in zip(rng.integers(0, SIZE[0], 40), rng.integers(0, SIZE[1], 40), strict=True):
            ray = np.array((x[row, column], y[row, column], 1.0)) @ scene.camera.rotation
            expected, thing = _slow_cast(scene.size, scene.primitives, scene.camera.position, ray)
            assert depth[row, column] == pytest.approx(expected, rel=1e-9)
            assert owner[row, column] == thing or expected == pytest.approx(
                _slow_hit(scene.primitives[owner[row, column]], scene.camera.position, ray), rel=1e-9
            )

    def test_primitive_that_reaches_behind_the_camera(self) -> None:
        """A long shelf beside the camera: its corners are before and behind it."""
        camera = _level_camera(y=2.0)
        shelf = Primitive("box", (3.0, 2.4, 1.0), (0.2, 2.3, 0.2), 0.0, GREY)
        depth, owner = cast(ROOM, (shelf,), camera, SIZE)
        x, y = _pixel_rays(camera, SIZE)
        for row, column in np.ndindex(SIZE):
            ray = np.array((x[row, column], y[row, column], 1.0)) @ camera.rotation
            expected, thing = _slow_cast(ROOM, (shelf,), camera.position, ray)
            assert depth[row, column] == pytest.approx(expected, rel=1e-9)
            assert owner[row, column] == thing
        assert (owner == 0).sum() > 50


@settings(max_examples=60, deadline=None)
@given(
    kind=st.sampled_from(("box", "cylinder", "sphere")),
    centre=st.tuples(st.floats(0.2, 3.8), st.floats(2.2, 4.8), st.floats(0.2, 2.8)),
    half=st.tuples(st.floats(0.05, 0.9), st.floats(0.05, 0.9), st.floats(0.05, 0.9)),
    yaw=st.floats(-4, 4),
    turn=st.tuples(st.floats(1.0, 2.1), st.floats(-0.2, 0.5), st.floats(-0.3, 0.3)),
)
def test_points_lie_on_what_they_hit(kind: str, centre: tuple, half: tuple, yaw: float, turn: tuple) -> None:
    """Back-projected with the camera of the image, every pixel is a point of the surface that it sees."""
    primitive = Primitive(kind, centre, half, yaw, GREY)  # pyright: ignore[reportArgumentType]
    camera = Camera(np.array((2.0, 0.7, 1.4)), look(*turn), 0.6, (0.01, 0.02))
    depth, owner = cast(ROOM, (primitive,), camera, SIZE)
    rows, columns = np.mgrid[: SIZE[0], : SIZE[1]]
    pixels = np.stack((columns.ravel(), rows.ravel()), axis=1).astype(float)
    world = lift(pixels, depth.ravel(), camera.intrinsics(SIZE)) @ camera.rotation + camera.position
    hit = owner.ravel() == 0
    shell = world[~hit]
    assert np.abs(np.stack((shell, np.array(ROOM) - shell))).min(axis=(0, 2)).max(initial=0.0) < 1e-9
    offset = world[hit] - centre
    cos, sin = math.cos(yaw), math.sin(yaw)
    local = np.stack(
        (cos * offset[:, 0] + sin * offset[:, 1], cos * offset[:, 1] - sin * offset[:, 0], offset[:, 2]), 1
    )
    unit = np.abs(local / half)
    if kind == "box":
        size = unit.max(1, initial=0.0)
    elif kind == "sphere":
        size = np.sqrt((unit**2).sum(1))
    else:
        size = np.maximum(np.hypot(unit[:, 0], unit[:, 1]), unit[:, 2])
    np.testing.assert_allclose(size, 1.0, atol=1e-8)


def _slow_cast(
    room: tuple[float, float, float], primitives: tuple[Primitive, ...], start: np.ndarray, ray: np.ndarray
) -> tuple[float, int]:
    best = min((room[k] - start[k]) / ray[k] if ray[k] > 0 else -start[k] / ray[k] for k in range(3) if ray[k] != 0)
    thing = SHELL
    for number, primitive in enumerate(primitives):
        t = _slow_hit(primitive, start, ray)
        if t < best:
            best, thing = t, number
    return best, thing


def _slow_hit(primitive: Primitive, start: np.ndarray, ray: np.ndarray) -> float:
    """The first t > 0 at which a ray is on one of the primitive's surfaces, each tried by itself."""
    cos, sin = math.cos(primitive.yaw), math.sin(primitive.yaw)
    o = start - np.array(primitive.centre)
    o, d = (
        np.array((cos * vector[0] + sin * vector[1], cos * vector[1] - sin * vector[0], vector[2]))
        for vector in (o, ray)
    )
    h, found = np.array(primitive.half), [math.inf]

    def inside(t: float, axes: tuple[int, ...]) -> bool:
        point = np.abs(o + t * d)
        return all(point[axis] <= h[axis] * (1 + 1e-12) for axis in axes)

    if primitive.kind == "box":
        for axis in range(3):
            others = tuple({0, 1, 2} - {axis})
            planes = [(side * h[axis] - o[axis]) / d[axis] for side in (-1, 1)]
            found += [t for t in planes if t > 0 and inside(t, others)]
        return min(found)
    axes = 3 if primitive.kind == "sphere" else 2
    weights = 1 / h[:axes] ** 2
    a, b, c = (
        (weights * d[:axes] ** 2).sum(),
        2 * (weights * o[:axes] * d[:axes]).sum(),
        (weights * o[:axes] ** 2).sum(),
    )
    roots = np.roots((a, b, c - 1))
    found += [float(t.real) for t in roots if t.imag == 0 and t.real > 0 and (axes == 3 or inside(t.real, (2,)))]
    if axes == 2:
        for side in (-1, 1):
            t = (side * h[2] - o[2]) / d[2]
            if t > 0 and (((o + t * d)[:2] / h[:2]) ** 2).sum() <= 1:
                found.append(t)
    return min(found)


def test_look() -> None:
    """Level along Y the camera's right is the world's X; a pitch looks down; a roll keeps the optical axis."""
    np.testing.assert_allclose(look(math.pi / 2, 0.0, 0.0), ((1, 0, 0), (0, 0, -1), (0, 1, 0)), atol=1e-12)
    np.testing.assert_allclose(look(0.0, math.pi / 6, 0.0)[2], (math.sqrt(0.75), 0, -0.5), atol=1e-12)
    rolled = look(0.7, 0.2, 0.3)
    np.testing.assert_allclose(rolled @ rolled.T, np.eye(3), atol=1e-12)
    assert np.linalg.det(rolled) == pytest.approx(1.0)
    np.testing.assert_allclose(rolled[2], look(0.7, 0.2, 0.0)[2], atol=1e-12)
    assert rolled[0] @ look(0.7, 0.2, 0.0)[1] == pytest.approx(math.sin(0.3))


class TestRoom:
    def test_depends_on_seed_and_index_only(self) -> None:
        first, again = render_room(3, 5, SIZE), render_room(3, 5, SIZE)
        np.testing.assert_array_equal(first.image, again.image)
        np.testing.assert_array_equal(first.depth_m, again.depth_m)
        assert first.intrinsics == again.intrinsics
        for other in (render_room(3, 6, SIZE), render_room(4, 5, SIZE)):
            assert np.abs(first.depth_m - other.depth_m).mean() > 0.05

    @pytest.mark.parametrize("index", range(4))
    def test_same_room_at_every_size(self, index: int) -> None:
        """At three times the size, the middle of each 3 × 3 pixels looks along the same ray."""
        small, large = render_room(0, index, SIZE), render_room(0, index, (3 * SIZE[0], 3 * SIZE[1]))
        np.testing.assert_allclose(large.depth_m[1::3, 1::3], small.depth_m, rtol=1e-5)
        resized = small.intrinsics.resized(SIZE, (3 * SIZE[0], 3 * SIZE[1]))
        np.testing.assert_allclose(large.intrinsics, resized, rtol=1e-12)
        colours = large.image.reshape(SIZE[0], 3, SIZE[1], 3, 3).mean((1, 3))
        assert np.abs(colours - small.image).mean() < 12

    def test_every_pixel_has_a_depth_of_a_room(self) -> None:
        medians = []
        for index in range(20):
            room = render_room(11, index, (40, 50))
            assert room.image.shape == (40, 50, 3)
            assert room.image.std() > 10
            assert np.isfinite(room.depth_m).all()
            assert room.depth_m.min() > 0.4
            assert room.depth_m.max() < 10.0
            medians.append(np.median(room.depth_m))
            field = 2 * math.atan(25 / room.intrinsics.fx)
            assert 0.7 <= field / math.radians(63.3) <= 1.2
        assert 2.3 < np.mean(medians) < 3.5

    @pytest.mark.parametrize("size", [(31, 64), (64, 31), (0, 0)])
    def test_refuses_small_size(self, size: tuple[int, int]) -> None:
        with pytest.raises(ValueError, match="at least 32 pixels"):
            render_room(0, 0, size)


class TestScene:
    def test_camera_is_clear_of_everything(self) -> None:
        for seed in range(12):
            scene = sample_scene(np.random.default_rng((7, seed)))
            x, y, z = scene.camera.position
            assert 0.8 <= z <= 2.0
            assert 0.6 < x < scene.size[0] - 0.6
            assert 0.6 < y < scene.size[1] - 0.6
            for primitive in scene.primitives:
                cos, sin = math.cos(primitive.yaw), math.sin(primitive.yaw)
                dx, dy = x - primitive.centre[0], y - primitive.centre[1]
                local = np.array((cos * dx + sin * dy, cos * dy - sin * dx, z - primitive.centre[2]))
                assert np.linalg.norm(np.maximum(np.abs(local) - primitive.half, 0)) > 0.55

    def test_parts_keep_to_the_block_of_their_piece(self) -> None:
        """Else pieces would run into each other: blocks are all that placing looks at."""
        builders = {builder for lists in _FURNISHING.values() for builders in lists for builder in builders}
        assert builders >= {furniture.sofa, storage.bed, furniture.dining_table}
        builders |= {walls.door, walls.picture, partial(walls.window, room_height=2.5)}
        for builder in builders:
            for seed in range(6):
                rng = np.random.default_rng(seed)
                piece = builder(rng, draw_style(rng))
                for part in piece.parts:
                    cos, sin = abs(math.cos(part.yaw)), abs(math.sin(part.yaw))
                    reach = cos * part.half[0] + sin * part.half[1], sin * part.half[0] + cos * part.half[1]
                    assert abs(part.centre[0]) + reach[0] <= piece.width / 2 + 0.02
                    assert part.centre[1] + reach[1] <= piece.depth + 0.02
                    assert part.centre[1] - reach[1] >= -0.05
                    assert part.centre[2] - part.half[2] >= -1e-9
                    assert part.centre[2] + part.half[2] <= piece.height + 0.02

    @settings(max_examples=100, deadline=None)
    @given(st.data())
    def test_blocks_that_share_a_point_meet(self, data: st.DataObject) -> None:
        number = st.floats(0.1, 1.0)
        first, second = (
            Footprint(*(data.draw(st.floats(-1.5, 1.5)) for _ in range(2)), data.draw(number), data.draw(number),
                      data.draw(st.floats(-4, 4)), 0.0, 1.0)
            for _ in range(2)
        )  # fmt: skip
        assert first.meets(second) == second.meets(first)
        grid = np.stack(np.meshgrid(np.linspace(-1, 1, 41), np.linspace(-1, 1, 41)), -1).reshape(-1, 2)

        def to_world(block: Footprint, points: np.ndarray) -> np.ndarray:
            return points * (block.half_x, block.half_y) @ np.array(block.axes()) + (block.x, block.y)

        def contains(block: Footprint, points: np.ndarray, slack: float) -> np.ndarray:
            local = np.abs((points - (block.x, block.y)) @ np.array(block.axes()).T)
            return (local <= np.array((block.half_x, block.half_y)) + slack).all(1)

        corners_or_inside = contains(second, to_world(first, grid), -1e-6).any()
        if corners_or_inside:
            assert first.meets(second)
        # A grid of 41 points a side leaves no gap wider than 0.05 m.
        if not contains(second, to_world(first, grid), 0.08).any():
            assert not first.meets(second)
        assert not first.meets(second._replace(bottom=1.0, top=2.0))


@pytest.mark.parametrize("seed", range(3))
def test_shadows_equal_brute_force(seed: int) -> None:
    """Ruling out tiles loses no shadow; asking every fourth pixel first loses next to none."""
    size = (64, 88)
    scene = sample_scene(np.random.default_rng((5, seed)))
    surface = render_module._surface(scene, *cast(scene.size, scene.primitives, scene.camera, size))
    casters = light_module._casters(scene.primitives, light_module._piece_bounds(scene.primitives, 0.1), 0.01)
    target = np.array(scene.lights[0].position, np.float32)[:, None]
    origin = surface.points + np.float32(scene.detail) * surface.normals
    expected = np.zeros(origin.shape[1], bool)
    with np.errstate(divide="ignore", invalid="ignore"):
        for caster in casters:
            for shape, matrix, centre in zip(caster.shapes, caster.matrices, caster.centres, strict=True):
                start = matrix @ (origin - centre[:, None])
                near, far = interval(shape.kind, start, matrix @ (target - centre[:, None]) - start)
                expected |= (near <= far) & (near < 1) & (far > 0)
    tiles = light_module._tile_indices(size)
    blocked = light_module._blocked(origin[:, tiles], target, casters)
    # Rays that graze an edge fall on either side of it in float32.
    assert (blocked != expected[tiles]).mean() < 5e-4
    assert 0.01 < expected.mean() < 0.9
    sees = light_module._sees(scene.lights[0].position, casters, surface, size, scene.detail)
    facing = ((target - surface.points) * surface.normals).sum(0) > 0
    assert ((sees == 0) != expected)[facing].mean() < 0.01


@pytest.mark.parametrize("pattern", list(_PATTERNS))
def test_texture(pattern: str) -> None:
    """Near, it varies between its colours; where a pixel covers metres of it, it neither flickers nor fails."""
    rng = np.random.default_rng(0)
    u, v = (rng.uniform(-5, 5, 4000).astype(np.float32) for _ in range(2))
    material = Material(pattern, (0.9, 0.2, 0.4), (0.1, 0.6, 0.3), 0.3, seed=17)  # pyright: ignore[reportArgumentType]
    near = albedo(material, u, v, np.full(4000, 0.001, np.float32))
    far = albedo(material, u, v, np.full(4000, 30.0, np.float32))
    assert near.shape == (3, 4000)
    assert near.dtype == np.float32
    assert pattern == "plain" or near.std(axis=1).max() > 0.01
    for colours in (near, far):
        assert np.isfinite(colours).all()
        assert colours.min() >= 0
        assert colours.max() < 1.5
    if pattern in ("stripes", "checker"):
        assert far.std(axis=1).max() < 0.02 < near.std(axis=1).max()


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
                assert np.abs(np.asarray(picture).astype(int) - room.image).mean() < 3
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
        work = partial(dataset._write_chunk, tmp_path, 0, (32, 40))
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
