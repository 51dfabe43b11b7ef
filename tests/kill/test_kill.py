"""SIGKILL at random moments of everything that writes: nothing lost, nothing corrupt, and the next run completes.

``SPD_KILLS`` of the environment is how many moments of each; ``make kill`` takes fifty.
"""

from __future__ import annotations

import hashlib
import os
import shlex
import shutil
import signal
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from tests.kill.moments import run_apart

from spd.checkpoint import load_model, read_config, save
from spd.config import ModelConfig
from spd.data.nyu.importing import import_nyu
from spd.data.rgbd import read_manifest
from spd.data.rooms import write_rooms
from spd.fast import library
from spd.model.spd import SPD
from spd.runtime.package import Description, read_package, write_package
from spd.train_config import DataConfig, TrainConfig
from spd.training.run import train
from spd.training.saving import StateFiles, read_state

pytestmark = pytest.mark.slow
_KILLS = int(os.environ.get("SPD_KILLS", "50"))
_SMALL = ModelConfig.atto(train_size=(32, 64))


@dataclass(frozen=True, kw_only=True)
class Work:
    """Something that writes into a folder."""

    before: Callable[[Path], Any] = lambda folder: None
    """What the folder holds first."""
    write: Callable[[Path], Any]
    check: Callable[[Path], Any]
    """Fails where something is lost or corrupt, whenever the kill came."""
    check_whole: Callable[[Path], Any]
    """Fails where the work is not complete."""


@pytest.fixture(params=["the same file system", "another"])
def root(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Path]:
    """A folder beside that of temporary files, or on memory's file system."""
    if request.param == "the same file system":
        yield tmp_path
        return
    memory = Path("/dev/shm")
    if not memory.is_dir() or memory.stat().st_dev == tmp_path.stat().st_dev:
        pytest.skip("there is no other file system")
    with tempfile.TemporaryDirectory(dir=memory) as folder:
        yield Path(folder)


def digests(folder: Path) -> dict[str, str]:
    files = sorted(path for path in folder.rglob("*") if path.is_file() and not path.name.startswith("."))
    return {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def kill_at_random_moments(work: Work, root: Path) -> None:
    """Each time: a fresh folder, a kill, a look, and the work once more to its end."""
    folder = root / "unbroken"
    work.before(folder)
    status, calls = run_apart(lambda: work.write(folder))
    assert status == 0
    work.check_whole(folder)
    generator = np.random.default_rng(0)
    # The writing itself is at the end of most works: half of the moments are in the last tenth.
    early = generator.integers(1, calls, _KILLS // 2)
    late = generator.integers(calls * 9 // 10, calls, _KILLS - len(early))
    killed = 0
    for number, moment in enumerate([*early.tolist(), *late.tolist()]):
        folder = root / f"killed-{number}"
        work.before(folder)
        status, _ = run_apart(lambda folder=folder: work.write(folder), kill_after=max(1, moment))
        killed += status == -signal.SIGKILL
        assert status in (0, -signal.SIGKILL), moment
        work.check(folder)
        status, _ = run_apart(lambda folder=folder: work.write(folder))
        assert status == 0, moment
        work.check_whole(folder)
        assert not list(folder.rglob(".*.tmp")), moment
        shutil.rmtree(folder)
    # Calls vary a little from run to run.
    assert killed >= 0.8 * _KILLS


def test_writing_a_checkpoint(root: Path) -> None:
    torch.manual_seed(0)
    first, second = SPD(_SMALL), SPD(_SMALL)
    name = max(first.state_dict(), key=lambda name: first.state_dict()[name].numel())

    def check(folder: Path) -> None:
        steps = read_config(folder)["provenance"]["steps"]
        expected = {1: first, 2: second}[steps]
        assert torch.equal(load_model(folder).state_dict()[name], expected.state_dict()[name])

    def check_whole(folder: Path) -> None:
        check(folder)
        assert read_config(folder)["provenance"]["steps"] == 2

    kill_at_random_moments(
        Work(
            before=lambda folder: save(first, folder, provenance={"steps": 1}),
            write=lambda folder: save(second, folder, provenance={"steps": 2}),
            check=check,
            check_whole=check_whole,
        ),
        root,
    )


def test_writing_a_state(root: Path) -> None:
    def state(step: int) -> dict[str, Any]:
        weights = {f"w{number}": torch.full((1000,), float(step)) for number in range(20)}
        empty: dict[str, Any] = {"optimizer_states": [], "lr_schedulers": [], "loops": {}, "callbacks": {}}
        return {"global_step": step, "epoch": 0, "pytorch-lightning_version": "2", "state_dict": weights, **empty}

    def check(folder: Path) -> None:
        found = read_state(folder / "last.ckpt")
        assert found["global_step"] in (1, 2)
        assert all((weight == found["global_step"]).all() for weight in found["state_dict"].values())

    def write(folder: Path) -> None:
        from spd.files import remove_leftovers

        remove_leftovers(folder)
        StateFiles().save_checkpoint(state(2), folder / "last.ckpt")

    def check_whole(folder: Path) -> None:
        check(folder)
        assert read_state(folder / "last.ckpt")["global_step"] == 2

    kill_at_random_moments(
        Work(
            before=lambda folder: StateFiles().save_checkpoint(state(1), folder / "last.ckpt"),
            write=write,
            check=check,
            check_whole=check_whole,
        ),
        root,
    )


def test_training(root: Path) -> None:
    rooms = write_rooms(root / "rooms", num=5, seed=3, size=(64, 96), workers=1).parent
    config = TrainConfig(
        model=ModelConfig.atto(architecture="bilinear", dropout=0.0, train_size=(64, 96)),
        data=DataConfig(root=(rooms,), batch_size=2, num_queries=16, num_workers=0),
        accelerator="cpu",
        resume="auto",
        max_steps=5,
        checkpoint_every=2,
        ema_decay=0.8,
    )
    reference: dict[str, torch.Tensor] = {}

    def check(folder: Path) -> None:
        if (folder / "last.ckpt").exists():
            assert read_state(folder / "last.ckpt")["global_step"] in (2, 4, 5)

    def check_whole(folder: Path) -> None:
        found = load_file(folder / "model.safetensors")
        assert read_config(folder)["provenance"]["steps"] == 5
        reference.update({} if reference else found)
        assert all(torch.equal(found[name], weight) for name, weight in reference.items())
        assert (folder / "curves.png").is_file()

    kill_at_random_moments(
        Work(
            write=lambda folder: train(replace(config, output=folder)),
            check=check,
            check_whole=check_whole,
        ),
        root,
    )


def test_rooms(root: Path) -> None:
    reference: dict[str, str] = {}

    def check_whole(folder: Path) -> None:
        assert len(read_manifest(folder)) == 3
        reference.update({} if reference else digests(folder))
        assert digests(folder) == reference

    def write(folder: Path) -> None:
        if not (folder / "manifest.csv").exists():
            write_rooms(folder, num=3, seed=3, size=(48, 64), workers=1)

    # A manifest is there at the end, and what it lists is whole.
    check = lambda folder: check_whole(folder) if (folder / "manifest.csv").exists() else None  # noqa: E731
    kill_at_random_moments(Work(write=write, check=check, check_whole=check_whole), root)


def test_importing(root: Path, tmp_path: Path) -> None:
    take = tmp_path / "hf" / "train" / "kitchen_0001"
    take.mkdir(parents=True)
    generator = np.random.default_rng(0)
    for number in range(3):
        with h5py.File(take / f"0000{number}.h5", "w") as file:
            file["rgb"] = np.repeat(generator.integers(0, 256, (3, 480, 1), np.uint8), 640, axis=2)
            file["depth"] = np.full((480, 640), 1.0 + number, np.float32)
    reference: dict[str, str] = {}

    def check_whole(folder: Path) -> None:
        assert len(read_manifest(folder)) == 3
        reference.update({} if reference else digests(folder))
        assert digests(folder) == reference

    check = lambda folder: check_whole(folder) if (folder / "manifest.csv").exists() else None  # noqa: E731
    write = lambda folder: import_nyu(tmp_path / "hf", folder, allow_partial=True)  # noqa: E731
    kill_at_random_moments(Work(write=write, check=check, check_whole=check_whole), root)


def test_exporting(root: Path) -> None:
    """The files of an export: a kill between two moves may leave one that is refused, and the next makes it whole."""
    contents = {"encode.onnx": bytes(50_000), "decode.onnx": bytes(range(256)) * 100}
    description = Description(engine="onnx", image_size=(32, 64), memory=("a",), model=_SMALL.to_json(), provenance={})

    def check_whole(folder: Path) -> None:
        assert read_package(folder, "onnx").image_size == (32, 64)
        assert {name: (folder / name).read_bytes() for name in contents} == contents

    def check(folder: Path) -> None:
        for name, whole in contents.items():
            assert not (folder / name).exists() or (folder / name).read_bytes() == whole

    write = lambda folder: write_package(folder, description, contents)  # noqa: E731
    kill_at_random_moments(Work(write=write, check=check, check_whole=check_whole), root)


def test_compiling_kernels(root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A compiler that copies what the real one made, so that fifty compilations take no minutes."""
    compiler = library.find_compiler()
    if compiler is None:
        pytest.skip("there is no C++ compiler")
    made = library._compile(compiler, tmp_path / "made.so")
    script = tmp_path / "compiler"
    script.write_text(
        f'#!/bin/sh\ncase "$*" in *-dM*) exec {shlex.join(compiler)} "$@";; esac\n'
        f'for last; do :; done\ncp "{made}" "$last"\n'
    )
    script.chmod(0o755)
    size = made.stat().st_size
    command = [str(script)]

    def write(folder: Path) -> None:
        monkeypatch.setenv("XDG_CACHE_HOME", str(folder))
        library._load(command)

    def check(folder: Path) -> None:
        for path in folder.rglob("kernels-*.so"):
            assert path.stat().st_size == size

    def check_whole(folder: Path) -> None:
        assert len(list(folder.rglob("kernels-*.so"))) == 1
        check(folder)

    kill_at_random_moments(Work(write=write, check=check, check_whole=check_whole), root)
