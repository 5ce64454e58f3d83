"""Pruning: removing what no snapshot refers to, in an order that a crash cannot hurt.

Packs that no index names go first; then needed blobs of wasteful packs are copied to new packs and
indexed; then the index forgets the old packs; only then the old packs go (restic's design, "Read
and Write Ordering"). The caller holds an exclusive lock, so no backup can be relying on a blob that
is about to go.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, field

from sheetanchor.clock import Clock
from sheetanchor.errors import BackendError, ObjectAbsentError, RepositoryError
from sheetanchor.events import Listener
from sheetanchor.repository.backend.base import Backend, Kind
from sheetanchor.repository.blob_reader import BlobReader
from sheetanchor.repository.crypto import Sealer
from sheetanchor.repository.ids import Id, parse_id
from sheetanchor.repository.index_file import save_index
from sheetanchor.repository.model import PruneOutcome, PrunePlan
from sheetanchor.repository.pack import PackedBlob
from sheetanchor.repository.prune_index import IndexFiles, load_index_files, rewrite
from sheetanchor.repository.prune_plan import DEFAULT_MAX_UNUSED, is_home, make_plan
from sheetanchor.repository.prune_used import UsedBlobs, find_used
from sheetanchor.repository.repack import PackStore, Repacker, Source
from sheetanchor.repository.snapshot import load_snapshot

FIND, REPACK, REMOVE = "find what is used", "write packs anew", "remove packs"
_MOST_FAILURES = 20
"""Packs that may fail to go before the rest is left for the next prune."""


@dataclass(frozen=True)
class PreparedPrune:
    """A plan with what is needed to carry it out; made and used under one exclusive lock."""

    plan: PrunePlan
    files: IndexFiles
    used: UsedBlobs
    snapshots: frozenset[str]
    sizes: dict[Id, int]
    """Bytes of all stored packs."""


@dataclass
class _Progress:
    """What was copied so far."""

    emptied: set[Id] = field(default_factory=set)
    damaged: list[str] = field(default_factory=list)
    bytes_stored: int = 0


class Pruner:
    """Prunes one repository. `check_lock` raises once the exclusive lock is lost."""

    def __init__(
        self,
        backend: Backend,
        sealer: Sealer,
        version: int,
        *,
        threads: int,
        clock: Clock,
        listener: Listener,
        check_lock: Callable[[], None],
    ) -> None:
        self._backend = backend
        self._sealer = sealer
        self._version = version
        self._threads = threads
        self._clock = clock
        self._listener = listener
        self._check_lock = check_lock

    def prepare(self, max_unused: float = DEFAULT_MAX_UNUSED) -> PreparedPrune:
        """Find out what is used, and decide; changes nothing.

        Raises DamagedRepositoryError when a snapshot, a tree or an index file cannot be read, or
        a used blob is in no whole pack; what the backend raises.
        """
        self._listener.started(FIND)
        names = self._names(Kind.SNAPSHOTS)
        roots = self._roots(names)
        files = load_index_files(self._backend, self._sealer, self._version)
        blobs = BlobReader(self._backend, self._sealer, files.index)
        used = find_used(blobs, roots, self._threads)
        stored = {parse_id(item.name): item.size for item in self._backend.list(Kind.DATA)}
        plan = make_plan(files.index, used, stored, len(names), max_unused)
        self._listener.finished(FIND)
        return PreparedPrune(plan, files, used, names, stored)

    def execute(self, prepared: PreparedPrune, deadline: float | None = None) -> PruneOutcome:
        """Carry the plan out; no pack is begun to be written anew after `deadline` (monotonic seconds).

        Raises RepositoryError, before anything is touched, when the snapshots or index files are
        not those of the plan any more; NoSpaceError and what else the backend raises. Whatever
        it raises, nothing that a snapshot needs is gone.
        """
        plan = prepared.plan
        self._refuse_changed(prepared)
        self._remove(plan.unreferenced)
        progress = self._repack(prepared, deadline)
        gone = {*plan.delete, *plan.lost, *progress.emptied}
        replaced = rewrite(self._backend, self._sealer, self._version, prepared.files, gone, self._check_lock)
        removed = [*plan.delete, *sorted(progress.emptied)]
        self._remove(removed)
        freed = sum(prepared.sizes.get(pack_id, 0) for pack_id in (*plan.unreferenced, *removed))
        return PruneOutcome(
            packs_removed=len(plan.unreferenced) + len(removed),
            packs_repacked=len(progress.emptied),
            packs_left=len(plan.repack) - len(progress.emptied),
            bytes_freed=freed - progress.bytes_stored,
            index_files_replaced=replaced,
            damaged=tuple(progress.damaged),
        )

    def _roots(self, names: Iterable[str]) -> list[Id]:
        """Return the trees of all snapshots; one that cannot be read stops everything."""

        def root(name: str) -> Id:
            return load_snapshot(self._backend, self._sealer, self._version, parse_id(name)).snapshot.tree

        with ThreadPoolExecutor(self._backend.features.concurrency, thread_name_prefix="snapshots") as pool:
            try:
                return list(dict.fromkeys(pool.map(root, sorted(names))))
            except ObjectAbsentError as error:
                raise RepositoryError(
                    f"a snapshot vanished while it was read: {error.message}",
                    hint="somebody removes snapshots without a lock; nothing was touched, run it again",
                ) from error

    def _refuse_changed(self, prepared: PreparedPrune) -> None:
        """Look at the lists a second time: a listing cut short must not make data look unused."""
        self._check_lock()
        index = {name.hex() for name in prepared.files.packs_of}
        if self._names(Kind.SNAPSHOTS) != prepared.snapshots or self._names(Kind.INDEX) != index:
            raise RepositoryError(
                f"{self._backend.location}: the lists of snapshots and index files changed while "
                "the prune was planned; nothing was removed",
                hint="run it again; if it happens again, the storage lists incompletely, or somebody "
                "writes without a lock",
            )

    def _repack(self, prepared: PreparedPrune, deadline: float | None) -> _Progress:
        progress = _Progress()
        if not prepared.plan.repack:
            return progress
        self._listener.started(REPACK, prepared.plan.bytes_to_repack)
        index = prepared.files.index
        store = PackStore(
            self._backend, self._sealer, save_index=self._save_index, check_lock=self._check_lock
        )
        try:
            repacker = Repacker(self._backend, self._sealer, index, store, threads=self._threads)
            for source, damage in repacker.copy(_sources(prepared), lambda: self._has_time(deadline)):
                if damage is None:
                    progress.emptied.add(source.pack_id)
                else:
                    progress.damaged.append(damage.message)
                    self._listener.warning("prune", f"{damage.message}; the pack stays as it is")
                self._listener.advanced(REPACK, source.num_bytes, 1)
            repacker.finish()
            progress.bytes_stored = store.bytes_stored
        finally:
            store.close()
            self._listener.finished(REPACK)
        return progress

    def _has_time(self, deadline: float | None) -> bool:
        return deadline is None or self._clock.monotonic() < deadline

    def _remove(self, packs: Iterable[Id]) -> None:
        """Delete packs that no index names any more. Raises the first error, after trying the others."""
        names = [pack_id.hex() for pack_id in packs]
        if not names:
            return
        self._listener.started(REMOVE)
        with ThreadPoolExecutor(self._backend.features.concurrency, thread_name_prefix="remove") as pool:
            failures = [error for error in self._deletions(pool, names) if error is not None]
        self._listener.finished(REMOVE)
        if failures:
            raise type(failures[0])(
                f"{len(failures)} packs could not be removed: {failures[0].message}",
                hint="no index names them any more; the next prune tries again",
            ) from failures[0]

    def _deletions(self, pool: ThreadPoolExecutor, names: list[str]) -> Iterator[BackendError | None]:
        waiting: set[Future[BackendError | None]] = set()
        failed = 0
        for name in names:
            self._check_lock()
            waiting.add(pool.submit(self._delete, name))
            if len(waiting) < 2 * self._backend.features.concurrency:
                continue
            done, waiting = wait(waiting, return_when=FIRST_COMPLETED)
            for future in done:
                failed += future.result() is not None
                yield future.result()
            if failed >= _MOST_FAILURES:
                break
        for future in waiting:
            yield future.result()

    def _delete(self, name: str) -> BackendError | None:
        try:
            self._backend.delete(Kind.DATA, name)
        except BackendError as error:
            return error
        self._listener.advanced(REMOVE, 0, 1)
        return None

    def _save_index(self, packs: list[tuple[Id, list[PackedBlob]]]) -> None:
        save_index(self._backend, self._sealer, self._version, packs)

    def _names(self, kind: Kind) -> frozenset[str]:
        return frozenset(stored.name for stored in self._backend.list(kind))


def _sources(prepared: PreparedPrune) -> Iterator[Source]:
    numbers = {pack_id: number for number, pack_id in enumerate(prepared.files.index.pack_ids())}
    for pack_id in prepared.plan.repack:
        blobs = {
            (blob.type, blob.id): blob
            for blob in prepared.files.index.pack(pack_id) or ()
            if is_home(prepared.used, blob, numbers[pack_id])
        }
        yield Source(pack_id, tuple(blobs.values()))
