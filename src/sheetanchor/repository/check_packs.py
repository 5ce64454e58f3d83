"""Reading whole packs: hash, header against index, and every blob in them."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor

from sheetanchor.errors import BackendError, DamagedRepositoryError
from sheetanchor.repository.backend.base import Backend, Kind
from sheetanchor.repository.crypto import Sealer
from sheetanchor.repository.ids import Id, digest
from sheetanchor.repository.opener import Opener
from sheetanchor.repository.pack import PackedBlob, read_header

PackError = tuple[str, list[tuple[str, Id]]]
"""What is wrong, and the blobs or the pack that are bad."""


class PackChecker:
    """Reads packs; a pack with an error is read a second time, to tell a passing fault from damage."""

    def __init__(self, backend: Backend, sealer: Sealer) -> None:
        self._backend = backend
        self._sealer = sealer
        self._opener = Opener(sealer)

    def run(
        self, threads: ThreadPoolExecutor, ahead: int, packs: Iterable[tuple[Id, list[PackedBlob]]]
    ) -> Iterator[tuple[Id, list[PackError]]]:
        """Yield each pack with its errors; up to `ahead` packs are in memory at once."""
        waiting: deque[tuple[Id, Future[list[PackError]]]] = deque()
        for pack_id, blobs in packs:
            waiting.append((pack_id, threads.submit(self.check, pack_id, blobs)))
            if len(waiting) >= ahead:
                done, future = waiting.popleft()
                yield done, future.result()
        for done, future in waiting:
            yield done, future.result()

    def check(self, pack_id: Id, blobs: list[PackedBlob]) -> list[PackError]:
        """Return what is wrong with one pack; `blobs` is what the index says of it."""
        return self._check_once(pack_id, blobs) and self._check_once(pack_id, blobs)

    def _check_once(self, pack_id: Id, blobs: list[PackedBlob]) -> list[PackError]:
        try:
            data = memoryview(self._backend.get(Kind.DATA, pack_id.hex()))
        except BackendError as error:
            return [(f"cannot be read: {error.message}", [("pack", pack_id)])]
        errors: list[PackError] = []
        if digest(data) != pack_id:
            errors.append(("its content does not match its name", []))
        try:
            header = read_header(lambda at, size: bytes(data[at : at + size]), len(data), self._sealer)
            if header != blobs:
                errors.append(("its header does not say what the index says", []))
        except DamagedRepositoryError as error:
            errors.append((f"its header is damaged: {error.message}", []))
        for blob in blobs:
            try:
                sealed = data[blob.offset : blob.offset + blob.length]
                self._opener.open(blob.id, sealed, blob.uncompressed_length)
            except DamagedRepositoryError as error:
                what = f"{blob.type} blob {blob.id.hex()} is damaged: {error.message}"
                errors.append((what, [(blob.type.value, blob.id)]))
        return errors
