"""How batches come from the processes that load them: through shared memory or, where that is small, through a pipe."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

SHARED_MEMORY = Path("/dev/shm")
"""A file system of Linux; Docker gives it 64 MB."""
_BATCHES_PER_WORKER = 3
"""Two that PyTorch asks for ahead, and the one that is in use."""


def collate_for(collate: Callable[[Sequence[Any]], Any], num_workers: int, batch_bytes: int) -> Callable[..., Any]:
    """``collate``, its batches through a pipe where shared memory has no room for them: a worker would be killed.

    Args:
        collate: samples to a named tuple of tensors.
        num_workers: processes that load; with none nothing is shared.
        batch_bytes: size of a batch.

    Raises:
        ValueError: there is no writable shared memory, which processes need to speak with each other at all.
    """
    if num_workers == 0 or not SHARED_MEMORY.is_dir():
        return collate
    try:
        with tempfile.TemporaryFile(dir=SHARED_MEMORY):
            pass
    except OSError as error:
        raise ValueError(
            f"processes that load data need to write to {SHARED_MEMORY}, got {error.strerror}; --data.num-workers 0 "
            "loads without"
        ) from None
    fits = free_bytes(SHARED_MEMORY) > num_workers * _BATCHES_PER_WORKER * batch_bytes
    return collate if fits else ThroughPipe(collate)


def free_bytes(folder: Path) -> int:
    """Room in the file system of a folder."""
    room = os.statvfs(folder)
    return room.f_bavail * room.f_frsize


class ThroughPipe:
    """A collate function whose batches are pickled whole when they go to another process."""

    def __init__(self, collate: Callable[[Sequence[Any]], Any]) -> None:
        self.collate = collate

    def __call__(self, samples: Sequence[Any]) -> _Piped:
        return _Piped(self.collate(samples))


class _Piped:
    """Is a batch of tensors again where it arrives."""

    def __init__(self, batch: Any) -> None:
        self.batch = batch

    def __reduce__(self) -> tuple[Any, ...]:
        return _arrived, (type(self.batch), [tensor.numpy() for tensor in self.batch])


def _arrived(kind: Callable[..., Any], arrays: Sequence[np.ndarray]) -> Any:
    return kind(*map(torch.from_numpy, arrays))
