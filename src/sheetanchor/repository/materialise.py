"""Writing a stored tree to disk, beside nothing and over nothing.

Everything is made through descriptors of directories that were made just before, with flags
that never follow a symbolic link and never open what exists: whoever else writes to the target
cannot lead a restore out of it.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from sheetanchor.errors import NoSpaceError, RepositoryError
from sheetanchor.patterns import Patterns
from sheetanchor.repository import filesystem
from sheetanchor.repository.blob_reader import BlobReader, subtree_of
from sheetanchor.repository.file_content import shown
from sheetanchor.repository.filemode import NodeType, permissions
from sheetanchor.repository.fill_files import FileFiller
from sheetanchor.repository.ids import Id
from sheetanchor.repository.metadata import Metadata, Warnings
from sheetanchor.repository.model import TreeRestored
from sheetanchor.repository.node import Node

Progress = Callable[[int, int], None]

_NEW_FILE = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
_OTHERS = {NodeType.SYMLINK, NodeType.DEVICE, NodeType.CHARACTER_DEVICE, NodeType.FIFO}


@dataclass
class _Frame:
    """A directory being restored; made on disk when something in it is."""

    path: bytes
    node: Node | None
    entries: Iterator[Node]
    above: _Frame | None
    wanted: bool
    """It, or a directory above it, matches what is to be restored."""
    fd: int | None = None


@dataclass
class _Tally:
    files: int = 0
    directories: int = 0
    others: int = 0
    num_bytes: int = 0
    first_names: dict[tuple[int, int], bytes] = field(default_factory=dict)


class Materialiser:
    """Restores one tree."""

    def __init__(self, blobs: BlobReader, *, threads: int, include: Patterns, progress: Progress) -> None:
        self._blobs = blobs
        self._include = include
        self._progress = progress
        self._warnings = Warnings()
        self._metadata = Metadata(self._warnings)
        self._tally = _Tally()
        self._filler = FileFiller(blobs, self._metadata, threads=threads, progress=progress)
        self._root = -1

    def restore(self, tree: Id, node: Node | None, directory: Path) -> TreeRestored:
        """Write `tree` as `directory`; `node` has the directory's own metadata.

        Raises DamagedRepositoryError, RepositoryError when the disk refuses.
        """
        self._root = _open_target(directory)
        try:
            with self._filler:
                self._descend(tree, node)
        except OSError as error:
            if error.errno in {errno.ENOSPC, errno.EDQUOT}:
                raise NoSpaceError(
                    f"{directory}: {error.strerror}", hint="free space and start again"
                ) from error
            name = f"{directory}/{shown(os.fsencode(error.filename))}" if error.filename else str(directory)
            raise RepositoryError(f"{name}: cannot be written: {error.strerror}") from error
        finally:
            os.close(self._root)
        tally = self._tally
        return TreeRestored(
            files=tally.files,
            directories=tally.directories,
            others=tally.others,
            num_bytes=tally.num_bytes,
            warnings=self._warnings.lines(),
        )

    def _descend(self, tree: Id, node: Node | None) -> None:
        entries = iter(self._blobs.load_tree(tree))
        stack = [_Frame(b"", node, entries, None, not self._include, os.dup(self._root))]
        self._tally.directories += 1
        try:
            while stack:
                below = self._next_below(stack[-1])
                if below is not None:
                    stack.append(below)
                else:
                    self._finish(stack.pop())
        finally:
            for frame in stack:
                if frame.fd is not None:
                    os.close(frame.fd)

    def _next_below(self, frame: _Frame) -> _Frame | None:
        """Restore entries up to the next directory to go into."""
        for node in frame.entries:
            path = frame.path + b"/" + node.name if frame.path else node.name
            is_directory = node.type is NodeType.DIRECTORY
            wanted = frame.wanted or self._include.match(path, is_directory=is_directory)
            if is_directory:
                entries = iter(self._blobs.load_tree(subtree_of(node)))
                below = _Frame(path, node, entries, frame, wanted)
                if wanted:
                    self._made(below)
                return below
            if wanted:
                self._entry(frame, node, path)
        return None

    def _finish(self, frame: _Frame) -> None:
        if frame.fd is None:
            return
        if frame.node is not None:
            self._metadata.set_open(frame.fd, frame.node, frame.path)
        os.close(frame.fd)
        frame.fd = None

    def _made(self, frame: _Frame) -> int:
        """Return the directory's descriptor, making it and those above it."""
        if frame.fd is None:
            assert frame.above is not None
            assert frame.node is not None
            parent = self._made(frame.above)
            os.mkdir(frame.node.name, 0o700, dir_fd=parent)
            frame.fd = filesystem.open_directory(frame.node.name, parent)
            self._tally.directories += 1
            self._progress(0, 1)
        return frame.fd

    def _entry(self, frame: _Frame, node: Node, path: bytes) -> None:
        parent = self._made(frame)
        if node.type is NodeType.FILE:
            self._file(parent, node, path)
        elif node.type in _OTHERS:
            self._other(parent, node, path)
        else:
            self._warnings.add(f"entries of type {node.type} are not restored", path)

    def _file(self, parent: int, node: Node, path: bytes) -> None:
        self._tally.files += 1
        self._tally.num_bytes += node.size
        key = (node.inode, node.device_id)
        first = self._tally.first_names.get(key) if node.links > 1 else None
        if first is not None:
            self._link(first, node.name, parent)
            self._progress(node.size, 1)
            return
        if node.links > 1:
            self._tally.first_names[key] = path
        fd = os.open(node.name, _NEW_FILE, 0o600, dir_fd=parent)
        self._filler.add(fd, node, path)

    def _link(self, first: bytes, name: bytes, parent: int) -> None:
        """Make another name of a file, reached from the root without following any link."""
        *above, last = first.split(b"/")
        fd = os.dup(self._root)
        try:
            for part in above:
                deeper = filesystem.open_directory(part, fd)
                os.close(fd)
                fd = deeper
            os.link(last, name, src_dir_fd=fd, dst_dir_fd=parent, follow_symlinks=False)
        finally:
            os.close(fd)

    def _other(self, parent: int, node: Node, path: bytes) -> None:
        key = (node.inode, node.device_id)
        first = self._tally.first_names.get(key) if node.links > 1 else None
        if first is not None:
            self._link(first, node.name, parent)
        elif node.type is NodeType.SYMLINK:
            os.symlink(node.link_target, node.name, dir_fd=parent)
            self._metadata.set_named(node.name, parent, node, path)
        else:
            mode = filesystem.stat_type(node.type) | permissions(node.mode)
            try:
                os.mknod(node.name, mode, node.device, dir_fd=parent)
            except PermissionError:
                self._warnings.add("devices cannot be made without root", path)
                return
            self._metadata.set_named(node.name, parent, node, path)
        if node.links > 1:
            self._tally.first_names.setdefault(key, path)
        self._tally.others += 1
        self._progress(0, 1)


def _open_target(directory: Path) -> int:
    try:
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        fd = filesystem.open_root(directory)
        if os.listdir(fd):
            os.close(fd)
            raise RepositoryError(
                f"{directory}: is not empty", hint="restore into a directory that does not exist yet"
            )
    except OSError as error:
        raise RepositoryError(f"{directory}: cannot be made: {error.strerror}") from error
    return fd
