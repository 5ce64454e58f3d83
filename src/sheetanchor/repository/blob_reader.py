"""Reading blobs: found in the index, fetched by range, opened, checked against their id."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from sheetanchor.errors import DamagedRepositoryError, FinalBackendError, ObjectAbsentError
from sheetanchor.repository.backend.base import Backend, Kind
from sheetanchor.repository.crypto import OVERHEAD, Sealer
from sheetanchor.repository.file_content import shown
from sheetanchor.repository.filemode import NodeType
from sheetanchor.repository.ids import BlobType, Id
from sheetanchor.repository.index import Index, Location
from sheetanchor.repository.node import Node, decode_tree
from sheetanchor.repository.opener import Opener

Result = TypeVar("Result")


class BlobReader:
    """Reads single blobs and ranges of packs; may be used by many threads at once."""

    def __init__(self, backend: Backend, sealer: Sealer, index: Index) -> None:
        self._backend = backend
        self._index = index
        self._opener = Opener(sealer)

    @property
    def concurrency(self) -> int:
        """How many requests at once the storage likes."""
        return self._backend.features.concurrency

    def locate(self, blob_type: BlobType, blob_id: Id) -> Location:
        """Return where a blob is. Raises DamagedRepositoryError when the index has none."""
        location = self._index.lookup(blob_type, blob_id)
        if location is None:
            raise DamagedRepositoryError(
                f"{self._backend.location}: {blob_type} blob {blob_id.hex()} is missing from the index",
                hint="`sheetanchor repository check` tells what else is affected",
            )
        return location

    def has_tree(self, tree: Id) -> bool:
        """Say whether a tree is in the index."""
        return self._index.has(BlobType.TREE, tree)

    def plain_length(self, blob_id: Id) -> int:
        """Return a data blob's length in bytes. Raises DamagedRepositoryError when it is missing."""
        location = self.locate(BlobType.DATA, blob_id)
        return location.uncompressed_length or location.length - OVERHEAD

    def load(self, blob_type: BlobType, blob_id: Id) -> bytes:
        """Return a blob; one that is damaged is looked for in the other packs that hold it.

        Raises DamagedRepositoryError naming the pack.
        """
        try:
            return self._load_from(self.locate(blob_type, blob_id), blob_id)
        except DamagedRepositoryError:
            for location in self._index.locations(blob_type, blob_id)[1:]:
                try:
                    return self._load_from(location, blob_id)
                except DamagedRepositoryError:
                    continue
            raise

    def load_tree_blob(self, tree: Id) -> bytes:
        """Return a directory's tree as it was stored. Raises DamagedRepositoryError."""
        return self.load(BlobType.TREE, tree)

    def load_tree(self, tree: Id) -> list[Node]:
        """Return a directory's entries. Raises DamagedRepositoryError."""
        try:
            return decode_tree(self.load(BlobType.TREE, tree))
        except DamagedRepositoryError as error:
            raise DamagedRepositoryError(f"tree {tree.hex()}: {error.message}", hint=error.hint) from error

    def fetch(self, pack_id: Id, offset: int, length: int) -> memoryview:
        """Return a range of a pack. Raises DamagedRepositoryError when the pack has no such bytes."""
        try:
            return memoryview(self._backend.get(Kind.DATA, pack_id.hex(), offset, length))
        except ObjectAbsentError as error:
            raise self._damaged(pack_id, "is missing") from error
        except FinalBackendError as error:
            if self._is_whole(pack_id, offset + length):
                raise
            raise self._damaged(pack_id, "is cut off") from error

    def use(
        self,
        blob_id: Id,
        location: Location,
        sealed: memoryview,
        consume: Callable[[bytes | memoryview], Result],
    ) -> Result:
        """Open `sealed`, which was fetched from `location`, and give the plain bytes to `consume`.

        The bytes are valid during the call only. A damaged blob is looked for elsewhere.
        """
        try:
            plain = self._opener.open(blob_id, sealed, location.uncompressed_length)
        except DamagedRepositoryError:
            plain = self.load(BlobType.DATA, blob_id)
        return consume(plain)

    def _load_from(self, location: Location, blob_id: Id) -> bytes:
        sealed = self.fetch(location.pack_id, location.offset, location.length)
        try:
            return bytes(self._opener.open(blob_id, sealed, location.uncompressed_length))
        except DamagedRepositoryError as error:
            raise self._damaged(location.pack_id, f"is damaged: {error.message}") from error

    def _is_whole(self, pack_id: Id, end: int) -> bool:
        try:
            return self._backend.size(Kind.DATA, pack_id.hex()) >= end
        except ObjectAbsentError:
            return False

    def _damaged(self, pack_id: Id, what: str) -> DamagedRepositoryError:
        return DamagedRepositoryError(
            f"{self._backend.location}: pack {pack_id.hex()} {what}",
            hint="`sheetanchor repository check --read-data` tells what else is affected",
        )


def subtree_of(node: Node) -> Id:
    """Return a directory's tree. Raises DamagedRepositoryError when it has none."""
    if node.subtree is None:
        raise DamagedRepositoryError(f"directory {shown(node.name)} has no tree")
    return node.subtree


def content_of(node: Node) -> tuple[Id, ...]:
    """Return a file's blobs. Raises DamagedRepositoryError for what has no content."""
    if node.type is not NodeType.FILE or node.content is None:
        raise DamagedRepositoryError(f"{shown(node.name)} has no content to read: it is a {node.type}")
    return node.content
