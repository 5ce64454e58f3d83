"""Snapshots that need what is lost: which files, and a copy of the snapshot without them.

The damaged snapshot stays unless it is told to go: the next backup may store what is lost again
and make it whole. The copy bears the mark it is given and `original`, the id of the damaged one.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace

from sheetanchor.errors import DamagedRepositoryError, ObjectAbsentError
from sheetanchor.repository.backend.base import Kind
from sheetanchor.repository.blob_reader import BlobReader
from sheetanchor.repository.ids import BlobType, Id, digest, parse_id
from sheetanchor.repository.index import Index
from sheetanchor.repository.repair_place import RepairPlace
from sheetanchor.repository.repair_trees import RepairedTree, SaveTree, TreeRepairer
from sheetanchor.repository.snapshot import Snapshot, StoredSnapshot, load_snapshot, save_snapshot
from sheetanchor.repository.writer import Account


@dataclass(frozen=True)
class DamagedSnapshot:
    """One snapshot that cannot be restored whole."""

    stored: StoredSnapshot
    lost: tuple[str, ...]
    """Absolute paths; with "/" at the end for a directory whose list of entries is lost."""
    repaired_tree: Id | None
    """The tree without what is lost; None when nothing of the snapshot is left."""
    copied: bool
    """A copy without the lost files is stored already."""


@dataclass(frozen=True)
class SnapshotsRepair:
    """What a repair of snapshots does or did."""

    looked_at: int
    damaged: tuple[DamagedSnapshot, ...]
    unreadable: tuple[Id, ...]
    """Snapshot files that are damaged themselves: which tree they named is not known."""


class SnapshotRepairer:
    """Plans and carries out one repair of snapshots; `mark` is the tags that copies bear."""

    def __init__(self, place: RepairPlace, mark: tuple[str, ...]) -> None:
        self._place = place
        self._mark = mark
        self._snapshots, self._unreadable = self._load_snapshots()
        self._index = self._usable(place.load_index(place.index_names()))

    def plan(self) -> SnapshotsRepair:
        """Walk all trees of all snapshots. Changes nothing. Raises what the backend raises."""
        trees = self._trees(digest)
        known = {
            (stored.snapshot.original, stored.snapshot.tree)
            for stored in self._snapshots
            if set(self._mark) <= set(stored.snapshot.tags)
        }
        damaged: list[DamagedSnapshot] = []
        for stored in self._snapshots:
            left = trees.repair(stored.snapshot.tree)
            if left.id == stored.snapshot.tree:
                continue
            copied = (_origin(stored), left.id) in known
            damaged.append(DamagedSnapshot(stored, _absolute(left), left.id, copied))
        return SnapshotsRepair(len(self._snapshots), tuple(damaged), tuple(self._unreadable))

    def execute(self, plan: SnapshotsRepair, *, forget: bool = False) -> None:
        """Store a copy of every damaged snapshot without what is lost; with `forget` remove the
        damaged ones, and the snapshot files that cannot be read, afterwards.
        """
        wanted = [found for found in plan.damaged if found.repaired_tree is not None and not found.copied]
        with self._saving() as save:
            trees = self._trees(save)
            for found in wanted:
                trees.repair(found.stored.snapshot.tree)
        for found in wanted:
            if found.repaired_tree is not None:
                self._place.check_lock()
                copy = self._copy(found.stored, found.repaired_tree)
                save_snapshot(self._place.backend, self._place.sealer, self._place.version, copy)
        if forget:
            for name in (*(found.stored.id for found in plan.damaged), *plan.unreadable):
                self._place.check_lock()
                self._place.backend.delete(Kind.SNAPSHOTS, name.hex())

    def _copy(self, stored: StoredSnapshot, tree: Id) -> Snapshot:
        old = stored.snapshot
        tags = old.tags + tuple(tag for tag in self._mark if tag not in old.tags)
        return replace(old, tree=tree, tags=tags, original=_origin(stored), parent=None, summary=None)

    def _load_snapshots(self) -> tuple[list[StoredSnapshot], list[Id]]:
        found: list[StoredSnapshot] = []
        unreadable: list[Id] = []
        place = self._place
        for name in sorted(parse_id(item.name) for item in place.backend.list(Kind.SNAPSHOTS)):
            try:
                found.append(load_snapshot(place.backend, place.sealer, place.version, name))
            except ObjectAbsentError:
                continue
            except DamagedRepositoryError:
                unreadable.append(name)
        return sorted(found, key=lambda stored: (stored.snapshot.time_ns, stored.id)), unreadable

    def _usable(self, index: Index) -> Index:
        """Return the index without packs that are gone."""
        stored = self._place.stored_packs()
        usable = Index()
        for pack_id, blobs in index.packs():
            if pack_id in stored:
                usable.add_pack(pack_id, blobs)
        return usable

    def _trees(self, save: SaveTree) -> TreeRepairer:
        reader = BlobReader(self._place.backend, self._place.sealer, self._index)
        return TreeRepairer(reader, self._index, save)

    @contextmanager
    def _saving(self) -> Iterator[SaveTree]:
        account = Account()
        with self._place.writer(self._index) as writer:
            yield lambda data: writer.save(BlobType.TREE, data, account)
            writer.flush()


def _origin(stored: StoredSnapshot) -> Id:
    return stored.snapshot.original or stored.id


def _absolute(left: RepairedTree) -> tuple[str, ...]:
    return tuple(f"/{path}" for path in left.lost) if left.id is not None else ("/",)
