"""What stands in the rooms, the shadows that it throws, and what it is painted with."""

from __future__ import annotations

import math
from functools import partial

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from spd.data.rooms import furniture, storage, walls
from spd.data.rooms import light as light_module
from spd.data.rooms import render as render_module
from spd.data.rooms.geometry import cast
from spd.data.rooms.layout import Footprint
from spd.data.rooms.scene import _FURNISHING, sample_scene
from spd.data.rooms.shapes import interval
from spd.data.rooms.style import draw_style
from spd.data.rooms.textures import _PATTERNS, Material, albedo

SIZE = (36, 52)
ROOM = (4.0, 5.0, 3.0)
GREY = Material("plain", (0.5, 0.5, 0.5), (0.5, 0.5, 0.5))

SIZE = (36, 52)


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
