"""Where the pieces of a room stand: blocks that do not overlap, against its walls or in the open."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np

from spd.data.rooms.furniture import Piece, placed
from spd.data.rooms.geometry import Primitive, Vector


class Footprint(NamedTuple):
    """An upright block that something fills or that must stay free."""

    x: float
    y: float
    half_x: float
    half_y: float
    yaw: float
    bottom: float
    top: float

    def axes(self) -> tuple[tuple[float, float], tuple[float, float]]:
        """Unit vectors of its width and its depth on the floor."""
        cos, sin = math.cos(self.yaw), math.sin(self.yaw)
        return (cos, sin), (-sin, cos)

    def reach(self, axis: tuple[float, float]) -> float:
        """Half of its extent along a direction on the floor."""
        first, second = self.axes()
        along_x = abs(first[0] * axis[0] + first[1] * axis[1])
        along_y = abs(second[0] * axis[0] + second[1] * axis[1])
        return self.half_x * along_x + self.half_y * along_y

    def meets(self, other: Footprint) -> bool:
        """Whether the two overlap: no axis of either keeps them apart."""
        if self.top <= other.bottom or other.top <= self.bottom:
            return False
        dx, dy = other.x - self.x, other.y - self.y
        return all(
            abs(dx * axis[0] + dy * axis[1]) < self.reach(axis) + other.reach(axis)
            for axis in (*self.axes(), *other.axes())
        )


class Layout:
    """A room that is being filled: what is placed so far, and the blocks that it takes."""

    def __init__(self, size: Vector) -> None:
        self.size = size
        self.blocks: list[Footprint] = []
        self.pieces: list[Piece] = []

    def primitives(self) -> tuple[Primitive, ...]:
        """The parts of all pieces."""
        return tuple(part for piece in self.pieces for part in piece.parts)

    def wall_pose(self, wall: int, along: float, gap: float = 0.0) -> tuple[float, float, float]:
        """(x, y, yaw) of a piece whose back is against wall 0 to 3 (y = 0, x = width, y = length, x = 0)."""
        width, length, _ = self.size
        positions = (
            (along, gap), (width - gap, along), (width - along, length - gap), (gap, length - along)
        )  # fmt: skip
        return (*positions[wall], wall * math.pi / 2)

    def wall_length(self, wall: int) -> float:
        """Metres along wall 0 to 3."""
        return self.size[wall % 2]

    def add(self, piece: Piece, pose: tuple[float, float, float], *, bottom: float = 0.0, margin: float = 0.03) -> bool:
        """Place a piece with its back's middle at ``pose`` unless it meets a block or leaves the room."""
        x, y, yaw = pose
        block = Footprint(
            x - math.sin(yaw) * piece.depth / 2,
            y + math.cos(yaw) * piece.depth / 2,
            piece.width / 2 + margin,
            piece.depth / 2 + margin,
            yaw,
            bottom,
            piece.height,
        )
        slack = margin + 0.005
        inside = all(
            block.reach(axis) - slack <= centre <= self.size[number] - block.reach(axis) + slack
            for number, (axis, centre) in enumerate((((1.0, 0.0), block.x), ((0.0, 1.0), block.y)))
        )
        if not inside or any(block.meets(other) for other in self.blocks):
            return False
        self.blocks.append(block)
        self.pieces.append(placed(piece, x, y, yaw, len(self.pieces)))
        return True

    def try_wall(self, rng: np.random.Generator, piece: Piece, *, bottom: float = 0.0, gap: float = 0.01) -> int | None:
        """Place a piece somewhere against a wall; the wall that took it, None if none did."""
        for _ in range(8):
            wall = int(rng.integers(4))
            free = self.wall_length(wall) - piece.width
            if free > 0.02 and self.add(
                piece, self.wall_pose(wall, piece.width / 2 + rng.uniform(0.01, free), gap), bottom=bottom
            ):
                return wall
        return None

    def try_free(self, rng: np.random.Generator, piece: Piece, *, tries: int = 10) -> bool:
        """Place a piece in the open, mostly parallel to the walls."""
        for _ in range(tries):
            yaw = float(rng.integers(4)) * math.pi / 2 + rng.normal(0, 0.15 if rng.random() < 0.7 else 0.7)
            x, y = rng.uniform(0.25, 0.75) * self.size[0], rng.uniform(0.2, 0.8) * self.size[1]
            if self.add(piece, (x, y, yaw), margin=0.1):
                return True
        return False
