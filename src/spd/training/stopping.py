"""Signals that end a training run: the step under way is finished, the run is saved, and one line says how to go on.

Ctrl-C (SIGINT), SIGTERM and SIGUSR1, which schedulers send before the time is up, mean the same.
"""

from __future__ import annotations

import os
import signal
import threading
from types import FrameType, TracebackType

_SIGNALS = tuple(
    getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGUSR1") if hasattr(signal, name)
)  # Windows has no SIGUSR1.


class Stopped(BaseException):
    """A signal ended the run. No ``Exception``, so that nothing takes it for a failure of its own."""

    def __init__(self, signum: int, message: str = "") -> None:
        super().__init__(message)
        self.signum = signum

    @property
    def status(self) -> int:
        """The exit status that shells give: 130 for Ctrl-C, 143 for SIGTERM."""
        return 128 + self.signum

    @property
    def signal_name(self) -> str:
        """Such as SIGTERM."""
        return signal.Signals(self.signum).name


class StopSignals:
    """Takes the signals while it is entered; does nothing outside the main thread, where Python can take none.

    A signal raises :class:`Stopped` at once, or after :meth:`defer` is kept as :attr:`received`. A second Ctrl-C is not
    kept.
    """

    def __init__(self) -> None:
        self.received: int | None = None
        self._deferring = False
        self._before: dict[int, object] = {}

    def __enter__(self) -> StopSignals:
        if threading.current_thread() is threading.main_thread():
            self._before = {signum: signal.getsignal(signum) for signum in _SIGNALS}
            self.take()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        for signum, handler in self._before.items():
            signal.signal(signum, handler)  # type: ignore[arg-type]
        self._before = {}

    def take(self) -> None:
        """Take the signals again, from a library that has taken them since."""
        for signum in self._before:
            signal.signal(signum, self._handle)

    def defer(self) -> None:
        """Keep signals from here on: whoever calls this looks at :attr:`received` where it can stop."""
        self._deferring = True

    def _handle(self, signum: int, frame: FrameType | None) -> None:
        again = self.received == signal.SIGINT == signum
        if self.received is None:
            self.received = signum
        if not self._deferring or again:
            raise Stopped(signum)
        if signum == signal.SIGINT:
            # Past Python's buffers, in whose midst the signal may have come.
            os.write(2, b"\nspd: stopping after this step; Ctrl-C once more ends at once\n")
