"""HTTP for the REST backend: connections kept and used again, each answer read whole or refused."""

from __future__ import annotations

import base64
import http.client
import socket
import ssl
import threading
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import cast

from sheetanchor.errors import ConfigError, FinalBackendError, PassingBackendError
from sheetanchor.repository.backend.rest_location import RestLocation

_CONNECT_SECONDS = 15.0
_ANSWER_SECONDS = 120.0
"""Without a byte for this long, a connection is given up."""
_IDLE_SECONDS = 25.0
"""Connections that were unused longer are not used again: servers close them after a while."""
_KEPT = 8
_SLICE = 256 << 10
_USER_AGENT = "sheetanchor"


@dataclass(frozen=True)
class Answer:
    """A whole answer; the names of headers are in lower case."""

    status: int
    headers: Mapping[str, str]
    body: bytes


class RestHttp:
    """Requests to one server; threads share it."""

    def __init__(self, location: RestLocation) -> None:
        self._location = location
        self._context = _context(location) if location.scheme == "https" else None
        self._idle: list[tuple[http.client.HTTPConnection, float]] = []
        self._lock = threading.Lock()
        self._headers = {"User-Agent": _USER_AGENT}
        if location.username is not None:
            password = location.password.reveal() if location.password is not None else ""
            plain = f"{location.username}:{password}".encode()
            self._headers["Authorization"] = f"Basic {base64.b64encode(plain).decode('ascii')}"

    def request(
        self, method: str, path: str, headers: Mapping[str, str], body: memoryview | None = None
    ) -> Answer:
        """Send a request for a path below the repository; return the answer, whatever its status.

        Raises PassingBackendError for a connection that fails or ends too early, and
        FinalBackendError for a certificate that is not trusted.
        """
        kept = self._kept()
        if kept is not None:
            try:
                return self._exchange(kept, method, path, headers, body)
            except (http.client.RemoteDisconnected, ConnectionError):
                # The server had closed it; a request may be sent again, since none does harm twice.
                kept.close()
            except (OSError, http.client.HTTPException) as error:
                kept.close()
                raise self._failure(method, path, error) from error
        fresh = self._new()
        try:
            return self._exchange(fresh, method, path, headers, body)
        except (OSError, http.client.HTTPException) as error:
            fresh.close()
            raise self._failure(method, path, error) from error

    def close(self) -> None:
        """Close the connections that are not in use."""
        with self._lock:
            idle, self._idle = self._idle, []
        for connection, _ in idle:
            connection.close()

    def _exchange(
        self,
        connection: http.client.HTTPConnection,
        method: str,
        path: str,
        headers: Mapping[str, str],
        body: memoryview | None,
    ) -> Answer:
        all_headers = {**self._headers, **headers}
        if body is not None:
            all_headers["Content-Length"] = str(body.nbytes)
        if connection.sock is None:
            connection.connect()
            # Connecting has its own, shorter limit; the attribute is set by connect().
            cast("socket.socket", connection.sock).settimeout(_ANSWER_SECONDS)
        try:
            slices = _slices(body) if body is not None else None
            connection.request(method, self._location.path + path, slices, all_headers)
        except (BrokenPipeError, ConnectionResetError):
            # A server that refuses a body may end before it has all of it; its answer says why.
            return self._answer(connection)
        return self._answer(connection)

    def _answer(self, connection: http.client.HTTPConnection) -> Answer:
        response = connection.getresponse()
        bounded = response.length is not None or response.chunked
        data = response.read()
        answer = Answer(response.status, {name.lower(): value for name, value in response.getheaders()}, data)
        if not bounded and response.status < http.client.BAD_REQUEST:
            connection.close()
            raise FinalBackendError(f"{self._location.url}: the server does not say how long its answer is")
        if response.will_close:
            connection.close()
        else:
            self._keep(connection)
        return answer

    def _kept(self) -> http.client.HTTPConnection | None:
        with self._lock:
            while self._idle:
                connection, since = self._idle.pop()
                if time.monotonic() - since < _IDLE_SECONDS:
                    return connection
                connection.close()
        return None

    def _keep(self, connection: http.client.HTTPConnection) -> None:
        with self._lock:
            if len(self._idle) < _KEPT:
                self._idle.append((connection, time.monotonic()))
                return
        connection.close()

    def _new(self) -> http.client.HTTPConnection:
        host, port = self._location.host, self._location.port
        if self._context is None:
            return http.client.HTTPConnection(host, port, timeout=_CONNECT_SECONDS)
        return http.client.HTTPSConnection(host, port, timeout=_CONNECT_SECONDS, context=self._context)

    def _failure(
        self, method: str, path: str, error: OSError | http.client.HTTPException
    ) -> PassingBackendError | FinalBackendError:
        where = f"{self._location.url}: {method} {path or '/'}"
        if isinstance(error, ssl.SSLCertVerificationError):
            return FinalBackendError(
                f"{self._location.url}: the server's certificate is not trusted: {error.verify_message}",
                hint="name the certificate's authority by SHEETANCHOR_REST_CACERT=FILE",
            )
        if isinstance(error, ssl.SSLError) and error.reason == "WRONG_VERSION_NUMBER":
            return FinalBackendError(
                f"{self._location.url}: the server does not speak TLS", hint="is it rest:http://?"
            )
        reason = getattr(error, "strerror", None) or str(error) or type(error).__name__
        return PassingBackendError(f"{where}: {reason}", hint="does the server run, and can it be reached?")


def _slices(body: memoryview) -> Iterator[memoryview]:
    """Yield a body in parts: a time-out counts for each of them, not for the whole."""
    data = body.cast("B")
    for start in range(0, len(data), _SLICE):
        yield data[start : start + _SLICE]


def _context(location: RestLocation) -> ssl.SSLContext:
    try:
        context = ssl.create_default_context(cafile=location.ca_file)
    except OSError as error:
        raise ConfigError(
            f"{location.ca_file} holds no certificates that can be trusted: {error.strerror or error}",
            hint="SHEETANCHOR_REST_CACERT names a file in PEM",
        ) from error
    if location.insecure:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    return context
