"""Walking every tree of every snapshot, each once."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

from sheetanchor.errors import BackendError, DamagedRepositoryError
from sheetanchor.repository.blob_reader import BlobReader
from sheetanchor.repository.file_content import shown
from sheetanchor.repository.filemode import NodeType
from sheetanchor.repository.ids import BlobType, Id
from sheetanchor.repository.index import Index
from sheetanchor.repository.node import Node

TreeError = tuple[str, str, tuple[str, Id]]
"""Where, what, and the tree or blob that is bad."""

_BATCH = 256


class TreeChecker:
    """Checks that trees decode and that all they refer to is in the index."""

    def __init__(self, blobs: BlobReader, index: Index, threads: ThreadPoolExecutor) -> None:
        self._blobs = blobs
        self._index = index
        self._threads = threads
        self._seen: set[Id] = set()

    @property
    def count(self) -> int:
        """How many different trees there were."""
        return len(self._seen)

    def run(self, roots: set[Id]) -> Iterator[TreeError]:
        """Yield what is wrong below `roots`."""
        self._seen |= roots
        waiting = sorted(roots)
        while waiting:
            batch, waiting = waiting[-_BATCH:], waiting[:-_BATCH]
            for errors, subtrees in self._threads.map(self._check, batch):
                yield from errors
                new = [tree for tree in subtrees if tree not in self._seen]
                self._seen.update(new)
                waiting.extend(new)

    def _check(self, tree: Id) -> tuple[list[TreeError], list[Id]]:
        try:
            nodes = self._blobs.load_tree(tree)
        except (DamagedRepositoryError, BackendError) as error:
            return [(f"tree {tree.hex()}", error.message, ("tree", tree))], []
        errors: list[TreeError] = []
        subtrees: list[Id] = []
        for node in nodes:
            problem = self._problem(node)
            if problem is not None:
                errors.append((f"tree {tree.hex()}", f"{shown(node.name)}: {problem}", ("tree", tree)))
            if node.type is NodeType.DIRECTORY and node.subtree is not None:
                subtrees.append(node.subtree)
        return errors, list(dict.fromkeys(subtrees))

    def _problem(self, node: Node) -> str | None:
        if node.type is NodeType.DIRECTORY:
            return None if node.subtree is not None else "is a directory without a tree"
        if node.type is NodeType.IRREGULAR:
            return "is of no known type"
        if node.type is not NodeType.FILE:
            return None
        if node.content is None:
            return "is a file without content"
        missing = next((blob for blob in node.content if not self._index.has(BlobType.DATA, blob)), None)
        return None if missing is None else f"data blob {missing.hex()} is in no index"
