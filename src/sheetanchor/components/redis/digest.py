"""What a server holds, as counts and order-free hashes that stay comparable as keys expire.

Every key adds the SHA-256 of (database, type, key, value, absolute expiry) to a sum modulo
2^256. Keys without expiry go into one sum. Keys that expire go into sums by *when* they expire,
in spans of time that grow with the distance: two servers are compared exactly over all spans
that lie in the future of both, whatever has expired in the meantime.
"""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

from sheetanchor.components.redis.server import Version, facts, key_counts
from sheetanchor.components.redis.values import (
    SUM_MODULUS,
    Unordered,
    hash_functions,
    hash_reply,
    hash_value,
    is_plain,
    packed,
    read_command,
    scan_pieces,
)
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

NO_EXPIRY = -1
GONE = -2
"""What the server says of a key or field that does not exist (any more)."""
FIELDS_AT_ONCE = 1000
PAGE_KEYS = 512
SMALL_BYTES = 32 << 10
"""Values that take less memory are read whole, a page of them in one exchange."""
FIRST_SPAN_BITS = 10
"""The first span is 2^10 ms wide."""
SPANS_PER_DOUBLING_BITS = 5
"""Each doubling of the distance is cut into 2^5 spans: each about 3 % of its distance wide."""


def span_of(distance_ms: int) -> int:
    """Return the number of the span that lies `distance_ms` after the reference time."""
    if distance_ms < 1 << FIRST_SPAN_BITS:
        return 0
    doubling = distance_ms.bit_length() - 1
    part = (distance_ms >> (doubling - SPANS_PER_DOUBLING_BITS)) - (1 << SPANS_PER_DOUBLING_BITS)
    return 1 + ((doubling - FIRST_SPAN_BITS) << SPANS_PER_DOUBLING_BITS) + part


def span_start(span: int) -> int:
    """Return the first distance (ms) of a span."""
    if span == 0:
        return 0
    doubling, part = divmod(span - 1, 1 << SPANS_PER_DOUBLING_BITS)
    return ((1 << SPANS_PER_DOUBLING_BITS) + part) << (doubling + FIRST_SPAN_BITS - SPANS_PER_DOUBLING_BITS)


@dataclass(frozen=True)
class Sum:
    """A number of items and the sum of their hashes (64 hex digits)."""

    count: int
    digest: str


@dataclass
class _Running:
    count: int = 0
    total: int = 0

    def add(self, hashed: bytes) -> None:
        self.count += 1
        self.total = (self.total + int.from_bytes(hashed, "big")) % SUM_MODULUS

    def result(self) -> Sum:
        return Sum(self.count, f"{self.total:064x}")


@dataclass(frozen=True)
class Contents:
    """All that a server held between two moments of its own clock (Unix, ms)."""

    started_ms: int
    ended_ms: int
    reference_ms: int
    """Where the spans begin."""
    keys: tuple[tuple[int, int, int], ...]
    """Database, keys, keys with expiry, as the server counts them."""
    types: tuple[tuple[str, int], ...]
    lasting: Sum
    """Keys without expiry."""
    expiring: tuple[tuple[int, Sum], ...]
    """Keys (and hash fields) with expiry, by span."""
    functions: Sum


@dataclass
class _Tally:
    reference_ms: int
    lasting: _Running = field(default_factory=_Running)
    expiring: dict[int, _Running] = field(default_factory=dict)
    types: dict[str, int] = field(default_factory=dict)

    def add(self, expiry_ms: int, hashed: bytes) -> None:
        if expiry_ms == NO_EXPIRY:
            self.lasting.add(hashed)
            return
        span = span_of(expiry_ms - self.reference_ms)
        self.expiring.setdefault(span, _Running()).add(hashed)


@dataclass(frozen=True)
class _Key:
    database: int
    name: bytes
    kind: bytes
    expiry_ms: int
    memory_bytes: int

    def hashed(self, value: bytes, expiry_ms: int) -> bytes:
        head = struct.pack(">iq", self.database, expiry_ms)
        return hashlib.sha256(packed((head, self.kind, self.name, value))).digest()


def contents(
    wire: Wire, *, reference_ms: int | None = None, advanced: Callable[[int], None] | None = None
) -> Contents:
    """Read everything the server holds; `advanced` is told the keys read since its last call.

    Comparing needs the `reference_ms` of the other side. Nothing may write meanwhile; keys may
    expire. Raises ComponentError, UnreachableError.
    """
    version = facts(wire).version
    started = _now_ms(wire)
    tally = _Tally(started if reference_ms is None else reference_ms)
    counts = key_counts(wire)
    for database in sorted(counts):
        wire.call("SELECT", database)
        for names in _pages(wire):
            _add_page(wire, version, tally, database, names)
            if advanced:
                advanced(len(names))
    return Contents(
        started_ms=started,
        ended_ms=_now_ms(wire),
        reference_ms=tally.reference_ms,
        keys=tuple((database, *counts[database]) for database in sorted(counts)),
        types=tuple(sorted(tally.types.items())),
        lasting=tally.lasting.result(),
        expiring=tuple((span, tally.expiring[span].result()) for span in sorted(tally.expiring)),
        functions=Sum(*hash_functions(wire)),
    )


def _now_ms(wire: Wire) -> int:
    seconds, micros = as_byte_list(wire.call("TIME"))
    return int(seconds) * 1000 + int(micros) // 1000


def _pages(wire: Wire) -> Iterator[list[bytes]]:
    cursor = b"0"
    while True:
        reply = as_list(wire.call("SCAN", cursor, "COUNT", PAGE_KEYS))
        cursor = as_bytes(reply[0])
        # While a table shrinks, one page can name a key twice.
        yield list(dict.fromkeys(as_byte_list(reply[1])))
        if cursor == b"0":
            return


def _add_page(wire: Wire, version: Version, tally: _Tally, database: int, names: Sequence[bytes]) -> None:
    keys = _describe(wire, database, names)
    small = [key for key in keys if is_plain(key.kind) and key.memory_bytes < SMALL_BYTES]
    replies = wire.pipeline([read_command(key.kind, key.name) for key in small])
    expiries = _field_expiries(wire, version, small, replies)
    for index, (key, reply) in enumerate(zip(small, replies, strict=True)):
        if reply is None or reply == []:
            continue
        if isinstance(reply, RefusedCommandError):
            raise reply
        tally.types[key.kind.decode()] = tally.types.get(key.kind.decode(), 0) + 1
        if index in expiries:
            fields = _Fields(tally, key)
            fields.add(as_byte_list(reply), expiries[index])
            fields.close()
        else:
            tally.add(key.expiry_ms, key.hashed(hash_reply(key.kind, reply), key.expiry_ms))
    for key in keys:
        if not is_plain(key.kind) or key.memory_bytes >= SMALL_BYTES:
            _add_large(wire, version, tally, key)


def _describe(wire: Wire, database: int, names: Sequence[bytes]) -> list[_Key]:
    commands: list[list[Argument]] = []
    for name in names:
        commands += [["TYPE", name], ["PEXPIRETIME", name], ["MEMORY", "USAGE", name]]
    replies = wire.pipeline(commands)
    keys = []
    for index, name in enumerate(names):
        kind, expiry, memory = replies[3 * index : 3 * index + 3]
        # A key that has expired since the scan is gone, not an error.
        if as_bytes(kind) == b"none" or as_int(expiry) == GONE or memory is None:
            continue
        keys.append(_Key(database, name, as_bytes(kind), as_int(expiry), as_int(memory)))
    return keys


def _field_expiries(
    wire: Wire, version: Version, keys: Sequence[_Key], replies: Sequence[Reply]
) -> dict[int, list[int]]:
    """Return the expiry of every field of those hashes that have such fields."""
    if not version.has_field_expiry:
        return {}
    places = [place for place, key in enumerate(keys) if key.kind == b"hash" and replies[place]]
    commands = [_expiry_command(keys[place].name, as_byte_list(replies[place])[::2]) for place in places]
    found = {
        place: [as_int(each) for each in as_list(reply)]
        for place, reply in zip(places, wire.pipeline(commands), strict=True)
        if reply is not None
    }
    return {place: times for place, times in found.items() if any(time != NO_EXPIRY for time in times)}


def _expiry_command(key: bytes, fields: Sequence[bytes]) -> list[Argument]:
    return ["HPEXPIRETIME", key, "FIELDS", len(fields), *fields]


class _Fields:
    """A hash with fields that expire by themselves: each such field is an item of its own."""

    def __init__(self, tally: _Tally, key: _Key) -> None:
        self._tally = tally
        self._key = key
        self._lasting = Unordered(b"hash")
        self._has_lasting = False
        self._latest = NO_EXPIRY

    def add(self, pairs: Sequence[bytes], times: Sequence[int]) -> None:
        """Add field, value, … and each field's expiry (Unix, ms)."""
        lasting: list[bytes] = []
        key = self._key
        for name, value, time in zip(pairs[::2], pairs[1::2], times, strict=True):
            if time == NO_EXPIRY:
                lasting += [name, value]
            elif time != GONE:
                end = min(time, key.expiry_ms) if key.expiry_ms != NO_EXPIRY else time
                self._latest = max(self._latest, end)
                self._tally.add(end, key.hashed(packed((b"field", name, value)), time))
        self._has_lasting = self._has_lasting or bool(lasting)
        self._lasting.add(lasting)

    def close(self) -> None:
        """Add the hash itself: it ends with its last field, or when the key expires."""
        ends = self._key.expiry_ms if self._has_lasting else self._latest
        if self._has_lasting or self._latest != NO_EXPIRY:
            self._tally.add(ends, self._key.hashed(self._lasting.value(), self._key.expiry_ms))


def _add_large(wire: Wire, version: Version, tally: _Tally, key: _Key) -> None:
    try:
        if key.kind == b"hash" and version.has_field_expiry:
            _add_large_fields(wire, tally, key)
        else:
            hashed = hash_value(wire, key.kind, key.name, key.memory_bytes)
            tally.add(key.expiry_ms, key.hashed(hashed, key.expiry_ms))
    except RefusedCommandError as error:
        if "no such key" in error.message and key.expiry_ms != NO_EXPIRY:
            return
        raise
    tally.types[key.kind.decode()] = tally.types.get(key.kind.decode(), 0) + 1


def _add_large_fields(wire: Wire, tally: _Tally, key: _Key) -> None:
    """Add a big hash piece by piece."""
    fields = _Fields(tally, key)
    for piece in scan_pieces(wire, b"hash", key.name, FIELDS_AT_ONCE):
        if piece:
            reply = wire.call(*_expiry_command(key.name, piece[::2]))
            if reply is None:
                return
            fields.add(piece, [as_int(each) for each in as_list(reply)])
    fields.close()
