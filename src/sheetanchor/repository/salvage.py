"""Reading what is left in a damaged pack: every blob that still opens, by header and by index."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from sheetanchor.errors import DamagedRepositoryError, ObjectAbsentError
from sheetanchor.repository.backend.base import Backend, Kind
from sheetanchor.repository.crypto import Sealer
from sheetanchor.repository.ids import Id
from sheetanchor.repository.opener import Opener
from sheetanchor.repository.pack import PackedBlob, read_header


@dataclass(frozen=True)
class Salvage:
    """One pack, read as far as it goes."""

    data: memoryview
    readable: tuple[PackedBlob, ...]
    unreadable: tuple[PackedBlob, ...]


class Salvager:
    """Reads damaged packs; threads may share it."""

    def __init__(self, backend: Backend, sealer: Sealer) -> None:
        self._backend = backend
        self._sealer = sealer
        self._opener = Opener(sealer)

    def read(self, pack_id: Id, indexed: Iterable[PackedBlob]) -> Salvage:
        """Try every blob that the pack's header or the index (`indexed`) places in it.

        A pack that is gone has nothing readable. Raises what else the backend raises.
        """
        try:
            data = memoryview(self._backend.get(Kind.DATA, pack_id.hex()))
        except ObjectAbsentError:
            data = memoryview(b"")
        candidates = dict.fromkeys((*indexed, *self._header(data)))
        readable = [blob for blob in candidates if self._opens(data, blob)]
        found = {(blob.type, blob.id) for blob in readable}
        unreadable = [blob for blob in candidates if (blob.type, blob.id) not in found]
        return Salvage(data, tuple(readable), tuple(unreadable))

    def plain(self, salvage: Salvage) -> Iterator[tuple[PackedBlob, bytes | memoryview]]:
        """Yield every readable blob with its content, which is valid until the next step."""
        for blob in salvage.readable:
            yield blob, self._open(salvage.data, blob)

    def _header(self, data: memoryview) -> list[PackedBlob]:
        try:
            return read_header(lambda at, size: bytes(data[at : at + size]), len(data), self._sealer)
        except DamagedRepositoryError:
            return []

    def _opens(self, data: memoryview, blob: PackedBlob) -> bool:
        try:
            self._open(data, blob)
        except DamagedRepositoryError:
            return False
        return True

    def _open(self, data: memoryview, blob: PackedBlob) -> bytes | memoryview:
        sealed = data[blob.offset : blob.offset + blob.length]
        return self._opener.open(blob.id, sealed, blob.uncompressed_length)
