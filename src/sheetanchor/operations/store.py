"""Joins the component seam to the repository: a sink that writes into one, a source that reads."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager
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
from sheetanchor.errors import DamagedRepositoryError
from sheetanchor.repository import model
from sheetanchor.repository.ids import Id
from sheetanchor.repository.node import Node, permissions
from sheetanchor.repository.repository import Reader, TreeWriter


class RepositorySink:
    """Puts what a component captures into one snapshot's tree."""

    def __init__(self, writer: TreeWriter, parent: Id | None) -> None:
        self._writer = writer
        self._parent = parent
        self.bytes_read = 0

    def write_stream(self, path: str, source: BinaryIO, *, mode: int = 0o600) -> StreamSaved:
        """Store the stream as the file `path`."""
        saved = self._writer.write_stream(path, source, mode=mode)
        self.bytes_read += saved.size
        return StreamSaved(size=saved.size, sha256=saved.sha256)

    def write_tree(self, path: str, directory: Path, *, exclude: Sequence[str] = ()) -> TreeSaved:
        """Store `directory` at `path`."""
        return self._count(
            self._writer.write_directory(path, directory, exclude=exclude, parent=self._parent)
        )

    def write_file(self, path: str, file: Path) -> TreeSaved:
        """Store one file with its metadata at `path`."""
        return self._count(self._writer.write_file(path, file))

    def write_entries(self, path: str, entries: Iterable[tuple[Entry, BinaryIO | None]]) -> TreeSaved:
        """Store the entries of a portable archive as the tree at `path`."""
        return self._count(self._writer.write_entries(path, entries))

    def _count(self, saved: model.TreeSaved) -> TreeSaved:
        self.bytes_read += saved.num_bytes
        return TreeSaved(
            tree=saved.tree.hex(),
            files=saved.files,
            directories=saved.directories,
            others=saved.others,
            num_bytes=saved.num_bytes,
            skipped_sockets=saved.skipped_sockets,
            warnings=saved.warnings,
            failures=saved.failures,
        )


class RepositorySource:
    """Reads one component's part of a snapshot; every blob is checked against its hash."""

    def __init__(self, reader: Reader, tree: Id, root: str) -> None:
        self._reader = reader
        self._tree = tree
        self._root = root.strip("/")
        self.progress: Callable[[int, int], None] = lambda num_bytes, items: None
        """Told of bytes and entries as trees are restored and compared; whoever shows a task sets it."""

    def exists(self, path: str) -> bool:
        """Say whether something is stored at `path`."""
        return self._reader.node(self._tree, self._full(path)) is not None

    def walk(self, path: str = "") -> Iterator[Entry]:
        """Yield the entry at `path` and all below it."""
        for name, node in self._reader.walk(self._tree, self._full(path)):
            yield entry_of(name, node)

    def open(self, path: str | bytes) -> AbstractContextManager[BinaryIO]:
        """Read a stored file as a stream."""
        full = self._full(path)
        node = self._reader.node(self._tree, full)
        if node is None:
            raise DamagedRepositoryError(f"/{_shown(full)} is not in the snapshot")
        return self._reader.open(node)

    def restore_tree(self, path: str, directory: Path, *, include: Sequence[str] = ()) -> TreeRestored:
        """Write the tree at `path` as `directory`."""
        done = self._reader.restore_tree(
            self._tree, self._full(path), directory, include=include, progress=self.progress
        )
        return TreeRestored(files=done.files, num_bytes=done.num_bytes, warnings=done.warnings)

    def compare_tree(self, path: str, directory: Path) -> list[Difference]:
        """Compare `directory` with the tree at `path`."""
        found = self._reader.compare_tree(self._tree, self._full(path), directory, progress=self.progress)
        return [Difference(path=one.path, what=one.what) for one in found]

    def _full(self, path: str | bytes) -> bytes:
        raw = path.encode("utf-8", "surrogateescape") if isinstance(path, str) else path
        return b"/".join(part for part in (self._root.encode(), raw.strip(b"/")) if part)


def entry_of(path: bytes, node: Node) -> Entry:
    """Return a stored node as components and archives see it."""
    return Entry(
        path=path,
        type=EntryType(node.type.value),
        mode=permissions(node.mode),
        uid=node.uid,
        gid=node.gid,
        user=node.user,
        group=node.group,
        mtime_ns=node.mtime_ns,
        size=node.size,
        link_target=node.link_target,
        device=node.device,
        links=node.links,
        hardlink_key=(node.inode, node.device_id) if node.links > 1 else None,
        xattrs=tuple(node.xattrs),
    )


def _shown(path: bytes) -> str:
    return path.decode("utf-8", "backslashreplace")
