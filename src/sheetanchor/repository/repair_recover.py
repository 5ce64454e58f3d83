"""Snapshots whose files are gone: their trees are found again, as those that nothing refers to."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

from sheetanchor.errors import DamagedRepositoryError
from sheetanchor.repository.blob_reader import BlobReader
from sheetanchor.repository.ids import BlobType, Id
from sheetanchor.repository.repair_place import RepairPlace

TASK = "read all trees"


@dataclass(frozen=True)
class OrphanTrees:
    """Trees that no snapshot and no other tree refers to: each was the root of a snapshot once.

    A snapshot that was forgotten on purpose leaves such a tree too, until the next prune.
    """

    roots: tuple[Id, ...]
    unreadable: int
    """Trees that cannot be read; what they refer to may be among `roots`."""


def find_orphans(place: RepairPlace, used: Collection[Id]) -> OrphanTrees:
    """Read every tree in the index and return the roots besides `used`, the trees of snapshots.

    Raises DamagedRepositoryError for a damaged index, and what the backend raises.
    """
    index = place.load_index(place.index_names())
    reader = BlobReader(place.backend, place.sealer, index)
    trees = set(index.blob_ids(BlobType.TREE))
    referred = set(used)
    unreadable: set[Id] = set()

    def subtrees(tree: Id) -> list[Id] | None:
        try:
            return [node.subtree for node in reader.load_tree(tree) if node.subtree is not None]
        except DamagedRepositoryError:
            return None

    place.listener.started(TASK)
    for tree, below in place.in_threads(subtrees, sorted(trees)):
        place.listener.advanced(TASK, 0, 1)
        if below is None:
            unreadable.add(tree)
        else:
            referred.update(below)
    place.listener.finished(TASK)
    return OrphanTrees(tuple(sorted(trees - referred - unreadable)), len(unreadable))
