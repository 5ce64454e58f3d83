"""Comparing files on disk with what is stored: everything a restore puts back, byte for byte."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from sheetanchor.repository import filesystem
from sheetanchor.repository.blob_reader import BlobReader, content_of, subtree_of
from sheetanchor.repository.file_content import shown
from sheetanchor.repository.filemode import NodeType, permissions, type_from_stat
from sheetanchor.repository.ids import Id
from sheetanchor.repository.model import Difference
from sheetanchor.repository.node import Node

Progress = Callable[[int, int], None]

_IGNORED_XATTRS = frozenset({"security.selinux"})
"""Set by the running system's policy, not by whoever owns the file."""


@dataclass
class _Frame:
    """A directory being compared."""

    fd: int
    path: bytes
    stored: dict[bytes, Node]
    names: Iterator[bytes]


class Comparison:
    """Compares one directory; for one run."""

    def __init__(self, blobs: BlobReader, progress: Progress) -> None:
        self._blobs = blobs
        self._progress = progress
        self._owners = filesystem.Owners()
        self._found: list[Difference] = []
        self._stored_links: dict[tuple[int, int], tuple[int, int]] = {}
        self._disk_links: dict[tuple[int, int], tuple[int, int]] = {}

    def run(self, tree: Id, node: Node | None, directory: Path) -> list[Difference]:
        """Return all differences, in the order of the tree. Raises DamagedRepositoryError."""
        try:
            root = filesystem.open_root(directory)
        except OSError as error:
            return [Difference("", f"cannot be read: {error.strerror}")]
        if node is not None:
            self._compare_open(root, node, b"")
        stack = [self._frame(root, b"", tree)]
        try:
            while stack:
                below = self._next_below(stack[-1])
                if below is not None:
                    stack.append(below)
                else:
                    os.close(stack.pop().fd)
        finally:
            for frame in stack:
                os.close(frame.fd)
        return self._found

    def _frame(self, fd: int, path: bytes, tree: Id) -> _Frame:
        try:
            stored = {node.name: node for node in self._blobs.load_tree(tree)}
            names = iter(sorted(stored.keys() | set(filesystem.names(fd))))
        except BaseException:
            os.close(fd)
            raise
        return _Frame(fd, path, stored, names)

    def _differs(self, path: bytes, what: str) -> None:
        self._found.append(Difference(shown(path), what))

    def _next_below(self, frame: _Frame) -> _Frame | None:
        """Compare entries up to the next directory to go into."""
        for name in frame.names:
            path = frame.path + b"/" + name if frame.path else name
            node = frame.stored.get(name)
            if node is None:
                self._differs(path, "is on disk but not stored")
                continue
            try:
                opened = self._entry(frame.fd, name, path, node)
            except FileNotFoundError:
                self._differs(path, "is missing")
                continue
            except OSError as error:
                self._differs(path, f"cannot be read: {error.strerror}")
                continue
            if opened is not None:
                return self._frame(opened, path, subtree_of(node))
        return None

    def _entry(self, parent: int, name: bytes, path: bytes, node: Node) -> int | None:
        """Compare one entry; return a descriptor when it is a directory."""
        status = filesystem.lstat(name, parent)
        kind = type_from_stat(status.st_mode)
        if kind is not node.type:
            self._differs(path, f"is a {kind} instead of a {node.type}")
            return None
        if kind is NodeType.DIRECTORY:
            fd = filesystem.open_directory(name, parent)
            self._compare_open(fd, node, path)
            return fd
        if kind is NodeType.FILE:
            fd, _ = filesystem.open_file(name, parent)
            try:
                self._compare_open(fd, node, path)
                self._content(fd, node, path)
            finally:
                os.close(fd)
        else:
            self._metadata(filesystem.read_metadata(name, parent, status, self._owners), node, path)
        self._links(status, node, path)
        self._progress(node.size, 1)
        return None

    def _compare_open(self, fd: int, node: Node, path: bytes) -> None:
        live = filesystem.node_from_status(node.name, os.fstat(fd), self._owners)
        live.xattrs = filesystem.xattrs_of(fd)
        self._metadata(live, node, path)

    def _metadata(self, live: Node, node: Node, path: bytes) -> None:
        modes = permissions(live.mode), permissions(node.mode)
        if modes[0] != modes[1] and node.type is not NodeType.SYMLINK:
            self._differs(path, f"has mode {modes[0]:04o} instead of {modes[1]:04o}")
        if (live.uid, live.gid) != (node.uid, node.gid):
            self._differs(path, f"has owner {live.uid}:{live.gid} instead of {node.uid}:{node.gid}")
        if live.mtime_ns != node.mtime_ns:
            self._differs(path, f"was modified at {live.mtime_ns} ns instead of {node.mtime_ns} ns")
        if live.link_target != node.link_target:
            self._differs(path, f"leads to {shown(live.link_target)} instead of {shown(node.link_target)}")
        if live.device != node.device:
            self._differs(path, f"is device {live.device} instead of {node.device}")
        if live.size != node.size:
            self._differs(path, f"has {live.size} bytes instead of {node.size}")
        self._xattrs(dict(live.xattrs), dict(node.xattrs), path)

    def _xattrs(self, live: dict[str, bytes], stored: dict[str, bytes], path: bytes) -> None:
        for key in sorted((live.keys() | stored.keys()) - _IGNORED_XATTRS):
            if live.get(key) != stored.get(key):
                what = (
                    "is missing" if key not in live else "is not stored" if key not in stored else "differs"
                )
                self._differs(path, f"extended attribute {key} {what}")

    def _content(self, fd: int, node: Node, path: bytes) -> None:
        offset = 0
        for blob_id in content_of(node):
            length = self._blobs.plain_length(blob_id)
            if hashlib.sha256(_read(fd, offset, length)).digest() != blob_id:
                self._differs(path, f"has other content between bytes {offset} and {offset + length}")
                return
            offset += length

    def _links(self, status: os.stat_result, node: Node, path: bytes) -> None:
        """Names of one file in the snapshot must be names of one file on disk, and only those."""
        on_disk = (status.st_ino, status.st_dev)
        stored = (node.inode, node.device_id)
        if node.links <= 1:
            if status.st_nlink > 1 and on_disk in self._disk_links:
                self._differs(path, "is a hard link of another name")
            return
        if (
            self._stored_links.setdefault(stored, on_disk) != on_disk
            or self._disk_links.setdefault(on_disk, stored) != stored
        ):
            self._differs(path, "is not a hard link of the same names")


def _read(fd: int, offset: int, length: int) -> bytes:
    parts: list[bytes] = []
    while length and (data := os.pread(fd, length, offset)):
        parts.append(data)
        offset += len(data)
        length -= len(data)
    return parts[0] if len(parts) == 1 else b"".join(parts)
