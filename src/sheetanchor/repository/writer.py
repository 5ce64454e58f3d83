"""Storing blobs: deduplicated, compressed, sealed into packs, proven, uploaded, indexed.

Order is what makes a crash harmless (restic's design, "Read and Write Ordering"): a pack is
durable before its entry gets into an index file; whoever refers to blobs flushes first.
Compression and sealing run in the worker threads, proof and upload of complete packs in threads
of their own; pools of fixed buffers between them bound the memory.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import NamedTuple, Protocol

from sheetanchor.clock import Clock
from sheetanchor.errors import RepositoryError
from sheetanchor.repository.backend.base import Backend, Kind
from sheetanchor.repository.buffers import BufferPool, Slab
from sheetanchor.repository.codec import Compressor
from sheetanchor.repository.crypto import Sealer
from sheetanchor.repository.ids import BlobType, Id, digest
from sheetanchor.repository.index import Index
from sheetanchor.repository.model import Statistics
from sheetanchor.repository.opener import Opener
from sheetanchor.repository.pack import PackedBlob
from sheetanchor.repository.packer import OPEN_PACKS, PACK_SIZE, OpenPack, Packed, Packer, pack_new

SLAB_SIZE = 16 * 1024 * 1024
INDEX_MAX_BLOBS = 50_000
INDEX_MAX_AGE = 600.0
"""Seconds after which finished packs get into an index file, so that a long backup can resume."""

SaveIndex = Callable[[list[tuple[Id, list[PackedBlob]]]], object]


class Account:
    """Counts what one tree adds, apart from the whole session; kept under the writer's lock."""

    def __init__(self) -> None:
        self.bytes_added = 0


class FinishedPack(NamedTuple):
    """A pack as it is to be stored, proven."""

    id: Id
    content: memoryview
    blobs: list[PackedBlob]


class Helper(Protocol):
    """Something that fills packs for a writer from outside."""

    def flush(self) -> None:
        """Hand over all packs that are being filled; nobody may be saving."""
        ...

    def close(self) -> None:
        """End it."""
        ...


class BlobWriter:
    """Takes blobs from any number of threads. After an error every call raises that error."""

    def __init__(
        self,
        backend: Backend,
        sealer: Sealer,
        compressor: Compressor,
        index: Index,
        *,
        save_index: SaveIndex,
        clock: Clock,
        threads: int,
        check_lock: Callable[[], None],
    ) -> None:
        self._backend = backend
        self.compressor = compressor
        self.sealer = sealer
        self.threads = threads
        self._opener = Opener(sealer)
        self._helpers: list[Helper] = []
        self._index = index
        self._save_index = save_index
        self._clock = clock
        self._check_lock = check_lock
        uploads = max(2, min(backend.features.concurrency, 2 * threads))
        self.slabs = BufferPool(SLAB_SIZE, threads + 2)
        self._packs = BufferPool(PACK_SIZE, 2 * OPEN_PACKS + uploads + 1)
        self._packers = {
            kind: Packer(kind, sealer, self._take_pack, self._pack_complete) for kind in BlobType
        }
        self._blob_threads = ThreadPoolExecutor(threads, thread_name_prefix="blobs")
        self._pack_threads = ThreadPoolExecutor(uploads, thread_name_prefix="packs")
        self._lock = threading.Lock()
        self._idle = threading.Condition(self._lock)
        self._in_flight: set[tuple[BlobType, Id]] = set()
        self._busy_blobs = 0
        self._busy_packs = 0
        self._error: BaseException | None = None
        self._unindexed: list[tuple[Id, list[PackedBlob]]] = []
        self._unindexed_blobs = 0
        self._indexed_at = clock.monotonic()
        self._counts = dict.fromkeys(("read", "data", "tree", "known", "new", "added", "packs"), 0)

    @property
    def statistics(self) -> Statistics:
        """What was done so far."""
        with self._lock:
            counts = dict(self._counts)
        return Statistics(
            bytes_read=counts["read"],
            data_blobs_new=counts["data"],
            tree_blobs_new=counts["tree"],
            blobs_known=counts["known"],
            bytes_new=counts["new"],
            bytes_added=counts["added"],
            packs=counts["packs"],
        )

    def check(self) -> None:
        """Raise the error that stopped this writer, if one did."""
        error = self._error
        if isinstance(error, OSError):
            # A reader of files must not take it for a fault of the file it reads.
            raise RepositoryError(f"the write session failed: {error}") from error
        if error is not None:
            raise error

    def fail(self, error: BaseException) -> None:
        """Stop everything; the first error counts."""
        with self._lock:
            if self._error is None:
                self._error = error
            self._idle.notify_all()

    def save(self, blob_type: BlobType, data: bytes | memoryview, account: Account) -> Id:
        """Store a blob in this thread, unless it is stored already; return its id."""
        self.check()
        blob_id = digest(data)
        key = (blob_type, blob_id)
        with self._lock:
            if blob_type is BlobType.DATA:
                self._counts["read"] += len(data)
            if key in self._in_flight or self._index.has(blob_type, blob_id):
                self._counts["known"] += 1
                return blob_id
            self._in_flight.add(key)
        try:
            frame = self.compressor.compress(blob_type, data)
            payload, length = (data, 0) if frame is None else (frame, len(data))
            added = self._packers[blob_type].add(blob_id, payload, length)
        except BaseException as error:
            self.fail(error)
            raise
        with self._lock:
            self._counts[blob_type.value] += 1
            self._counts["new"] += len(data)
            self._counts["added"] += added
            account.bytes_added += added
        return blob_id

    def save_all(self, plains: Sequence[bytes], account: Account) -> list[Id]:
        """Store many small data blobs in this thread, as `save` does each; return their ids."""
        self.check()
        ids = [digest(plain) for plain in plains]
        wanted = self.claim(ids, sum(map(len, plains)))
        try:
            done = pack_new(ids, plains, wanted, self._packers[BlobType.DATA], self.compressor)
        except BaseException as error:
            self.fail(error)
            raise
        self.count_new(done, account)
        return ids

    def claim(self, ids: Iterable[Id], num_bytes: int) -> list[bool]:
        """Say of data blobs of `num_bytes` in all which the caller has to store; count them as read."""
        wanted: list[bool] = []
        in_flight, has = self._in_flight, self._index.has
        with self._lock:
            for blob_id in ids:
                key = (BlobType.DATA, blob_id)
                new = key not in in_flight and not has(BlobType.DATA, blob_id)
                if new:
                    in_flight.add(key)
                wanted.append(new)
            self._counts["read"] += num_bytes
            self._counts["known"] += len(wanted) - sum(wanted)
        return wanted

    def count_new(self, done: Packed, account: Account) -> None:
        """Count data blobs that were put into packs."""
        with self._lock:
            self._counts["data"] += done.blobs
            self._counts["new"] += done.plain_bytes
            self._counts["added"] += done.sealed_bytes
            account.bytes_added += done.sealed_bytes

    def store_finished(self, pack: FinishedPack, release: Callable[[], None]) -> None:
        """Upload a pack that was finished and proven elsewhere; `release` is called after it."""
        self._in_pack_thread(self._store_finished, pack, release)

    def _store_finished(self, pack: FinishedPack, release: Callable[[], None]) -> None:
        self._upload(pack)
        release()

    def attach(self, helper: Helper) -> None:
        """Flush and close `helper` together with this writer."""
        with self._lock:
            self._helpers.append(helper)

    def submit(self, slab: Slab, data: memoryview, account: Account) -> Future[Id]:
        """Store a data blob that lies in `slab`, in another thread."""
        self.check()
        slab.acquire()
        with self._lock:
            self._busy_blobs += 1
        try:
            return self._blob_threads.submit(self._save_from_slab, slab, data, account)
        except RuntimeError as error:
            raise RepositoryError("the write session is closed") from error

    def flush(self) -> None:
        """Make all that was saved durable: packs, then index files. Nobody may be saving."""
        self._wait(lambda: self._busy_blobs == 0)
        for helper in self._helpers:
            helper.flush()
        for packer in self._packers.values():
            packer.flush()
        self._wait(lambda: self._busy_packs == 0)
        self._flush_index()
        self.check()

    def close(self) -> None:
        """End the threads. Without a flush before, what was not indexed stays unreferenced."""
        self.fail(RepositoryError("the write session is closed"))
        for helper in self._helpers:
            helper.close()
        self._blob_threads.shutdown(wait=True, cancel_futures=True)
        self._pack_threads.shutdown(wait=True, cancel_futures=True)

    def _wait(self, done: Callable[[], bool]) -> None:
        with self._idle:
            while not done():
                self.check()
                self._idle.wait(0.2)
        self.check()

    def _save_from_slab(self, slab: Slab, data: memoryview, account: Account) -> Id:
        try:
            return self.save(BlobType.DATA, data, account)
        finally:
            slab.release()
            with self._idle:
                self._busy_blobs -= 1
                self._idle.notify_all()

    def _take_pack(self) -> memoryview:
        return self._packs.take(self.check)

    def _pack_complete(self, pack: OpenPack) -> None:
        self._in_pack_thread(self._store_pack, pack)

    def _in_pack_thread(self, store: Callable[..., None], *arguments: object) -> None:
        with self._lock:
            self._busy_packs += 1
        try:
            self._pack_threads.submit(self._guarded, store, *arguments)
        except RuntimeError as error:
            raise RepositoryError("the write session is closed") from error

    def _guarded(self, store: Callable[..., None], *arguments: object) -> None:
        try:
            self.check()
            store(*arguments)
        except BaseException as error:  # noqa: BLE001 - kept, and raised by the next call of any thread
            self.fail(error)
        finally:
            with self._idle:
                self._busy_packs -= 1
                self._idle.notify_all()

    def _store_pack(self, pack: OpenPack) -> None:
        try:
            if pack.blobs:
                content = pack.finish(self._opener)
                self._upload(FinishedPack(digest(content), content, pack.blobs))
        finally:
            if len(pack.buffer) == PACK_SIZE:
                self._packs.give(pack.buffer)

    def _upload(self, pack: FinishedPack) -> None:
        self._check_lock()
        self._backend.put(Kind.DATA, pack.id.hex(), pack.content)
        self._index.add_pack(pack.id, pack.blobs)
        with self._lock:
            self._in_flight.difference_update((blob.type, blob.id) for blob in pack.blobs)
            self._counts["packs"] += 1
            self._unindexed.append((pack.id, pack.blobs))
            self._unindexed_blobs += len(pack.blobs)
            old = self._clock.monotonic() - self._indexed_at > INDEX_MAX_AGE
            full = self._unindexed_blobs >= INDEX_MAX_BLOBS
        if full or old:
            self._flush_index()

    def _flush_index(self) -> None:
        with self._lock:
            packs, self._unindexed = self._unindexed, []
            self._unindexed_blobs = 0
            self._indexed_at = self._clock.monotonic()
        if packs:
            self._check_lock()
            self._save_index(packs)
