"""`sheetanchor demo`: fill real servers, back up, destroy, restore, compare, and leave it to explore."""

from __future__ import annotations

import hashlib
import shlex
import sys
from pathlib import Path

from rich.console import Console
from rich.markup import escape

from sheetanchor.clock import Clock, SystemClock
from sheetanchor.demo import data, servers
from sheetanchor.demo.commands import Commands
from sheetanchor.demo.disaster import destroy
from sheetanchor.demo.judge import judge
from sheetanchor.demo.place import Place
from sheetanchor.demo.report import Compared, Figures, compare, figures_table, show_verdict, states_table
from sheetanchor.process import ProcessRunner

PLAIN_WIDTH = 120
"""Columns, when the output is a file or a pipe."""


def run(directory: Path, *, stop: bool = False, console: Console | None = None) -> int:
    """Run the demonstration in `directory`, or stop the servers of an earlier one; return the exit code.

    A second run replaces the first. Returns 1 when anything that was restored differs. Raises
    UsageError where the directory holds something else, ProcessError when a command fails.
    """
    place = Place(directory.absolute())
    console = console or _console()
    if stop:
        stopped = place.is_demo() and servers.stop(place.servers)
        console.print("The servers are stopped." if stopped else "No server was running.")
        return 0
    if place.is_demo():
        servers.stop(place.servers)
    place.create()
    return 0 if Demonstration(place, console, SystemClock()).run() else 1


def _console() -> Console:
    """Return a console that is wide enough for the table where nobody says how wide it is."""
    return Console(soft_wrap=True, width=None if sys.stdout.isatty() else PLAIN_WIDTH)


class Demonstration:
    """One run from empty servers to a proven recovery."""

    def __init__(self, place: Place, console: Console, clock: Clock) -> None:
        self._place = place
        self._console = console
        self._clock = clock
        self._commands = Commands(place.configuration, console, clock)
        self._say("Starting PostgreSQL and Valkey, filling them and a volume …")
        begin = clock.monotonic()
        self._servers = servers.start(place.servers)
        data.fill(self._servers, place.volume)
        place.write_configuration(self._servers)
        self._say(f"{clock.monotonic() - begin:.1f} s")

    def run(self) -> bool:
        """Go all the way; return whether everything is equal afterwards."""
        self._commands.run("init")
        backup_seconds = self._commands.run("backup")
        first = self._commands.query("list")[-1]
        second_seconds = self._commands.run("backup")
        second = self._commands.query("list")[-1]
        before = self._fingerprint()
        self._say("\n[bold red]Now the disaster[/bold red]")
        for deed in destroy(self._place, self._servers):
            self._say(f"  {deed}")
        destroyed = self._fingerprint()
        recovery_seconds = self._commands.run("restore", "latest", "--no-confirm")
        figures = Figures(
            bytes_read=first["bytes_read"],
            bytes_added=first["bytes_added"],
            backup_seconds=backup_seconds,
            second_backup_seconds=second_seconds,
            second_bytes_added=second["bytes_added"],
            recovery_seconds=recovery_seconds,
        )
        sound = self._report(compare(before, destroyed, self._fingerprint()), figures)
        self._show_what_to_explore()
        return sound

    def _fingerprint(self) -> dict[str, str]:
        """Describe what is live by asking the servers and reading the files, not the backup."""
        found = data.fingerprint(self._servers, self._place.volume)
        settings = self._place.settings
        if settings.is_file():
            found[f"configs {settings.name}"] = hashlib.sha256(settings.read_bytes()).hexdigest()[:10]
        return found

    def _report(self, compared: list[Compared], figures: Figures) -> bool:
        """Show everything; return whether all is equal and the repository sound."""
        self._say("\n[bold]Compared by asking the live servers and reading the files[/bold]")
        self._console.print(states_table(compared))
        self._say("[bold]Measured[/bold]")
        self._console.print(figures_table(figures))
        sound, verdict = judge(self._place.repository, self._place.password, ProcessRunner())
        self._say(verdict if sound else f"[bold red]{verdict}[/bold red]")
        return show_verdict(self._console, compared) and sound

    def _show_what_to_explore(self) -> None:
        psql = self._servers.postgres_programs / "psql"
        lines = (
            self._commands.line("list"),
            self._commands.line("ls", "latest"),
            self._commands.line("restore", "latest", "--only", "redis"),
            shlex.join([str(psql), self._servers.postgres_url]),
            f"{self._commands.line('demo', '--stop', '--directory', str(self._place.directory))}",
        )
        self._say("\nEverything is still there, and the servers run. To look around, and at the end to stop:")
        for line in lines:
            self._say(f"  {escape(line)}")

    def _say(self, text: str) -> None:
        self._console.print(text, highlight=False)
