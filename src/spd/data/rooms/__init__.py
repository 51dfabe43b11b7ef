"""Procedural rooms with exact depth: the embedded default data, for tests, demo and pre-training."""

from spd.data.rooms.dataset import Room, render_room, write_rooms

__all__ = ["Room", "render_room", "write_rooms"]
