"""How progress is shown on a terminal: a line with a bar, the rate and the time left per task."""

from __future__ import annotations

import threading
from typing import TextIO

from rich.console import Console
from rich.progress import BarColumn, Progress, ProgressColumn, SpinnerColumn, Task, TaskID, TextColumn
from rich.text import Text

from sheetanchor.cli import words
from sheetanchor.cli.listeners import Throttle
from sheetanchor.cli.tasks import Tasks, TaskState
from sheetanchor.clock import Clock

REDRAW_S = 0.2
QUIET_S = 1.0
"""The display appears when a task has run this long: quick commands do not flicker."""


class TerminalListener:
    """Draws the running tasks with rich, and takes the drawing away when none is left."""

    def __init__(self, clock: Clock, stream: TextIO) -> None:
        self._clock = clock
        self._console = Console(file=stream, highlight=False)
        self._tasks = Tasks(clock)
        self._throttle = Throttle(clock, REDRAW_S)
        self._lock = threading.RLock()
        self._progress: Progress | None = None
        self._rows: dict[str, TaskID] = {}
        self._timer: threading.Timer | None = None

    def started(self, task: str, total_bytes: int | None = None) -> None:
        """Add a row, or have the display appear soon."""
        state = self._tasks.start(task, total_bytes)
        with self._lock:
            if self._progress is not None:
                self._draw(state)
            elif self._timer is None:
                self._timer = threading.Timer(QUIET_S, self._appear)
                self._timer.daemon = True
                self._timer.start()

    def advanced(self, task: str, num_bytes: int, items: int = 0) -> None:
        """Move the row's numbers on; the display redraws itself."""
        state = self._tasks.advance(task, num_bytes, items)
        with self._lock:
            if self._progress is not None and self._throttle.passes(task):
                self._draw(state)

    def finished(self, task: str) -> None:
        """Take the row away; with the last one goes the display."""
        self._tasks.finish(task)
        with self._lock:
            row = self._rows.pop(task, None)
            if self._progress is not None and row is not None:
                self._progress.remove_task(row)
            if not self._tasks.running():
                self.close()

    def warning(self, task: str, message: str) -> None:
        """Write the warning above the display."""
        with self._lock:
            console = self._progress.console if self._progress is not None else self._console
            text = Text.assemble(("warning: ", "yellow"), words.printable(f"{task}: {message}"))
            console.print(text, soft_wrap=True)

    def close(self) -> None:
        """Clear away the display."""
        with self._lock:
            if self._timer is not None:
                self._timer.cancel()
                self._timer = None
            if self._progress is not None:
                self._progress.stop()
                self._progress = None
                self._rows.clear()

    def _appear(self) -> None:
        with self._lock:
            running = self._tasks.running()
            if self._timer is None or not running:
                return
            self._progress = Progress(
                SpinnerColumn(),
                TextColumn("{task.description}", markup=False),
                BarColumn(bar_width=24),
                _NumbersColumn(self._clock),
                console=self._console,
                transient=True,
                refresh_per_second=5,
            )
            self._progress.start()
            for state in running:
                self._draw(state)

    def _draw(self, state: TaskState) -> None:
        assert self._progress is not None
        row = self._rows.get(state.name)
        if row is None:
            row = self._progress.add_task(words.printable(state.name), total=None)
            self._rows[state.name] = row
        total = state.total_bytes if state.fraction() is not None else None
        self._progress.update(row, completed=state.bytes_done, total=total, state=state)


class _NumbersColumn(ProgressColumn):
    """What is done of how much, the rate, the time left (or gone)."""

    def __init__(self, clock: Clock) -> None:
        super().__init__()
        self._clock = clock

    def render(self, task: Task) -> Text:
        state: TaskState | None = task.fields.get("state")
        if state is None:
            return Text()
        now = self._clock.monotonic()
        parts = []
        if state.bytes_done:
            whole = f"/{words.size(state.total_bytes)}" if state.fraction() is not None else ""
            parts.append(f"{words.size(state.bytes_done)}{whole}")
            parts.append(f"{words.size(state.current_rate(now))}/s")
        left = state.remaining_s(now)
        parts.append(
            f"{words.duration(left)} left" if left is not None else words.duration(state.elapsed(now))
        )
        return Text("  ".join(parts), style="dim")
