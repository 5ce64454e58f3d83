"""A volume's inner `.tar.gz` as entries, hardened: what could write outside is refused.

Symbolic links keep any target (a volume may hold a link to /dev/stdout); what is refused is an
entry *below* a link, since that is how an archive writes through it.
"""

from __future__ import annotations

import hashlib
import io
import os
from collections.abc import Iterator
from dataclasses import replace
from typing import BinaryIO

from sheetanchor.archive import tar_format
from sheetanchor.archive.gzip_stream import GzipReader
from sheetanchor.archive.limits import ExpansionLimit, LimitedSource
from sheetanchor.archive.posix_acl import ACCESS_XATTR, DEFAULT_XATTR, acl_from_text, says_no_more_than_mode
from sheetanchor.archive.streams import ByteSource, as_stream
from sheetanchor.archive.tar_reader import TarMember, read_members
from sheetanchor.components.base import Entry, EntryType
from sheetanchor.errors import HostileArchiveError

VolumeEntry = tuple[Entry, BinaryIO | None]

MAX_PATH_BYTES = 4095
MAX_PART_BYTES = 255
_TYPES = {
    tar_format.REGULAR: EntryType.FILE,
    tar_format.REGULAR_OLD: EntryType.FILE,
    tar_format.CONTIGUOUS: EntryType.FILE,
    tar_format.HARD_LINK: EntryType.FILE,
    tar_format.SYMLINK: EntryType.SYMLINK,
    tar_format.CHARACTER_DEVICE: EntryType.CHARACTER_DEVICE,
    tar_format.BLOCK_DEVICE: EntryType.DEVICE,
    tar_format.DIRECTORY: EntryType.DIRECTORY,
    tar_format.FIFO: EntryType.FIFO,
}
_DEVICES = (EntryType.DEVICE, EntryType.CHARACTER_DEVICE)


class HardLinks:
    """Which names of a volume share one file, learned by a first reading."""

    def __init__(self) -> None:
        self._first_of: dict[bytes, bytes] = {}
        self._names: dict[bytes, int] = {}

    def learn(self, name: bytes, target: bytes) -> None:
        """Note that `name` is a further name of `target`."""
        first = self._first_of.get(target, target)
        self._first_of[name] = first
        self._names[first] = self._names.get(first, 1) + 1

    def first_of(self, name: bytes) -> bytes | None:
        """Return the first name of the file that `name` is a name of, None for a file of one name."""
        return name if name in self._names else self._first_of.get(name)

    def names_of(self, first: bytes) -> int:
        """Return how many names the file has."""
        return self._names.get(first, 1)


def scan_volume(source: ByteSource, what: str, limit: ExpansionLimit) -> tuple[HardLinks, bytes | None]:
    """Check a volume archive whole; return its hard links and the path of a device, if it has one.

    Raises as read_volume does.
    """
    links = HardLinks()
    device: bytes | None = None
    for entry, stream in read_volume(source, what, limit=limit):
        limit.take_logical(entry.size)
        if entry.type is EntryType.FILE and stream is None:
            links.learn(entry.path, entry.link_target)
        if entry.type in _DEVICES:
            device = device or entry.path
    return links, device


def read_volume(
    source: ByteSource,
    what: str,
    *,
    links: HardLinks | None = None,
    allow_devices: bool = True,
    limit: ExpansionLimit | None = None,
) -> Iterator[VolumeEntry]:
    """Yield the entries of the volume archive in `source`, parents before children.

    A stream must be read before the next entry is asked for. A further name of a file is a FILE
    entry without a stream: where `links` are known, it has all of the file's attributes and the
    `hardlink_key` that all its names share; else only `link_target`, the file's first name.

    Raises HostileArchiveError for absolute paths, `..`, entries below a link or a file, duplicates,
    hard links to what is not there, unknown kinds, damage, what goes beyond `limit`, and for
    devices unless `allow_devices`.
    """
    places = _Places(what)
    linked = _LinkedEntries(links or HardLinks())
    plain: ByteSource = GzipReader(source, what)
    if limit is not None:
        plain = LimitedSource(plain, limit)
    for member in read_members(plain, what):
        kind = _TYPES.get(member.header.kind)
        if kind is None:
            raise HostileArchiveError(f"{what}: an entry of unknown kind {member.header.kind!r}")
        if kind in _DEVICES and not allow_devices:
            raise HostileArchiveError(f"{what}: holds a device, {_shown(member.header.name)}")
        path = safe_path(member.header.name, what)
        places.add(path, kind)
        if member.header.kind == tar_format.HARD_LINK:
            target = safe_path(member.header.link, what)
            places.check_link(target, path)
            yield linked.further(_entry(member, path, kind, target)), None
        elif kind is EntryType.FILE:
            assert member.content is not None
            stream = as_stream(member.content, member.size) if member.size else io.BytesIO()
            yield linked.first(_entry(member, path, kind, b"")), stream
        else:
            target = _symlink_target(member.header.link, what) if kind is EntryType.SYMLINK else b""
            yield _entry(member, path, kind, target), None


def safe_path(name: bytes, what: str) -> bytes:
    """Return `name` without "./" and trailing "/". Raises HostileArchiveError for what leads out."""
    if name.startswith(b"/"):
        raise HostileArchiveError(f"{what}: an absolute path, {_shown(name)}")
    parts = [part for part in name.split(b"/") if part not in (b"", b".")]
    if b".." in parts:
        raise HostileArchiveError(f"{what}: a path that leads out, {_shown(name)}")
    path = b"/".join(parts)
    if (
        not name
        or b"\0" in path
        or len(path) > MAX_PATH_BYTES
        or any(len(part) > MAX_PART_BYTES for part in parts)
    ):
        raise HostileArchiveError(f"{what}: an impossible path, {_shown(name)}")
    return path


def _symlink_target(target: bytes, what: str) -> bytes:
    if not target or b"\0" in target or len(target) > MAX_PATH_BYTES:
        raise HostileArchiveError(f"{what}: an impossible target of a symbolic link, {_shown(target)}")
    return target


class _LinkedEntries:
    """Gives all names of one file the same key and attributes."""

    def __init__(self, links: HardLinks) -> None:
        self._links = links
        self._first: dict[bytes, Entry] = {}

    def first(self, entry: Entry) -> Entry:
        if self._links.first_of(entry.path) is None:
            return entry
        key = (len(self._first) + 1, 0)
        entry = replace(entry, hardlink_key=key, links=self._links.names_of(entry.path))
        self._first[entry.path] = entry
        return entry

    def further(self, entry: Entry) -> Entry:
        first = self._first.get(self._links.first_of(entry.path) or b"")
        if first is None:
            return entry
        return replace(first, path=entry.path)


class _Places:
    """Which paths are taken and by what; keeps a 64 bit digest of each, not the path."""

    def __init__(self, what: str) -> None:
        self._what = what
        self._files: set[int] = set()
        self._others: set[int] = set()
        self._directories: set[int] = {_digest(b"")}
        self._named: set[int] = set()
        self._last_parent = b""

    def add(self, path: bytes, kind: EntryType) -> None:
        place = _digest(path)
        is_directory = kind is EntryType.DIRECTORY
        taken = place in self._files or place in self._others or place in self._named
        if taken or (not is_directory and place in self._directories):
            raise HostileArchiveError(f"{self._what}: two entries named {_shown(path)}")
        self._enter(path.rpartition(b"/")[0])
        if is_directory:
            self._directories.add(place)
            self._named.add(place)
        elif kind is EntryType.FILE:
            self._files.add(place)
        else:
            self._others.add(place)

    def check_link(self, target: bytes, name: bytes) -> None:
        if target == name or _digest(target) not in self._files:
            raise HostileArchiveError(
                f"{self._what}: a hard link to {_shown(target)}, which is no earlier file"
            )

    def _enter(self, parent: bytes) -> None:
        """Check that `parent` and all above it are directories, or become ones."""
        if parent == self._last_parent:
            return
        at = parent
        while at:
            place = _digest(at)
            if place in self._files or place in self._others:
                raise HostileArchiveError(f"{self._what}: an entry below {_shown(at)}, which is no directory")
            self._directories.add(place)
            at = at.rpartition(b"/")[0]
        self._last_parent = parent


def _entry(member: TarMember, path: bytes, kind: EntryType, link_target: bytes) -> Entry:
    header = member.header
    return Entry(
        path=path,
        type=kind,
        mode=header.mode,
        uid=header.uid,
        gid=header.gid,
        user="",
        group="",
        mtime_ns=member.mtime_ns,
        size=member.size,
        link_target=link_target,
        device=os.makedev(header.major, header.minor) if kind in _DEVICES else 0,
        links=1,
        hardlink_key=None,
        xattrs=_xattrs(member.records),
    )


def _xattrs(records: dict[bytes, bytes]) -> tuple[tuple[str, bytes], ...]:
    found = {
        os.fsdecode(tar_format.xattr_name(key)): value
        for key, value in records.items()
        if key.startswith(tar_format.XATTR_PREFIX)
    }
    for key, name in ((b"SCHILY.acl.access", ACCESS_XATTR), (b"SCHILY.acl.default", DEFAULT_XATTR)):
        if key in records and name not in found:
            value = acl_from_text(records[key].decode("utf-8", "replace"))
            if name == DEFAULT_XATTR or not says_no_more_than_mode(value):
                found[name] = value
    return tuple(sorted(found.items()))


def _digest(path: bytes) -> int:
    return int.from_bytes(hashlib.blake2b(path, digest_size=8).digest(), "big")


def _shown(path: bytes) -> str:
    return repr(path[:120].decode("utf-8", "backslashreplace"))
