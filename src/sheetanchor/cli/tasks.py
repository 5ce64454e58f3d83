"""The arithmetic of progress: what each running task has done, how fast, how long it still takes."""

from __future__ import annotations

import threading
from dataclasses import dataclass, replace

from sheetanchor.cli import words
from sheetanchor.clock import Clock

_SMOOTHING_S = 5.0
"""The rate is an average that forgets: this is about how many seconds it remembers."""
_STALLED_S = 3.0


@dataclass(frozen=True)
class TaskState:
    """A running task at one moment; times are of the monotonic clock."""

    name: str
    began: float
    total_bytes: int | None
    bytes_done: int = 0
    items_done: int = 0
    rate: float = 0.0
    measured_at: float = 0.0
    measured_bytes: int = 0

    def elapsed(self, now: float) -> float:
        """Return for how many seconds the task has been running."""
        return now - self.began

    def fraction(self) -> float | None:
        """Return the part that is done, None where the whole is not known.

        A whole that was passed was only an estimate, from the last backup for example.
        """
        if not self.total_bytes or self.bytes_done > self.total_bytes:
            return None
        return self.bytes_done / self.total_bytes

    def current_rate(self, now: float) -> float:
        """Return bytes a second; sinks towards zero while nothing moves."""
        silent = now - self.measured_at
        if silent <= _STALLED_S:
            return self.rate
        return min(self.rate, (self.bytes_done - self.measured_bytes) / silent)

    def remaining_s(self, now: float) -> float | None:
        """Return how many seconds it may still take, None where nobody can know."""
        rate = self.current_rate(now)
        if not self.total_bytes or self.fraction() is None or rate <= 0 or self.elapsed(now) < 1:
            return None
        return (self.total_bytes - self.bytes_done) / rate

    def line(self, now: float) -> str:
        """Return the state as a line for people."""
        parts = [words.size(self.bytes_done)]
        fraction = self.fraction()
        if fraction is not None:
            parts[0] += f" of {words.size(self.total_bytes)} ({100 * fraction:.0f} %)"
        if self.items_done:
            parts.append(words.count(self.items_done, "item"))
        parts.append(words.rate(self.bytes_done, self.elapsed(now)))
        left = self.remaining_s(now)
        parts.append(
            f"{words.duration(left)} left" if left is not None else words.duration(self.elapsed(now))
        )
        return f"{self.name}: {', '.join(parts)}"


class Tasks:
    """All running tasks; safe to use from several threads."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._tasks: dict[str, TaskState] = {}

    def start(self, name: str, total_bytes: int | None) -> TaskState:
        """Begin a task; one of the same name that runs already begins anew."""
        now = self._clock.monotonic()
        with self._lock:
            self._tasks[name] = TaskState(name, now, total_bytes, measured_at=now)
            return self._tasks[name]

    def advance(self, name: str, num_bytes: int, items: int) -> TaskState:
        """Add to a task; one that was never started begins now."""
        now = self._clock.monotonic()
        with self._lock:
            state = self._tasks.get(name) or TaskState(name, now, None, measured_at=now)
            state = replace(
                state, bytes_done=state.bytes_done + num_bytes, items_done=state.items_done + items
            )
            self._tasks[name] = state = _measured(state, now)
            return state

    def finish(self, name: str) -> TaskState | None:
        """Take a task out; return its last state."""
        with self._lock:
            return self._tasks.pop(name, None)

    def running(self) -> list[TaskState]:
        """Return all running tasks, in the order in which they began."""
        with self._lock:
            return list(self._tasks.values())


def _measured(state: TaskState, now: float) -> TaskState:
    passed = now - state.measured_at
    if passed < 0.5:
        return state
    latest = (state.bytes_done - state.measured_bytes) / passed
    weight = min(1.0, passed / _SMOOTHING_S)
    rate = latest if state.rate == 0 else state.rate * (1 - weight) + latest * weight
    return replace(state, rate=rate, measured_at=now, measured_bytes=state.bytes_done)
