"""Which blobs the snapshots refer to: found by walking every tree once, kept in a few bytes each.

A million used blobs take about 50 MiB: ids end to end, hash slots, and the pack each is kept in.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor

from sheetanchor.errors import DamagedRepositoryError
from sheetanchor.repository import gojson
from sheetanchor.repository.blob_reader import BlobReader
from sheetanchor.repository.ids import BlobType, Id

_ID_SIZE = 32
_FIRST_SLOTS = 1 << 10
_BATCH = 256
"""Trees loaded at once."""
_MANY = 255


class IdTable:
    """A set of ids in order of arrival; each has a position, and with it a home and a count."""

    def __init__(self) -> None:
        self._ids = bytearray()
        self._slots = array("I", bytes(4 * _FIRST_SLOTS))
        """Position + 1 at the place that an id hashes to; 0 is free."""
        self.homes = array("I")
        """Number of the pack from which the blob is to be kept, by position."""
        self.copies = bytearray()
        """How many usable packs hold the blob, by position; 255 stands for more."""

    def __len__(self) -> int:
        return len(self.copies)

    def add(self, blob_id: bytes) -> bool:
        """Add an id; return whether it is new."""
        slots, slot = self._slots, self._slot(blob_id)
        if slots[slot]:
            return False
        self._ids += blob_id
        self.homes.append(0)
        self.copies.append(0)
        slots[slot] = len(self.copies)
        if len(self.copies) * 3 > len(slots) * 2:
            self._grow()
        return True

    def find(self, blob_id: bytes) -> int:
        """Return an id's position, -1 when it was never added."""
        return self._slots[self._slot(blob_id)] - 1

    def count_copy(self, position: int, home: int) -> None:
        """Note that the pack `home` holds the blob at `position`; the first pack becomes its home."""
        seen = self.copies[position]
        if seen == 0:
            self.homes[position] = home
        if seen < _MANY:
            self.copies[position] = seen + 1

    def without_copy(self) -> Iterator[Id]:
        """Yield the ids that no usable pack holds."""
        position = self.copies.find(0)
        while position >= 0:
            yield Id(bytes(self._ids[position * _ID_SIZE : (position + 1) * _ID_SIZE]))
            position = self.copies.find(0, position + 1)

    def _slot(self, blob_id: bytes) -> int:
        """Return the slot that holds the id, or the free one where it belongs."""
        slots, ids = self._slots, self._ids
        mask = len(slots) - 1
        slot = int.from_bytes(blob_id[:8], "little") & mask
        while entry := slots[slot]:
            if ids[(entry - 1) * _ID_SIZE : entry * _ID_SIZE] == blob_id:
                break
            slot = (slot + 1) & mask
        return slot

    def _grow(self) -> None:
        slots = array("I", bytes(4 * 2 * len(self._slots)))
        mask = len(slots) - 1
        for position in range(len(self.copies)):
            start = position * _ID_SIZE
            slot = int.from_bytes(self._ids[start : start + 8], "little") & mask
            while slots[slot]:
                slot = (slot + 1) & mask
            slots[slot] = position + 1
        self._slots = slots


class UsedBlobs:
    """All blobs that some snapshot refers to."""

    def __init__(self) -> None:
        self._data = IdTable()
        self._trees = IdTable()

    def __len__(self) -> int:
        return len(self._data) + len(self._trees)

    def of(self, blob_type: BlobType) -> IdTable:
        """Return the blobs of one type."""
        return self._trees if blob_type is BlobType.TREE else self._data


def find_used(blobs: BlobReader, roots: Iterable[Id], threads: int) -> UsedBlobs:
    """Return what the trees `roots` and all below them refer to; every tree is read once.

    Raises DamagedRepositoryError for a tree that is missing or cannot be read: what it refers to
    is not known then, so nothing may be taken for unused.
    """
    used = UsedBlobs()
    data, trees = used.of(BlobType.DATA), used.of(BlobType.TREE)
    waiting = [root for root in roots if trees.add(root)]

    def load(tree: Id) -> tuple[list[bytes], list[Id]]:
        return references(tree, blobs.load(BlobType.TREE, tree))

    with ThreadPoolExecutor(max(threads, blobs.concurrency), thread_name_prefix="trees") as pool:
        while waiting:
            batch = waiting[-_BATCH:]
            del waiting[-_BATCH:]
            for content, subtrees in pool.map(load, batch):
                for blob_id in content:
                    data.add(blob_id)
                waiting.extend(subtree for subtree in subtrees if trees.add(subtree))
    return used


def references(tree: Id, data: bytes) -> tuple[list[bytes], list[Id]]:
    """Return the data blobs and the trees that a tree blob names.

    Reads less than `node.decode_tree`, but refuses whatever leaves a reference in doubt. Raises
    DamagedRepositoryError.
    """
    content: list[bytes] = []
    subtrees: list[Id] = []
    try:
        match gojson.decode(data):
            case {"nodes": list(nodes)}:
                for node in nodes:
                    _add_references(node, content, subtrees)
            case {"nodes": None}:
                pass
            case _:
                raise ValueError("no list of nodes")
    except (ValueError, KeyError) as error:
        raise DamagedRepositoryError(
            f"tree {tree.hex()} cannot be read, so what it refers to is not known: {error}",
            hint="`sheetanchor repository check` tells which snapshots are affected",
        ) from error
    return content, subtrees


def _add_references(node: object, content: list[bytes], subtrees: list[Id]) -> None:
    if not isinstance(node, dict):
        raise ValueError("a node is no object")
    subtree, named = node.get("subtree"), node.get("content")
    if node["type"] == "dir" and subtree is None:
        raise ValueError("a directory has no tree")
    if subtree is not None:
        subtrees.append(_id(subtree))
    if named is not None:
        if not isinstance(named, list):
            raise ValueError("content is no list")
        content.extend(_id(item) for item in named)


def _id(value: object) -> Id:
    if not isinstance(value, str) or len(value) != 2 * _ID_SIZE:
        raise ValueError("a reference is no id")
    raw_id = bytes.fromhex(value)
    if len(raw_id) != _ID_SIZE:
        raise ValueError("a reference has spaces in it")
    return Id(raw_id)
