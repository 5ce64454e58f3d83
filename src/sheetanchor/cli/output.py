"""Everything that a command says: results to standard output, all else to standard error.

With `--json`, standard output is one JSON object a line (`message_type`: status, warning, error,
summary), except where a command's result is itself one JSON array or a file's content.
"""

from __future__ import annotations

import json
import os
import sys
import threading
import traceback
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, TextIO

from sheetanchor.cli import words
from sheetanchor.clock import Clock
from sheetanchor.errors import SheetanchorError

if TYPE_CHECKING:
    from sheetanchor.cli.listeners import ClosableListener

_RED, _YELLOW, _BOLD, _PLAIN = "\x1b[31m", "\x1b[33m", "\x1b[1m", "\x1b[0m"


class Output:
    """Prints for one call of the program. A reader that goes away never stops the work."""

    def __init__(
        self, *, as_json: bool, debug: bool, clock: Clock, stdout: TextIO, stderr: TextIO, colour: bool
    ) -> None:
        self.as_json = as_json
        self.debug = debug
        self._clock = clock
        self._stdout = stdout
        self._stderr = stderr
        self._colour = colour
        self._lock = threading.Lock()
        self._objects_to = stdout

    @property
    def interactive(self) -> bool:
        """Say whether a person can be asked: a terminal on both sides, and no `--json`."""
        return not self.as_json and sys.stdin is not None and sys.stdin.isatty() and self._stderr.isatty()

    def data_on_stdout(self) -> None:
        """Keep standard output for the result itself: messages go to standard error from now on."""
        self._objects_to = self._stderr

    def line(self, text: str = "") -> bool:
        """Write a line of the result; False when nobody reads any more."""
        return self._write(self._stdout, text)

    def lines(self, texts: Iterable[str]) -> None:
        """Write lines of the result, until nobody reads any more."""
        for text in texts:
            if not self.line(text):
                return

    def note(self, text: str) -> None:
        """Write a line for the person at the terminal; `--json` leaves it out."""
        if not self.as_json:
            self._write(self._stderr, text)

    def heading(self, text: str) -> str:
        """Return `text` in bold where colours are wanted."""
        return f"{_BOLD}{text}{_PLAIN}" if self._colour else text

    def warning(self, message: str) -> None:
        """Report what does not stop the work."""
        if self.as_json:
            self.message({"message_type": "warning", "message": message})
        else:
            self._write(self._stderr, f"{self._coloured(_YELLOW, 'warning:')} {words.printable(message)}")

    def message(self, value: object) -> None:
        """Write one JSON value on a line of its own."""
        self._write(self._objects_to, json.dumps(value, ensure_ascii=False, default=str))

    def summary(self, fields: Mapping[str, object]) -> None:
        """Write the final object of a run."""
        self.message({"message_type": "summary", **fields})

    def error(self, error: SheetanchorError) -> None:
        """Report why the run failed: a line, and a hint line where there is a next step."""
        if self.debug:
            self._write(self._stderr, "".join(traceback.format_exception(error)).rstrip())
        if self.as_json:
            fields = {"message_type": "error", "code": error.code, "message": error.message}
            self.message({**fields, "hint": error.hint})
            return
        self._write(self._stderr, f"{self._coloured(_RED, 'error:')} {_one_line(error.message)}")
        if error.hint:
            self._write(self._stderr, f"hint: {_one_line(error.hint)}")

    @contextmanager
    def watching(self) -> Iterator[ClosableListener]:
        """Yield a listener that shows progress in the way that fits; clear it away at the end."""
        listener = self._listener()
        try:
            yield listener
        finally:
            listener.close()

    def _listener(self) -> ClosableListener:
        from sheetanchor.cli.listeners import JsonListener, PlainListener

        if self.as_json:
            return JsonListener(self._clock, self.message)
        if self._stderr.isatty() and os.environ.get("TERM") != "dumb":
            from sheetanchor.cli.terminal import TerminalListener

            return TerminalListener(self._clock, self._stderr)
        return PlainListener(self._clock, lambda text: self.note(words.printable(text)))

    def _coloured(self, colour: str, text: str) -> str:
        return f"{colour}{text}{_PLAIN}" if self._colour else text

    def _write(self, stream: TextIO, text: str) -> bool:
        try:
            with self._lock:
                stream.write(text + "\n")
                stream.flush()
        except (BrokenPipeError, ValueError):
            # ValueError: closed before. A backup must not fail because `| head` has gone.
            _silence(stream)
            return False
        return True


def _silence(stream: TextIO) -> None:
    """Send what is still buffered nowhere, so that closing it at exit does not fail either."""
    try:
        descriptor = stream.fileno()
    except (OSError, ValueError):
        return
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, descriptor)
    os.close(nowhere)


def _one_line(text: str) -> str:
    return "; ".join(words.printable(line.strip()) for line in text.splitlines() if line.strip())


def unexpected(error: Exception) -> SheetanchorError:
    """Return what to say of an error that no part of the program expected."""
    if isinstance(error, OSError):
        place = f"{error.filename}: " if error.filename else ""
        found = SheetanchorError(f"{place}{error.strerror or error}")
    else:
        found = SheetanchorError(
            f"unexpected {type(error).__name__}: {error}",
            hint="this is a defect of sheetanchor itself; `--debug` shows where",
        )
    found.__cause__ = error
    return found
