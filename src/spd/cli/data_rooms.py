"""Write a data set of procedural rooms: images, exact z-depth and manifest.csv.

The same number and seed write the same rooms. A tenth of them has the split ``val``, the others ``train``.

Example:
  spd data rooms rooms --num 400 --seed 0
  spd data rooms near --num 3000 --seed 200 --size 240 320 --near 0.7
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import tyro

from spd.cli.output import note, progress


@dataclass(frozen=True, kw_only=True)
class Options:
    """Options of ``spd data rooms``."""

    output: tyro.conf.Positional[Path]
    """Folder to write."""
    num: int
    """Number of rooms, one image each."""
    seed: int = 0
    """Seed of everything that is drawn."""
    size: tuple[int, int] = (256, 320)
    """Height and width in pixels."""
    near: float = 0.5
    """Share of views from near: tables, shelves, things at hand, 0.3 to 1.5 m away. The others show whole rooms, and
    cameras differ much. At 0: whole rooms seen by cameras like NYU's, as in earlier versions."""
    workers: int | None = None
    """Processes; None is one per CPU core."""


def run(options: Options) -> None:
    """Write the rooms."""
    from spd.data.rooms import write_rooms

    with progress("rooms", options.num) as advance:
        write_rooms(
            options.output,
            num=options.num,
            seed=options.seed,
            size=options.size,
            near=options.near,
            workers=options.workers,
            progress=advance,
        )
    note(f"wrote {options.num} rooms to {options.output}")
