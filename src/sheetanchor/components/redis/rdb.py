"""RDB files as files: where they come from, who wrote them, their digest."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from sheetanchor.clock import Clock
from sheetanchor.components.redis.bgsave import save_in_background
from sheetanchor.components.redis.server import Version, facts, setting
from sheetanchor.components.redis.wire import RefusedCommandError, Wire
from sheetanchor.errors import ComponentError, UnreachableError

PIECE_BYTES = 1 << 20
END_MARK_BYTES = 40
HEAD_BYTES = 256
_WRITER = re.compile(rb"\xfa.(redis|valkey)-ver[\x01-\x3f](\d+\.\d+\.\d+)", re.DOTALL)
_HEADER = re.compile(rb"REDIS\d{4}|VALKEY\d{3}")


@dataclass(frozen=True)
class RdbFile:
    """A complete RDB file on disk."""

    path: Path
    size: int
    sha256: str


def fetch_rdb(wire: Wire, target: Path, clock: Clock, advanced: Callable[[int], None]) -> RdbFile:
    """Write the server's data at one moment to `target`; `wire` is of no use afterwards.

    The server sends it over the replication protocol (SYNC), so that neither its disk nor its
    file system has to be reached. Where the user may not replicate, BGSAVE and the server's own
    file are used, if that file can be read here.
    Raises UnreachableError when the stream breaks, ComponentError when the server refuses.
    """
    try:
        with target.open("wb") as file:
            _replicate(wire, file, advanced)
    except RefusedCommandError as error:
        _copy_from_disk(wire, target, clock, advanced, error)
    return describe(target)


def describe(path: Path) -> RdbFile:
    """Read a file's size and digest. Raises ComponentError when it is no RDB file."""
    with path.open("rb") as file:
        if not _HEADER.match(file.read(9)):
            raise ComponentError(f"{path.name}: is no RDB file")
        file.seek(0)
        digest = hashlib.file_digest(file, "sha256").hexdigest()
        size = file.tell()
    return RdbFile(path, size, digest)


def writer(path: Path) -> Version:
    """Return which server wrote an RDB file, as the file says; Redis 7.0 when it does not say."""
    with path.open("rb") as file:
        match = _WRITER.search(file.read(HEAD_BYTES))
    if match is None:
        return Version("redis", "7.0")
    return Version(match[1].decode(), match[2].decode())


def _replicate(wire: Wire, file: BinaryIO, advanced: Callable[[int], None]) -> None:
    """Play the replica (redis.io/docs, "Redis replication"; `redis-cli --rdb` does the same).

    With `capa eof` a server set to diskless replication streams without touching its disk.
    With `rdb-only` it does not prepare for a replica that stays. Valkey 9 writes an old format,
    which has no expiry of hash fields, for a replica that does not say it is as new; servers
    that do not know an option answer with an error, which changes nothing.
    """
    version = facts(wire).version.text
    wire.call("REPLCONF", "capa", "eof")
    wire.pipeline([["REPLCONF", "rdb-only", 1], ["REPLCONF", "version", version]])
    wire.send("SYNC")
    try:
        _receive(wire.raw, file, advanced)
    except TimeoutError as error:
        raise UnreachableError(f"{wire.address}: stopped sending its data") from error
    except (OSError, EOFError) as error:
        raise UnreachableError(f"{wire.address}: the connection broke while it sent its data") from error


def _receive(raw: BinaryIO, file: BinaryIO, advanced: Callable[[int], None]) -> None:
    line = b"\n"
    while line == b"\n":  # sent while the server prepares, to keep the connection alive
        line = raw.readline()
    if line.startswith(b"-"):
        raise RefusedCommandError("SYNC: " + line[1:].decode("utf-8", "replace").strip())
    if line.startswith(b"$EOF:"):
        _receive_until(raw, file, line[5:].strip(), advanced)
    elif line.startswith(b"$"):
        _receive_length(raw, file, int(line[1:]), advanced)
    else:
        raise EOFError


def _receive_length(raw: BinaryIO, file: BinaryIO, length: int, advanced: Callable[[int], None]) -> None:
    left = length
    while left:
        piece = raw.read(min(left, PIECE_BYTES))
        if not piece:
            raise EOFError
        file.write(piece)
        advanced(len(piece))
        left -= len(piece)


def _receive_until(raw: BinaryIO, file: BinaryIO, mark: bytes, advanced: Callable[[int], None]) -> None:
    """Receive a stream of unknown length: nothing follows its end mark until we acknowledge."""
    assert len(mark) == END_MARK_BYTES
    tail = b""
    while tail[-END_MARK_BYTES:] != mark:
        piece = raw.read1(PIECE_BYTES)  # type: ignore[attr-defined]  # a BufferedReader
        if not piece:
            raise EOFError
        tail += piece
        file.write(tail[:-END_MARK_BYTES])
        advanced(len(piece))
        tail = tail[-END_MARK_BYTES:]


def _copy_from_disk(
    wire: Wire,
    target: Path,
    clock: Clock,
    advanced: Callable[[int], None],
    refusal: RefusedCommandError,
) -> None:
    """Use BGSAVE and the server's own file, where replication is refused and we run beside it."""
    hint = "allow the user the commands PSYNC, SYNC and REPLCONF"
    directory, name = setting(wire, "dir"), setting(wire, "dbfilename")
    if not wire.is_local or not directory or not name:
        raise ComponentError(f"{wire.address}: {refusal.message}", hint=hint) from refusal
    save_in_background(wire, clock)
    try:
        with (Path(directory) / name).open("rb") as source, target.open("wb") as file:
            while piece := source.read(PIECE_BYTES):
                file.write(piece)
                advanced(len(piece))
    except OSError as error:
        cause = f"{refusal.message}; {directory}/{name}: {error.strerror}"
        raise ComponentError(f"{wire.address}: {cause}", hint=hint) from error
