"""Files of predictions: written before anything is scored, and refused where they answer other questions.

A file holds the answers of one model to one way of asking, with a header that says which model, which data and which
protocol. Scoring reads nothing else, so that figures can be computed again, or otherwise, without the model.
"""

from __future__ import annotations

import hashlib
import io
import json
import math
import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from spd.camera import Intrinsics
from spd.data.manifest import MANIFEST
from spd.data.rgbd import RGBDDataset
from spd.depth_range import DepthRange
from spd.evaluation.protocol import PROTOCOL_VERSION, ImagePrediction
from spd.files import write_files

_FORMAT_VERSION = 2
_ARRAYS = ("images", "scenes", "sizes", "cameras", "counts", "query_points", "true_m", "predicted_m", "seconds")
_NO_CAMERA = (math.nan,) * 4


class Identity(NamedTuple):
    """All that determines the answers; a file is used again only if every word of it agrees."""

    model: str
    """Kind of model, such as ``spd`` or ``median``."""
    model_checksum: str
    """Of the weights, or of what a constant was fitted to."""
    data: str
    """Name of the data set's folder: for people, the checksum decides."""
    data_checksum: str
    split: str
    crop: str
    depth_range: DepthRange
    """Of the true depths that were asked, and to which predictions are clamped when they are scored."""
    asking: str
    """K, or ``dense``."""
    protocol_version: int = PROTOCOL_VERSION

    def differences(self, stored: Identity) -> list[str]:
        """What differs in words, ``field stored, expected now``; the name of a folder alone is no difference."""
        return [
            f"{name} {old}, now {new}"
            for name, old, new in zip(self._fields, stored, self, strict=True)
            if old != new and name != "data"
        ]


def data_checksum(dataset: RGBDDataset, root: Path) -> str:
    """A checksum of the manifest and of the size of each of the frames' files.

    Reading every pixel of a large set would take as long as evaluating it; files that are written anew almost never
    keep their size.
    """
    digest = hashlib.sha256((root / MANIFEST).read_bytes())
    for frame in dataset.frames:
        digest.update(f"{frame.image.stat().st_size} {frame.depth.stat().st_size}\n".encode())
    return digest.hexdigest()


def write_predictions(path: Path, predictions: Sequence[ImagePrediction], of: Identity) -> None:
    """Write the file whole or not at all.

    Raises:
        OSError: the folder is missing, not writable or full.
    """
    of_file = {**of._asdict(), "depth_range": [of.depth_range.min_m, of.depth_range.max_m]}
    header = json.dumps({"format_version": _FORMAT_VERSION, **of_file})
    buffer = io.BytesIO()
    np.savez_compressed(
        buffer,
        allow_pickle=False,
        header=np.frombuffer(header.encode(), np.uint8),
        images=np.array([prediction.image for prediction in predictions], np.str_),
        scenes=np.array([prediction.scene for prediction in predictions], np.str_),
        sizes=np.array([prediction.size for prediction in predictions], np.int64),
        cameras=np.array([prediction.intrinsics or _NO_CAMERA for prediction in predictions], np.float64),
        counts=np.array([len(prediction.true_m) for prediction in predictions], np.int64),
        query_points=np.concatenate([prediction.query_points for prediction in predictions]),
        true_m=np.concatenate([prediction.true_m for prediction in predictions]),
        predicted_m=np.concatenate([prediction.predicted_m for prediction in predictions]),
        seconds=np.array([prediction.seconds for prediction in predictions]),
    )
    write_files({path: buffer.getvalue()})


def read_predictions(path: Path, expected: Identity) -> list[ImagePrediction]:
    """The predictions of a file, one per image.

    Raises:
        ValueError: the file is damaged, or was written for another model, data set, split, crop, depth range, K or
            version of the protocol; the message says which.
    """
    try:
        with np.load(path, allow_pickle=False) as archive:
            header = json.loads(archive["header"].tobytes())
            # Another format has other arrays: its version is what is to be told.
            arrays = {name: archive[name] for name in _ARRAYS if name in archive}
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
        raise ValueError(f"{path} is no file of predictions, or a damaged one: {error}; delete it") from error
    stored = _stored_identity(path, header)
    if missing := [name for name in _ARRAYS if name not in arrays]:
        raise ValueError(f"{path} is no file of predictions, or a damaged one: it lacks {missing[0]}; delete it")
    if differences := expected.differences(stored):
        raise ValueError(f"{path} holds other predictions ({'; '.join(differences)}); pass --overwrite to replace it")
    return _split(arrays)


def _stored_identity(path: Path, header: Any) -> Identity:
    version = header.pop("format_version", None) if isinstance(header, dict) else None
    if version != _FORMAT_VERSION or set(header) != set(Identity._fields):
        raise ValueError(
            f"{path} has format version {version}, expected {_FORMAT_VERSION}; pass --overwrite to replace it"
        )
    return Identity(**{**header, "depth_range": DepthRange(*header["depth_range"])})


def _split(arrays: dict[str, np.ndarray]) -> list[ImagePrediction]:
    ends = np.cumsum(arrays["counts"])
    parts = [np.split(arrays[name], ends[:-1]) for name in ("query_points", "true_m", "predicted_m")]
    cameras = [None if np.isnan(camera[0]) else Intrinsics(*camera.tolist()) for camera in arrays["cameras"]]
    columns = (arrays["images"], arrays["scenes"], arrays["sizes"], cameras, arrays["seconds"], *parts)
    return [
        ImagePrediction(
            image=str(image),
            query_points=points,
            true_m=true_m,
            predicted_m=predicted_m,
            seconds=float(seconds),
            size=(int(size[0]), int(size[1])),
            scene=str(scene),
            intrinsics=camera,
        )
        for image, scene, size, camera, seconds, points, true_m, predicted_m in zip(*columns, strict=True)
    ]
