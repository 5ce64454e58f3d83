"""What every repair works with: one repository, opened, under an exclusive lock."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Collection, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TypeVar

from sheetanchor.clock import Clock
from sheetanchor.errors import DamagedRepositoryError
from sheetanchor.events import Listener
from sheetanchor.repository.backend.base import Backend, Kind
from sheetanchor.repository.codec import Compressor
from sheetanchor.repository.crypto import Sealer
from sheetanchor.repository.ids import Id, parse_id
from sheetanchor.repository.index import Index
from sheetanchor.repository.index_file import IndexedPack, load_index, save_index
from sheetanchor.repository.objects import SealedObjects
from sheetanchor.repository.options import Options
from sheetanchor.repository.writer import INDEX_MAX_BLOBS, BlobWriter

Item = TypeVar("Item")
Result = TypeVar("Result")


@dataclass(frozen=True)
class RepairPlace:
    """The parts of an open repository that repairs need."""

    backend: Backend
    id: str
    sealer: Sealer
    version: int
    options: Options
    clock: Clock
    listener: Listener
    check_lock: Callable[[], None]
    """Raises when the lock is lost; called before everything that changes the repository."""
    objects: SealedObjects

    def stored_packs(self) -> dict[Id, int]:
        """Return the size of every pack that is there; empty files are no packs."""
        return {parse_id(found.name): found.size for found in self.backend.list(Kind.DATA) if found.size}

    def index_names(self) -> list[Id]:
        """Return the ids of all index files."""
        return sorted(parse_id(found.name) for found in self.backend.list(Kind.INDEX))

    def load_index_file(self, name: Id) -> list[IndexedPack]:
        """Read one index file. Raises DamagedRepositoryError."""
        return load_index(self.backend, self.sealer, self.version, name)

    def load_index(self, names: Iterable[Id]) -> Index:
        """Read index files that have to be whole. Raises DamagedRepositoryError telling what to do."""
        index = Index()
        try:
            for name in names:
                for pack_id, blobs in self.load_index_file(name):
                    index.add_pack(pack_id, blobs)
        except DamagedRepositoryError as error:
            raise DamagedRepositoryError(
                error.message, hint="repair the index first: `sheetanchor repository repair index`"
            ) from error
        return index

    def replace_index_files(self, old: Collection[Id], packs: Iterable[IndexedPack]) -> int:
        """Write index files for `packs`, then remove the files `old`; return how many were written.

        Every new file is durable before the first old one goes: at each moment the index names all
        packs it should, some twice.
        """
        written = 0
        for batch in batches(packs):
            self.check_lock()
            save_index(self.backend, self.sealer, self.version, batch)
            written += 1
        for name in old:
            self.check_lock()
            self.backend.delete(Kind.INDEX, name.hex())
        return written

    @contextmanager
    def writer(self, index: Index) -> Iterator[BlobWriter]:
        """Yield a writer that stores what `index` does not have; flush it before leaving."""
        writer = BlobWriter(
            self.backend,
            self.sealer,
            Compressor(self.options.compression, self.version),
            index,
            save_index=lambda packs: save_index(self.backend, self.sealer, self.version, packs),
            clock=self.clock,
            threads=self.options.threads,
            check_lock=self.check_lock,
        )
        try:
            yield writer
        finally:
            writer.close()

    def in_threads(
        self, call: Callable[[Item], Result], items: Iterable[Item]
    ) -> Iterator[tuple[Item, Result]]:
        """Yield each item with what `call` makes of it; few results wait in memory at once."""
        waiting: deque[tuple[Item, Future[Result]]] = deque()
        with ThreadPoolExecutor(self.options.threads, thread_name_prefix="repair") as threads:
            for item in items:
                waiting.append((item, threads.submit(call, item)))
                if len(waiting) > self.options.threads:
                    done, future = waiting.popleft()
                    yield done, future.result()
            for done, future in waiting:
                yield done, future.result()


def batches(packs: Iterable[IndexedPack]) -> Iterator[list[IndexedPack]]:
    """Yield packs in lists that each make one index file."""
    batch: list[IndexedPack] = []
    num_blobs = 0
    for pack in packs:
        batch.append(pack)
        num_blobs += len(pack[1])
        if num_blobs >= INDEX_MAX_BLOBS:
            yield batch
            batch, num_blobs = [], 0
    if batch:
        yield batch
