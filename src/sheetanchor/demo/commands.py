"""Runs the program as a user does, as a process of its own, and shows what was typed."""

from __future__ import annotations

import json
import shlex
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

from rich.console import Console

from sheetanchor.clock import Clock
from sheetanchor.errors import ProcessError, ToolError


class Commands:
    """Types `sheetanchor …` with one configuration."""

    def __init__(self, configuration: Path, console: Console, clock: Clock) -> None:
        self._configuration = configuration
        self._console = console
        self._clock = clock
        self._program = _own_program()

    def run(self, *words: str) -> float:
        """Show the command, run it with its own output visible; return seconds.

        Raises ProcessError when it fails: its own error stands on the screen already.
        """
        shown = shlex.join(["sheetanchor", *words])
        self._console.print(f"\n[bold]$ {shown}[/bold]", highlight=False)
        self._console.file.flush()
        begin = self._clock.monotonic()
        status = subprocess.run(self._argv(words), check=False).returncode
        if status != 0:
            raise ProcessError(f"`{shown}` ended with exit status {status}")
        return self._clock.monotonic() - begin

    def query(self, *words: str) -> Any:
        """Return what a command prints with `--json`: the last line is its result."""
        done = subprocess.run(self._argv((*words, "--json")), stdout=subprocess.PIPE, check=False)
        if done.returncode != 0:
            raise ProcessError(f"`{shlex.join(['sheetanchor', *words])}` ended with {done.returncode}")
        return json.loads(done.stdout.splitlines()[-1])

    def line(self, *words: str) -> str:
        """Return a command to type, with all that it needs."""
        return shlex.join([str(self._program), "--config", str(self._configuration), *words])

    def _argv(self, words: tuple[str, ...]) -> list[str]:
        return [str(self._program), "--config", str(self._configuration), *words]


def _own_program() -> Path:
    """Return the program of this installation. Raises ToolError."""
    beside = Path(sys.executable).with_name("sheetanchor")
    found = beside if beside.is_file() else shutil.which("sheetanchor")
    if not found:
        raise ToolError("the program sheetanchor is not installed", hint="run ./dev setup")
    return Path(found)
