"""Views from near: what they hold, how far it is, by which cameras; things, and what the sensor does."""

from __future__ import annotations

import csv
import itertools
import math
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from spd.data.rooms import deskware, render_room, tableware, tops, write_rooms
from spd.data.rooms.furniture import Builder
from spd.data.rooms.geometry import Camera, Primitive, cast, look
from spd.data.rooms.near import sample_near_view
from spd.data.rooms.scene import Scene, sample_room_view
from spd.data.rooms.sensor import Sensor, develop, draw_sensor
from spd.data.rooms.style import draw_style
from spd.data.rooms.textures import Material

CANONICAL = 518.8579 / 640
"""Focal length of NYU Depth V2's camera over the width of its images."""
GREY = Material("plain", (0.5, 0.5, 0.5), (0.5, 0.5, 0.5))
THINGS = sorted({*tops._DESK, *tops._TABLE, *tops._MIXED, deskware.monitor, deskware.mouse}, key=lambda b: b.__name__)


@pytest.fixture(scope="module")
def near_scenes() -> list[Scene]:
    return [sample_near_view(np.random.default_rng((21, index))) for index in range(40)]


@pytest.fixture(scope="module")
def room_scenes() -> list[Scene]:
    return [sample_room_view(np.random.default_rng((22, index))) for index in range(40)]


def test_share_and_kinds_of_the_manifest(tmp_path: Path) -> None:
    """Of 60 frames at one half, 30 ± 15.5 (four standard deviations) are near; at 1 all are, at 0 none is."""
    counts = {}
    for near, num in ((0.5, 60), (1.0, 12), (0.0, 4)):
        manifest = write_rooms(tmp_path / str(near), num=num, seed=5, size=(32, 40), near=near)
        with manifest.open(newline="") as file:
            counts[near] = [row["scene"] for row in csv.DictReader(file)]
    kinds = {"table", "shelf", "hands"}
    assert set(counts[0.5]) == {"room"} | kinds
    assert 15 <= sum(kind in kinds for kind in counts[0.5]) <= 45
    assert set(counts[1.0]) <= kinds
    assert all("_" in kind or kind in ("bedroom", "office", "kitchen") for kind in counts[0.0])


def test_depth_of_every_frame() -> None:
    """Near frames have their median between 0.3 and 1.5 m, also at a size on which they were not judged."""
    medians = []
    for index in range(24):
        room = render_room(31, index, (54, 72), near=1.0)
        assert room.depth_m.min() > 0.1
        assert room.depth_m.max() < 10
        assert room.image.std() > 5
        medians.append(float(np.median(room.depth_m)))
    assert 0.3 <= min(medians) <= 0.5
    assert 1.0 <= max(medians) <= 1.5
    assert 0.5 < np.median(medians) < 1.0


def test_rooms_between_them_stay_rooms() -> None:
    for index in range(12):
        room = render_room(32, index, (54, 72), near=1e-9)
        assert 0.4 < room.depth_m.min() < room.depth_m.max() < 10
        assert np.median(room.depth_m) > 1.0


def test_cameras(near_scenes: list[Scene], room_scenes: list[Scene]) -> None:
    focal = np.array([scene.camera.intrinsics((240, 320)).fx / 320 / CANONICAL for scene in near_scenes + room_scenes])
    assert 0.6 <= focal.min() < 0.7
    assert 1.7 < focal.max() <= 2.0
    # Log-uniform: as many below the geometric mean as above it, 40 ± 18 (four standard deviations).
    assert 22 <= (focal < math.sqrt(0.6 * 2.0)).sum() <= 58
    shifts = np.abs([scene.camera.shift for scene in near_scenes + room_scenes]).max(1)
    assert shifts.max() <= 0.08
    assert 10 <= (shifts > 0.025).sum() <= 40
    heights = np.array([scene.camera.position[2] for scene in room_scenes])
    assert 0.4 <= heights.min() < 0.7
    assert 1.9 < heights.max() <= 2.2
    # The optical axis looks down where its Z is negative; the rows of the rotation are right, down and forward.
    down = {kind: [] for kind in ("table", "hands", "shelf")}
    for scene in near_scenes:
        down[scene.kind].append(math.degrees(math.asin(-scene.camera.rotation[2, 2])))
    assert 10 <= min(down["table"] + down["hands"]) < 25
    assert 60 < max(down["table"] + down["hands"]) <= 80
    rolls = [math.degrees(math.asin(scene.camera.rotation[0, 2])) for scene in near_scenes + room_scenes]
    assert 5 < max(np.abs(rolls)) < 30


def test_nothing_is_close_to_a_camera(near_scenes: list[Scene]) -> None:
    """Metres from the camera to the box around each primitive, by its own axes, one coordinate after the other."""
    for scene in near_scenes:
        position = scene.camera.position
        assert (position > 0.2).all()
        assert (position < np.array(scene.size) - 0.2).all()
        for part in scene.primitives:
            offset = position - np.array(part.centre)
            x = math.cos(part.yaw) * offset[0] + math.sin(part.yaw) * offset[1]
            y = math.cos(part.yaw) * offset[1] - math.sin(part.yaw) * offset[0]
            y, z = (
                math.cos(part.tilt) * y + math.sin(part.tilt) * offset[2],
                math.cos(part.tilt) * offset[2] - math.sin(part.tilt) * y,
            )
            gaps = [max(abs(along) - half, 0.0) for along, half in zip((x, y, z), part.half, strict=True)]
            assert math.hypot(*gaps) > 0.2


@pytest.mark.parametrize("index", range(3))
def test_known_points_of_a_box_project_to_their_depth(index: int) -> None:
    """Through a projection matrix of elementary rotations; inverse depth is linear in the pixels of a plane."""
    yaw, pitch, roll = ((1.3, 0.6, 0.2), (1.8, 0.9, -0.4), (1.5, 0.3, 0.1))[index]
    crate = Primitive("box", (2.0, 1.6, 0.9), (0.21, 0.13, 0.08), 0.35, GREY)
    position = np.array((2.0, 1.6, 0.9)) - 0.8 * look(yaw, pitch, 0.0)[2]
    size = (240, 321)
    camera = Camera(position, look(yaw, pitch, roll), 0.9, (0.05, -0.04))
    depth, owner = cast((4.0, 5.0, 3.0), (crate,), camera, size)

    def about(axis: int, angle: float) -> np.ndarray:
        cos, sin = math.cos(angle), math.sin(angle)
        a, b = [n for n in range(3) if n != axis]
        matrix = np.eye(3)
        matrix[a, a] = matrix[b, b] = cos
        matrix[a, b], matrix[b, a] = -sin, sin
        return matrix

    # From a camera that looks along X with Y to its left: undo the yaw, look down, rename the axes, roll.
    rename = np.array(((0, -1, 0), (0, 0, -1), (1, 0, 0)))
    extrinsic = about(2, -roll) @ rename @ about(1, pitch) @ about(2, -yaw)
    fx, fy, cx, cy = camera.intrinsics(size)
    projection = np.array(((fx, 0, cx), (0, fy, cy), (0, 0, 1))) @ extrinsic
    corners = np.array(list(itertools.product((-1, 1), repeat=3))) * (0.21, 0.13, 0.08)
    checked = 0
    for axis, side, corner in itertools.product(range(3), (-1, 1), corners):
        if corner[axis] * side < 0:
            continue
        inner = corner * 0.75
        inner[axis] = corner[axis]
        world = about(2, 0.35) @ inner + np.array(crate.centre)
        out = about(2, 0.35) @ (np.eye(3)[axis] * side)
        if (position - world) @ out <= 0.1:
            continue
        u, v, w = projection @ (world - position)
        u, v = u / w, v / w
        left, top = math.floor(u), math.floor(v)
        assert (owner[top : top + 2, left : left + 2] == 0).all()
        inverse = 1 / depth[top : top + 2, left : left + 2]
        weights = np.outer((1 - v + top, v - top), (1 - u + left, u - left))
        assert 1 / (weights * inverse).sum() == pytest.approx(w, rel=1e-9)
        checked += 1
    assert checked >= 8


@pytest.mark.parametrize("builder", THINGS, ids=lambda builder: builder.__name__)
def test_things_stand_on_their_place_and_keep_to_it(builder: Builder) -> None:
    for seed in range(8):
        rng = np.random.default_rng(seed)
        thing = builder(rng, draw_style(rng))
        for part in thing.parts:
            reach = np.abs(part.rotation().T) @ np.array(part.half)
            low, high = np.array(part.centre) - reach, np.array(part.centre) + reach
            slack = 0.035
            assert low[0] >= -thing.width / 2 - slack
            assert high[0] <= thing.width / 2 + slack
            assert low[1] >= -slack
            assert high[1] <= thing.depth + slack
            assert low[2] >= -1e-6
            assert 0.002 < 2 * max(part.half) < 0.75


def test_things_of_a_top_do_not_run_into_each_other(near_scenes: list[Scene]) -> None:
    """Of things side by side on a level, none holds the middle of another's first part."""
    rng = np.random.default_rng(3)
    things = tops.spread(rng, draw_style(rng), (tableware.can, tableware.bowl), 40, (-0.4, 0.4, 0.0, 0.5), 0.7, 0.5)
    assert len(things) > 8
    middles = [(thing.parts[0].centre[0], thing.parts[0].centre[1], thing.width / 2) for thing in things]
    for (x, y, radius), (other_x, other_y, other_radius) in itertools.combinations(middles, 2):
        assert math.hypot(x - other_x, y - other_y) > radius + other_radius
    assert all(min(part.centre[2] - part.half[2] for part in thing.parts) == pytest.approx(0.7) for thing in things)


class TestSensor:
    def test_blur_is_a_binomial_filter(self) -> None:
        """A point of light becomes a spot whose variance along each axis is 0.3 pixels² per pass."""
        light = np.zeros((3, 41, 51), np.float32)
        light[:, 20, 25] = 0.2
        # The exposure that leaves the light as it is; below 0.6 the tone curve is sRGB's power alone.
        sensor = Sensor(exposure=0.2 / (41 * 51), noise=0.0, blur=3)
        image = develop(light + 0, sensor, np.random.default_rng(0))
        spot = (image[..., 0] / 255.0) ** 2.2
        columns = spot.sum(0) / spot.sum()
        assert (columns * (np.arange(51) - 25) ** 2).sum() == pytest.approx(0.9, rel=0.08)

    def test_noise_balance_and_vignette(self) -> None:
        grey = np.full((3, 80, 120), 0.2, np.float32)
        plain = develop(grey + 0, Sensor(0.2, 0.0), np.random.default_rng(0)).astype(float)
        assert plain.std() == 0
        noisy = develop(grey + 0, Sensor(0.2, 2.0, shot=4.0), np.random.default_rng(0)).astype(float)
        level = 255 * 0.2 ** (1 / 2.2)
        assert abs(plain[0, 0, 0] - level) <= 0.5
        assert noisy.mean() == pytest.approx(level, abs=0.1)
        # Read and shot noise add in squares, and rounding gives a twelfth.
        assert noisy.std() == pytest.approx(math.sqrt(4 + 16 * level / 255 + 1 / 12), rel=0.03)
        warm = develop(grey + 0, Sensor(0.2, 0.0, balance=(1.2, 1.0, 0.8)), np.random.default_rng(0)).astype(float)
        np.testing.assert_allclose(warm[0, 0] / level, np.array((1.2, 1.0, 0.8)) ** (1 / 2.2), atol=0.006)
        dark = develop(grey + 0, Sensor(0.2, 0.0, vignette=0.3), np.random.default_rng(0)).astype(float)
        assert dark[0, 0, 0] / dark[40, 60, 0] == pytest.approx(0.7 ** (1 / 2.2), abs=0.02)

    def test_quality_of_the_file(self, tmp_path: Path) -> None:
        """Files of near data sets hold the tables of the quality that was drawn, and half of the colours' pixels."""
        write_rooms(tmp_path, num=6, seed=8, size=(32, 40), near=1.0, workers=1)
        coarse = set()
        for path in sorted((tmp_path / "rgb").iterdir()):
            with Image.open(path) as picture:
                coarse.add(picture.quantization[0][0])  # pyright: ignore[reportAttributeAccessIssue]
        assert len(coarse) > 1
        qualities = [draw_sensor(np.random.default_rng(n)).jpeg_quality for n in range(200)]
        assert (min(qualities), max(qualities)) == (60, 95)
