"""Work that is killed at any of its moments: after so many calls of Python or of C functions, without a clock."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable
from typing import Any


def run_apart(work: Callable[[], Any], *, kill_after: int | None = None) -> tuple[int, int]:
    """Run ``work`` in a forked process, which kills itself after so many calls.

    Returns:
        Its status as of ``os.waitstatus_to_exitcode``, and, where it was not killed, the number of calls that it made.
    """
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(reading)
        _work_and_exit(work, kill_after, writing)
    os.close(writing)
    with os.fdopen(reading, "rb") as pipe:
        told = pipe.read()
    status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    return status, int(told or 0)


def _work_and_exit(work: Callable[[], Any], kill_after: int | None, writing: int) -> None:
    calls = 0

    def count(frame: Any, event: str, argument: Any) -> None:
        nonlocal calls
        if event in ("call", "c_call"):
            calls += 1
            if calls == kill_after:
                os.kill(os.getpid(), signal.SIGKILL)

    status = 1
    try:
        sys.setprofile(count)
        work()
        sys.setprofile(None)
        os.write(writing, str(calls).encode())
        status = 0
    except BaseException:
        sys.setprofile(None)
        import traceback

        traceback.print_exc()
    finally:
        os._exit(status)
