"""One client's socket, with a deadline on everything: who is slow is cut off, not waited for."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from dataclasses import dataclass
from http import HTTPStatus

from sheetanchor.clock import Clock
from sheetanchor.repository.server.refused import RefusedError

LARGEST_HEAD = 16 << 10
"""Bytes of a request line with all headers."""
WINDOW = 256 << 10
"""Bytes of a body that are received or sent at once."""
LINGER_SECONDS = 1.0
_END = b"\r\n\r\n"


@dataclass(frozen=True)
class Patience:
    """Seconds a client has."""

    head: float = 15.0
    """For a TLS handshake, and for a whole head once it has begun."""
    idle: float = 60.0
    """Between two requests of one connection."""
    window: float = 60.0
    """For each window of a body: less than 4 KiB a second is too slow."""


class Connection:
    """Receives heads and bodies, and sends. Raises OSError when the client is slow or gone."""

    def __init__(self, sock: socket.socket, clock: Clock, patience: Patience) -> None:
        self._socket = sock
        self._clock = clock
        self._patience = patience
        self._buffer = bytearray()

    def read_head(self, *, first: bool) -> bytes | None:
        """Return the next head without the empty line at its end; None when no more comes.

        Raises RefusedError (408, 431).
        """
        patience = self._patience
        try:
            if not self._buffer and not self._fill(patience.head if first else patience.idle):
                return None
        except TimeoutError:
            return None
        deadline = self._clock.monotonic() + patience.head
        while (end := self._buffer.find(_END, 0, LARGEST_HEAD + len(_END))) < 0:
            if len(self._buffer) > LARGEST_HEAD:
                raise RefusedError(
                    HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE, "the headers are too long", close=True
                )
            try:
                if not self._fill(deadline - self._clock.monotonic()):
                    return None
            except TimeoutError as error:
                raise RefusedError(
                    HTTPStatus.REQUEST_TIMEOUT, "the request came too slowly", close=True
                ) from error
        head = bytes(self._buffer[:end])
        del self._buffer[: end + len(_END)]
        return head

    def chunks(self, length: int) -> Iterator[memoryview]:
        """Yield a body of `length` bytes; each view is valid until the next one is asked for."""
        window = memoryview(bytearray(min(WINDOW, length)))
        left = length
        while left:
            part = window[: min(left, len(window))]
            self._receive(part)
            left -= len(part)
            yield part

    def send(self, data: bytes | memoryview) -> None:
        """Send it all, a window in the time for a window."""
        view = memoryview(data)
        while view:
            self._socket.settimeout(self._patience.window)
            self._socket.sendall(view[:WINDOW])
            view = view[WINDOW:]

    def linger(self) -> None:
        """End our side, and read a little more, so that the last answer is not lost with a reset."""
        self._socket.shutdown(socket.SHUT_WR)
        deadline = self._clock.monotonic() + LINGER_SECONDS
        while (left := deadline - self._clock.monotonic()) > 0:
            self._socket.settimeout(left)
            if not self._socket.recv(WINDOW):
                return

    def _receive(self, part: memoryview) -> None:
        have = min(len(part), len(self._buffer))
        part[:have] = self._buffer[:have]
        del self._buffer[:have]
        deadline = self._clock.monotonic() + self._patience.window
        while have < len(part):
            self._set_timeout(deadline - self._clock.monotonic())
            got = self._socket.recv_into(part[have:])
            if not got:
                raise ConnectionAbortedError("the client ended in the middle of a body")
            have += got

    def _fill(self, seconds: float) -> bool:
        self._set_timeout(seconds)
        data = self._socket.recv(LARGEST_HEAD)
        self._buffer += data
        return bool(data)

    def _set_timeout(self, seconds: float) -> None:
        if seconds <= 0:
            raise TimeoutError("the client is too slow")
        self._socket.settimeout(seconds)
