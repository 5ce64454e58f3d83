"""The index files during a prune: loaded with which packs each names, rewritten without some."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Collection, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass

from sheetanchor.repository.backend.base import Backend, Kind
from sheetanchor.repository.crypto import Sealer
from sheetanchor.repository.ids import Id, parse_id
from sheetanchor.repository.index import Index
from sheetanchor.repository.index_file import IndexedPack, decode_index, save_index
from sheetanchor.repository.unpacked import load

FILE_BLOBS = 50_000
"""Blobs after which an index file is full."""
SMALL_FILE_BLOBS = FILE_BLOBS // 10
SMALL_FILES_WORTH_MERGING = 10
_READ_AHEAD = 4


@dataclass(frozen=True)
class IndexFiles:
    """All index files as they were when loaded."""

    index: Index
    packs_of: dict[Id, tuple[Id, ...]]
    """The packs that each file names."""

    def to_rewrite(self, removed: Collection[Id]) -> list[Id]:
        """Return the files that name a removed pack, and small ones where there are many."""
        affected = [name for name, packs in self.packs_of.items() if not set(packs).isdisjoint(removed)]
        others = self.packs_of.keys() - set(affected)
        small = [name for name in sorted(others) if self._blobs_in(name) < SMALL_FILE_BLOBS]
        return affected + (small if len(small) >= SMALL_FILES_WORTH_MERGING else [])

    def remaining(self, rewritten: Collection[Id], removed: Collection[Id]) -> Iterator[list[IndexedPack]]:
        """Yield what the files `rewritten` say of packs that stay, a new file's worth at a time."""
        gone = set(rewritten)
        told = {pack for name, packs in self.packs_of.items() if name not in gone for pack in packs}
        batch: list[IndexedPack] = []
        num_blobs = 0
        for name in rewritten:
            for pack_id in self.packs_of[name]:
                if pack_id in removed or pack_id in told:
                    continue
                told.add(pack_id)
                blobs = self.index.pack(pack_id) or []
                batch.append((pack_id, blobs))
                num_blobs += len(blobs)
                if num_blobs >= FILE_BLOBS:
                    yield batch
                    batch, num_blobs = [], 0
        if batch:
            yield batch

    def _blobs_in(self, name: Id) -> int:
        return sum(len(self.index.pack(pack_id) or ()) for pack_id in self.packs_of[name])


def load_index_files(backend: Backend, sealer: Sealer, version: int) -> IndexFiles:
    """Read all index files. Raises DamagedRepositoryError for one that cannot be read."""
    files = IndexFiles(Index(), {})
    names = sorted(parse_id(stored.name) for stored in backend.list(Kind.INDEX))
    waiting: deque[tuple[Id, Future[bytes]]] = deque()
    with ThreadPoolExecutor(_READ_AHEAD, thread_name_prefix="index") as threads:
        for name in names:
            waiting.append((name, threads.submit(load, backend, sealer, version, Kind.INDEX, name)))
            if len(waiting) == _READ_AHEAD:
                _add(files, *waiting.popleft())
        while waiting:
            _add(files, *waiting.popleft())
    return files


def rewrite(
    backend: Backend,
    sealer: Sealer,
    version: int,
    files: IndexFiles,
    removed: Collection[Id],
    check_lock: Callable[[], None],
) -> int:
    """Make the index forget the packs `removed`; return how many files were replaced.

    Every new file is durable before the first old one goes, so that each moment's index names
    all packs that stay.
    """
    rewritten = files.to_rewrite(removed)
    for batch in files.remaining(rewritten, removed):
        check_lock()
        save_index(backend, sealer, version, batch)
    for name in rewritten:
        check_lock()
        backend.delete(Kind.INDEX, name.hex())
    return len(rewritten)


def _add(files: IndexFiles, name: Id, data: Future[bytes]) -> None:
    packs = decode_index(data.result())
    for pack_id, blobs in packs:
        files.index.add_pack(pack_id, blobs)
    files.packs_of[name] = tuple(pack_id for pack_id, _ in packs)
