"""Checking a repository: that all files are what their names say, fit together, and are all there.

The same findings as `restic check` (internal/checker): indexes decode and agree, indexed packs
exist with their right size, every tree of every snapshot decodes and all it refers to is in
the index; with `read_data`, every byte of the packs. Besides, each finding names the snapshots
that it damages.
"""

from __future__ import annotations

from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

from sheetanchor.errors import BackendError, DamagedRepositoryError, ObjectAbsentError
from sheetanchor.events import Listener
from sheetanchor.repository.backend.base import Backend, Kind
from sheetanchor.repository.blob_reader import BlobReader
from sheetanchor.repository.check_impact import Impact
from sheetanchor.repository.check_packs import PackChecker
from sheetanchor.repository.check_trees import TreeChecker
from sheetanchor.repository.crypto import Sealer
from sheetanchor.repository.ids import BlobType, Id, parse_id
from sheetanchor.repository.index import Index
from sheetanchor.repository.index_file import load_index
from sheetanchor.repository.keys import load_key
from sheetanchor.repository.pack import PackedBlob, pack_size
from sheetanchor.repository.settings import load_settings
from sheetanchor.repository.snapshot import load_snapshot
from sheetanchor.repository.verify_rotation import Rotator

TASK = "check"


@dataclass(frozen=True)
class Finding:
    """One thing that is wrong."""

    file: str
    """What it was found in: "data/<id>", "index/<id>", "tree <id>"."""
    what: str
    snapshots: tuple[str, ...]
    """Ids of the snapshots that cannot be restored completely because of it."""


@dataclass(frozen=True)
class CheckReport:
    """What a check found."""

    errors: tuple[Finding, ...]
    hints: tuple[str, ...]
    """Harmless oddities: packs that nothing refers to, packs indexed twice; which packs were read when."""
    snapshots: int
    packs: int
    blobs: int
    trees: int
    packs_read: int
    bytes_read: int

    @property
    def healthy(self) -> bool:
        """Say whether nothing is wrong."""
        return not self.errors


@dataclass
class _Found:
    """Errors before it is known which snapshots they hit."""

    errors: list[tuple[str, str, frozenset[tuple[str, Id]]]] = field(default_factory=list)
    hints: list[str] = field(default_factory=list)

    def error(self, file: str, what: str, *bad: tuple[str, Id]) -> None:
        self.errors.append((file, what, frozenset(bad)))


class Checker:
    """Checks one repository once."""

    def __init__(
        self,
        backend: Backend,
        sealer: Sealer,
        version: int,
        *,
        threads: int,
        listener: Listener,
        rotator: Rotator,
    ) -> None:
        self._backend = backend
        self._sealer = sealer
        self._version = version
        self._threads = threads
        self._listener = listener
        self._rotator = rotator
        self._index = Index()
        self._blobs = BlobReader(backend, sealer, self._index)
        self._found = _Found()

    def run(self, *, read_data: bool | float = False) -> CheckReport:
        """Check everything; `read_data` as a share in 0..1 reads that share of the packs, others each time.

        Raises what the backend raises when it cannot be reached at all.
        """
        self._check_settings()
        snapshots = self._load_snapshots()
        self._load_indexes()
        self._compare_packs()
        with ThreadPoolExecutor(self._threads, thread_name_prefix="check") as threads:
            trees = TreeChecker(self._blobs, self._index, threads)
            for file, what, key in trees.run(set(snapshots.values())):
                self._found.error(file, what, key)
            packs_read, bytes_read = self._read_packs(threads, read_data)
        impact = Impact(self._blobs, self._index, snapshots)
        bad = frozenset(key for _, _, keys in self._found.errors for key in keys)
        return CheckReport(
            errors=tuple(
                Finding(file, what, impact.of(keys, bad)) for file, what, keys in self._found.errors
            ),
            hints=tuple(self._found.hints),
            snapshots=len(snapshots),
            packs=len(self._index.pack_ids()),
            blobs=sum(self._index.count(kind) for kind in BlobType),
            trees=trees.count,
            packs_read=packs_read,
            bytes_read=bytes_read,
        )

    def _check_settings(self) -> None:
        try:
            load_settings(self._backend, self._sealer)
        except (DamagedRepositoryError, BackendError) as error:
            self._found.error("config", error.message)
        for name in self._names(Kind.KEYS):
            try:
                load_key(self._backend, name)
            except (DamagedRepositoryError, BackendError) as error:
                self._found.error(f"keys/{name.hex()}", error.message)

    def _load_snapshots(self) -> dict[Id, Id]:
        """Return the trees of all snapshots that can be read, by snapshot."""
        trees: dict[Id, Id] = {}
        for name in self._names(Kind.SNAPSHOTS):
            try:
                trees[name] = load_snapshot(self._backend, self._sealer, self._version, name).snapshot.tree
            except ObjectAbsentError:
                continue
            except (DamagedRepositoryError, BackendError) as error:
                self._found.error(f"snapshots/{name.hex()}", error.message, ("snapshot", name))
        return trees

    def _load_indexes(self) -> None:
        for name in self._names(Kind.INDEX):
            file = f"index/{name.hex()}"
            try:
                for pack_id, blobs in load_index(self._backend, self._sealer, self._version, name):
                    self._add_pack(file, pack_id, blobs)
            except (DamagedRepositoryError, BackendError) as error:
                self._found.error(file, error.message)

    def _add_pack(self, file: str, pack_id: Id, blobs: list[PackedBlob]) -> None:
        if self._index.pack(pack_id) is not None:
            self._found.hints.append(f"pack {pack_id.hex()} is in more than one index")
        if self._version < 2 and any(blob.uncompressed_length for blob in blobs):
            self._found.error(
                file, f"holds compressed blobs of pack {pack_id.hex()} in a version 1 repository"
            )
        if self._version >= 2 and len({blob.type for blob in blobs}) > 1:
            self._found.hints.append(f"pack {pack_id.hex()} mixes data and trees")
        self._index.add_pack(pack_id, blobs)

    def _compare_packs(self) -> None:
        """Compare the packs that are indexed with those that are there."""
        stored = {parse_id(item.name): item.size for item in self._backend.list(Kind.DATA)}
        for pack_id, blobs in self._index.packs():
            size = stored.pop(pack_id, None)
            expected = pack_size(blobs)
            if size is None:
                self._found.error(f"data/{pack_id.hex()}", "is missing", ("pack", pack_id))
            elif size != expected:
                what = f"has {size} bytes instead of {expected}"
                self._found.error(f"data/{pack_id.hex()}", what, ("pack", pack_id))
        if stored:
            num_bytes = sum(stored.values())
            self._found.hints.append(
                f"{len(stored)} packs ({num_bytes} bytes) are in no index: left by a run that was cut off"
            )

    def _read_packs(self, threads: ThreadPoolExecutor, share: bool | float) -> tuple[int, int]:
        packs = self._chosen(share)
        checker = PackChecker(self._backend, self._sealer)
        num_bytes = 0
        sizes = {pack_id: pack_size(self._index.pack(pack_id) or []) for pack_id in packs}
        if packs:
            self._listener.started(TASK, sum(sizes.values()))
        for pack_id, errors in checker.run(threads, self._threads + 1, self._with_blobs(packs)):
            num_bytes += sizes[pack_id]
            self._listener.advanced(TASK, sizes[pack_id], 1)
            for what, keys in errors:
                self._found.error(f"data/{pack_id.hex()}", what, *keys)
        if packs:
            self._listener.finished(TASK)
        if share not in {True, False}:
            self._found.hints += self._rotator.finish()
        return len(packs), num_bytes

    def _with_blobs(self, packs: list[Id]) -> Iterable[tuple[Id, list[PackedBlob]]]:
        return ((pack_id, self._index.pack(pack_id) or []) for pack_id in packs)

    def _chosen(self, share: bool | float) -> list[Id]:
        """Return the packs to read; those with a wrong size have been reported already."""
        reported = {key for _, _, keys in self._found.errors for kind, key in keys if kind == "pack"}
        packs = [pack_id for pack_id in self._index.pack_ids() if pack_id not in reported]
        if share in {True, False}:
            return packs if share else []
        return self._rotator.choose(packs, share)

    def _names(self, kind: Kind) -> list[Id]:
        return sorted(parse_id(stored.name) for stored in self._backend.list(kind))
