"""Depth in metres at pixels of an image.

A pixel is U,V: 0,0 is the centre of the first one, U counts to the right and V down, as the image is displayed. Ask
for single pixels (--points), for those in a file (--points-file), or for a regular grid (--grid).

Example:
  spd predict photo.jpg --points 320,240 100,50 --overlay depths.png
"""

from __future__ import annotations

import io
import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import tyro

from spd.cli.output import note, print_json, print_table, progress
from spd.cli.points import STANDARD_INPUT, read_points
from spd.engines import Precision

if TYPE_CHECKING:
    import numpy as np

    from spd.predictor import Predictor

# All points of one question see each other: time grows with the square of their number.
_LARGEST_GRID = 256
# A map of more shows how far it is: it takes some seconds.
_QUICK_PIXELS = 300_000


@dataclass(frozen=True, kw_only=True)
class Options:
    """Options of ``spd predict``."""

    image: tyro.conf.Positional[Path]
    """The photograph."""
    checkpoint: str | None = None
    """Folder of the checkpoint, or owner/name of a repository on the Hugging Face hub. None is spd-lite,
    which comes with SPD: indoor scenes, weights for research use only."""
    points: tuple[str, ...] = ()
    """Pixels U,V."""
    points_file: Path | None = None
    """Pixels from a file: .csv (two columns, or a header with u and v), .json ([[u, v], ...] or [{"u": .., "v": ..},
    ...]) or .npy (K, 2); - is standard input, CSV or JSON."""
    grid: int | None = None
    """N x N pixels in a regular grid."""
    intrinsics: tuple[float, float, float, float] | None = None
    """FX FY CX CY of the camera in pixels of the image; without them that of the photograph's EXIF, or else one like
    that of the training is assumed."""
    output: Path | None = None
    """Also write the depths here, .csv or .json."""
    overlay: Path | None = None
    """Also draw them on the image, .png."""
    dense: Path | None = None
    """Write the depth of every pixel, .png (16 bits, millimetres) or .npy (float32 metres), with or without points. A
    joint model answers no more than 8,192 pixels at once."""
    dense_step: int = 1
    """With --dense: ask one pixel of N x N and fill in the others along the image's edges, a preview in a fraction of
    the time."""
    calibration: Path | None = None
    """Correct the depths by this file, which spd calibrate wrote."""
    device: str | None = None
    """cpu, cuda, cuda:1...; None is cuda where there is one."""
    interaction: Literal["joint", "anchored"] | None = None
    """Ask the points in this mode, in place of the one in which the checkpoint was trained; less accurate."""
    runtime: Literal["torch", "onnx", "openvino"] = "torch"
    """Engine; for onnx and openvino --checkpoint is a folder that spd export wrote."""
    precision: Precision = "float32"
    """Of products; bfloat16 is quicker where the machine multiplies it, and changes depths by about .1 %."""
    json: tyro.conf.FlagCreatePairsOff[bool] = False
    """Print JSON in place of the table: a list of u, v and depth_m."""


def run(options: Options) -> None:
    """Ask, write what is to be written, print."""
    from spd.allocator import keep_freed_memory

    _check(options)
    points = _read_points(options)
    keep_freed_memory()

    from spd.data.rgbd import read_image

    image = read_image(options.image)
    height, width = image.shape[:2]
    if points is None:
        points = _grid(options.grid or 0, width, height)

    from spd.inputs import check_points

    query_points = check_points(points, (height, width))
    predictor = _load(options)
    if options.calibration is not None:
        from spd.calibration import Calibration

        predictor = predictor.calibrated(Calibration.load(options.calibration))
    if options.dense:
        scene = predictor.encode(options.image, camera=options.intrinsics)
        depth_m = scene(query_points)
        asked = -(-height // options.dense_step) * -(-width // options.dense_step)
        with progress("pixels", asked) as advance:
            dense_m = scene.dense(step=options.dense_step, progress=advance if asked > _QUICK_PIXELS else None)
    else:
        depth_m, dense_m = predictor(options.image, query_points, camera=options.intrinsics), None
    answers = [
        {"u": u, "v": v, "depth_m": round(depth, 6)}
        for (u, v), depth in zip(query_points.tolist(), depth_m.tolist(), strict=True)
    ]
    contents = {}
    if options.output:
        contents[options.output] = _as_csv(answers) if _suffix(options.output) == ".csv" else _as_json(answers)
    if options.overlay:
        contents[options.overlay] = _draw(image, query_points, depth_m)
    if options.dense and dense_m is not None:
        contents[options.dense] = _as_map(dense_m, _suffix(options.dense))

    from spd.files import write_files

    write_files(contents)
    if options.dense:
        note(f"wrote {width}x{height} depths to {options.dense}")
    if options.json:
        print_json(answers)
    elif answers or not options.dense:
        rows = [(f"{row['u']:.10g}", f"{row['v']:.10g}", f"{row['depth_m']:.3f}") for row in answers]
        print_table(("u", "v", "depth (m)"), rows)


def _load(options: Options) -> Predictor:
    if options.runtime == "torch":
        from spd.bundled import BUNDLED
        from spd.runtime.loading import load

        if options.checkpoint is None:
            note(f"with the bundled checkpoint {BUNDLED}: indoor scenes, weights for research use only")
        return load(
            options.checkpoint, device=options.device, interaction=options.interaction, precision=options.precision
        )

    from spd.runtime.loading import load_exported

    for flag, value in (("--device", options.device), ("--interaction", options.interaction)):
        if value is not None:
            raise ValueError(f"{flag} is for --runtime torch, got {value} with --runtime {options.runtime}")
    if options.checkpoint is None:
        raise ValueError(f"--runtime {options.runtime} needs --checkpoint, a folder that spd export wrote, got none")
    return load_exported(options.checkpoint, options.runtime, precision=options.precision)


def _check(options: Options) -> None:
    """Refuse what can be seen to be wrong before anything is read.

    Raises:
        ValueError: not exactly one way to say where, a file of a kind that is not known, an output that would replace
            an input or has no folder.
    """
    ways = [bool(options.points), options.points_file is not None, options.grid is not None]
    if sum(ways) != 1 and not (options.dense and not any(ways)):
        raise ValueError(f"give exactly one of --points, --points-file and --grid, got {sum(ways) or 'none'}")
    if options.dense_step < 1:
        raise ValueError(f"--dense-step must be a whole number from 1 up, got {options.dense_step}")
    if options.grid is not None and not 1 <= options.grid <= _LARGEST_GRID:
        raise ValueError(f"--grid must be between 1 and {_LARGEST_GRID}, got {options.grid}")
    files: list[tuple[str, Path | None, tuple[str, ...]]] = [
        ("--points-file", options.points_file, (".csv", ".json", ".npy")),
        ("--output", options.output, (".csv", ".json")),
        ("--overlay", options.overlay, (".png",)),
        ("--dense", options.dense, (".png", ".npy")),
    ]
    for name, path, suffixes in files:
        if path and _suffix(path) not in suffixes and not (name == "--points-file" and path == STANDARD_INPUT):
            raise ValueError(f"{name} must end in {' or '.join(suffixes)}, got {path}")
    inputs = [path.resolve() for path in (options.image, options.points_file) if path]
    for name, path, _ in files[1:]:
        if path and path.resolve() in inputs:
            raise ValueError(f"{name} would replace the input {path}")
        if path and not path.resolve().parent.is_dir():
            raise ValueError(f"{name} {path} has no folder: {path.parent} does not exist")


def _read_points(options: Options) -> Any:
    """What ``--points`` or ``--points-file`` says, as something for NumPy; None for a grid.

    Raises:
        ValueError: it cannot be read as points.
        OSError: there is no such file.
    """
    if options.points_file is not None:
        return read_points(options.points_file)
    return [_parse_pair(text) for text in options.points] or None


def _parse_pair(text: str) -> tuple[float, float]:
    try:
        u, v = (float(number) for number in text.split(","))
    except ValueError:
        raise ValueError(f"--points must be pixels U,V such as 320,240, got {text!r}") from None
    return u, v


def _grid(count: int, width: int, height: int) -> np.ndarray:
    """The centres of ``count`` x ``count`` equal cells of the image, row by row."""
    import numpy as np

    steps = (np.arange(count) + 0.5) / count
    u, v = np.meshgrid(steps * width - 0.5, steps * height - 0.5)
    return np.stack((u.ravel(), v.ravel()), axis=1)


def _draw(image: np.ndarray, query_points: np.ndarray, depth_m: np.ndarray) -> bytes:
    from PIL import Image

    from spd.visualize import draw_depths

    picture = io.BytesIO()
    Image.fromarray(draw_depths(image, query_points, depth_m)).save(picture, "PNG")
    return picture.getvalue()


def _as_map(depth_m: np.ndarray, suffix: str) -> bytes:
    """(H, W) metres as a file: 16-bit millimetres, as in a data set's depth, or the numbers themselves."""
    import numpy as np

    contents = io.BytesIO()
    if suffix == ".npy":
        np.save(contents, depth_m, allow_pickle=False)
        return contents.getvalue()
    from PIL import Image

    millimetres = np.rint(depth_m.astype(np.float64) * 1000)
    if millimetres.max() > 65535:
        raise ValueError(
            f"--dense as .png holds at most 65.535 m, got depths of up to {depth_m.max():.4g} m; write it as .npy"
        )
    millimetres = millimetres.astype(np.uint16)
    Image.fromarray(millimetres).save(contents, "PNG")
    return contents.getvalue()


def _as_csv(answers: list[dict[str, float]]) -> bytes:
    lines = ["u,v,depth_m", *(",".join(f"{value:.10g}" for value in row.values()) for row in answers)]
    return ("\n".join(lines) + "\n").encode()


def _as_json(answers: list[dict[str, float]]) -> bytes:
    return (json.dumps(answers, indent=2, allow_nan=False) + "\n").encode()


def _suffix(path: Path) -> str:
    return path.suffix.lower()
