"""Entries of a file tree as a streaming pax tar that stock GNU tar restores whole.

`tar --xattrs --xattrs-include='*' --acls --numeric-owner -xpzf NAME.tar.gz` brings back owners,
modes, times to the nanosecond, extended attributes, ACLs, hard links, holes, devices and FIFOs.
Owner names are left out, so that numbers count with any options.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import BinaryIO

from sheetanchor.archive import tar_format
from sheetanchor.archive.posix_acl import ACCESS_XATTR, DEFAULT_XATTR, acl_to_text
from sheetanchor.archive.sparse import HEAD_BYTES, Region, encode_map, find_regions
from sheetanchor.archive.streams import CHUNK_BYTES, read_exactly
from sheetanchor.archive.tar_format import Header
from sheetanchor.components.base import Entry, EntryType
from sheetanchor.errors import ArchiveError

Opener = Callable[[], AbstractContextManager[BinaryIO]]
TreeEntry = tuple[Entry, Opener | None]

_KINDS = {
    EntryType.FILE: tar_format.REGULAR,
    EntryType.DIRECTORY: tar_format.DIRECTORY,
    EntryType.SYMLINK: tar_format.SYMLINK,
    EntryType.DEVICE: tar_format.BLOCK_DEVICE,
    EntryType.CHARACTER_DEVICE: tar_format.CHARACTER_DEVICE,
    EntryType.FIFO: tar_format.FIFO,
}
_NANOSECONDS = 1_000_000_000


@dataclass(frozen=True)
class TreeWritten:
    """What went into a tar."""

    entries: int
    num_bytes: int
    """Content of the files, holes included."""
    skipped_sockets: int


class TarWriter:
    """Writes one tar to `write`."""

    def __init__(self, write: Callable[[bytes], object]) -> None:
        self._write = write
        self._first_names: dict[tuple[int, int], bytes] = {}
        self._entries = 0
        self._num_bytes = 0
        self._sockets = 0

    def add_all(self, entries: Iterator[TreeEntry]) -> TreeWritten:
        """Write all `entries` and the end mark.

        Raises ArchiveError for a file whose content is not as long as its entry says.
        """
        for entry, opener in entries:
            self._add(entry, opener)
        self._write(tar_format.END)
        return TreeWritten(self._entries, self._num_bytes, self._sockets)

    def _add(self, entry: Entry, opener: Opener | None) -> None:
        if entry.type is EntryType.SOCKET:
            self._sockets += 1
            return
        self._entries += 1
        if entry.type is not EntryType.FILE:
            self._write(_head(entry, _KINDS[entry.type], link=entry.link_target))
            return
        first = self._first_names.get(entry.hardlink_key) if entry.hardlink_key else None
        if first is not None:
            self._write(_head(entry, tar_format.HARD_LINK, link=first))
            return
        if entry.hardlink_key:
            self._first_names[entry.hardlink_key] = _member_name(entry)
        self._add_file(entry, opener)

    def _add_file(self, entry: Entry, opener: Opener | None) -> None:
        self._num_bytes += entry.size
        if opener is None:
            if entry.size:
                raise ArchiveError(f"{_shown(entry)}: has {entry.size} bytes but no content was given")
            self._write(_head(entry, tar_format.REGULAR))
            return
        with opener() as stream:
            head = read_exactly(stream, min(entry.size, HEAD_BYTES)) if entry.size else b""
            if len(head) == entry.size:
                if stream.read(1):
                    raise _wrong_size(entry)
                self._write_regions(entry, [head], find_regions([head], entry.size))
                return
            # A large file is read twice: the map of its holes stands before its content.
            with opener() as again:
                regions = find_regions(_pieces(again, entry), entry.size)
            self._write_regions(entry, _rest(head, stream, entry), regions)

    def _write_regions(
        self, entry: Entry, pieces: Iterator[bytes] | list[bytes], regions: list[Region]
    ) -> None:
        data_bytes = sum(region.size for region in regions)
        if data_bytes == entry.size:
            self._write(_head(entry, tar_format.REGULAR, size=entry.size))
        else:
            sparse_map = encode_map(regions)
            data_bytes += len(sparse_map)
            self._write(_sparse_head(entry, data_bytes) + sparse_map)
        for data in _cut(pieces, regions):
            self._write(data)
        self._write(tar_format.padding(data_bytes))


def _cut(pieces: Iterator[bytes] | list[bytes], regions: list[Region]) -> Iterator[bytes]:
    """Yield what lies in `regions` of the content in `pieces`."""
    position = 0
    waiting = iter(regions)
    region = next(waiting, None)
    for piece in pieces:
        end = position + len(piece)
        while region is not None and region.offset < end:
            stop = min(end, region.offset + region.size)
            yield piece[max(region.offset - position, 0) : stop - position]
            if stop < region.offset + region.size:
                break
            region = next(waiting, None)
        position = end


def _pieces(stream: BinaryIO, entry: Entry) -> Iterator[bytes]:
    """Yield the content; raise ArchiveError when it is not `entry.size` bytes."""
    left = entry.size
    while data := stream.read(CHUNK_BYTES):
        left -= len(data)
        if left < 0:
            break
        yield data
    if left:
        raise _wrong_size(entry)


def _wrong_size(entry: Entry) -> ArchiveError:
    return ArchiveError(f"{_shown(entry)}: its content is not {entry.size} bytes, as its entry says")


def _rest(head: bytes, stream: BinaryIO, entry: Entry) -> Iterator[bytes]:
    yield head
    left = entry.size - len(head)
    while left:
        data = stream.read(min(CHUNK_BYTES, left))
        if not data:
            raise ArchiveError(f"{_shown(entry)}: changed while it was read")
        left -= len(data)
        yield data


def _head(entry: Entry, kind: bytes, *, link: bytes = b"", size: int = 0) -> bytes:
    return tar_format.encode(_header(entry, kind, _member_name(entry), size, link), _attributes(entry))


def _sparse_head(entry: Entry, size: int) -> bytes:
    """Return the head of a sparse file, format 1.0 (GNU tar manual, "Storing Sparse Files")."""
    records = {
        b"GNU.sparse.major": b"1",
        b"GNU.sparse.minor": b"0",
        b"GNU.sparse.name": _member_name(entry),
        b"GNU.sparse.realsize": b"%d" % entry.size,
        **_attributes(entry),
    }
    header = _header(entry, tar_format.REGULAR, b"./GNUSparseFile.0/entry", size, b"")
    return tar_format.encode(header, records)


def _header(entry: Entry, kind: bytes, name: bytes, size: int, link: bytes) -> Header:
    device = entry.type in (EntryType.DEVICE, EntryType.CHARACTER_DEVICE)
    return Header(
        name=name,
        mode=entry.mode & 0o7777,
        uid=entry.uid,
        gid=entry.gid,
        size=size,
        mtime=entry.mtime_ns // _NANOSECONDS,
        kind=kind,
        link=link,
        major=os.major(entry.device) if device else 0,
        minor=os.minor(entry.device) if device else 0,
    )


def _attributes(entry: Entry) -> dict[bytes, bytes]:
    records: dict[bytes, bytes] = {}
    seconds, fraction = divmod(entry.mtime_ns, _NANOSECONDS)
    if fraction:
        records[b"mtime"] = _decimal(seconds, fraction)
    for name, value in entry.xattrs:
        records[tar_format.xattr_key(os.fsencode(name))] = value
        acl = acl_to_text(value) if name in (ACCESS_XATTR, DEFAULT_XATTR) else None
        if acl is not None:
            key = b"SCHILY.acl.access" if name == ACCESS_XATTR else b"SCHILY.acl.default"
            records[key] = acl.encode("ascii")
    return records


def _decimal(seconds: int, fraction: int) -> bytes:
    """Write a time as pax wants it: -0.5 is "-0.5", not minus one second and a half more."""
    if seconds >= 0:
        return b"%d.%09d" % (seconds, fraction)
    return b"-%d.%09d" % (-seconds - 1, _NANOSECONDS - fraction)


def _member_name(entry: Entry) -> bytes:
    if not entry.path:
        return b"./"
    return b"./" + entry.path + (b"/" if entry.type is EntryType.DIRECTORY else b"")


def _shown(entry: Entry) -> str:
    return entry.path.decode("utf-8", "backslashreplace")
