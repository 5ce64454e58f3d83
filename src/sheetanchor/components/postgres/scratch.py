"""A throw-away PostgreSQL server: for what is not trusted, and for what must not touch the live one.

It listens on a Unix socket in a private directory only, unless a TCP port is asked for, and
runs as an unprivileged user where we are root (PostgreSQL refuses root).
"""

from __future__ import annotations

import os
import pwd
import signal
import stat
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO
from urllib.parse import quote

from sheetanchor.components.postgres.tools import Tools
from sheetanchor.components.workspace import sweep, workspace
from sheetanchor.errors import ProcessError, ToolError
from sheetanchor.process import Completed, ProcessRunner, RunAs

START_TIMEOUT_SECONDS = 60
PREFIX = "sheetanchor-pg"
UNPRIVILEGED_USERS = ("postgres", "nobody")
THROW_AWAY_SETTINGS: Mapping[str, str] = {
    "fsync": "off",
    "full_page_writes": "off",
    "synchronous_commit": "off",
}


@dataclass(frozen=True)
class ScratchOptions:
    """How a scratch server is made."""

    superuser: str = "postgres"
    locale: str = "C"
    port: int = 5432
    listen: bool = False
    """Also on 127.0.0.1; else no network at all."""
    settings: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class ScratchServer:
    """A running scratch server."""

    directory: Path
    """Holds `data` and `log`."""
    sockets: Path
    """Holds the socket: a short path, since sockets allow 107 bytes only."""
    tools: Tools
    options: ScratchOptions
    processes: ProcessRunner
    run_as: RunAs | None

    @property
    def data_directory(self) -> Path:
        """PGDATA."""
        return self.directory / "data"

    def url(self, database: str = "postgres") -> str:
        """Return the libpq URL through the socket."""
        return (
            f"postgresql://{quote(self.options.superuser, safe='')}@/{quote(database, safe='')}"
            f"?host={quote(str(self.sockets), safe='')}&port={self.options.port}"
        )

    def tcp_url(self, database: str = "postgres") -> str:
        """Return the libpq URL through TCP, for a server that listens."""
        user = quote(self.options.superuser, safe="")
        return f"postgresql://{user}@127.0.0.1:{self.options.port}/{quote(database, safe='')}"

    def start(self) -> None:
        """Start the server and wait until it answers. Raises ToolError with the log's end."""
        log = self.directory / "log"
        argv = ["-D", str(self.data_directory), "-l", str(log), "-t", str(START_TIMEOUT_SECONDS), "-w"]
        try:
            self._run("pg_ctl", [*argv, "start"])
        except ProcessError as error:
            tail = log.read_text(errors="replace")[-2000:] if log.exists() else error.hint
            raise ToolError(
                f"a scratch PostgreSQL server does not start: {error.message}", hint=tail
            ) from error

    def stop(self, mode: str = "immediate") -> None:
        """Stop the server ("fast" or "immediate"); one that is down is no error."""
        if (self.data_directory / "postmaster.pid").exists():
            self._run("pg_ctl", ["-D", str(self.data_directory), "-m", mode, "-w", "stop"])

    def initialise(self) -> None:
        """Make the data directory and its configuration."""
        options = self.options
        argv = ["-D", str(self.data_directory), "-U", options.superuser, "-A", "trust", "-E", "UTF8"]
        try:
            self._run("initdb", [*argv, f"--locale={options.locale}", "--no-sync"])
        except ProcessError as error:
            raise ToolError(
                f"a scratch PostgreSQL server cannot be made: {error.message}",
                hint=f"its user must be able to reach {self.directory} and {self.tools.directory};"
                f" {error.hint or ''}",
            ) from error
        settings = {
            "listen_addresses": "127.0.0.1" if options.listen else "",
            "port": str(options.port),
            "unix_socket_directories": str(self.sockets),
            **THROW_AWAY_SETTINGS,
            **options.settings,
        }
        text = "".join(
            "{} = '{}'\n".format(name, value.replace("'", "''")) for name, value in settings.items()
        )
        with (self.data_directory / "postgresql.conf").open("a", encoding="utf-8") as configuration:
            configuration.write(text)

    def _run(self, program: str, arguments: Sequence[str]) -> None:
        self.run([self.tools.path(program), *arguments], timeout=START_TIMEOUT_SECONDS * 2)

    def run(
        self, argv: Sequence[str], *, stdin: IO[bytes] | None = None, timeout: float | None = None
    ) -> Completed:
        """Run a program as the server's user, with nothing of our environment: it may hold secrets."""
        clean = ["env", "-i", f"PATH={os.environ.get('PATH', os.defpath)}", "LC_ALL=C"]
        try:
            return self.processes.run(
                [*clean, *argv], stdin=stdin, run_as=self.run_as, cwd=self.directory, timeout=timeout
            )
        except ProcessError as error:
            program = os.path.basename(argv[0])
            raise ProcessError(error.message.replace("env:", f"{program}:", 1), hint=error.hint) from error


@contextmanager
def scratch_server(
    tools: Tools,
    processes: ProcessRunner,
    options: ScratchOptions | None = None,
    *,
    parent: Path | None = None,
) -> Iterator[ScratchServer]:
    """Make, start, yield, stop and remove a server below `parent`.

    Without `parent`, or where the server's user cannot get there, it is the temporary directory.
    Raises ToolError when it cannot be made or does not start.
    """
    run_as = unprivileged_user()
    place = parent if parent and (run_as is None or _open_to_all(parent)) else None
    with (
        workspace(place or Path(tempfile.gettempdir()), PREFIX) as directory,
        workspace(Path(tempfile.gettempdir()), PREFIX) as sockets,
    ):
        if run_as:
            os.chown(directory, run_as.uid, run_as.gid)
            os.chown(sockets, run_as.uid, run_as.gid)
        server = ScratchServer(directory, sockets, tools, options or ScratchOptions(), processes, run_as)
        server.initialise()
        try:
            server.start()
            yield server
        finally:
            server.stop()


def sweep_servers(parent: Path) -> None:
    """Stop and remove the scratch servers that killed runs left below `parent`."""
    for place in {parent, Path(tempfile.gettempdir())}:
        sweep(place, PREFIX, _end_server)


def _end_server(directory: Path) -> None:
    """End the server of a directory whose run is dead, and wait until it is gone."""
    data = directory / "data"
    try:
        pid = int((data / "postmaster.pid").read_text().splitlines()[0])
        command = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
        if os.fsencode(data) not in command:
            return
        os.kill(pid, signal.SIGQUIT)
    except (OSError, ValueError, IndexError):
        return
    for _ in range(100):
        if not Path(f"/proc/{pid}").exists():
            return
        time.sleep(0.1)


def _open_to_all(directory: Path) -> bool:
    """Say whether any user may pass through a directory and all above it."""
    resolved = directory.resolve()
    return all(os.stat(place).st_mode & stat.S_IXOTH for place in (resolved, *resolved.parents))


def unprivileged_user() -> RunAs | None:
    """Return whom to become for a server: nobody special, and None where we are not root."""
    if os.geteuid() != 0:
        return None
    for name in UNPRIVILEGED_USERS:
        try:
            entry = pwd.getpwnam(name)
        except KeyError:
            continue
        return RunAs(entry.pw_uid, entry.pw_gid)
    raise ToolError(
        "PostgreSQL does not run as root, and there is no other user to run it as",
        hint=f"create one of the users {', '.join(UNPRIVILEGED_USERS)}",
    )
