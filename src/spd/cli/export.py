"""Export a checkpoint for another engine: ONNX Runtime or OpenVINO.

Writes two graphs, one that encodes images of one size and one that decodes any number of points, and runtime.json,
which says what they are. spd predict, evaluate and benchmark run them with --runtime.

Example:
  spd export --checkpoint runs/rooms --format openvino --output exports/rooms
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from spd.cli.output import note
from spd.engines import Engine


@dataclass(frozen=True, kw_only=True)
class Options:
    """Options of ``spd export``."""

    checkpoint: str
    """Folder of the checkpoint, owner/name of a repository on the Hugging Face hub, or spd-lite, which comes
    with SPD."""
    format: Engine
    """Engine that is to run it."""
    output: Path
    """Folder of the exported model."""
    size: tuple[int, int] | None = None
    """Height and width that the model will see, in multiples of 32; those of its training if not given. Images of
    another shape, such as 16:9 in place of 4:3, need an export of their own."""


def run(options: Options) -> None:
    """Load, trace, write."""
    from spd.runtime.extras import require
    from spd.runtime.package import require_package_folder

    require_package_folder(options.output)
    require(options.format, exporting=True)

    from spd.checkpoint import load_model, locate, read_config
    from spd.runtime.export import export

    folder = locate(options.checkpoint)
    if options.output.resolve() == folder.resolve():
        raise ValueError("--output must be another folder than the checkpoint's")
    provenance = {"checkpoint": read_config(folder)["checksum"], **read_config(folder)["provenance"]}
    model = load_model(folder)
    trained = model.config.train_size
    size = options.size or trained
    if not 0.8 < size[0] * size[1] / (trained[0] * trained[1]) < 1.25:
        note(
            f"the model was trained at {trained[1]}x{trained[0]}; at {size[1]}x{size[0]} its depths are those of a "
            "camera of the same focal length in pixels"
        )
    note(f"exporting {options.checkpoint}; this takes a minute or two")
    description = export(model, options.output, options.format, image_size=size, provenance=provenance)
    height, width = description.image_size
    note(f"wrote {options.output}: {description.engine}, images seen as {width}x{height}, any number of points")
