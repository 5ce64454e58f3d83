"""Import: untrusted SQL is loaded in a scratch server, and the server is captured.

Three walls: a scanner that lets pass only what dumps hold; psql in `\\restrict` mode, in which it
obeys no meta-command without the token that only we know; a server without network, run as an
unprivileged user in a directory of its own.
"""

from __future__ import annotations

import io
import re
import secrets
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, cast

from psycopg.conninfo import conninfo_to_dict, make_conninfo

from sheetanchor.components.base import Context, Sink
from sheetanchor.components.postgres.dump import Capture
from sheetanchor.components.postgres.proof import PostgresProof
from sheetanchor.components.postgres.quoting import identifier, literal
from sheetanchor.components.postgres.scratch import (
    ScratchOptions,
    ScratchServer,
    scratch_server,
)
from sheetanchor.components.postgres.server import Server, execute
from sheetanchor.components.postgres.sql_policy import check_statement
from sheetanchor.components.postgres.sql_scanner import MetaCommand, SqlScanner, refuse
from sheetanchor.components.postgres.streams import piped
from sheetanchor.components.postgres.tools import (
    CLIENT_PROGRAMS,
    SERVER_PROGRAMS,
    Tools,
    available_majors,
    find_tools,
)
from sheetanchor.errors import ArchiveError, ProcessError, ToolError

HEAD_BYTES = 1 << 18
LINE_LIMIT = 64 << 20
_VERSION = re.compile(rb"^-- Dumped from database version (\d+)", re.MULTILINE)
_SUPERUSER = re.compile(rb"^ALTER ROLE (\S+|\"(?:[^\"]|\"\")+\") WITH SUPERUSER", re.MULTILINE)
_END_MARK = re.compile(rb"^-- PostgreSQL database (cluster )?dump complete\s*$")
_OWN = re.compile(
    rb"^-- CREATE DATABASE (postgres|template1) WITH TEMPLATE = template0 ENCODING = '([A-Za-z0-9_]+)'"
    rb"((?: (?:LOCALE_PROVIDER = (?:libc|icu|builtin)|[A-Z_]+ = '[A-Za-z0-9_.@-]*'))*);$",
    re.MULTILINE,
)


@dataclass(frozen=True)
class Head:
    """What the first lines say about the server that the SQL is of."""

    major: int | None
    superuser: str
    own_databases: tuple[tuple[str, str], ...]
    """(name, options of CREATE DATABASE) of postgres and template1, where they are given."""


def import_sql(stream: BinaryIO, sink: Sink, context: Context, bin_dir: Path | None) -> PostgresProof:
    """Load SQL in a sandbox and capture it.

    Raises HostileArchiveError naming the line of what is refused, ArchiveError for SQL that is
    cut off or does not load, ToolError where there is no server of a fitting version.
    """
    start = stream.read(HEAD_BYTES)
    head = read_head(start)
    tools = _server_tools(head.major, bin_dir, context)
    options = ScratchOptions(superuser=head.superuser, settings={"max_connections": "20"})
    with scratch_server(tools, context.processes, options, parent=context.work_directory) as server:
        live = Server(server.url(), None)
        _make_own_databases(live, head)
        _load(server, _lines(start, stream))
        return Capture(live, tools, context, sink).run()


def read_head(start: bytes) -> Head:
    """Read version, bootstrap superuser and the server's own databases from the first lines."""
    version = _VERSION.search(start)
    named = [match.group(1) for match in _SUPERUSER.finditer(start)]
    # Since PostgreSQL 16 the role that initdb made is the one that grants memberships.
    granting = [name for name in named if b" GRANTED BY " + name + b";" in start]
    first = next(iter(granting or [name for name in named if name == b"postgres"] or named), b"postgres")
    superuser = first[1:-1].replace(b'""', b'"') if first.startswith(b'"') else first
    return Head(
        major=int(version.group(1)) if version else None,
        superuser=superuser.decode("utf-8", "replace"),
        own_databases=tuple(
            (name.decode(), f"ENCODING = {literal(encoding.decode())}{options.decode()}")
            for name, encoding, options in _OWN.findall(start)
        ),
    )


def checked(lines: Iterable[bytes], token: str, superuser: str) -> Iterator[bytes]:
    """Yield what psql is to read: checked lines, with meta-commands in our own words.

    `token` has locked psql; only `\\connect` unlocks it, for itself. Raises HostileArchiveError,
    and ArchiveError where the SQL is cut off.
    """
    scanner = SqlScanner()
    complete = False
    made_by_initdb = {f"CREATE ROLE {name};\n".encode() for name in (superuser, identifier(superuser))}
    begun = False
    for line in lines:
        in_data = scanner.in_copy_data
        begun, continued = not line.endswith(b"\n"), begun
        if continued and in_data:
            yield line
            continue
        if continued:
            raise refuse(scanner.line, f"a line of more than {LINE_LIMIT:,} bytes")
        if not in_data and line in made_by_initdb:
            line = b"\n"
        command = None
        for found in scanner.feed(line):
            if isinstance(found, MetaCommand):
                command = found
            else:
                check_statement(found)
        if command is not None:
            yield from _meta_command(command, token)
            continue
        complete = complete or (not in_data and _END_MARK.match(line) is not None)
        yield line
    if not complete or not scanner.between_statements:
        raise ArchiveError(
            f"the SQL is cut off at line {scanner.line}: its end mark is missing",
            hint="make the dump again, or fetch the archive again",
        )


def _meta_command(command: MetaCommand, token: str) -> Iterator[bytes]:
    word, _, argument = command.text.partition(" ")
    if word in ("\\restrict", "\\unrestrict") and re.fullmatch(r"[A-Za-z0-9]+", argument):
        return
    if command.text == "\\encoding SQL_ASCII":
        return  # stands before a \connect with an unusual name; the new session has its own encoding
    if word != "\\connect":
        raise refuse(command.line, f"the meta-command {word[:20]}")
    database = _connected_database(argument.encode("latin-1").decode("utf-8", "replace"))
    if database is None:
        raise refuse(command.line, "\\connect to anything but a database of the dump")
    target = identifier(make_conninfo(dbname=database))
    yield f"\\unrestrict {token}\n\\connect -reuse-previous=on {target}\n\\restrict {token}\n".encode()


def _connected_database(argument: str) -> str | None:
    argument = argument.strip().removeprefix("-reuse-previous=on ").strip()
    if argument.startswith('"') and argument.endswith('"') and len(argument) > 1:
        name = argument[1:-1].replace('""', '"')
    elif re.fullmatch(r"[A-Za-z0-9_]+", argument):
        name = argument
    else:
        return None
    if not name.startswith("dbname="):
        return name if re.fullmatch(r"[^'=:/\\]+", name) else None
    parameters = conninfo_to_dict(name)
    return str(parameters["dbname"]) if set(parameters) == {"dbname"} else None


def _load(server: ScratchServer, lines: Iterator[bytes]) -> None:
    token = secrets.token_hex(16)
    script = _Script(
        _chain(f"\\restrict {token}\n".encode(), checked(lines, token, server.options.superuser))
    )
    argv = [
        server.tools.path("psql"),
        "--no-psqlrc",
        "--quiet",
        "--set=ON_ERROR_STOP=1",
        "--output=/dev/null",
        f"--dbname={server.url()}",
    ]
    try:
        with piped(script) as pipe:
            server.run(argv, stdin=pipe)
    except ProcessError as error:
        raise ArchiveError(f"the SQL does not load: {error.message}", hint=error.hint) from error


def _make_own_databases(server: Server, head: Head) -> None:
    """Give postgres and template1 of the sandbox the encoding and locale of the original's."""
    for name, options in head.own_databases:
        other = "template1" if name == "postgres" else "postgres"
        with server.session(other) as connection:
            execute(connection, f"ALTER DATABASE {identifier(name)} IS_TEMPLATE false")
            execute(connection, f"DROP DATABASE {identifier(name)}")
            execute(connection, f"CREATE DATABASE {identifier(name)} TEMPLATE = template0 {options}")
            if name == "template1":
                execute(connection, "ALTER DATABASE template1 IS_TEMPLATE true")


def _server_tools(major: int | None, bin_dir: Path | None, context: Context) -> Tools:
    majors = [major] if major else available_majors(bin_dir, context.processes)
    if not majors:
        raise ToolError(
            "there is no PostgreSQL server on this machine to load the SQL in",
            hint="install PostgreSQL's server programs, or set bin_dir to where they are",
        )
    return find_tools(majors[0], bin_dir, context.processes, programs=CLIENT_PROGRAMS + SERVER_PROGRAMS)


class _Joined(io.RawIOBase):
    """The first bytes, read already, and then the rest of the stream."""

    def __init__(self, start: bytes, stream: BinaryIO) -> None:
        super().__init__()
        self._start = start
        self._stream = stream

    def readable(self) -> bool:
        """Return True."""
        return True

    def readinto(self, buffer: object, /) -> int:
        """Fill `buffer`."""
        view = memoryview(cast("bytearray", buffer))
        if not self._start:
            self._start = self._stream.read(len(view))
        size = min(len(view), len(self._start))
        view[:size] = self._start[:size]
        self._start = self._start[size:]
        return size


def _lines(start: bytes, stream: BinaryIO) -> Iterator[bytes]:
    """Yield lines; one longer than LINE_LIMIT in parts."""
    reader = io.BufferedReader(_Joined(start, stream), 1 << 20)
    while line := reader.readline(LINE_LIMIT):
        yield line


def _chain(first: bytes, rest: Iterable[bytes]) -> Iterator[bytes]:
    yield first
    yield from rest


class _Script(io.RawIOBase):
    """The script as a reader: about a megabyte at a time."""

    def __init__(self, lines: Iterator[bytes]) -> None:
        super().__init__()
        self._lines = lines

    def read(self, size: int | None = -1, /) -> bytes:
        """Return whole lines, `size` bytes or a little more; b"" at the end."""
        out = bytearray()
        for line in self._lines:
            out += line
            if size is not None and 0 <= size <= len(out):
                break
        return bytes(out)
