"""Holds the writes of all clients for a while, never for longer than we live."""

from __future__ import annotations

import threading
from typing import Self

from sheetanchor.components.redis.address import Address
from sheetanchor.components.redis.wire import Wire
from sheetanchor.errors import ComponentError

PAUSE_MILLISECONDS = 10_000
RENEW_SECONDS = 2.0


class WritesPaused:
    """CLIENT PAUSE … WRITE, renewed by a thread: without us it lapses after ten seconds.

    Reads go on; a write waits and is then answered by the data that is live. Keys do not
    expire meanwhile (redis.io/docs, CLIENT PAUSE).
    """

    def __init__(self, address: Address) -> None:
        self._wire = Wire(address)
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._renew, name="redis-pause", daemon=True)
        self._lost: ComponentError | None = None

    def __enter__(self) -> Self:
        try:
            self._pause()
        except BaseException:
            self._wire.close()
            raise
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stopping.set()
        self._thread.join()
        try:
            self._wire.call("CLIENT", "UNPAUSE")
        except ComponentError as error:
            self._lost = error  # the pause lapses by itself
        self._wire.close()

    def require(self) -> None:
        """Raise UnreachableError or RefusedCommandError when the writes are no longer held."""
        if self._lost is not None:
            raise self._lost

    def _pause(self) -> None:
        self._wire.call("CLIENT", "PAUSE", PAUSE_MILLISECONDS, "WRITE")

    def _renew(self) -> None:
        while not self._stopping.wait(RENEW_SECONDS):
            try:
                self._pause()
            except ComponentError as error:
                self._lost = error
                return
