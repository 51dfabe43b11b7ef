"""Correct a model's scale by distances that you have measured.

The file names an image, a pixel and a distance in each row: .csv with the columns image, u, v and metres. Images are
found beside it. Distances are those along the ray, from the camera to the point, as a tape or a laser measures them;
--kind depth takes those along the optical axis. One is enough; four that lie far apart tell most.

Example:
  spd calibrate distances.csv --output room.json
"""

from __future__ import annotations

import csv
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import tyro

from spd.cli.output import note, print_json, print_table


@dataclass(frozen=True, kw_only=True)
class Options:
    """Options of ``spd calibrate``."""

    distances: tyro.conf.Positional[Path]
    """CSV with the columns image, u, v and metres."""
    output: Path
    """Where the calibration goes, .json: for --calibration of spd predict, or spd.load(calibration=...)."""
    checkpoint: str | None = None
    """As of spd predict."""
    intrinsics: tuple[float, float, float, float] | None = None
    """FX FY CX CY of the camera of all images, in pixels; kept in the calibration."""
    kind: Literal["range", "depth"] = "range"
    """What the metres are: along the ray, or along the optical axis."""
    correction: Literal["auto", "scale", "power"] = "auto"
    """A factor, or a factor and an exponent; auto takes the exponent where it helps by a tenth."""
    device: str | None = None
    """cpu, cuda, cuda:1...; None is cuda where there is one."""
    json: tyro.conf.FlagCreatePairsOff[bool] = False
    """Print JSON in place of the table."""


def run(options: Options) -> None:
    """Read the distances, fit, write, print."""
    if options.output.suffix.lower() != ".json":
        raise ValueError(f"--output must end in .json, got {options.output}")
    observations = _read(options.distances)

    from spd.runtime.loading import load

    predictor = load(options.checkpoint, device=options.device)
    calibration = predictor.calibrate(
        observations, kind=options.kind, camera=options.intrinsics, correction=options.correction
    )
    calibration.save(options.output)
    note(f"wrote {options.output}: {calibration}")
    rows = [
        {"image": str(image), "u": u, "v": v, "metres": metres, "residual": round(residual, 6)}
        for (image, (u, v), metres), residual in zip(observations, calibration.residuals, strict=True)
    ]
    if options.json:
        print_json({"scale": calibration.scale, "exponent": calibration.exponent, "observations": rows})
        return
    columns = ("image", "u", "v", "metres", "left over")
    cells = [
        (Path(row["image"]).name, f"{row['u']:g}", f"{row['v']:g}", f"{row['metres']:g}", f"{row['residual']:+.1%}")
        for row in rows
    ]
    print_table(columns, cells, text_columns=("image",))


def _read(path: Path) -> list[tuple[Path, tuple[float, float], float]]:
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            rows = list(csv.DictReader(file))
    except (UnicodeDecodeError, csv.Error) as error:
        raise ValueError(f"{path} is not CSV: {error}") from None
    found = []
    for line, row in enumerate(rows, 2):
        try:
            numbers = [float(row[name]) for name in ("u", "v", "metres")]
            found.append((path.parent / row["image"], (numbers[0], numbers[1]), numbers[2]))
        except (KeyError, TypeError, ValueError):
            raise ValueError(f"{path} line {line} must have image, and the numbers u, v and metres") from None
    if not found:
        raise ValueError(f"{path} must have a header image,u,v,metres and a row at least")
    return found
