"""Storing a directory tree: walked once, small files at once, large ones by the worker threads.

Directories are stored in post-order from a queue, so that the walk never waits for the content
of the directory it is in.
"""

from __future__ import annotations

import errno
import os
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from sheetanchor.errors import DamagedRepositoryError
from sheetanchor.patterns import Patterns
from sheetanchor.repository import filesystem
from sheetanchor.repository.file_content import FileReader, Unreadable, shown
from sheetanchor.repository.filemode import NodeType, type_from_stat
from sheetanchor.repository.ids import BlobType, Id
from sheetanchor.repository.model import TreeSaved
from sheetanchor.repository.node import Node, encode_tree
from sheetanchor.repository.stream_writer import PendingContent
from sheetanchor.repository.writer import Account, BlobWriter

_QUEUED_NODES = 20_000
"""Entries of walked directories that may wait for their content."""

LoadTree = Callable[[Id], list[Node]]
Progress = Callable[[int, int], None]
"""Called with bytes and entries that were dealt with since the last call."""


@dataclass
class _Frame:
    """A directory that is being walked."""

    fd: int
    path: bytes
    node: Node
    names: Iterator[bytes]
    before: dict[bytes, Node]
    """Entries of the same directory in the parent snapshot."""
    nodes: list[Node] = field(default_factory=list)
    pending: list[tuple[Node, PendingContent]] = field(default_factory=list)


@dataclass
class Tally:
    """What a walk has met."""

    files: int = 0
    directories: int = 0
    others: int = 0
    num_bytes: int = 0
    skipped_sockets: int = 0
    unmodified: int = 0
    warnings: list[str] = field(default_factory=list)
    failures: list[str] = field(default_factory=list)

    def saved(self, tree: Id) -> TreeSaved:
        """Return the final record."""
        return TreeSaved(
            tree=tree,
            files=self.files,
            directories=self.directories,
            others=self.others,
            num_bytes=self.num_bytes,
            skipped_sockets=self.skipped_sockets,
            unmodified=self.unmodified,
            warnings=tuple(self.warnings),
            failures=tuple(self.failures),
        )


class FileTreeWriter:
    """Walks one directory tree."""

    def __init__(
        self,
        writer: BlobWriter,
        files: FileReader,
        owners: filesystem.Owners,
        *,
        exclude: Patterns,
        load_tree: LoadTree,
        progress: Progress,
        account: Account,
    ) -> None:
        self.tally = Tally()
        self._writer = writer
        self._files = files
        self._owners = owners
        self._exclude = exclude
        self._load_tree = load_tree
        self._progress = progress
        self._account = account
        self._queue: deque[_Frame] = deque()
        self._queued_nodes = 0

    def write(self, root: int, name: bytes, parent: Id | None) -> Node:
        """Store the tree below the open directory `root` (closed on return); return its node.

        `parent` is the id of the same directory's tree in an earlier snapshot. Raises OSError
        when the root itself cannot be read, and what stops the writer.
        """
        stack: list[_Frame] = []
        try:
            stack.append(self._frame(root, b"", name, parent))
            top = stack[0].node
            while stack:
                self._walk(stack)
            self._store_queued(0)
        finally:
            for frame in stack:
                os.close(frame.fd)
        return top

    def _walk(self, stack: list[_Frame]) -> None:
        """Go through the directory on top of the stack, until it ends or one below it begins."""
        frame = stack[-1]
        for name in frame.names:
            below = self._entry(frame, name)
            if below is not None:
                stack.append(below)
                return
        stack.pop()
        os.close(frame.fd)
        if stack:
            stack[-1].nodes.append(frame.node)
        self._queue.append(frame)
        self._queued_nodes += len(frame.nodes) + 1
        self._store_queued(_QUEUED_NODES)

    def _frame(self, fd: int, path: bytes, name: bytes, parent: Id | None) -> _Frame:
        try:
            node = filesystem.node_from_status(name, os.fstat(fd), self._owners)
            node.xattrs = filesystem.xattrs_of(fd)
            frame = _Frame(fd, path, node, iter(filesystem.names(fd)), self._entries_before(parent))
        except BaseException:
            os.close(fd)
            raise
        self.tally.directories += 1
        self._progress(0, 1)
        return frame

    def _entries_before(self, parent: Id | None) -> dict[bytes, Node]:
        if parent is None:
            return {}
        try:
            return {node.name: node for node in self._load_tree(parent)}
        except DamagedRepositoryError as error:
            self.tally.warnings.append(earlier_damaged(error))
            return {}

    def _entry(self, frame: _Frame, name: bytes) -> _Frame | None:
        """Store one entry; return a frame when it is a directory to go into."""
        path = frame.path + b"/" + name if frame.path else name
        try:
            status = filesystem.lstat(name, frame.fd)
            kind = type_from_stat(status.st_mode)
            if self._exclude and self._exclude.match(path, is_directory=kind is NodeType.DIRECTORY):
                return None
            if kind is NodeType.DIRECTORY:
                before = frame.before.get(name)
                fd = filesystem.open_directory(name, frame.fd)
                return self._frame(fd, path, name, before.subtree if before else None)
            if kind is NodeType.FILE:
                self._file(frame, name, path, status)
            else:
                self._other(frame, name, path, status, kind)
        except FileNotFoundError:
            self.tally.warnings.append(f"{shown(path)}: vanished while the tree was read")
        except Unreadable as error:
            self.tally.failures.append(f"{shown(path)}: {error}")
        except OSError as error:
            if error.errno in {errno.ELOOP, errno.ENOTDIR, errno.ESTALE}:
                self.tally.warnings.append(f"{shown(path)}: changed its type while the tree was read")
            else:
                self.tally.failures.append(f"{shown(path)}: {error.strerror}")
        return None

    def _file(self, frame: _Frame, name: bytes, path: bytes, status: os.stat_result) -> None:
        taken_over = self._files.unmodified(status, frame.before.get(name))
        if taken_over is not None:
            node = filesystem.node_from_status(name, status, self._owners)
            node.content, node.xattrs = taken_over.content, taken_over.xattrs
            self.tally.unmodified += 1
        else:
            node, content, changed = self._files.read(name, frame.fd, status)
            frame.pending.append((node, content))
            if changed:
                self.tally.warnings.append(f"{shown(path)}: changed while it was read")
        frame.nodes.append(node)
        self.tally.files += 1
        self.tally.num_bytes += node.size
        self._progress(node.size, 1)

    def _other(self, frame: _Frame, name: bytes, path: bytes, status: os.stat_result, kind: NodeType) -> None:
        if kind is NodeType.SOCKET:
            self.tally.skipped_sockets += 1
            return
        if kind is NodeType.IRREGULAR:
            self.tally.failures.append(f"{shown(path)}: is of an unknown type")
            return
        frame.nodes.append(filesystem.read_metadata(name, frame.fd, status, self._owners))
        self.tally.others += 1
        self._progress(0, 1)

    def _store_queued(self, keep_nodes: int) -> None:
        """Store walked directories, oldest first, until at most `keep_nodes` entries wait."""
        if keep_nodes == 0:
            self._files.release()
        while self._queue and (self._queued_nodes > keep_nodes or keep_nodes == 0):
            frame = self._queue.popleft()
            self._queued_nodes -= len(frame.nodes) + 1
            for node, content in frame.pending:
                node.content = content.wait(self._writer.check)
            tree = encode_tree(frame.nodes)
            frame.node.subtree = self._writer.save(BlobType.TREE, tree, self._account)


def earlier_damaged(error: DamagedRepositoryError) -> str:
    """Return the warning for a parent snapshot that is of no use."""
    return f"the earlier snapshot is damaged, files are read anew: {error.message}"
