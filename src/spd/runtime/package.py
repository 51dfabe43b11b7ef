"""An exported model on disk: a folder with two graphs and ``runtime.json``, which says what they are."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, replace
from importlib.metadata import version
from pathlib import Path
from typing import Any, get_args

from jaxtyping import Float
from torch import Tensor

from spd.checkpoint_files import checksum_of
from spd.config import ModelConfig
from spd.engines import Engine
from spd.estimate import IntervalFactors
from spd.files import remove_leftovers, require_free_or_own, write_files

FORMAT = 1
"""Version of the folder's layout; rises when an older reader could misread it."""
DESCRIPTION_FILE = "runtime.json"

_FILES: dict[Engine, tuple[str, ...]] = {
    "onnx": ("encode.onnx", "decode.onnx"),
    "openvino": ("encode.xml", "decode.xml", "encode.bin", "decode.bin"),
}
"""Of each engine; the first two are the graphs, which name the others."""


@dataclass(frozen=True, kw_only=True)
class Description:
    """What ``runtime.json`` says."""

    engine: Engine
    image_size: tuple[int, int]
    """(height, width) of the images that the graphs take; multiples of the network's strides."""
    memory: tuple[str, ...]
    """Names of the tensors that the first graph gives and the second takes, in their order."""
    model: dict[str, Any]
    """The network's configuration, as in a checkpoint."""
    provenance: dict[str, Any]
    """Where the weights come from."""
    intervals: dict[str, Any] | None = None
    """The factors of a model that says how sure it is, as in a checkpoint."""
    checksum: str = ""
    """Of the graphs' files, all together."""

    @property
    def config(self) -> ModelConfig:
        """The network's configuration."""
        return ModelConfig.from_json(self.model)


def graph_files(folder: Path, engine: Engine) -> tuple[Path, Path]:
    """The files of the first and of the second graph."""
    encode, decode = _FILES[engine][:2]
    return folder / encode, folder / decode


def write_package(folder: Path, description: Description, contents: dict[str, bytes]) -> None:
    """Write the graphs' files, then the description with their checksums; a reader never meets half a package.

    Args:
        folder: made if it does not exist.
        description: of the graphs.
        contents: of every file of the engine, by name.
    """
    assert sorted(contents) == sorted(_FILES[description.engine]), sorted(contents)
    require_package_folder(folder)
    remove_leftovers(folder)
    checksums = {name: checksum_of(content) for name, content in sorted(contents.items())}
    document = {
        "format": FORMAT,
        "spd_version": version("spd-depth"),
        **asdict(replace(description, checksum=checksum_of(json.dumps(checksums).encode()))),
        "checksums": checksums,
    }
    folder.mkdir(parents=True, exist_ok=True)
    files = {folder / name: content for name, content in contents.items()}
    write_files({**files, folder / DESCRIPTION_FILE: f"{json.dumps(document, indent=2)}\n".encode()})


def require_package_folder(folder: Path) -> None:
    """Raise ``ValueError`` where an export would write into somebody else's folder."""
    # The description comes last: it waits beside its place where a kill came before.
    require_free_or_own(folder, (DESCRIPTION_FILE, f".{DESCRIPTION_FILE}.*.tmp"), "an exported model")


def read_package(folder: Path, engine: Engine) -> Description:
    """The description of a folder that holds a whole package for that engine.

    Raises:
        ValueError: the folder was not exported, or for another engine, by another version, or a file is missing or
            changed.
    """
    path = folder / DESCRIPTION_FILE
    if not path.is_file():
        raise ValueError(
            f"{folder} is no exported model: it has no {DESCRIPTION_FILE}; "
            f"spd export --checkpoint CHECKPOINT --format {engine} --output FOLDER makes one"
        )
    try:
        document = json.loads(path.read_bytes())
        found, written, checksums = document["engine"], document["format"], dict(document["checksums"])
        known = {name: document[name] for name in ("engine", "model", "provenance", "checksum")}
        description = Description(
            **known,
            image_size=tuple(document["image_size"]),
            memory=tuple(map(str, document["memory"])),
            intervals=document.get("intervals"),
        )
        # What cannot be read is found here.
        description.config  # noqa: B018
        IntervalFactors.from_json(description.intervals)
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise ValueError(f"{path} is no description of an exported model, or a damaged one: {error}") from None
    if written != FORMAT:
        raise ValueError(f"{path} has format {written}, this SPD reads format {FORMAT}; export again")
    if found != engine:
        choices = f"--runtime {found}" if found in get_args(Engine) else "export again"
        raise ValueError(f"{folder} was exported for {found}, not for {engine}; {choices}")
    for name in _FILES[engine]:
        _require_unchanged(folder / name, checksums.get(name))
    return description


def require_image_size(images: Float[Tensor, "B 3 H W"], image_size: tuple[int, int]) -> None:
    """Raise ``ValueError`` unless the images have the size that the graphs were exported for."""
    height, width = images.shape[-2:]
    if (height, width) != image_size:
        expected = f"{image_size[1]}x{image_size[0]}"
        raise ValueError(
            f"this exported model takes images of the shape of {expected}, got one that the model sees as "
            f"{width}x{height}; export another with --size {height} {width}"
        )


def _require_unchanged(path: Path, checksum: Any) -> None:
    if not path.is_file():
        raise ValueError(f"{path} is missing; export again")
    if checksum_of(path.read_bytes()) != checksum:
        raise ValueError(f"{path} is not what {DESCRIPTION_FILE} says: it was changed or is incomplete; export again")
