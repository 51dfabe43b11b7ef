"""What a run finds around it: who started the process, and what there is to train on."""

from __future__ import annotations

import os

import torch

from spd.train_config import TrainConfig

_LAUNCHER = "SPD_TRAIN_LAUNCHER"
"""Of the environment: process id of the one that started the others of a run."""


def is_first_process() -> bool:
    """Whether this process started the others: Lightning gives those their rank in the environment."""
    return not _is_started_by_another()


def check_surroundings(config: TrainConfig) -> None:
    """Refuse to train where a launcher has started several processes, or on a device that is not there.

    Raises:
        ValueError: so it is.
    """
    if not _is_started_by_another():
        # A process in which SPD has trained hands its rank, which is 0, on to what it starts.
        if os.environ.get(_LAUNCHER) not in (str(os.getppid()), str(os.getpid())):
            _refuse_launchers()
        os.environ[_LAUNCHER] = str(os.getpid())
    if config.accelerator == "cuda" and not torch.cuda.is_available():
        raise ValueError("accelerator cuda needs a CUDA device that PyTorch can use, and found none; try cpu or auto")
    if config.accelerator == "mps" and not torch.backends.mps.is_available():
        raise ValueError("accelerator mps needs Apple's GPU and found none; try cpu or auto")
    on_cuda = config.accelerator == "cuda" or (config.accelerator == "auto" and torch.cuda.is_available())
    if on_cuda and config.devices > torch.cuda.device_count():
        raise ValueError(
            f"devices must be at most {torch.cuda.device_count()}, as many as there are CUDA devices, "
            f"got {config.devices}"
        )
    if not on_cuda and config.accelerator != "cpu" and torch.backends.mps.is_available() and config.devices > 1:
        raise ValueError(f"devices must be 1 on Apple's GPU, got {config.devices}; --accelerator cpu takes more")


def _is_started_by_another() -> bool:
    """By a run of several processes, whose first one has rank 0."""
    return os.environ.get(_LAUNCHER) == str(os.getppid()) and os.environ.get("LOCAL_RANK", "0") != "0"


def _refuse_launchers() -> None:
    """A run starts its own processes; several of it in one folder would write over each other."""
    if "LOCAL_RANK" in os.environ:
        raise ValueError(
            f"spd train starts its own processes (--devices), but LOCAL_RANK={os.environ['LOCAL_RANK']} in the "
            "environment says that a launcher such as torchrun did; start it once, without, or unset LOCAL_RANK"
        )
    # Set within a job step; a batch script is one process, whatever the number of tasks that it has asked for.
    if (tasks := os.environ.get("SLURM_STEP_NUM_TASKS", "1")) != "1":
        raise ValueError(
            f"spd train starts its own processes (--devices), but srun starts it {tasks} times; use srun --ntasks=1"
        )
