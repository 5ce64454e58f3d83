"""How much the served directory may hold: bytes reserved before they are written."""

from __future__ import annotations

import os
import threading
from http import HTTPStatus

from sheetanchor.clock import Clock
from sheetanchor.repository.server.refused import RefusedError

_RECOUNT_AFTER = 30.0
"""Seconds between two counts: others may write to the directory or remove from it, too."""


class Quota:
    """Counts bytes of files below a directory against `limit` (None: no limit)."""

    def __init__(self, directory: str, limit: int | None, clock: Clock) -> None:
        self._directory = directory
        self._limit = limit
        self._clock = clock
        self._lock = threading.Lock()
        self._stored = 0
        self._reserved = 0
        self._counted_at: float | None = None

    def reserve(self, size: int) -> None:
        """Set `size` bytes aside. Raises RefusedError (507) when they do not fit."""
        if self._limit is None:
            return
        with self._lock:
            if self._counted_at is None:
                self._count()
            if self._stored + self._reserved + size > self._limit:
                if self._clock.monotonic() - (self._counted_at or 0.0) > _RECOUNT_AFTER:
                    self._count()
                if self._stored + self._reserved + size > self._limit:
                    raise RefusedError(HTTPStatus.INSUFFICIENT_STORAGE, "the server's quota is used up")
            self._reserved += size

    def settle(self, size: int, *, stored: bool) -> None:
        """End a reservation: the bytes are stored now, or not at all."""
        with self._lock:
            if self._limit is not None:
                self._reserved -= size
                self._stored += size if stored else 0

    def freed(self, size: int) -> None:
        """Say that a file of `size` bytes was removed."""
        with self._lock:
            self._stored = max(self._stored - size, 0)

    def _count(self) -> None:
        total = 0
        for directory, _, names in os.walk(self._directory):
            for name in names:
                try:
                    total += os.lstat(os.path.join(directory, name)).st_size
                except FileNotFoundError:
                    continue
        # What is being written now was counted in part, and stays reserved: never too little.
        self._stored = total
        self._counted_at = self._clock.monotonic()
