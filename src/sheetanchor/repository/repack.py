"""Copying blobs that are still needed from wasteful packs into new ones.

A blob is opened, checked against its hash, sealed again under a fresh nonce and proven once more
before its new pack is uploaded. Compressed blobs stay compressed as they are. Nothing is removed
here; the sources may go once `Repacker.finish` has returned.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass

from sheetanchor.errors import DamagedRepositoryError, RepositoryError
from sheetanchor.repository.backend.base import Backend, Kind
from sheetanchor.repository.blob_reader import BlobReader
from sheetanchor.repository.buffers import BufferPool
from sheetanchor.repository.codec import Decompressor
from sheetanchor.repository.crypto import Sealer
from sheetanchor.repository.ids import BlobType, Id, digest
from sheetanchor.repository.index import Index, Location
from sheetanchor.repository.opener import Opener
from sheetanchor.repository.pack import PackedBlob
from sheetanchor.repository.packer import OPEN_PACKS, PACK_SIZE, OpenPack, Packer
from sheetanchor.repository.prune_index import FILE_BLOBS

_GAP = 128 * 1024
"""Bytes between two blobs that are read along rather than asked for apart."""
_LONGEST_RANGE = 16 * 1024 * 1024

SaveIndex = Callable[[list[tuple[Id, list[PackedBlob]]]], object]


@dataclass(frozen=True)
class Source:
    """A pack and those of its blobs that are to be copied."""

    pack_id: Id
    blobs: tuple[PackedBlob, ...]

    @property
    def num_bytes(self) -> int:
        """Sealed bytes to copy."""
        return sum(blob.length for blob in self.blobs)


class PackStore:
    """Proves, uploads and indexes complete packs in threads of its own; after an error it stops."""

    def __init__(
        self,
        backend: Backend,
        sealer: Sealer,
        *,
        save_index: SaveIndex,
        check_lock: Callable[[], None],
    ) -> None:
        uploads = max(2, min(backend.features.concurrency, 4))
        self._backend = backend
        self._opener = Opener(sealer)
        self._save_index = save_index
        self._check_lock = check_lock
        self._buffers = BufferPool(PACK_SIZE, 2 * OPEN_PACKS + uploads + 1)
        self._threads = ThreadPoolExecutor(uploads, thread_name_prefix="packs")
        self._lock = threading.Lock()
        self._uploads: deque[Future[None]] = deque()
        self._error: BaseException | None = None
        self._unindexed: list[tuple[Id, list[PackedBlob]]] = []
        self.bytes_stored = 0

    def take_buffer(self) -> memoryview:
        """Return a free buffer for a pack, waiting for one."""
        return self._buffers.take(self.check)

    def check(self) -> None:
        """Raise the error that stopped the store, if one did."""
        if self._error is not None:
            raise self._error

    def accept(self, pack: OpenPack) -> None:
        """Take a complete pack."""
        with self._lock:
            self._uploads.append(self._threads.submit(self._store, pack))

    def finish(self) -> None:
        """Wait until every pack is durable, then make the index name them all."""
        while self._uploads:
            self._uploads.popleft().result()
            self.check()
        self.check()
        self._flush_index()

    def close(self) -> None:
        """End the threads; packs that were not indexed stay unreferenced."""
        if self._error is None:
            self._error = RepositoryError("the copying of packs has ended")
        self._threads.shutdown(wait=True, cancel_futures=True)

    def _store(self, pack: OpenPack) -> None:
        try:
            self.check()
            if pack.blobs:
                self._upload(pack)
        except BaseException as error:  # noqa: BLE001 - kept, and raised by the next call of any thread
            self._error = self._error or error
        finally:
            if len(pack.buffer) == PACK_SIZE:
                self._buffers.give(pack.buffer)

    def _upload(self, pack: OpenPack) -> None:
        finished = pack.finish(self._opener)
        pack_id = digest(finished)
        self._check_lock()
        self._backend.put(Kind.DATA, pack_id.hex(), finished)
        with self._lock:
            self.bytes_stored += len(finished)
            self._unindexed.append((pack_id, pack.blobs))
            full = sum(len(blobs) for _, blobs in self._unindexed) >= FILE_BLOBS
        if full:
            self._flush_index()

    def _flush_index(self) -> None:
        with self._lock:
            packs, self._unindexed = self._unindexed, []
        if packs:
            self._check_lock()
            self._save_index(packs)


class Repacker:
    """Copies blobs from source packs, several packs at once."""

    def __init__(
        self, backend: Backend, sealer: Sealer, index: Index, store: PackStore, *, threads: int
    ) -> None:
        self._index = index
        self._sealer = sealer
        self._reader = BlobReader(backend, sealer, index)
        self._decompressor = Decompressor()
        self._store = store
        self._threads = threads
        self._packers = {kind: Packer(kind, sealer, store.take_buffer, store.accept) for kind in BlobType}

    def copy(
        self, sources: Iterable[Source], go_on: Callable[[], bool]
    ) -> Iterator[tuple[Source, DamagedRepositoryError | None]]:
        """Copy source after source while `go_on`; yield each, with the error that kept it from being copied.

        A source that was yielded without an error is copied, but durable only after `finish`.
        Raises what the backend raises.
        """
        waiting: deque[tuple[Source, Future[DamagedRepositoryError | None]]] = deque()
        with ThreadPoolExecutor(self._threads, thread_name_prefix="repack") as pool:
            try:
                for source in sources:
                    if not go_on():
                        break
                    waiting.append((source, pool.submit(self._copy, source)))
                    if len(waiting) > self._threads:
                        done, future = waiting.popleft()
                        yield done, future.result()
                while waiting:
                    done, future = waiting.popleft()
                    yield done, future.result()
            finally:
                for _, future in waiting:
                    future.cancel()

    def finish(self) -> None:
        """Make all copies durable and indexed."""
        for packer in self._packers.values():
            packer.flush()
        self._store.finish()

    def _copy(self, source: Source) -> DamagedRepositoryError | None:
        self._store.check()
        try:
            for group in _groups(source.blobs):
                self._copy_group(source.pack_id, group)
        except DamagedRepositoryError as error:
            return error
        return None

    def _copy_group(self, pack_id: Id, group: list[PackedBlob]) -> None:
        start = group[0].offset
        sealed = self._reader.fetch(pack_id, start, group[-1].offset + group[-1].length - start)
        for blob in group:
            at = blob.offset - start
            try:
                payload = self._opened(sealed[at : at + blob.length], blob.id, blob.uncompressed_length)
                uncompressed = blob.uncompressed_length
            except DamagedRepositoryError as error:
                payload, uncompressed = self._from_elsewhere(pack_id, blob, error)
            self._packers[blob.type].add(blob.id, payload, uncompressed)

    def _opened(self, sealed: memoryview, blob_id: Id, uncompressed: int) -> bytes:
        """Return what is sealed, compressed or not, after proving that it is the blob."""
        payload = self._sealer.open(sealed)
        plain = self._decompressor.decompress(payload, uncompressed) if uncompressed else payload
        if digest(plain) != blob_id:
            raise DamagedRepositoryError(f"blob {blob_id.hex()} has another hash than its name")
        return payload

    def _from_elsewhere(
        self, pack_id: Id, blob: PackedBlob, cause: DamagedRepositoryError
    ) -> tuple[bytes, int]:
        for location in self._index.locations(blob.type, blob.id):
            if location.pack_id == pack_id:
                continue
            try:
                return self._payload_at(location, blob.id), location.uncompressed_length
            except DamagedRepositoryError:
                continue
        raise DamagedRepositoryError(
            f"pack {pack_id.hex()} is damaged at {blob.type} blob {blob.id.hex()}: {cause.message}",
            hint="`sheetanchor repository check --read-data` tells which snapshots are affected",
        ) from cause

    def _payload_at(self, location: Location, blob_id: Id) -> bytes:
        sealed = self._reader.fetch(location.pack_id, location.offset, location.length)
        return self._opened(sealed, blob_id, location.uncompressed_length)


def _groups(blobs: Iterable[PackedBlob]) -> Iterator[list[PackedBlob]]:
    """Yield neighbours that are read with one request."""
    group: list[PackedBlob] = []
    for blob in blobs:
        if group:
            end = group[-1].offset + group[-1].length
            length = blob.offset + blob.length - group[0].offset
            if blob.offset - end > _GAP or length > _LONGEST_RANGE:
                yield group
                group = []
        group.append(blob)
    if group:
        yield group
