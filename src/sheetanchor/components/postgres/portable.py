"""The portable form: SQL of the whole cluster, out for `psql -f` and in from anywhere."""

from __future__ import annotations

import io
import re
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO, cast

from sheetanchor.components.base import Context, EntryType, Source
from sheetanchor.components.postgres.archive_header import server_version_of
from sheetanchor.components.postgres.names import GLOBALS_PATH, dump_path
from sheetanchor.components.postgres.streams import PIECE_BYTES, piped
from sheetanchor.components.postgres.tools import Tools, find_tools
from sheetanchor.errors import ArchiveError

OWN_DATABASES = ("template1", "postgres")
"""Every new server has these, so their CREATE DATABASE is a comment in the portable form."""
HEADER_BYTES = 4096
CREATE_LINE = re.compile(rb"^CREATE DATABASE [^\n]*\n", re.MULTILINE)


@contextmanager
def exported(source: Source, context: Context, bin_dir: Path | None) -> Iterator[BinaryIO]:
    """Yield the SQL as a stream; nothing is staged on disk.

    Raises ToolError where there is no pg_restore of the dumped server's version, ProcessError
    where one fails, ArchiveError where the backup holds no dump.
    """
    pieces = _Export(source, context, bin_dir).pieces()
    with io.BufferedReader(_Pieces(pieces), PIECE_BYTES) as reader:
        try:
            yield cast("BinaryIO", reader)
        finally:
            pieces.close()


class _Export:
    """One export of one backup."""

    def __init__(self, source: Source, context: Context, bin_dir: Path | None) -> None:
        self._source = source
        self._context = context
        paths = [
            entry.path.decode()
            for entry in source.walk()
            if entry.type is EntryType.FILE and entry.path.endswith(b".dump")
        ]
        own = [dump_path(name) for name in OWN_DATABASES]
        self._own = [path for path in own if path in paths]
        self._others = sorted(set(paths) - set(own))
        if not paths:
            raise ArchiveError("the backup holds no PostgreSQL dump")
        with source.open(paths[0]) as stream:
            version = server_version_of(stream.read(HEADER_BYTES))
        self._tools: Tools = find_tools(version // 10000, bin_dir, context.processes)

    def pieces(self) -> Generator[bytes, None, None]:
        """Yield the comments about a server's own databases, the roles, then database by database."""
        yield b"-- Sheetanchor: all of a PostgreSQL server; load with psql -f into an empty server\n"
        for path in self._own:
            yield b"-- " + self._create_statement(path)
        yield b"\n"
        with self._source.open(GLOBALS_PATH) as stream:
            while piece := stream.read(PIECE_BYTES):
                yield piece
        for path in self._own:
            yield from _without_create(self._database(path))
        for path in self._others:
            # Names of databases are stored in the encoding of the session that creates them.
            yield b"\n\\connect template1\n"
            yield from self._database(path)

    def _database(self, path: str, *options: str) -> Iterator[bytes]:
        argv = [self._tools.path("pg_restore"), "--create", "--file=-", *options]
        processes = self._context.processes
        with self._source.open(path) as dump, piped(dump) as pipe, processes.reading(argv, stdin=pipe) as out:
            while piece := out.read(PIECE_BYTES):
                yield piece

    def _create_statement(self, path: str) -> bytes:
        """Return the CREATE DATABASE line, which says encoding and locale."""
        text = b"".join(self._database(path, "--schema-only"))
        found = CREATE_LINE.search(text)
        if found is None:
            raise ArchiveError(f"{path}: the dump does not say how its database was made")
        return found.group()


def _without_create(pieces: Iterator[bytes]) -> Iterator[bytes]:
    """Leave out the first CREATE DATABASE; it stands in the first few lines."""
    head = b""
    for piece in pieces:
        head += piece
        found = CREATE_LINE.search(head)
        if found:
            yield head[: found.start()] + head[found.end() :]
            break
    else:
        yield head
    yield from pieces


class _Pieces(io.RawIOBase):
    """A reader over pieces of bytes as they are made."""

    def __init__(self, pieces: Iterator[bytes]) -> None:
        super().__init__()
        self._pieces = pieces
        self._rest = memoryview(b"")

    def readable(self) -> bool:
        """Return True."""
        return True

    def readinto(self, buffer: object, /) -> int:
        """Fill `buffer` with what comes next."""
        while not self._rest:
            piece = next(self._pieces, None)
            if piece is None:
                return 0
            self._rest = memoryview(piece)
        view = memoryview(cast("bytearray", buffer))
        size = min(len(view), len(self._rest))
        view[:size] = self._rest[:size]
        self._rest = self._rest[size:]
        return size
