"""Copying a repository to a new one with a new master key: everything, opened and sealed anew.

Blobs are copied as they were cut, so every tree keeps its id and with it the proofs in manifests
hold. Where the cuts are stays what the old key made it: pack headers are sealed, so only somebody
with the old key and one of the new repository could tell known files by them. What is stored from
now on is cut by the new key: the first backup stores long files once more.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

from sheetanchor.errors import DamagedRepositoryError, FinalBackendError, RepositoryError
from sheetanchor.repository.backend.base import Kind
from sheetanchor.repository.blob_reader import BlobReader
from sheetanchor.repository.ids import BlobType, Id, parse_id
from sheetanchor.repository.index import Index
from sheetanchor.repository.opener import Opener
from sheetanchor.repository.pack import PackedBlob, pack_size
from sheetanchor.repository.prune_used import UsedBlobs, find_used
from sheetanchor.repository.repair_place import RepairPlace
from sheetanchor.repository.snapshot import Snapshot, StoredSnapshot, load_snapshot, save_snapshot
from sheetanchor.repository.verify_rotation import KIND, NAME
from sheetanchor.repository.writer import Account, BlobWriter

TASK = "copy packs"
_NOT_COPIED = (f"{KIND}/{NAME}",)
"""Speaks of packs of the old repository."""


@dataclass(frozen=True)
class RekeyReport:
    """What of the old repository is in the new one, as found there afterwards, and what this run added."""

    snapshots: int
    snapshots_copied: int
    data_blobs: int
    tree_blobs: int
    objects: int
    bytes_added: int
    """Bytes as stored."""


class Rekeyer:
    """Copies one repository into another. What is there already is not copied again."""

    def __init__(self, source: RepairPlace, target: RepairPlace) -> None:
        """Raise RepositoryError when the target is the source, or a plain copy of it."""
        if source.id == target.id:
            raise RepositoryError(
                f"{target.backend.location} is the same repository, or a copy of it with the same key",
                hint="name an empty place: a new repository with a new key is made there",
            )
        self._source = source
        self._target = target
        self._opener = Opener(source.sealer)

    def run(self) -> RekeyReport:
        """Copy sealed objects, then blobs, then snapshots; check that all of it is there.

        A run that is cut off can be run again. Raises DamagedRepositoryError when something of the
        source that a snapshot needs cannot be read, or is not in the target afterwards; in both
        cases no snapshot refers to what is not there. Raises what the backends raise.
        """
        snapshots = _load_snapshots(self._source)
        index = self._source.load_index(self._source.index_names())
        reader = BlobReader(self._source.backend, self._source.sealer, index)
        roots = {stored.snapshot.tree for stored in snapshots}
        used = find_used(reader, roots, self._source.options.threads)
        objects = self._copy_objects()
        added = self._copy_blobs(index, reader, used)
        self._check_blobs(used)
        copied = self._copy_snapshots(snapshots)
        present = {_identity(stored.snapshot) for stored in _load_snapshots(self._target)}
        missing = sum(_identity(_copy_of(stored)) not in present for stored in snapshots)
        if missing:
            raise DamagedRepositoryError(
                f"{missing} snapshots are not in {self._target.backend.location} after the copy",
                hint="run it again: what is there already is not copied again",
            )
        data, trees = len(used.of(BlobType.DATA)), len(used.of(BlobType.TREE))
        return RekeyReport(len(snapshots), copied, data, trees, objects, added)

    def _copy_blobs(self, index: Index, reader: BlobReader, used: UsedBlobs) -> int:
        known = self._target.load_index(self._target.index_names())
        account = Account()
        listener = self._source.listener
        work = [(pack_id, wanted) for pack_id, wanted in _wanted(index, used, known)]
        listener.started(TASK, sum(blob.length for _, blobs in work for blob in blobs))
        with self._target.writer(known) as writer:

            def copy(pack: tuple[Id, list[PackedBlob]]) -> None:
                self._copy_pack(*pack, reader, writer, account)

            for (_, blobs), _ in self._source.in_threads(copy, work):
                listener.advanced(TASK, sum(blob.length for blob in blobs), len(blobs))
            writer.flush()
        listener.finished(TASK)
        return account.bytes_added

    def _copy_pack(
        self, pack_id: Id, blobs: list[PackedBlob], reader: BlobReader, writer: BlobWriter, account: Account
    ) -> None:
        start = blobs[0].offset
        try:
            sealed = reader.fetch(pack_id, start, blobs[-1].offset + blobs[-1].length - start)
        except DamagedRepositoryError:
            sealed = memoryview(b"")
        for blob in blobs:
            at = blob.offset - start
            try:
                plain = self._opener.open(blob.id, sealed[at : at + blob.length], blob.uncompressed_length)
            except DamagedRepositoryError:
                plain = _elsewhere(reader, blob)
            writer.save(blob.type, plain, account)

    def _check_blobs(self, used: UsedBlobs) -> None:
        """Raise DamagedRepositoryError unless the target's stored index and packs hold all of `used`."""
        target = self._target
        sizes = target.stored_packs()
        held = dict.fromkeys(BlobType, 0)
        seen = Index()
        for pack_id, blobs in target.load_index(target.index_names()).packs():
            if sizes.get(pack_id) != pack_size(blobs):
                continue
            fresh = [blob for blob in blobs if not seen.has(blob.type, blob.id)]
            seen.add_pack(pack_id, blobs)
            for blob in fresh:
                held[blob.type] += used.of(blob.type).find(blob.id) >= 0
        for kind in BlobType:
            wanted = len(used.of(kind))
            if held[kind] != wanted:
                raise DamagedRepositoryError(
                    f"{target.backend.location} holds {held[kind]} of {wanted} {kind} blobs after the copy",
                    hint="check the new place, then run it again: what is there already is not copied again",
                )

    def _copy_objects(self) -> int:
        source, target = self._source.objects, self._target.objects
        copied = 0
        try:
            listed = list(self._source.backend.list(Kind.OBJECTS))
        except FinalBackendError as error:
            self._source.listener.warning(TASK, f"sealed objects are not copied: {error.message}")
            return 0
        for stored in listed:
            kind, _, name = stored.name.partition("/")
            if stored.name in _NOT_COPIED or not name:
                continue
            self._target.check_lock()
            target.put(kind, name, source.get(kind, name))
            copied += 1
        return copied

    def _copy_snapshots(self, snapshots: list[StoredSnapshot]) -> int:
        known = {_identity(stored.snapshot): stored.id for stored in _load_snapshots(self._target)}
        new_ids: dict[Id, Id] = {}
        copied = 0
        for stored in snapshots:
            parent = stored.snapshot.parent
            draft = replace(_copy_of(stored), parent=new_ids.get(parent) if parent else None)
            present = known.get(_identity(draft))
            if present is None:
                self._target.check_lock()
                present = save_snapshot(
                    self._target.backend, self._target.sealer, self._target.version, draft
                )
                copied += 1
            new_ids[stored.id] = present
        return copied


def _identity(snapshot: Snapshot) -> tuple[object, ...]:
    """Return what a snapshot and its copy have in common and no other snapshot has."""
    return snapshot.original, snapshot.tree, snapshot.time_ns, snapshot.tags, snapshot.paths


def _copy_of(stored: StoredSnapshot) -> Snapshot:
    return replace(stored.snapshot, original=stored.snapshot.original or stored.id, parent=None)


def _wanted(index: Index, used: UsedBlobs, known: Index) -> Iterator[tuple[Id, list[PackedBlob]]]:
    """Yield each pack with those of its blobs that are used, not copied yet, and read from here."""
    for pack_id, blobs in index.packs():
        wanted = [
            blob
            for blob in blobs
            if used.of(blob.type).find(blob.id) >= 0
            and not known.has(blob.type, blob.id)
            and _first_place(index, blob, pack_id)
        ]
        if wanted:
            yield pack_id, wanted


def _first_place(index: Index, blob: PackedBlob, pack_id: Id) -> bool:
    location = index.lookup(blob.type, blob.id)
    return location is not None and location.pack_id == pack_id


def _elsewhere(reader: BlobReader, blob: PackedBlob) -> bytes:
    try:
        return reader.load(blob.type, blob.id)
    except DamagedRepositoryError as error:
        raise DamagedRepositoryError(
            error.message, hint="repair the old repository first: `sheetanchor repository repair --help`"
        ) from error


def _load_snapshots(place: RepairPlace) -> list[StoredSnapshot]:
    names = [parse_id(found.name) for found in place.backend.list(Kind.SNAPSHOTS)]
    loaded = [load_snapshot(place.backend, place.sealer, place.version, name) for name in names]
    return sorted(loaded, key=lambda stored: (stored.snapshot.time_ns, stored.id))
