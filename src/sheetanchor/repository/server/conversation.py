"""The requests of one connection, one after the other: read, answered, logged."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from http import HTTPStatus
from typing import Protocol

from sheetanchor.clock import Clock
from sheetanchor.repository.server.connection import WINDOW, Connection
from sheetanchor.repository.server.refused import RefusedError
from sheetanchor.repository.server.request import Request, parse_head
from sheetanchor.repository.server.service import NOBODY, Response, Service, Upload

FEATURES_HEADER = "X-Sheetanchor-Features"
FEATURES = "conditional-put, objects"
_DRAINED_UNKNOWN = 64 << 10
_DRAINED_KNOWN = 256 << 20
"""Bytes of a refused body that are read all the same, so that the client gets to see the answer."""
_LONGEST_LOGGED = 200


class Busy(Protocol):
    """Is told when a request begins and ends."""

    def working(self, busy: bool) -> None:
        """Say whether a request is in progress."""
        ...


class Conversation:
    """Talks with one client until either side ends it."""

    def __init__(
        self, service: Service, connection: Connection, peer: str, clock: Clock, log: Callable[[str], None]
    ) -> None:
        self._service = service
        self._connection = connection
        self._peer = peer
        self._clock = clock
        self._log = log

    def run(self, busy: Busy, *, last: Callable[[], bool]) -> None:
        """Answer requests; `last` says whether the one in hand has to be the last one.

        Raises OSError when the client is slow or gone.
        """
        first = True
        while True:
            try:
                head = self._connection.read_head(first=first)
                busy.working(True)
                if head is None:
                    return
                request = parse_head(head)
            except RefusedError as refused:
                self._refuse_unread(refused)
                return
            if not self._exchange(request, last):
                return
            busy.working(False)
            if last():
                return
            first = False

    def _exchange(self, request: Request, last: Callable[[], bool]) -> bool:
        """Answer one request; return whether the connection can go on."""
        began = self._clock.monotonic()
        body = _Body(self._connection, request)
        name = NOBODY
        try:
            name, right = self._service.identify(request)
            response = self._service.answer(request, name, right, Upload(body.length, body.chunks))
            keep = request.keep_alive
        except RefusedError as refused:
            response = _refusal(refused)
            keep = request.keep_alive and not refused.close
        try:
            drained = body.drain(_DRAINED_UNKNOWN if name == NOBODY else _DRAINED_KNOWN)
            keep = keep and drained and not last()
            self._send(request, response, keep)
        finally:
            if response.opened is not None:
                os.close(response.opened.descriptor)
            self._tell(request, name, response, self._clock.monotonic() - began)
        if not drained:
            self._connection.linger()
        return keep

    def _send(self, request: Request, response: Response, keep: bool) -> None:
        length = response.length if response.opened is not None else len(response.body)
        head = _head(response, length, keep)
        if request.method == "HEAD" or response.opened is None:
            self._connection.send(head if request.method == "HEAD" else head + response.body)
            return
        left, offset = length, response.offset
        while left:
            data = os.pread(response.opened.descriptor, min(WINDOW, left), offset)
            if not data:
                raise ConnectionAbortedError("the file became shorter while it was sent")
            self._connection.send(head + data)
            head = b""
            left -= len(data)
            offset += len(data)
        if head:
            self._connection.send(head)

    def _refuse_unread(self, refused: RefusedError) -> None:
        response = _refusal(refused)
        self._connection.send(_head(response, len(response.body), keep=False) + response.body)
        self._log(f"{self._peer} - {refused.status.value} {refused.reason}")
        self._connection.linger()

    def _tell(self, request: Request, name: str, response: Response, seconds: float) -> None:
        path = request.path[:_LONGEST_LOGGED]
        size = response.length or request.content_length or 0
        reason = "" if response.status < HTTPStatus.BAD_REQUEST else f" {response.body.decode().strip()}"
        self._log(
            f"{self._peer} {name} {request.method} {path} {response.status.value}"
            f" {size} B {1000 * seconds:.0f} ms{reason}"
        )


class _Body:
    """A request's body: read by the service, or drained."""

    def __init__(self, connection: Connection, request: Request) -> None:
        self.length = request.content_length or 0
        self._connection = connection
        self._expects = request.headers.get("expect", "").lower() == "100-continue"
        self._begun = False
        self._left = self.length

    def chunks(self) -> Iterator[memoryview]:
        """Yield the body, once."""
        self._begun = True
        if self._expects:
            self._connection.send(b"HTTP/1.1 100 Continue\r\n\r\n")
        for chunk in self._connection.chunks(self.length):
            self._left -= len(chunk)
            yield chunk

    def drain(self, most: int) -> bool:
        """Read what is left, where that is at most `most` bytes; return whether all of it was read."""
        if self._left == 0:
            return True
        if self._left > most or (self._expects and not self._begun):
            return False
        for _ in self._connection.chunks(self._left):
            pass
        return True


def _refusal(refused: RefusedError) -> Response:
    headers = {}
    if refused.status == HTTPStatus.UNAUTHORIZED:
        headers["WWW-Authenticate"] = 'Basic realm="repository", charset="UTF-8"'
    if refused.allow:
        headers["Allow"] = refused.allow
    return Response(refused.status, f"{refused.reason}\n".encode(), headers=headers)


def _head(response: Response, length: int, keep: bool) -> bytes:
    lines = [
        f"HTTP/1.1 {response.status.value} {response.status.phrase}",
        "Server: sheetanchor",
        f"{FEATURES_HEADER}: {FEATURES}",
        f"Content-Type: {response.content_type}",
        f"Content-Length: {length}",
        "X-Content-Type-Options: nosniff",
        f"Connection: {'keep-alive' if keep else 'close'}",
        *(f"{name}: {value}" for name, value in response.headers.items()),
    ]
    return ("\r\n".join(lines) + "\r\n\r\n").encode("latin-1")
