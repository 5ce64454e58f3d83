"""A repository in memory: for tests of what stands above, and the plainest form of the contract."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from datetime import datetime

from sheetanchor.clock import Clock, SystemClock
from sheetanchor.errors import FinalBackendError, ObjectAbsentError, ObjectExistsError
from sheetanchor.repository.backend.base import Features, Kind, StoredObject, is_object_name


class MemoryBackend:
    """Keeps objects as long as the process lives."""

    def __init__(self, clock: Clock | None = None) -> None:
        self._clock = clock or SystemClock()
        self._objects: dict[tuple[Kind, str], tuple[bytes, datetime]] = {}
        self._lock = threading.Lock()

    @property
    def location(self) -> str:
        """Where this is, for people."""
        return "memory"

    @property
    def features(self) -> Features:
        """What the storage promises."""
        return Features(conditional_put=True, concurrency=4)

    def create(self) -> None:
        """Nothing to make ready."""

    def put(
        self, kind: Kind, name: str, data: bytes | bytearray | memoryview, *, if_absent: bool = False
    ) -> None:
        """Store an object; see Backend."""
        _check_name(kind, name)
        with self._lock:
            if if_absent and (kind, name) in self._objects:
                raise ObjectExistsError(f"memory: {kind}/{name} exists already")
            self._objects[kind, name] = bytes(data), self._clock.now()

    def get(self, kind: Kind, name: str, offset: int = 0, length: int | None = None) -> bytes:
        """Return bytes of an object; see Backend."""
        data = self._object(kind, name)[0]
        if length is None:
            return data[offset:]
        if offset + length > len(data):
            raise FinalBackendError(f"memory: {kind}/{name} has only {len(data)} bytes")
        return data[offset : offset + length]

    def size(self, kind: Kind, name: str) -> int:
        """Return the object's size in bytes; see Backend."""
        return len(self._object(kind, name)[0])

    def list(self, kind: Kind) -> Iterator[StoredObject]:
        """Yield all objects of a kind; see Backend."""
        with self._lock:
            found = [
                StoredObject(name, len(data), received_at)
                for (object_kind, name), (data, received_at) in self._objects.items()
                if object_kind is kind
            ]
        return iter(found)

    def delete(self, kind: Kind, name: str) -> None:
        """Remove an object; see Backend."""
        _check_name(kind, name)
        with self._lock:
            self._objects.pop((kind, name), None)

    def close(self) -> None:
        """Nothing to free."""

    def _object(self, kind: Kind, name: str) -> tuple[bytes, datetime]:
        _check_name(kind, name)
        with self._lock:
            found = self._objects.get((kind, name))
        if found is None:
            raise ObjectAbsentError(f"memory: {kind}/{name} does not exist")
        return found


def _check_name(kind: Kind, name: str) -> None:
    if kind is Kind.OBJECTS and not is_object_name(name):
        raise FinalBackendError(f"{name[:80]!r} is no name of a file of kind {kind}")
