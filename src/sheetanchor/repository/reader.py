"""Looking into snapshots: nodes by path, walks, files as streams, restores and comparisons."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO, cast

from sheetanchor.errors import RepositoryError
from sheetanchor.patterns import Patterns
from sheetanchor.repository.blob_reader import BlobReader, content_of, subtree_of
from sheetanchor.repository.compare import Comparison
from sheetanchor.repository.content_stream import ContentStream
from sheetanchor.repository.file_content import shown
from sheetanchor.repository.filemode import NodeType
from sheetanchor.repository.ids import Id
from sheetanchor.repository.materialise import Materialiser
from sheetanchor.repository.model import Difference, TreeRestored
from sheetanchor.repository.node import Node
from sheetanchor.repository.tree_builder import split_path

_BUFFER_SIZE = 1024 * 1024

Progress = Callable[[int, int], None]


def _no_progress(num_bytes: int, items: int) -> None:
    del num_bytes, items


class Reader:
    """Reads what was in the index when the reader was made. Threads may share it."""

    def __init__(self, blobs: BlobReader, *, threads: int) -> None:
        self._blobs = blobs
        self._threads = threads

    def children(self, tree: Id) -> list[Node]:
        """Return a directory's entries, sorted by raw name. Raises DamagedRepositoryError."""
        return self._blobs.load_tree(tree)

    def node(self, tree: Id, path: str | bytes) -> Node | None:
        """Return the node at `path` below `tree`; None when there is none, and for "".

        Raises DamagedRepositoryError.
        """
        found: Node | None = None
        inside: Id | None = tree
        for part in split_path(path):
            if inside is None:
                return None
            found = next((node for node in self.children(inside) if node.name == part), None)
            if found is None:
                return None
            inside = found.subtree
        return found

    def walk(self, tree: Id, path: str | bytes = b"") -> Iterator[tuple[bytes, Node]]:
        """Yield the node at `path` as b"" and all below it with relative paths.

        What is in a directory follows it at once, as tar needs it to put back its time.

        Walking a whole tree (`path` "") yields no root: it has no node. Raises RepositoryError
        when nothing is stored there, DamagedRepositoryError.
        """
        inside, node = self._place(tree, path)
        if node is not None:
            yield b"", node
        stack = [(b"", iter(self.children(inside)))] if inside is not None else []
        while stack:
            prefix, siblings = stack[-1]
            child = next(siblings, None)
            if child is None:
                stack.pop()
                continue
            name = prefix + b"/" + child.name if prefix else child.name
            yield name, child
            if child.type is NodeType.DIRECTORY:
                stack.append((name, iter(self.children(subtree_of(child)))))

    def locate(self, node: Node) -> int:
        """Check that every blob of a file is in the index; return the content's length in bytes.

        Raises DamagedRepositoryError.
        """
        return sum(self._blobs.plain_length(blob_id) for blob_id in content_of(node))

    @contextmanager
    def open(self, node: Node) -> Iterator[BinaryIO]:
        """Read a file's content as a seekable stream; every blob is checked before it is handed out.

        Raises DamagedRepositoryError here or while reading.
        """
        stream = ContentStream(self._blobs, content_of(node))
        try:
            yield cast("BinaryIO", io.BufferedReader(stream, _BUFFER_SIZE))
        finally:
            stream.close()

    def restore_tree(
        self,
        tree: Id,
        path: str | bytes,
        directory: Path,
        *,
        include: Sequence[str] = (),
        progress: Progress = _no_progress,
    ) -> TreeRestored:
        """Write the directory stored at `path` as `directory`, with all metadata.

        `directory` must not exist or be empty. `include` (see `sheetanchor.patterns`) limits it
        to what matches and the directories above that. Raises DamagedRepositoryError for
        damage, RepositoryError when the disk refuses.
        """
        inside, node = self._place(tree, path)
        if inside is None:
            raise RepositoryError(f"/{_text(path)} is no directory in the snapshot")
        materialiser = Materialiser(
            self._blobs, threads=self._threads, include=Patterns(include), progress=progress
        )
        return materialiser.restore(inside, node, directory)

    def compare_tree(
        self, tree: Id, path: str | bytes, directory: Path, *, progress: Progress = _no_progress
    ) -> list[Difference]:
        """Compare the directory on disk with what is stored at `path`; nothing found: equal.

        Names, types, permissions, owners, modification times, extended attributes, link
        targets, hard links and content are compared. Access and change times are not.
        """
        inside, node = self._place(tree, path)
        if inside is None:
            raise RepositoryError(f"/{_text(path)} is no directory in the snapshot")
        return Comparison(self._blobs, progress).run(inside, node, directory)

    def _place(self, tree: Id, path: str | bytes) -> tuple[Id | None, Node | None]:
        if not split_path(path):
            return tree, None
        node = self.node(tree, path)
        if node is None:
            raise RepositoryError(
                f"/{_text(path)} is not in the snapshot", hint="`sheetanchor ls` shows what is"
            )
        return (subtree_of(node) if node.type is NodeType.DIRECTORY else None), node


def _text(path: str | bytes) -> str:
    return path if isinstance(path, str) else shown(path)
