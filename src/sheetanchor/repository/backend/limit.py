"""A wrapper that keeps transfers below a rate, so that care for a repository leaves the line to others."""

from __future__ import annotations

import threading
from collections.abc import Iterator

from sheetanchor.clock import Clock
from sheetanchor.repository.backend.base import Backend, Features, Kind, StoredObject


class LimitedBackend:
    """Any backend at `bytes_per_second` each way at most, on average over a few objects.

    An object goes at full speed, and the next one waits until the average is right again: all
    threads together share one rate. Raises ValueError for a rate below 1.
    """

    def __init__(self, inner: Backend, clock: Clock, bytes_per_second: int) -> None:
        if bytes_per_second < 1:
            raise ValueError("a rate is at least 1 byte per second")
        self._inner = inner
        self._up = _Turnstile(clock, bytes_per_second)
        self._down = _Turnstile(clock, bytes_per_second)

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
        self._inner.create()

    def put(
        self, kind: Kind, name: str, data: bytes | bytearray | memoryview, *, if_absent: bool = False
    ) -> None:
        """Store an object once it is its turn; see Backend."""
        self._up.pass_through(len(data))
        self._inner.put(kind, name, data, if_absent=if_absent)

    def get(self, kind: Kind, name: str, offset: int = 0, length: int | None = None) -> bytes:
        """Return bytes of an object once it is its turn; see Backend."""
        self._down.pass_through(length or 0)
        data = self._inner.get(kind, name, offset, length)
        if length is None:
            self._down.add(len(data))
        return data

    def size(self, kind: Kind, name: str) -> int:
        """Return the object's size in bytes; see Backend."""
        return self._inner.size(kind, name)

    def list(self, kind: Kind) -> Iterator[StoredObject]:
        """Yield all objects of a kind; see Backend."""
        return self._inner.list(kind)

    def delete(self, kind: Kind, name: str) -> None:
        """Remove an object; see Backend."""
        self._inner.delete(kind, name)

    def close(self) -> None:
        """Free connections."""
        self._inner.close()


class _Turnstile:
    """Lets bytes through one after the other, at a rate."""

    def __init__(self, clock: Clock, rate: int) -> None:
        self._clock = clock
        self._rate = rate
        self._free_at = 0.0
        self._lock = threading.Lock()

    def pass_through(self, num_bytes: int) -> None:
        """Wait for what went before, then take the time that `num_bytes` need."""
        wait = self.add(num_bytes)
        if wait > 0:
            self._clock.sleep(wait)

    def add(self, num_bytes: int) -> float:
        """Take the time that `num_bytes` need; return in how many seconds it begins."""
        with self._lock:
            now = self._clock.monotonic()
            start = max(now, self._free_at)
            self._free_at = start + num_bytes / self._rate
            return start - now
