"""A canonical hash of one key's value, whatever its type, size or encoding.

Two servers that answer every read alike give the same hash: sets and hashes do not depend on
the order in which a server keeps them, scores are compared as numbers. Big values are read in
pieces, so that memory stays flat. Types of modules, which have no common read commands, are
hashed by their DUMP without its version and checksum.
"""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Iterable, Iterator, Sequence

from sheetanchor.components.redis.wire import (
    Argument,
    RefusedCommandError,
    Reply,
    Wire,
    as_byte_list,
    as_bytes,
    as_int,
    as_list,
)

PIECE_BYTES = 1 << 20
"""About how much of a big value is read at once."""
SUM_MODULUS = 1 << 256
DUMP_TRAILER_BYTES = 10
"""RDB version (2) and CRC-64 (8) at the end of a DUMP payload."""

_WHOLE: dict[bytes, tuple[Argument, ...]] = {
    b"list": (0, -1),
    b"zset": (0, -1, "WITHSCORES"),
}
_READ: dict[bytes, str] = {
    b"string": "GET",
    b"list": "LRANGE",
    b"set": "SMEMBERS",
    b"hash": "HGETALL",
    b"zset": "ZRANGE",
}


def packed(parts: Iterable[bytes]) -> bytes:
    """Join parts so that no two different sequences look alike."""
    return b"".join([struct.pack(">Q", len(part)) + part for part in parts])


def sum_of(hashes: Iterable[bytes], start: int = 0) -> int:
    """Add hashes as numbers modulo 2^256: the same in any order."""
    return (start + sum(int.from_bytes(value, "big") for value in hashes)) % SUM_MODULUS


def is_plain(kind: bytes) -> bool:
    """Say whether a small value of this type is read by one command (`read_command`)."""
    return kind in _READ


def read_command(kind: bytes, key: bytes) -> list[Argument]:
    """Return the command that reads a whole value of a plain type."""
    return [_READ[kind], key, *_WHOLE.get(kind, ())]


def hash_reply(kind: bytes, reply: Reply) -> bytes:
    """Hash what `read_command` returned."""
    digest = Unordered(kind) if kind in {b"set", b"hash"} else Ordered(kind)
    digest.add([as_bytes(reply)] if kind == b"string" else as_byte_list(reply))
    return digest.value()


def hash_value(wire: Wire, kind: bytes, key: bytes, memory_bytes: int) -> bytes:
    """Hash a value of any type and size, reading it in pieces of about a MiB."""
    if kind == b"stream":
        return _hash_stream(wire, key)
    if kind in {b"set", b"hash"}:
        return _hash_scanned(wire, kind, key, memory_bytes)
    if kind not in _READ:
        return hashlib.sha256(as_bytes(wire.call("DUMP", key))[:-DUMP_TRAILER_BYTES]).digest()
    digest = Ordered(kind)
    for piece in _ordered_pieces(wire, kind, key, memory_bytes):
        digest.add(piece)
    return digest.value()


class Ordered:
    """Hash of strings, lists and sorted sets: order counts."""

    def __init__(self, kind: bytes) -> None:
        self._hash = hashlib.sha256()
        self._kind = kind

    def add(self, piece: Sequence[bytes]) -> None:
        """Add the next elements (of a sorted set: member, score, …)."""
        if self._kind == b"string":
            self._hash.update(piece[0])
        elif self._kind == b"zset":
            scores = [struct.pack(">d", float(score)) for score in piece[1::2]]
            self._hash.update(
                packed([part for pair in zip(piece[::2], scores, strict=True) for part in pair])
            )
        else:
            self._hash.update(packed(piece))

    def value(self) -> bytes:
        """Return the hash of all that was added."""
        return self._hash.digest()


class Unordered:
    """Hash of sets and hashes: the sum of their elements' hashes."""

    def __init__(self, kind: bytes) -> None:
        self._pairs = kind == b"hash"
        self._sum = 0

    def add(self, piece: Sequence[bytes]) -> None:
        """Add members, or field, value, …"""
        if self._pairs:
            elements = [packed(pair) for pair in zip(piece[::2], piece[1::2], strict=True)]
        else:
            elements = list(piece)
        self._sum = sum_of((hashlib.sha256(element).digest() for element in elements), self._sum)

    def value(self) -> bytes:
        """Return the hash of all that was added."""
        return hashlib.sha256(self._sum.to_bytes(32, "big")).digest()


def _ordered_pieces(wire: Wire, kind: bytes, key: bytes, memory_bytes: int) -> Iterator[list[bytes]]:
    if kind == b"string":
        length = as_int(wire.call("STRLEN", key))
        for start in range(0, length, PIECE_BYTES):
            yield [as_bytes(wire.call("GETRANGE", key, start, start + PIECE_BYTES - 1))]
        return
    length = as_int(wire.call("LLEN" if kind == b"list" else "ZCARD", key))
    step = _elements_at_once(length, memory_bytes)
    scores = ("WITHSCORES",) if kind == b"zset" else ()
    for start in range(0, length, step):
        yield as_byte_list(wire.call(_READ[kind], key, start, start + step - 1, *scores))


def _hash_scanned(wire: Wire, kind: bytes, key: bytes, memory_bytes: int) -> bytes:
    """Hash a big set or hash by scanning it; a scan may return an element twice while it shrinks."""
    width = 2 if kind == b"hash" else 1
    length = as_int(wire.call("HLEN" if kind == b"hash" else "SCARD", key))
    digest, seen = Unordered(kind), 0
    for piece in scan_pieces(wire, kind, key, _elements_at_once(length, memory_bytes)):
        digest.add(piece)
        seen += len(piece) // width
    if seen == length:
        return digest.value()
    return hash_reply(kind, wire.call(*read_command(kind, key)))


def scan_pieces(wire: Wire, kind: bytes, key: bytes, count: int) -> Iterator[list[bytes]]:
    """Yield a set or hash piece by piece (SSCAN, HSCAN)."""
    cursor: bytes = b"0"
    while True:
        command = "HSCAN" if kind == b"hash" else "SSCAN"
        reply = as_list(wire.call(command, key, cursor, "COUNT", count))
        cursor = as_bytes(reply[0])
        yield as_byte_list(reply[1])
        if cursor == b"0":
            return


def _elements_at_once(length: int, memory_bytes: int) -> int:
    average = max(memory_bytes // max(length, 1), 1)
    return max(min(PIECE_BYTES // average, 20_000), 1)


def _hash_stream(wire: Wire, key: bytes) -> bytes:
    """Hash entries, ids, groups, consumers and what is pending; idle times are not state."""
    digest = hashlib.sha256()
    last = b"-"
    while entries := as_list(wire.call("XRANGE", key, last, "+", "COUNT", 500)):
        for entry in entries:
            identity, fields = as_list(entry)
            digest.update(packed([as_bytes(identity), packed(as_byte_list(fields or []))]))
        last = b"(" + as_bytes(as_list(entries[-1])[0])
    about = _pairs(wire.call("XINFO", "STREAM", key))
    wanted = (b"length", b"last-generated-id", b"max-deleted-entry-id", b"entries-added")
    digest.update(packed(_text(about.get(name)) for name in wanted))
    groups = [_pairs(group) for group in as_list(wire.call("XINFO", "GROUPS", key))]
    for group in sorted(groups, key=lambda group: as_bytes(group[b"name"])):
        digest.update(_group(wire, key, group))
    return digest.digest()


def _group(wire: Wire, key: bytes, group: dict[bytes, Reply]) -> bytes:
    name = as_bytes(group[b"name"])
    parts = [name, as_bytes(group[b"last-delivered-id"]), _text(group.get(b"entries-read"))]
    consumers = [_pairs(each) for each in as_list(wire.call("XINFO", "CONSUMERS", key, name))]
    parts += sorted(as_bytes(each[b"name"]) for each in consumers)
    last = b"-"
    while pending := as_list(wire.call("XPENDING", key, name, last, "+", 1000)):
        for entry in pending:
            identity, consumer, _idle, deliveries = as_list(entry)
            parts += [as_bytes(identity), as_bytes(consumer), _text(deliveries)]
        last = b"(" + as_bytes(as_list(pending[-1])[0])
    return packed(parts)


def hash_functions(wire: Wire) -> tuple[int, str]:
    """Return the number of function libraries and a hash of their names, engines and code."""
    try:
        libraries = [_pairs(each) for each in as_list(wire.call("FUNCTION", "LIST", "WITHCODE"))]
    except RefusedCommandError as error:
        if "NOPERM" in error.message:
            raise
        return 0, ""
    wanted = (b"library_name", b"engine", b"library_code")
    hashes = (hashlib.sha256(packed(_text(each[name]) for name in wanted)).digest() for each in libraries)
    return len(libraries), f"{sum_of(hashes):064x}"


def _pairs(reply: Reply) -> dict[bytes, Reply]:
    flat = as_list(reply)
    return {as_bytes(name): value for name, value in zip(flat[::2], flat[1::2], strict=True)}


def _text(reply: Reply) -> bytes:
    return reply if isinstance(reply, bytes) else str(reply).encode()
