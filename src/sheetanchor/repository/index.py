"""Where every blob is: compact tables in memory for a million blobs and more.

Per blob 48 bytes in arrays (id, pack number, offset, two lengths) and 4 to 12 bytes of hash
slots, instead of several hundred in dicts.
"""

from __future__ import annotations

import threading
from array import array
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from sheetanchor.errors import DamagedRepositoryError
from sheetanchor.repository.ids import BlobType, Id
from sheetanchor.repository.pack import PackedBlob

_ID_SIZE = 32
_FIRST_SLOTS = 1 << 10


class Location(NamedTuple):
    """Where a blob is stored."""

    pack_id: Id
    offset: int
    length: int
    """Sealed length, in bytes."""
    uncompressed_length: int
    """0 when the blob is not compressed."""


class Index:
    """All blobs of all packs. Lookups run beside adds, from any number of threads.

    A blob stored twice is found at its first place; `locations` gives all of them.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._tables = {blob_type: _Table(self._lock) for blob_type in BlobType}
        self._pack_numbers: dict[Id, int] = {}
        self._pack_ids: list[Id] = []
        self._ranges: list[tuple[int, int, int, int]] = []

    def add_pack(self, pack_id: Id, blobs: Sequence[PackedBlob]) -> None:
        """Add a pack's blobs; the same pack once more changes nothing.

        Raises DamagedRepositoryError when the pack is known with other blobs.
        """
        with self._lock:
            known = self._pack_numbers.get(pack_id)
            if known is not None:
                if self._blobs(known) != sorted(blobs, key=_by_offset):
                    raise DamagedRepositoryError(f"pack {pack_id.hex()} is indexed with different contents")
                return
            number = len(self._pack_ids)
            data, tree = self._tables[BlobType.DATA], self._tables[BlobType.TREE]
            first_data, first_tree = len(data), len(tree)
            self._pack_ids.append(pack_id)
            data.extend(number, [blob for blob in blobs if blob.type is BlobType.DATA])
            tree.extend(number, [blob for blob in blobs if blob.type is BlobType.TREE])
            self._ranges.append((first_data, len(data), first_tree, len(tree)))
            self._pack_numbers[pack_id] = number

    def has(self, blob_type: BlobType, blob_id: Id) -> bool:
        """Say whether a blob is stored."""
        return self._tables[blob_type].find(blob_id) >= 0

    def lookup(self, blob_type: BlobType, blob_id: Id) -> Location | None:
        """Return where a blob is stored, None when it is not."""
        table = self._tables[blob_type]
        entry = table.find(blob_id)
        return self._location(table, entry) if entry >= 0 else None

    def locations(self, blob_type: BlobType, blob_id: Id) -> list[Location]:
        """Return every place of a blob, for when the first turns out damaged; scans the table."""
        table = self._tables[blob_type]
        return [self._location(table, entry) for entry in table.find_all(blob_id)]

    def count(self, blob_type: BlobType) -> int:
        """Return the number of stored blobs, a blob stored twice counting twice."""
        return len(self._tables[blob_type])

    def pack_ids(self) -> list[Id]:
        """Return the ids of all packs, in the order they were added."""
        return list(self._pack_ids)

    def pack(self, pack_id: Id) -> list[PackedBlob] | None:
        """Return a pack's blobs by offset, None when the pack is not indexed."""
        number = self._pack_numbers.get(pack_id)
        return None if number is None else self._blobs(number)

    def packs(self) -> Iterator[tuple[Id, list[PackedBlob]]]:
        """Yield every pack with its blobs by offset."""
        for number in range(len(self._ranges)):
            yield self._pack_ids[number], self._blobs(number)

    def blob_ids(self, blob_type: BlobType) -> Iterator[Id]:
        """Yield the id of every stored blob, a blob stored twice coming twice."""
        table = self._tables[blob_type]
        for entry in range(len(table)):
            yield table.blob_id(entry)

    def _location(self, table: _Table, entry: int) -> Location:
        return Location(
            self._pack_ids[table.packs[entry]],
            table.offsets[entry],
            table.lengths[entry],
            table.uncompressed[entry],
        )

    def _blobs(self, number: int) -> list[PackedBlob]:
        first_data, end_data, first_tree, end_tree = self._ranges[number]
        data, tree = self._tables[BlobType.DATA], self._tables[BlobType.TREE]
        blobs = [data.blob(BlobType.DATA, entry) for entry in range(first_data, end_data)]
        blobs += [tree.blob(BlobType.TREE, entry) for entry in range(first_tree, end_tree)]
        return sorted(blobs, key=_by_offset)


def _by_offset(blob: PackedBlob) -> int:
    return blob.offset


class _Table:
    """Blobs of one type: columns in order of arrival, found through open-addressed slots.

    Entries get their slots when somebody next looks for one, so that loading a whole index makes
    the slots once. An entry is complete before its slot is set, and a grown slot array replaces
    the old one in one assignment: readers need no lock while there is nothing new.
    """

    def __init__(self, lock: threading.Lock) -> None:
        self.packs = array("I")
        self.offsets = array("I")
        self.lengths = array("I")
        self.uncompressed = array("I")
        self._ids = bytearray()
        self._lock = lock
        self._linked = 0
        self._slots = array("I", bytes(4 * _FIRST_SLOTS))
        """Entry number + 1 at the place that an id hashes to; 0 is free."""

    def __len__(self) -> int:
        return len(self.packs)

    def extend(self, pack: int, blobs: Sequence[PackedBlob]) -> None:
        """Append entries; the caller holds the lock."""
        if not blobs:
            return
        _, ids, offsets, lengths, uncompressed = zip(*blobs, strict=True)
        self._ids += b"".join(ids)
        self.offsets.extend(offsets)
        self.lengths.extend(lengths)
        self.uncompressed.extend(uncompressed)
        self.packs.extend(array("I", (pack,)) * len(blobs))

    def find(self, blob_id: bytes) -> int:
        """Return the first entry of an id, -1 when there is none."""
        if self._linked != len(self.packs):
            self._catch_up()
        slots = self._slots
        ids = self._ids
        mask = len(slots) - 1
        slot = int.from_bytes(blob_id[:8], "little") & mask
        while entry := slots[slot]:
            if ids[(entry - 1) * _ID_SIZE : entry * _ID_SIZE] == blob_id:
                return entry - 1
            slot = (slot + 1) & mask
        return -1

    def find_all(self, blob_id: bytes) -> Iterator[int]:
        """Yield all entries of an id."""
        position = self._ids.find(blob_id)
        while position >= 0:
            if position % _ID_SIZE == 0:
                yield position // _ID_SIZE
            position = self._ids.find(blob_id, position + 1)

    def blob_id(self, entry: int) -> Id:
        return Id(bytes(self._ids[entry * _ID_SIZE : (entry + 1) * _ID_SIZE]))

    def blob(self, blob_type: BlobType, entry: int) -> PackedBlob:
        return PackedBlob(
            blob_type,
            self.blob_id(entry),
            self.offsets[entry],
            self.lengths[entry],
            self.uncompressed[entry],
        )

    def _catch_up(self) -> None:
        """Give entries that have come since their slots."""
        with self._lock:
            count, first, slots = len(self.packs), self._linked, self._slots
            if count * 3 > len(slots) * 2:
                size = len(slots)
                while count * 3 > size * 2:
                    size *= 2
                first, slots = 0, array("I", bytes(4 * size))
            for entry in range(first, count):
                self._link(slots, entry)
            self._slots = slots
            self._linked = count

    def _link(self, slots: array[int], entry: int) -> None:
        blob_id = self._ids[entry * _ID_SIZE : (entry + 1) * _ID_SIZE]
        mask = len(slots) - 1
        slot = int.from_bytes(blob_id[:8], "little") & mask
        while other := slots[slot]:
            if self._ids[(other - 1) * _ID_SIZE : other * _ID_SIZE] == blob_id:
                return
            slot = (slot + 1) & mask
        slots[slot] = entry + 1
