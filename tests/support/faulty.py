"""A backend that fails on order: the n-th call of a method fails, hangs on, is cut or corrupted."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from sheetanchor.repository.backend.base import Backend, Features, Kind, StoredObject


@dataclass(frozen=True)
class Fault:
    """What happens to calls `first` to `last` (counted from 1) of `method`.

    `before` runs instead of the call when it raises; `after` runs once the call was carried out
    (a reply that got lost); `change` alters the bytes that `get` returns or `put` stores.
    """

    method: str
    first: int = 1
    last: int = 1
    kind: Kind | None = None
    before: Callable[[], None] | None = None
    after: Callable[[], None] | None = None
    change: Callable[[bytes], bytes] | None = None


class FaultyBackend:
    """Any backend with faults; `calls` counts what was asked of it."""

    def __init__(self, inner: Backend, *faults: Fault) -> None:
        self._inner = inner
        self._faults = faults
        self._seen: Counter[Fault] = Counter()
        self._lock = threading.Lock()
        self.calls: Counter[str] = Counter()

    @property
    def location(self) -> str:
        """Where this is, for people."""
        return self._inner.location

    @property
    def features(self) -> Features:
        """What the storage promises."""
        return self._inner.features

    def create(self) -> None:
        """Make the place ready; see Backend."""
        with self._faulty("create", None):
            self._inner.create()

    def put(
        self, kind: Kind, name: str, data: bytes | bytearray | memoryview, *, if_absent: bool = False
    ) -> None:
        """Store an object; see Backend."""
        with self._faulty("put", kind) as call:
            self._inner.put(kind, name, call.changed(bytes(data)), if_absent=if_absent)

    def get(self, kind: Kind, name: str, offset: int = 0, length: int | None = None) -> bytes:
        """Return bytes of an object; see Backend."""
        with self._faulty("get", kind) as call:
            return call.changed(self._inner.get(kind, name, offset, length))

    def size(self, kind: Kind, name: str) -> int:
        """Return the object's size in bytes; see Backend."""
        with self._faulty("size", kind):
            return self._inner.size(kind, name)

    def list(self, kind: Kind) -> Iterator[StoredObject]:
        """Yield all objects of a kind; see Backend. A fault strikes after the first one."""
        found = self._inner.list(kind)
        first = next(found, None)
        if first is not None:
            yield first
        with self._faulty("list", kind):
            yield from found

    def delete(self, kind: Kind, name: str) -> None:
        """Remove an object; see Backend."""
        with self._faulty("delete", kind):
            self._inner.delete(kind, name)

    def close(self) -> None:
        """Free connections."""
        self._inner.close()

    def _faulty(self, method: str, kind: Kind | None) -> _Call:
        with self._lock:
            self.calls[method] += 1
            struck = []
            for fault in self._faults:
                if fault.method == method and fault.kind in (None, kind):
                    self._seen[fault] += 1
                    if fault.first <= self._seen[fault] <= fault.last:
                        struck.append(fault)
        return _Call(struck)


class _Call:
    def __init__(self, faults: list[Fault]) -> None:
        self._faults = faults

    def __enter__(self) -> _Call:
        for fault in self._faults:
            if fault.before is not None:
                fault.before()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: object, trace: object) -> None:
        for fault in self._faults:
            if kind is None and fault.after is not None:
                fault.after()

    def changed(self, data: bytes) -> bytes:
        for fault in self._faults:
            if fault.change is not None:
                data = fault.change(data)
        return data
