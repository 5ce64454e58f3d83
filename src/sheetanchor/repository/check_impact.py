"""Which snapshots a damage hits: found by walking trees a second time, only when there is any."""

from __future__ import annotations

from sheetanchor.errors import BackendError, DamagedRepositoryError
from sheetanchor.repository.blob_reader import BlobReader
from sheetanchor.repository.ids import BlobType, Id
from sheetanchor.repository.index import Index
from sheetanchor.repository.node import Node

Key = tuple[str, Id]
"""Something bad: "tree", "data", "pack" or "snapshot", with its id."""


class Impact:
    """Finds snapshots that need something bad."""

    def __init__(self, blobs: BlobReader, index: Index, snapshots: dict[Id, Id]) -> None:
        self._blobs = blobs
        self._index = index
        self._snapshots = snapshots
        self._below: dict[Id, frozenset[Key]] = {}

    def of(self, keys: frozenset[Key], bad: frozenset[Key]) -> tuple[str, ...]:
        """Return the ids of the snapshots that one of `keys` hits; `bad` is all that is bad."""
        if not keys:
            return ()
        hit = {key[1] for key in keys if key[0] == "snapshot"}
        hit |= {name for name, tree in self._snapshots.items() if self._needs(tree, bad) & keys}
        return tuple(sorted(name.hex() for name in hit))

    def _needs(self, root: Id, bad: frozenset[Key]) -> frozenset[Key]:
        """Return what is bad at and below a tree."""
        stack: list[tuple[Id, list[Node] | None]] = [(root, None)]
        while stack:
            tree, nodes = stack.pop()
            if tree in self._below:
                continue
            if nodes is None:
                nodes = self._entries(tree)
                stack.append((tree, nodes))
                stack += [(node.subtree, None) for node in nodes if node.subtree is not None]
                continue
            found = self._own(tree, nodes, bad)
            for node in nodes:
                if node.subtree is not None:
                    found |= self._below.get(node.subtree, frozenset())
            self._below[tree] = frozenset(found)
        return self._below[root]

    def _entries(self, tree: Id) -> list[Node]:
        try:
            return self._blobs.load_tree(tree)
        except (DamagedRepositoryError, BackendError):
            return []

    def _own(self, tree: Id, nodes: list[Node], bad: frozenset[Key]) -> set[Key]:
        found = self._blob(BlobType.TREE, tree, bad)
        for node in nodes:
            for blob_id in node.content or ():
                found |= self._blob(BlobType.DATA, blob_id, bad)
        return found

    def _blob(self, blob_type: BlobType, blob_id: Id, bad: frozenset[Key]) -> set[Key]:
        found = set({(blob_type.value, blob_id)} & bad)
        location = self._index.lookup(blob_type, blob_id)
        if location is not None and ("pack", location.pack_id) in bad:
            places = {("pack", place.pack_id) for place in self._index.locations(blob_type, blob_id)}
            if places <= bad:
                found |= places
        return found
