"""A process forked from one whose threads had begun: they are not in it, and who waits for them waits for ever."""

from __future__ import annotations

import os
import warnings

import torch

_threads_of: int | None = None
"""The process that loaded a model first, and so may have started PyTorch's threads."""


def answer_without_lost_threads(device: torch.device) -> None:
    """Before PyTorch computes: with one thread, where this process was forked from one that had loaded a model.

    Warns, once in a process.

    Raises:
        ValueError: the model is on a device that forked processes cannot use.
    """
    global _threads_of
    process = os.getpid()
    if _threads_of is None:
        _threads_of = process
    elif _threads_of != process:
        if device.type != "cpu":
            raise ValueError(
                f"a forked process cannot use {device}, which the process before it has used; start processes with "
                "multiprocessing.get_context('spawn')"
            )
        torch.set_num_threads(1)
        _threads_of = process
        warnings.warn(
            "a forked process answers with one thread, since those of the process before it are not in it; start "
            "processes with multiprocessing.get_context('spawn')",
            stacklevel=3,
        )


def refuse_forked(loaded_by: int, engine: str) -> None:
    """Raise ``ValueError`` in a process forked from that which loaded an engine's model: its threads are lost."""
    if os.getpid() != loaded_by:
        raise ValueError(
            f"{engine} cannot answer in a forked process, got a model loaded before the fork; load it after, or start "
            "processes with multiprocessing.get_context('spawn')"
        )
