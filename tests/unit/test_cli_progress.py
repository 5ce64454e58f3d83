"""Progress: the arithmetic, and its three forms."""

from __future__ import annotations

import io
import json
import os
import pty
import threading
import time
from collections.abc import Iterator
from datetime import UTC, datetime

import pytest

from sheetanchor.cli.listeners import JsonListener, PlainListener
from sheetanchor.cli.output import Output
from sheetanchor.cli.tasks import Tasks
from sheetanchor.cli.terminal import TerminalListener
from sheetanchor.clock import SystemClock

MIB = 1 << 20


class SteppedClock:
    """A clock that goes when it is told to."""

    def __init__(self) -> None:
        self.seconds = 100.0

    def now(self) -> datetime:
        """Return the same day, later."""
        return datetime.fromtimestamp(self.seconds, UTC)

    def monotonic(self) -> float:
        """Return the time that was set."""
        return self.seconds

    def sleep(self, seconds: float) -> None:
        """Go on by `seconds`."""
        self.seconds += seconds


def test_rate_and_time_left_follow_the_bytes() -> None:
    """10 MiB a second of 100 MiB: after 40 MiB six seconds are left."""
    clock = SteppedClock()
    tasks = Tasks(clock)
    tasks.start("db", 100 * MIB)
    for _ in range(4):
        clock.sleep(1)
        state = tasks.advance("db", 10 * MIB, 1)
    assert state.fraction() == pytest.approx(0.4)
    assert state.remaining_s(clock.monotonic()) == pytest.approx(6)
    assert state.line(clock.monotonic()) == "db: 40.0 MiB of 100 MiB (40 %), 4 items, 10.0 MiB/s, 6.0 s left"


def test_a_stalled_task_does_not_keep_its_rate() -> None:
    """When nothing moves for a minute, nobody is told that ten seconds are left."""
    clock = SteppedClock()
    tasks = Tasks(clock)
    tasks.start("db", 100 * MIB)
    clock.sleep(1)
    state = tasks.advance("db", 50 * MIB, 0)
    assert state.remaining_s(clock.monotonic()) == pytest.approx(1)
    clock.sleep(60)
    assert state.current_rate(clock.monotonic()) == 0
    assert state.remaining_s(clock.monotonic()) is None


def test_plain_progress_is_a_line_now_and_then() -> None:
    """A cron mail of an hour's backup has some hundred lines, of a second's backup none."""
    clock = SteppedClock()
    lines: list[str] = []
    listener = PlainListener(clock, lines.append)
    listener.started("quick")
    listener.advanced("quick", MIB)
    clock.sleep(1)
    listener.finished("quick")
    assert lines == []
    listener.started("long", 3600 * MIB)
    for _ in range(3600):
        clock.sleep(1)
        listener.advanced("long", MIB)
    listener.finished("long")
    assert 200 < len(lines) < 300
    assert lines[-1].startswith("long: 3.5 GiB of 3.5 GiB (100 %), 1.0 MiB/s")


def test_json_progress_has_a_beginning_and_an_end() -> None:
    """One status at the start, one a second at most, one at the end; the words are restic's."""
    clock = SteppedClock()
    messages: list[dict[str, object]] = []
    listener = JsonListener(clock, lambda message: messages.append(dict(message)))
    listener.started("db", 10 * MIB)
    for _ in range(100):
        clock.sleep(0.05)
        listener.advanced("db", MIB // 10, 1)
    listener.warning("db", "a file changed")
    listener.finished("db")
    phases = [message.get("phase") for message in messages]
    assert phases[0] == "started"
    assert phases[-1] == "finished"
    assert 4 <= phases.count("running") <= 6
    assert messages[-2] == {"message_type": "warning", "task": "db", "message": "a file changed"}
    assert messages[-1]["items_done"] == 100
    assert messages[-1]["percent_done"] == pytest.approx(1, abs=0.001)


class Screen:
    """A real pseudo-terminal: what is written to `stream` is gathered in `seen`."""

    def __init__(self) -> None:
        self._master, slave = pty.openpty()
        self.stream = os.fdopen(slave, "w")
        self.seen = b""
        self._reader = threading.Thread(target=self._read)
        self._reader.start()

    def _read(self) -> None:
        # Linux ends a terminal whose other side is closed by EIO.
        try:
            while chunk := os.read(self._master, 65536):
                self.seen += chunk
        except OSError:
            return

    def close(self) -> str:
        """End; return everything that was written."""
        self.stream.close()
        self._reader.join(10)
        os.close(self._master)
        return self.seen.decode()


@pytest.fixture
def screen() -> Iterator[Screen]:
    """A terminal that is closed also when the test fails."""
    screen = Screen()
    yield screen
    if not screen.stream.closed:
        screen.close()


def test_a_terminal_shows_bar_rate_and_time_left_and_is_cleaned_up(screen: Screen) -> None:
    """What runs longer than a moment is drawn; at the end the cursor is back and nothing is left over."""
    listener = TerminalListener(SystemClock(), screen.stream)
    listener.started("postgres", 40 * MIB)
    for _ in range(18):
        time.sleep(0.1)
        listener.advanced("postgres", MIB)
    listener.warning("uploads", "a.txt changed \x1b[31m while it was read")
    listener.finished("postgres")
    seen = screen.close()
    assert "postgres" in seen
    assert "MiB/s" in seen
    assert " left" in seen
    assert r"warning: uploads: a.txt changed \x1b[31m while" in seen.replace("\x1b[33m", "").replace(
        "\x1b[0m", ""
    )
    assert seen.count("\x1b[?25h") == seen.count("\x1b[?25l") > 0


def test_a_quick_task_draws_nothing(screen: Screen) -> None:
    """No flicker for what is over at once."""
    listener = TerminalListener(SystemClock(), screen.stream)
    listener.started("quick")
    listener.advanced("quick", MIB)
    listener.finished("quick")
    listener.close()
    assert screen.close() == ""


def test_listeners_take_calls_from_many_threads() -> None:
    """Eight threads report at once; every byte is counted."""
    clock = SystemClock()
    messages: list[dict[str, object]] = []
    listener = JsonListener(clock, lambda message: messages.append(dict(message)))
    listener.started("all")

    def work() -> None:
        for _ in range(1000):
            listener.advanced("all", 3, 1)

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    listener.finished("all")
    assert messages[-1]["bytes_done"] == 24_000
    assert messages[-1]["items_done"] == 8000


def make_output(stdout: io.StringIO, *, as_json: bool) -> Output:
    """Return an output that writes to memory."""
    return Output(
        as_json=as_json, debug=False, clock=SystemClock(), stdout=stdout, stderr=io.StringIO(), colour=False
    )


def test_every_json_message_is_one_line() -> None:
    """Names with newlines and any script stay within their line, and come back as they were."""
    stdout = io.StringIO()
    make_output(stdout, as_json=True).summary({"backup": "x", "name": "zwei\nZeilen ä 数"})
    (line,) = stdout.getvalue().splitlines()
    assert json.loads(line)["name"] == "zwei\nZeilen ä 数"


def test_a_reader_that_has_gone_does_not_stop_the_work() -> None:
    """`sheetanchor backup | head -1` must not break a backup: the write reports it and goes on."""
    reading, writing = os.pipe()
    os.close(reading)
    with os.fdopen(writing, "w") as stream:
        output = Output(
            as_json=False, debug=False, clock=SystemClock(), stdout=stream, stderr=io.StringIO(), colour=False
        )
        assert output.line("one") is False
        assert output.line("two") is True
