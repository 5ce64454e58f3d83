"""A sink and a source over a plain directory, so that components run without a repository.

What the repository does with packs and trees is done here with ordinary copies: names, bytes,
owners, modes, xattrs, hard links and nanosecond mtimes survive; holes do not.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import stat
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO

from sheetanchor.components.base import (
    Difference,
    Entry,
    EntryType,
    StreamSaved,
    TreeRestored,
    TreeSaved,
)
from sheetanchor.patterns import Patterns

_TYPES = {
    stat.S_IFREG: EntryType.FILE,
    stat.S_IFDIR: EntryType.DIRECTORY,
    stat.S_IFLNK: EntryType.SYMLINK,
    stat.S_IFBLK: EntryType.DEVICE,
    stat.S_IFCHR: EntryType.CHARACTER_DEVICE,
    stat.S_IFIFO: EntryType.FIFO,
    stat.S_IFSOCK: EntryType.SOCKET,
}


@dataclass
class _Count:
    """What a copy has met so far."""

    links: dict[tuple[int, int], bytes] = field(default_factory=dict)
    files: int = 0
    directories: int = 0
    others: int = 0
    num_bytes: int = 0
    sockets: int = 0
    failures: list[OSError] = field(default_factory=list)
    merkle: list[bytes] = field(default_factory=list)


def _entry(path: bytes, full: bytes) -> Entry:
    found = os.lstat(full)
    kind = _TYPES[stat.S_IFMT(found.st_mode)]
    shared = kind is EntryType.FILE and found.st_nlink > 1
    return Entry(
        path=path,
        type=kind,
        mode=stat.S_IMODE(found.st_mode),
        uid=found.st_uid,
        gid=found.st_gid,
        user="",
        group="",
        mtime_ns=found.st_mtime_ns,
        size=found.st_size if kind is EntryType.FILE else 0,
        link_target=os.readlink(full) if kind is EntryType.SYMLINK else b"",
        device=found.st_rdev,
        links=found.st_nlink,
        hardlink_key=(found.st_ino, found.st_dev) if shared else None,
        xattrs=tuple(
            sorted((name, os.getxattr(full, name, follow_symlinks=False)) for name in _xattrs(full))
        ),
    )


def _xattrs(full: bytes) -> list[str]:
    return os.listxattr(full, follow_symlinks=False)


def _put_metadata(entry: Entry, target: bytes) -> None:
    if os.geteuid() == 0:
        os.chown(target, entry.uid, entry.gid, follow_symlinks=False)
    for name, value in entry.xattrs:
        os.setxattr(target, name, value, follow_symlinks=False)
    if entry.type is not EntryType.SYMLINK:
        os.chmod(target, entry.mode)
    os.utime(target, ns=(entry.mtime_ns, entry.mtime_ns), follow_symlinks=False)


def _copy_one(entry: Entry, source: bytes, target: bytes, count: _Count) -> None:
    """Make one entry that is no directory, with its metadata."""
    if entry.hardlink_key in count.links:
        assert entry.hardlink_key is not None
        os.link(count.links[entry.hardlink_key], target)
        count.files += 1
        return
    if entry.type is EntryType.FILE:
        with open(source, "rb") as reader, open(target, "wb") as writer:
            shutil.copyfileobj(reader, writer)
        count.files += 1
        count.num_bytes += entry.size
    elif entry.type is EntryType.SYMLINK:
        os.symlink(entry.link_target, target)
        count.others += 1
    else:
        os.mknod(target, stat.S_IFMT(os.lstat(source).st_mode) | 0o600, entry.device)
        count.others += 1
    _put_metadata(entry, target)
    if entry.hardlink_key is not None:
        count.links[entry.hardlink_key] = target


def _walk(root: bytes, patterns: Patterns, count: _Count, path: bytes = b"") -> Iterator[Entry]:
    """Yield `root` and all below it, names sorted, without what the patterns match."""
    full = os.path.join(root, path) if path else root
    entry = _entry(path, full)
    if entry.type is EntryType.SOCKET:
        count.sockets += 1
        return
    yield entry
    if entry.type is not EntryType.DIRECTORY:
        return
    for name in sorted(os.listdir(full)):
        below = path + b"/" + name if path else name
        is_directory = stat.S_ISDIR(os.lstat(os.path.join(full, name)).st_mode)
        if not patterns.match(below, is_directory=is_directory):
            yield from _walk(root, patterns, count, below)


def _copy_tree(root: bytes, target: bytes, entries: Iterator[Entry], count: _Count) -> None:
    """Copy `entries` of `root` to `target`; directories get their metadata last."""
    directories: list[tuple[Entry, bytes]] = []
    for entry in entries:
        count.merkle.append(repr(entry).encode())
        source = os.path.join(root, entry.path) if entry.path else root
        place = os.path.join(target, entry.path) if entry.path else target
        if entry.type is EntryType.DIRECTORY:
            os.makedirs(place, exist_ok=True)
            directories.append((entry, place))
            count.directories += 1
            continue
        os.makedirs(os.path.dirname(place), exist_ok=True)
        try:
            _copy_one(entry, source, place, count)
        except OSError as error:
            count.failures.append(error)
    for entry, place in reversed(directories):
        _put_metadata(entry, place)


class DirectorySink:
    """Puts streams and trees below `directory`, which is the component's root."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        directory.mkdir(parents=True, exist_ok=True)

    def write_stream(self, path: str, source: BinaryIO, *, mode: int = 0o600) -> StreamSaved:
        """Store a stream as a file."""
        target = self._place(path)
        digest, size = hashlib.sha256(), 0
        with target.open("wb") as writer:
            while piece := source.read(1 << 20):
                digest.update(piece)
                size += writer.write(piece)
        target.chmod(mode)
        return StreamSaved(size=size, sha256=digest.hexdigest())

    def write_tree(self, path: str, directory: Path, *, exclude: Sequence[str] = ()) -> TreeSaved:
        """Store a directory with its own entry."""
        return self._save(os.fsencode(directory), self._place(path), Patterns(exclude))

    def write_file(self, path: str, file: Path) -> TreeSaved:
        """Store one file with its metadata; a symbolic link to it is followed."""
        return self._save(os.path.realpath(os.fsencode(file)), self._place(path), Patterns(()))

    def _place(self, path: str) -> Path:
        target = self.directory / path if path else self.directory
        target.parent.mkdir(parents=True, exist_ok=True)
        return target

    def _save(self, source: bytes, target: Path, patterns: Patterns) -> TreeSaved:
        count = _Count()
        _copy_tree(source, os.fsencode(target), _walk(source, patterns, count), count)
        content = hashlib.sha256(b"\n".join(count.merkle)).hexdigest()
        return TreeSaved(
            tree=content,
            files=count.files,
            directories=count.directories,
            others=count.others,
            num_bytes=count.num_bytes,
            skipped_sockets=count.sockets,
            warnings=(),
            failures=tuple(f"{os.fsdecode(error.filename)}: {error.strerror}" for error in count.failures),
        )


class DirectorySource:
    """Reads what a DirectorySink has put below `directory`."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory

    def exists(self, path: str) -> bool:
        """Say whether `path` is stored."""
        return os.path.lexists(self._place(path))

    def walk(self, path: str = "") -> Iterator[Entry]:
        """Yield the entry at `path` and all below it."""
        return _walk(os.fsencode(self._place(path)), Patterns(()), _Count())

    def open(self, path: str | bytes) -> AbstractContextManager[BinaryIO]:
        """Read a stored file."""
        return open(os.path.join(os.fsencode(self.directory), os.fsencode(path)), "rb")

    def restore_tree(self, path: str, directory: Path, *, include: Sequence[str] = ()) -> TreeRestored:
        """Copy the tree at `path` to `directory`; with `include` only what matches, and its parents."""
        root, count = os.fsencode(self._place(path)), _Count()
        _copy_tree(root, os.fsencode(directory), _selected(root, Patterns(include)), count)
        if count.failures:
            raise count.failures[0]
        return TreeRestored(files=count.files, num_bytes=count.num_bytes, warnings=())

    def compare_tree(self, path: str, directory: Path) -> list[Difference]:
        """Compare names, metadata, hard links and bytes, both ways."""
        stored, found = os.fsencode(self._place(path)), os.fsencode(directory)
        return compare(stored, found)

    def _place(self, path: str) -> Path:
        return self.directory / path if path else self.directory


def _selected(root: bytes, include: Patterns) -> Iterator[Entry]:
    entries = list(_walk(root, Patterns(()), _Count()))
    if not include:
        yield from entries
        return
    wanted = {
        entry.path
        for entry in entries
        if include.covers(entry.path, is_directory=entry.type is EntryType.DIRECTORY)
    }
    parents = {b""}
    for path in wanted:
        while b"/" in path:
            path = path.rpartition(b"/")[0]
            parents.add(path)
    yield from (entry for entry in entries if entry.path in wanted or entry.path in parents)


def compare(expected: bytes, found: bytes) -> list[Difference]:
    """List every way in which the tree `found` is not the tree `expected`."""
    left = {entry.path: entry for entry in _walk(expected, Patterns(()), _Count())}
    right = {entry.path: entry for entry in _walk(found, Patterns(()), _Count())}
    groups = (_link_groups(left), _link_groups(right))
    out = [Difference(os.fsdecode(path), "missing") for path in left if path not in right]
    out += [Difference(os.fsdecode(path), "not in the backup") for path in right if path not in left]
    for path in left.keys() & right.keys():
        for what in ("type", "mode", "uid", "gid", "mtime_ns", "size", "link_target", "xattrs"):
            if getattr(left[path], what) != getattr(right[path], what):
                out.append(Difference(os.fsdecode(path), what))
        if groups[0].get(path) != groups[1].get(path):
            out.append(Difference(os.fsdecode(path), "hard links"))
        if left[path].type is EntryType.FILE and right[path].type is EntryType.FILE:
            places = [os.path.join(root, path) if path else root for root in (expected, found)]
            if _digest(places[0]) != _digest(places[1]):
                out.append(Difference(os.fsdecode(path), "content"))
    return sorted(out, key=lambda difference: (difference.path, difference.what))


def _link_groups(entries: dict[bytes, Entry]) -> dict[bytes, tuple[bytes, ...]]:
    names: dict[tuple[int, int], list[bytes]] = {}
    for path, entry in entries.items():
        if entry.hardlink_key is not None:
            names.setdefault(entry.hardlink_key, []).append(path)
    return {path: tuple(sorted(group)) for group in names.values() for path in group if len(group) > 1}


def _digest(path: bytes) -> str:
    with open(path, "rb") as reader:
        return hashlib.file_digest(reader, "sha256").hexdigest()
