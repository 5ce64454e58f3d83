"""Ctrl-C and SIGTERM stop a run cleanly; a terminal that closes does not stop it at all."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType


class Interrupts:
    """Counts the requests to stop: the first one raises KeyboardInterrupt in the main thread.

    The second one only tells that the run is stopping, so that an impatient Ctrl-C does not cut
    off the cleaning up; the third one raises again.
    """

    def __init__(self, tell: Callable[[str], None]) -> None:
        self.received = 0
        self._tell = tell

    def handle(self, number: int, frame: FrameType | None) -> None:
        """Be the signal handler."""
        self.received += 1
        if self.received == 2:
            self._tell("stopping cleanly, please wait; a third time stops at once")
            return
        raise KeyboardInterrupt


@contextmanager
def interruptible(tell: Callable[[str], None]) -> Iterator[Interrupts]:
    """Handle SIGINT and SIGTERM, and ignore SIGHUP, until the block ends.

    Does nothing in a thread that is not the main one, where Python allows no handlers.
    """
    interrupts = Interrupts(tell)
    if threading.current_thread() is not threading.main_thread():
        yield interrupts
        return
    before = {
        signal.SIGINT: signal.signal(signal.SIGINT, interrupts.handle),
        signal.SIGTERM: signal.signal(signal.SIGTERM, interrupts.handle),
        signal.SIGHUP: signal.signal(signal.SIGHUP, signal.SIG_IGN),
    }
    try:
        yield interrupts
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
