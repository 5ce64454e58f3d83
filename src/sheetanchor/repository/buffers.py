"""Large buffers that are used again and again, and that bound how much is in flight.

A third of a naive pipeline's time goes into page faults of fresh large allocations, so read
slabs and packs live in anonymous mappings that come back to their pool. A pool that is empty
makes the producer wait: this is the pipeline's back-pressure.
"""

from __future__ import annotations

import mmap
import threading
from collections.abc import Callable


class BufferPool:
    """Up to `count` buffers of `size` bytes, made when first needed."""

    def __init__(self, size: int, count: int) -> None:
        self.size = size
        self._left = count
        self._free: list[memoryview] = []
        self._changed = threading.Condition()

    def take(self, check: Callable[[], None]) -> memoryview:
        """Return a free buffer, waiting for one; `check` is called while waiting and may raise."""
        with self._changed:
            while True:
                check()
                if self._free:
                    return self._free.pop()
                if self._left:
                    self._left -= 1
                    return memoryview(mmap.mmap(-1, self.size))
                self._changed.wait(0.2)

    def give(self, buffer: memoryview) -> None:
        """Put a buffer back."""
        with self._changed:
            self._free.append(buffer)
            self._changed.notify()


class Slab:
    """A buffer that several tasks read from; it goes back when the last of them is done."""

    def __init__(self, pool: BufferPool, check: Callable[[], None]) -> None:
        self.view = pool.take(check)
        self._pool = pool
        self._users = 1
        self._lock = threading.Lock()

    def acquire(self) -> None:
        """Count one more user."""
        with self._lock:
            self._users += 1

    def release(self) -> None:
        """Count one user less; the last one gives the buffer back."""
        with self._lock:
            self._users -= 1
            last = self._users == 0
        if last:
            self._pool.give(self.view)
