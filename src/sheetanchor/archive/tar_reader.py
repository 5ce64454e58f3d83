"""Members of a tar stream that is not trusted, one after the other and in bounded memory."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, replace

from sheetanchor.archive import tar_format
from sheetanchor.archive.sparse import SparseSource, read_map
from sheetanchor.archive.streams import CHUNK_BYTES, ByteSource, read_exactly
from sheetanchor.archive.tar_format import RECORD, Header
from sheetanchor.errors import HostileArchiveError

MAX_PAX_BYTES = 4 << 20
"""A file's extended attributes together; Linux allows 64 KiB each."""
MAX_SIZE = 1 << 62
MAX_TIME_NS = (1 << 63) - 1
_CONTENT_KINDS = (tar_format.REGULAR, tar_format.REGULAR_OLD, tar_format.CONTIGUOUS)
_TIME = re.compile(rb"(-?)([0-9]{1,18})(?:\.([0-9]{1,30}))?")


@dataclass(frozen=True)
class TarMember:
    """One member with its extended header applied; `content` is None where there is none."""

    header: Header
    mtime_ns: int
    records: dict[bytes, bytes]
    content: ByteSource | None
    size: int
    """Of the content as a restored file, holes included."""


class _Content:
    """The bytes of one member, as far as they have not been read."""

    def __init__(self, source: ByteSource, size: int, what: str) -> None:
        self._source = source
        self._what = what
        self.left = size

    def read(self, size: int, /) -> bytes:
        wanted = min(size, self.left)
        if not wanted:
            return b""
        data = self._source.read(wanted)
        if not data:
            raise HostileArchiveError(f"{self._what}: ends in the middle (truncated)")
        self.left -= len(data)
        return data

    def drain(self) -> None:
        while self.left:
            self.read(CHUNK_BYTES)


def read_members(source: ByteSource, what: str) -> Iterator[TarMember]:
    """Yield the members of the tar in `source`; content is read before the next one is asked for.

    What is not read is passed over. Raises HostileArchiveError for anything that is not a tar,
    is damaged or cut, or has something after its end.
    """
    while True:
        block, records = _next_header(source, what)
        if block is None:
            _check_end(source, what)
            return
        header = _apply(tar_format.decode(block, what), records, what)
        has_content = header.kind in _CONTENT_KINDS
        content = _Content(source, header.size if has_content else 0, what)
        fill = len(tar_format.padding(content.left))
        yield _member(header, records, content if has_content else None, what)
        content.drain()
        if len(read_exactly(source, fill)) != fill:
            raise HostileArchiveError(f"{what}: ends in the middle (truncated)")


def _next_header(source: ByteSource, what: str) -> tuple[bytes | None, dict[bytes, bytes]]:
    """Return the next entry's block and what pax and GNU headers said about it."""
    records: dict[bytes, bytes] = {}
    while True:
        block = read_exactly(source, RECORD)
        if len(block) != RECORD:
            raise HostileArchiveError(f"{what}: ends in the middle (truncated)")
        if not any(block):
            if records:
                raise HostileArchiveError(f"{what}: ends after an extended header")
            return None, {}
        header = tar_format.decode(block, what)
        if header.kind == tar_format.PAX_NEXT:
            records.update(tar_format.parse_pax(_extended(source, header, what), what))
        elif header.kind == tar_format.GNU_LONG_NAME:
            records[b"path"] = _extended(source, header, what).rstrip(b"\0")
        elif header.kind == tar_format.GNU_LONG_LINK:
            records[b"linkpath"] = _extended(source, header, what).rstrip(b"\0")
        elif header.kind == tar_format.PAX_GLOBAL:
            raise HostileArchiveError(f"{what}: a global pax header, which no backup has")
        else:
            return block, records


def _extended(source: ByteSource, header: Header, what: str) -> bytes:
    if header.size > MAX_PAX_BYTES:
        raise HostileArchiveError(f"{what}: an extended header of {header.size} bytes")
    data = read_exactly(source, header.size + len(tar_format.padding(header.size)))
    if len(data) < header.size:
        raise HostileArchiveError(f"{what}: ends in the middle (truncated)")
    return data[: header.size]


def _apply(header: Header, records: dict[bytes, bytes], what: str) -> Header:
    return replace(
        header,
        name=records.get(b"path", header.name),
        link=records.get(b"linkpath", header.link),
        size=_number(records, b"size", header.size, MAX_SIZE, what),
        uid=_number(records, b"uid", header.uid, 0xFFFFFFFE, what),
        gid=_number(records, b"gid", header.gid, 0xFFFFFFFE, what),
    )


def _member(header: Header, records: dict[bytes, bytes], content: _Content | None, what: str) -> TarMember:
    mtime_ns = _mtime(records, header, what)
    sparse = [key for key in records if key.startswith(b"GNU.sparse.")]
    if content is None or not sparse:
        return TarMember(header, mtime_ns, records, content, header.size if content else 0)
    if (records.get(b"GNU.sparse.major"), records.get(b"GNU.sparse.minor")) != (b"1", b"0"):
        raise HostileArchiveError(f"{what}: a sparse file that is not of GNU's format 1.0")
    size = _number(records, b"GNU.sparse.realsize", header.size, MAX_SIZE, what)
    header = replace(header, name=records.get(b"GNU.sparse.name", header.name))
    regions, _ = read_map(content, content.left, size, what)
    return TarMember(header, mtime_ns, records, SparseSource(content, regions, size), size)


def _number(records: dict[bytes, bytes], key: bytes, otherwise: int, largest: int, what: str) -> int:
    text = records.get(key)
    if text is not None and (not text.isdigit() or len(text) > 20):
        raise HostileArchiveError(f"{what}: damaged pax header ({key.decode()})")
    value = otherwise if text is None else int(text)
    if value > largest:
        raise HostileArchiveError(f"{what}: {key.decode()} of {value} is out of range")
    return value


def _mtime(records: dict[bytes, bytes], header: Header, what: str) -> int:
    nanoseconds = header.mtime * 1_000_000_000
    text = records.get(b"mtime")
    if text is not None:
        match = _TIME.fullmatch(text)
        if match is None:
            raise HostileArchiveError(f"{what}: damaged pax header (mtime)")
        nanoseconds = int(match[2]) * 1_000_000_000 + int((match[3] or b"0").ljust(9, b"0")[:9])
        nanoseconds = -nanoseconds if match[1] else nanoseconds
    if abs(nanoseconds) > MAX_TIME_NS:
        raise HostileArchiveError(f"{what}: a time out of range")
    return nanoseconds


def _check_end(source: ByteSource, what: str) -> None:
    """Read to the end of the stream: only zeros may follow the end mark."""
    while data := source.read(CHUNK_BYTES):
        if any(data.strip(b"\0")[:1]):
            raise HostileArchiveError(f"{what}: something follows the end of the tar")
