"""How progress is shown where there is no terminal: lines for people, lines of JSON for programs."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from typing import Protocol

from sheetanchor.cli.tasks import Tasks, TaskState
from sheetanchor.clock import Clock
from sheetanchor.events import Listener

PLAIN_INTERVAL_S = 15.0
JSON_INTERVAL_S = 1.0
WORTH_TELLING_S = 2.0
"""What takes less is not worth a line."""


class ClosableListener(Listener, Protocol):
    """A listener that may hold a display."""

    def close(self) -> None:
        """Clear away whatever is on the screen. Idempotent."""
        ...


class Throttle:
    """Lets something through once in a while, per name."""

    def __init__(self, clock: Clock, interval_s: float) -> None:
        self._clock = clock
        self._interval_s = interval_s
        self._lock = threading.Lock()
        self._last: dict[str, float] = {}

    def reset(self, name: str) -> None:
        """Begin to count now."""
        with self._lock:
            self._last[name] = self._clock.monotonic()

    def passes(self, name: str) -> bool:
        """Say whether the interval is over, and begin a new one if so."""
        now = self._clock.monotonic()
        with self._lock:
            if now - self._last.get(name, now) < self._interval_s:
                self._last.setdefault(name, now)
                return False
            self._last[name] = now
            return True


class PlainListener:
    """One line now and then, and one at the end of whatever took long: for logs and cron mails."""

    def __init__(self, clock: Clock, write: Callable[[str], None]) -> None:
        self._clock = clock
        self._write = write
        self._tasks = Tasks(clock)
        self._throttle = Throttle(clock, PLAIN_INTERVAL_S)

    def started(self, task: str, total_bytes: int | None = None) -> None:
        """Begin to count."""
        self._tasks.start(task, total_bytes)
        self._throttle.reset(task)

    def advanced(self, task: str, num_bytes: int, items: int = 0) -> None:
        """Write a line if the last one is long ago."""
        state = self._tasks.advance(task, num_bytes, items)
        if self._throttle.passes(task):
            self._write(state.line(self._clock.monotonic()))

    def finished(self, task: str) -> None:
        """Write a last line about a task that took long."""
        state = self._tasks.finish(task)
        now = self._clock.monotonic()
        if state is not None and state.elapsed(now) >= WORTH_TELLING_S:
            self._write(state.line(now))

    def warning(self, task: str, message: str) -> None:
        """Write the warning."""
        self._write(f"warning: {task}: {message}")

    def close(self) -> None:
        """Nothing is on the screen."""


class JsonListener:
    """`status` and `warning` messages, with restic's words for the numbers."""

    def __init__(self, clock: Clock, write: Callable[[Mapping[str, object]], None]) -> None:
        self._clock = clock
        self._write = write
        self._tasks = Tasks(clock)
        self._throttle = Throttle(clock, JSON_INTERVAL_S)

    def started(self, task: str, total_bytes: int | None = None) -> None:
        """Write the first status."""
        state = self._tasks.start(task, total_bytes)
        self._throttle.reset(task)
        self._write(self._status(state, "started"))

    def advanced(self, task: str, num_bytes: int, items: int = 0) -> None:
        """Write a status, once a second at most."""
        state = self._tasks.advance(task, num_bytes, items)
        if self._throttle.passes(task):
            self._write(self._status(state, "running"))

    def finished(self, task: str) -> None:
        """Write the last status."""
        state = self._tasks.finish(task)
        if state is not None:
            self._write(self._status(state, "finished"))

    def warning(self, task: str, message: str) -> None:
        """Write the warning."""
        self._write({"message_type": "warning", "task": task, "message": message})

    def close(self) -> None:
        """Nothing is on the screen."""

    def _status(self, state: TaskState, phase: str) -> dict[str, object]:
        now = self._clock.monotonic()
        status: dict[str, object] = {
            "message_type": "status",
            "task": state.name,
            "phase": phase,
            "seconds_elapsed": round(state.elapsed(now), 3),
            "bytes_done": state.bytes_done,
            "items_done": state.items_done,
        }
        optional = {
            "total_bytes": state.total_bytes if state.fraction() is not None else None,
            "percent_done": state.fraction(),
            "seconds_remaining": state.remaining_s(now),
        }
        return status | {key: value for key, value in optional.items() if value is not None}
