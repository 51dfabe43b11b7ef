"""What is fuzzed: for each kind of input, files as they should be, what damages them, and who reads them."""

from __future__ import annotations

import io
import shutil
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from tests.fuzz.mutate import mutated_bytes, mutated_csv_bytes, mutated_json_bytes

from spd.checkpoint import load_model, save
from spd.cli.main import main
from spd.config import ModelConfig
from spd.data.rgbd import RGBDDataset
from spd.data.rooms import write_rooms
from spd.data.summary import summarize
from spd.inputs import as_pixels, check_points
from spd.model.spd import SPD
from spd.train_config import DataConfig, TrainConfig
from spd.training.resuming import prepare_folder
from spd.training.run import train

Mutate = Callable[[bytes, np.random.Generator], bytes]


@dataclass(frozen=True, kw_only=True)
class Target:
    """Files that are damaged, one at a time, and the call that then reads them."""

    files: dict[Path, Mutate]
    read: Callable[[], Any]


def make_targets(root: Path) -> dict[str, Target]:
    """All kinds, their files under ``root``."""
    rooms = write_rooms(root / "rooms", num=4, seed=3, size=(64, 96), workers=1).parent
    checkpoint, run = root / "checkpoint", root / "run"
    torch.manual_seed(0)
    save(SPD(ModelConfig.atto(train_size=(32, 64))), checkpoint)
    config = TrainConfig(
        model=ModelConfig.atto(architecture="bilinear", train_size=(64, 96)),
        data=DataConfig(root=(rooms,), batch_size=2, num_queries=8, num_workers=0),
        output=run,
        accelerator="cpu",
        max_steps=1,
        validate_every=0,
    )
    train(config)
    targets = {
        "manifest": Target(
            files={rooms / "manifest.csv": mutated_csv_bytes}, read=lambda: summarize([RGBDDataset(rooms)])
        ),
        "checkpoint config": Target(
            files={checkpoint / "config.json": mutated_json_bytes}, read=lambda: load_model(checkpoint)
        ),
        "checkpoint weights": Target(
            files={checkpoint / "model.safetensors": mutated_bytes}, read=lambda: load_model(checkpoint)
        ),
        "run": Target(
            files={run / "train.json": mutated_json_bytes, run / "last.ckpt": mutated_bytes},
            read=lambda: prepare_folder(replace(config, resume=True)),
        ),
    }
    return targets | _images(root, rooms) | _depths(rooms) | _points(root, rooms, checkpoint)


def _images(root: Path, rooms: Path) -> dict[str, Target]:
    with Image.open(next((rooms / "rgb").iterdir())) as image:
        pictures = {
            root / f"image.{kind}": _encoded(image, kind) for kind in ("png", "jpeg", "gif", "bmp", "tiff", "webp")
        }
    targets = {}
    for path, contents in pictures.items():
        path.write_bytes(contents)
        targets[f"image {path.suffix}"] = Target(files={path: mutated_bytes}, read=lambda path=path: as_pixels(path))
    return targets


def _encoded(image: Image.Image, kind: str) -> bytes:
    stream = io.BytesIO()
    image.save(stream, kind)
    return stream.getvalue()


def _depths(rooms: Path) -> dict[str, Target]:
    depth = min((rooms / "depth").iterdir())
    return {"depth": Target(files={depth: mutated_bytes}, read=lambda: summarize([RGBDDataset(rooms)]))}


def _points(root: Path, rooms: Path, checkpoint: Path) -> dict[str, Target]:
    image = shutil.copy(min((rooms / "rgb").iterdir()), root / "photo.jpg")
    csv, json_, npy = (root / f"points.{kind}" for kind in ("csv", "json", "npy"))
    csv.write_text("u,v,name\n1,2,a\n3.5,4,b\n")
    json_.write_text('[[1, 2], {"u": 3.5, "v": 4}]')
    np.save(npy, np.array([[1.0, 2.0], [3.5, 4.0]]))
    kinds: dict[Path, Mutate] = {csv: mutated_csv_bytes, json_: mutated_json_bytes, npy: mutated_bytes}
    points = {
        f"points {path.suffix}": Target(files={path: mutate}, read=lambda path=path: _read_points(path))
        for path, mutate in kinds.items()
    }
    # The whole command now and then: what it prints is one line too.
    words = ["predict", str(image), "--checkpoint", str(checkpoint), "--device", "cpu", "--points-file", str(csv)]
    return points | {"spd predict": Target(files={csv: mutated_csv_bytes}, read=lambda: main(words))}


def _read_points(path: Path) -> Any:
    from spd.cli.points import read_points

    return check_points(read_points(path), (64, 96))
