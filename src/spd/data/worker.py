"""A process that loads data, and the signals that are meant for the run."""

from __future__ import annotations

import os
import signal
import threading


def ignore_stop_signals(worker: int) -> None:
    """Let Ctrl-C, SIGTERM and SIGUSR1, which terminals and schedulers send to every process, end no worker.

    The run itself stops, and needs its workers until then. It ends them with a SIGTERM of its own, which counts.

    Args:
        worker: number of the process, which PyTorch passes.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    if hasattr(signal, "SIGUSR1"):
        signal.signal(signal.SIGUSR1, signal.SIG_IGN)
    if hasattr(signal, "sigwaitinfo"):
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
        threading.Thread(target=_wait_for_parent, daemon=True).start()


def _wait_for_parent() -> None:
    """Only where a signal is waited for can Python tell who sent it."""
    while True:
        sender = signal.sigwaitinfo({signal.SIGTERM}).si_pid
        if sender in (os.getppid(), os.getpid()):
            os._exit(0)
