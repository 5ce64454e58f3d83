"""Storing a directory tree: walked once, small files in batches, large ones by the worker threads.

Directories are stored in post-order from a queue, so that the walk never waits for the content
of the directory it is in.
"""

from __future__ import annotations

import errno
import os
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

from sheetanchor.errors import DamagedRepositoryError
from sheetanchor.patterns import Patterns
from sheetanchor.repository import filesystem
from sheetanchor.repository.earlier import EarlierDirectory
from sheetanchor.repository.file_content import FileReader, Unreadable, shown
from sheetanchor.repository.file_text import FileTexts
from sheetanchor.repository.filemode import NodeType, type_from_stat
from sheetanchor.repository.ids import BlobType, Id
from sheetanchor.repository.model import TreeSaved
from sheetanchor.repository.node import Node, encode_entries
from sheetanchor.repository.small_batches import SmallFileBatches, SmallFileStore
from sheetanchor.repository.small_files import SMALL_SIZE, StoredFile
from sheetanchor.repository.stream_writer import PendingContent
from sheetanchor.repository.writer import Account, BlobWriter

_QUEUED_NODES = 20_000
"""Entries of walked directories that may wait for their content."""

_PROGRESS_ENTRIES = 64
_PROGRESS_BYTES = 1024 * 1024
"""Entries and bytes that are told together: telling each small file costs as much as storing it."""

LoadTree = Callable[[Id], bytes]
"""Returns a tree blob. Raises DamagedRepositoryError."""
Progress = Callable[[int, int], None]
"""Called with bytes and entries that were dealt with since the last call."""


@dataclass
class _Frame:
    """A directory that is being walked."""

    fd: int
    path: bytes
    node: Node
    names: Iterator[bytes]
    before: EarlierDirectory
    """The same directory in the parent snapshot."""
    entries: list[tuple[bytes, Node | str]] = field(default_factory=list)
    """Names and nodes, or their JSON; small files are put in when they are stored."""
    awaited: int = 0
    """Small files that are not in `entries` yet."""
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
        small: SmallFileStore,
        owners: filesystem.Owners,
        *,
        has_blob: Callable[[Id], bool],
        exclude: Patterns,
        load_tree: LoadTree,
        progress: Progress,
        account: Account,
    ) -> None:
        self.tally = Tally()
        self._writer = writer
        self._files = files
        self._small: SmallFileBatches[_Frame] = SmallFileBatches(small, account, self._small_stored)
        self._texts = FileTexts(owners)
        self._has_blob = has_blob
        self._owners = owners
        self._exclude = exclude
        self._load_tree = load_tree
        self._progress = progress
        self._account = account
        self._queue: deque[_Frame] = deque()
        self._queued_nodes = 0
        self._untold_bytes = 0
        self._untold_entries = 0

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
            self._tell_progress()
        finally:
            self._small.close()
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
            stack[-1].entries.append((frame.node.name, frame.node))
        self._queue.append(frame)
        self._queued_nodes += len(frame.entries) + frame.awaited + 1
        self._store_queued(_QUEUED_NODES)

    def _frame(self, fd: int, path: bytes, name: bytes, parent: Id | None) -> _Frame:
        try:
            node = filesystem.node_from_status(name, os.fstat(fd), self._owners)
            node.xattrs = filesystem.xattrs_of(fd)
            frame = _Frame(fd, path, node, iter(filesystem.names(fd)), self._before(parent))
        except BaseException:
            os.close(fd)
            raise
        self.tally.directories += 1
        self._advance(0)
        return frame

    def _before(self, parent: Id | None) -> EarlierDirectory:
        if parent is None:
            return EarlierDirectory()
        try:
            return EarlierDirectory(self._load_tree(parent))
        except DamagedRepositoryError as error:
            self.tally.warnings.append(earlier_damaged(error))
            return EarlierDirectory()

    def _entry(self, frame: _Frame, name: bytes) -> _Frame | None:
        """Store one entry; return a frame when it is a directory to go into."""
        path = frame.path + b"/" + name if frame.path else name
        with self._recorded(path):
            status = filesystem.lstat(name, frame.fd)
            kind = type_from_stat(status.st_mode)
            if self._exclude and self._exclude.match(path, is_directory=kind is NodeType.DIRECTORY):
                return None
            if kind is NodeType.DIRECTORY:
                fd = filesystem.open_directory(name, frame.fd)
                return self._frame(fd, path, name, frame.before.subtree(name))
            if kind is NodeType.FILE:
                self._file(frame, name, path, status)
            else:
                self._other(frame, name, path, status, kind)
        return None

    def _file(self, frame: _Frame, name: bytes, path: bytes, status: os.stat_result) -> None:
        text = frame.before.take_over(name, status, self._texts, self._has_blob)
        if text is not None:
            self.tally.unmodified += 1
            self._add_file(frame, name, text, status.st_size)
        elif status.st_size <= SMALL_SIZE and status.st_nlink == 1:
            frame.awaited += 1
            self._small.add(frame, frame.fd, name, status.st_size)
        else:
            self._read(frame, frame.fd, name, path, status)

    def _small_stored(
        self, frame: _Frame, directory: int, names: Sequence[bytes], stored: Sequence[StoredFile | None]
    ) -> None:
        """Put in small files that are stored; deal one by one with those that had some trouble."""
        frame.awaited -= len(names)
        for name, found in zip(names, stored, strict=True):
            if found is not None:
                self._add_file(frame, name, found.text, found.size)
                continue
            path = frame.path + b"/" + name if frame.path else name
            with self._recorded(path):
                status = filesystem.lstat(name, directory)
                if type_from_stat(status.st_mode) is not NodeType.FILE:
                    raise OSError(errno.ESTALE, "is no regular file any more")
                self._read(frame, directory, name, path, status)

    def _read(self, frame: _Frame, directory: int, name: bytes, path: bytes, status: os.stat_result) -> None:
        node, content, changed = self._files.read(name, directory, status)
        frame.pending.append((node, content))
        if changed:
            self.tally.warnings.append(f"{shown(path)}: changed while it was read")
        self._add_file(frame, name, node, node.size)

    def _add_file(self, frame: _Frame, name: bytes, entry: Node | str, size: int) -> None:
        frame.entries.append((name, entry))
        self.tally.files += 1
        self.tally.num_bytes += size
        self._advance(size)

    def _other(self, frame: _Frame, name: bytes, path: bytes, status: os.stat_result, kind: NodeType) -> None:
        if kind is NodeType.SOCKET:
            self.tally.skipped_sockets += 1
            return
        if kind is NodeType.IRREGULAR:
            self.tally.failures.append(f"{shown(path)}: is of an unknown type")
            return
        frame.entries.append((name, filesystem.read_metadata(name, frame.fd, status, self._owners)))
        self.tally.others += 1
        self._advance(0)

    def _advance(self, num_bytes: int) -> None:
        self._untold_entries += 1
        self._untold_bytes += num_bytes
        if self._untold_entries >= _PROGRESS_ENTRIES or self._untold_bytes >= _PROGRESS_BYTES:
            self._tell_progress()

    def _tell_progress(self) -> None:
        num_bytes, entries = self._untold_bytes, self._untold_entries
        self._untold_bytes = self._untold_entries = 0
        if entries:
            self._progress(num_bytes, entries)

    @contextmanager
    def _recorded(self, path: bytes) -> Iterator[None]:
        """Turn what goes wrong with one entry into a line of the tally."""
        try:
            yield
        except FileNotFoundError:
            self.tally.warnings.append(f"{shown(path)}: vanished while the tree was read")
        except Unreadable as error:
            self.tally.failures.append(f"{shown(path)}: {error}")
        except OSError as error:
            if error.errno in {errno.ELOOP, errno.ENOTDIR, errno.ESTALE}:
                self.tally.warnings.append(f"{shown(path)}: changed its type while the tree was read")
            else:
                self.tally.failures.append(f"{shown(path)}: {error.strerror}")

    def _store_queued(self, keep_nodes: int) -> None:
        """Store walked directories, oldest first, until at most `keep_nodes` entries wait."""
        if keep_nodes == 0:
            self._files.release()
        while self._queue and (self._queued_nodes > keep_nodes or keep_nodes == 0):
            frame = self._queue.popleft()
            self._queued_nodes -= len(frame.entries) + frame.awaited + 1
            self._small.finish(frame)
            for node, content in frame.pending:
                node.content = content.wait(self._writer.check)
            tree = encode_entries(frame.entries)
            frame.node.subtree = self._writer.save(BlobType.TREE, tree, self._account)


def earlier_damaged(error: DamagedRepositoryError) -> str:
    """Return the warning for a parent snapshot that is of no use."""
    return f"the earlier snapshot is damaged, files are read anew: {error.message}"
