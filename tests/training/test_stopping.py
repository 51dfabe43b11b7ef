"""Signals, schedulers and full disks, met by a training of its own process."""

from __future__ import annotations

import contextlib
import json
import os
import resource
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Literal

import pytest
import torch

from spd.data.rooms import write_rooms
from spd.files import replacing, write_files
from spd.train_config import DataConfig, TrainConfig
from spd.training.run import train
from spd.training.saving import StateFiles, read_state

SMALL_RUN = (
    "--model bilinear --model.train-size 64 96 --data.batch-size 2 --data.num-queries 32 --accelerator cpu "
    "--data.num-workers 0 --max-steps 100000 --checkpoint-every 100000 --validate-every 0"
).split()
LIMIT_S = 120

# Says on its standard output when a step has begun.
TELL_STEP_3 = """
import sys
import spd.training.module as module
seed_step = module.SPDModule.on_train_batch_start
def seed_and_tell(self, batch, batch_idx):
    seed_step(self, batch, batch_idx)
    if self.global_step == 3:
        print("step 3", flush=True)
module.SPDModule.on_train_batch_start = seed_and_tell
from spd.cli.main import main
sys.exit(main())
"""


@pytest.fixture(scope="module")
def rooms(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_rooms(tmp_path_factory.mktemp("data") / "rooms", num=10, seed=3, size=(64, 96), workers=1).parent


def start(rooms: Path, output: Path, *more: str, cwd: Path | None = None, **environment: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", TELL_STEP_3, "train", "rooms-atto", "--data.root", str(rooms)]
    return subprocess.Popen(
        [*command, "--output", str(output), *SMALL_RUN, *more],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=cwd,
        env={**os.environ, "OMP_NUM_THREADS": "1", **environment},
        start_new_session=True,
    )


@contextlib.contextmanager
def bounded(process: subprocess.Popen[str]) -> Iterator[None]:
    """Ends a process that a test waits for in vain."""
    timer = threading.Timer(LIMIT_S, process.kill)
    timer.start()
    try:
        yield
    finally:
        timer.cancel()


def signal_at_step_3(process: subprocess.Popen[str], signum: int, *, group: bool = False) -> tuple[int, str]:
    """Exit status and the last line of standard error."""
    assert process.stdout is not None
    with bounded(process):
        line = process.stdout.readline()
    if line != "step 3\n":
        raise AssertionError(line + process.communicate(timeout=LIMIT_S)[1])
    (os.killpg if group else os.kill)(process.pid, signum)
    _, said = process.communicate(timeout=LIMIT_S)
    assert "Traceback" not in said, said
    return process.returncode, said.strip().splitlines()[-1]


@pytest.mark.parametrize(("signum", "workers"), [(signal.SIGTERM, 0), (signal.SIGINT, 2)])
def test_a_signal_saves_and_says_how_to_go_on(rooms: Path, tmp_path: Path, signum: int, workers: int) -> None:
    output = tmp_path / "run"
    process = start(rooms, output, "--data.num-workers", str(workers))
    # As a terminal or a scheduler sends it: to the processes that load data too.
    status, said = signal_at_step_3(process, signum, group=workers > 0)
    assert status == 128 + signum
    name = signal.Signals(signum).name
    step = torch.load(output / "last.ckpt", weights_only=True)["global_step"]
    assert step >= 4
    assert said == (
        f"spd: stopped by {name} after step {step} of 100000, saved in {output / 'last.ckpt'}; continue with --resume"
    )


def test_under_slurm_nothing_is_written_or_read_outside_the_folder(rooms: Path, tmp_path: Path) -> None:
    """A batch job that is told that its time is nearly up, and its requeued second try."""
    here = tmp_path / "here"
    here.mkdir()
    slurm = {"SLURM_JOB_ID": "7", "SLURM_JOB_NAME": "depth", "SLURM_NTASKS": "4", "SLURM_PROCID": "0",
             "SLURM_LOCALID": "0", "SLURM_NODEID": "0"}  # fmt: skip
    # What a run of an earlier version left there.
    (here / "hpc_ckpt_1.ckpt").write_bytes(b"of another run")
    process = start(rooms, tmp_path / "run", "--resume", "auto", cwd=here, **slurm)
    status, said = signal_at_step_3(process, signal.SIGUSR1)
    assert status == 128 + signal.SIGUSR1
    assert "stopped by SIGUSR1 after step" in said
    assert [path.name for path in here.iterdir()] == ["hpc_ckpt_1.ckpt"]
    step = torch.load(tmp_path / "run" / "last.ckpt", weights_only=True)["global_step"]
    longer = ("--resume", "auto", "--extend", "--max-steps", str(step + 1))
    again = start(rooms, tmp_path / "run", *longer, cwd=here, **slurm)
    said = again.communicate(timeout=LIMIT_S)[1]
    assert again.returncode == 0, said
    assert json.loads((tmp_path / "run" / "config.json").read_text())["provenance"]["steps"] == step + 1


@pytest.mark.parametrize(
    ("environment", "accelerator", "words"),
    [
        ({"LOCAL_RANK": "1"}, "cpu", "LOCAL_RANK=1"),
        ({"SLURM_STEP_NUM_TASKS": "4", "SLURM_NTASKS": "4"}, "cpu", "srun starts it 4 times"),
        ({}, "cuda", "accelerator cuda needs a CUDA device"),
        ({}, "mps", "accelerator mps needs Apple's GPU"),
    ],
)
def test_surroundings_are_refused(
    rooms: Path,
    tmp_path: Path,
    environment: dict[str, str],
    accelerator: Literal["cpu", "cuda", "mps"],
    words: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delenv("SPD_TRAIN_LAUNCHER", raising=False)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(ValueError, match=words):
        train(TrainConfig(data=DataConfig(root=(rooms,)), output=tmp_path / "run", accelerator=accelerator))
    assert not (tmp_path / "run").exists()


def test_a_save_that_fails_keeps_the_state_before_and_names_its_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A limit on the size of files stands for a full disk; ``TMPDIR`` for one that has no room, or is elsewhere."""
    monkeypatch.setenv("TMPDIR", str(tmp_path / "nowhere"))
    path = tmp_path / "last.ckpt"
    parts = {"epoch": 0, "pytorch-lightning_version": "2.6", "optimizer_states": [], "lr_schedulers": []}
    state = {**parts, "global_step": 3, "state_dict": {"w": torch.arange(4096.0)}, "loops": {}, "callbacks": {}}
    StateFiles().save_checkpoint(state, path)
    before = path.read_bytes()
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (len(before) // 2, hard))
    try:
        with pytest.raises(OSError, match="File too large") as refused:
            StateFiles().save_checkpoint({**state, "global_step": 4}, path)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert refused.value.filename == str(path)
    assert path.read_bytes() == before
    assert read_state(path)["global_step"] == 3
    assert [file.name for file in tmp_path.iterdir()] == ["last.ckpt"]


def test_a_file_of_another_kind_of_error_names_the_file_too(tmp_path: Path) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, hard))
    try:
        with pytest.raises(OSError, match="File too large") as refused:
            write_files({tmp_path / "small": b"1", tmp_path / "large": bytes(2000)})
        with pytest.raises(OSError, match="File too large") as streamed, replacing(tmp_path / "stream") as file:
            file.write(bytes(2000))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert refused.value.filename == str(tmp_path / "large")
    assert streamed.value.filename == str(tmp_path / "stream")
    assert list(tmp_path.iterdir()) == []
