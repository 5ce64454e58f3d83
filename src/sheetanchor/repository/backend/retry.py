"""A wrapper that tries again what may pass: lost connections, busy servers, timeouts."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TypeVar

from sheetanchor.clock import Clock
from sheetanchor.errors import ObjectExistsError, PassingBackendError
from sheetanchor.repository.backend.base import Backend, Features, Kind, StoredObject
from sheetanchor.repository.backend.probe import LooksFirst

Result = TypeVar("Result")


@dataclass(frozen=True)
class RetryPolicy:
    """Exponential waits with jitter, as long as the whole call stays under `total_seconds`."""

    first_delay: float = 1.0
    """Seconds before the second attempt, halved or whole by chance."""
    longest_delay: float = 60.0
    total_seconds: float = 900.0


class RetryingBackend:
    """Any backend, with patience; only PassingBackendError is tried again."""

    def __init__(
        self,
        inner: Backend,
        clock: Clock,
        random_source: random.Random,
        policy: RetryPolicy = RetryPolicy(),
        on_retry: Callable[[str], None] | None = None,
    ) -> None:
        self._inner = inner
        self._clock = clock
        self._random = random_source
        self._policy = policy
        self._on_retry = on_retry

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
        self._retry(self._inner.create)

    def put(
        self, kind: Kind, name: str, data: bytes | bytearray | memoryview, *, if_absent: bool = False
    ) -> None:
        """Store an object; see Backend.

        After a failed attempt with `if_absent` the object may be there by our own doing: it is
        read back, and equal bytes are success.
        """
        ambiguous = False

        def attempt() -> None:
            nonlocal ambiguous
            try:
                self._inner.put(kind, name, data, if_absent=if_absent)
            except PassingBackendError:
                ambiguous = True
                raise
            except ObjectExistsError:
                if not ambiguous or self._inner.get(kind, name) != data:
                    raise

        self._retry(attempt)

    def put_on_condition(self, kind: Kind, name: str, data: bytes) -> None:
        """Store an object on the storage's own condition; see probe.LooksFirst."""
        inner = self._inner
        if isinstance(inner, LooksFirst):
            self._retry(lambda: inner.put_on_condition(kind, name, data))
        else:
            self.put(kind, name, data, if_absent=True)

    def get(self, kind: Kind, name: str, offset: int = 0, length: int | None = None) -> bytes:
        """Return bytes of an object; see Backend."""
        return self._retry(lambda: self._inner.get(kind, name, offset, length))

    def size(self, kind: Kind, name: str) -> int:
        """Return the object's size in bytes; see Backend."""
        return self._retry(lambda: self._inner.size(kind, name))

    def list(self, kind: Kind) -> Iterator[StoredObject]:
        """Yield all objects of a kind; see Backend. A listing that breaks off starts anew."""
        return iter(self._retry(lambda: tuple(self._inner.list(kind))))

    def delete(self, kind: Kind, name: str) -> None:
        """Remove an object; see Backend."""
        self._retry(lambda: self._inner.delete(kind, name))

    def close(self) -> None:
        """Free connections."""
        self._inner.close()

    def _retry(self, call: Callable[[], Result]) -> Result:
        start = self._clock.monotonic()
        delay = self._policy.first_delay
        attempts = 1
        while True:
            try:
                return call()
            except PassingBackendError as error:
                wait = delay * self._random.uniform(0.5, 1.0)
                spent = self._clock.monotonic() - start
                if spent + wait > self._policy.total_seconds:
                    raise PassingBackendError(
                        f"{error.message}; gave up after {attempts} attempts in {spent:.0f} s",
                        hint=error.hint or "check the network and the storage service, then run it again",
                    ) from error
                if self._on_retry is not None:
                    self._on_retry(f"{error.message}; trying again in {wait:.1f} s")
            self._clock.sleep(wait)
            delay = min(2 * delay, self._policy.longest_delay)
            attempts += 1
