"""The server: sockets, TLS and a bounded number of threads around the service."""

from __future__ import annotations

import os
import socket
import ssl
import threading
from collections.abc import Callable
from contextlib import suppress

from sheetanchor.clock import Clock
from sheetanchor.errors import ConfigError
from sheetanchor.repository.server.authentication import Authenticator
from sheetanchor.repository.server.connection import Connection
from sheetanchor.repository.server.conversation import Conversation
from sheetanchor.repository.server.options import Options, check_options
from sheetanchor.repository.server.service import Service
from sheetanchor.repository.server.users import UserSource

_BACKLOG = 128
_WAKE_SECONDS = 0.5
_GRACE_SECONDS = 10.0
"""How long requests in progress may go on once the server stops."""


class Server:
    """Listens from the moment it is made; `serve` answers until `stop`."""

    def __init__(
        self, options: Options, users: UserSource | None, clock: Clock, log: Callable[[str], None]
    ) -> None:
        check_options(options, has_users=users is not None)
        self._options = options
        self._clock = clock
        self._log = log
        self._service = Service(options, Authenticator(users, clock) if users is not None else None, clock)
        self._tls = _Certificate(options) if options.certificate is not None else None
        self._slots = threading.BoundedSemaphore(options.connections)
        self._stopping = threading.Event()
        self._lock = threading.Lock()
        self._open: dict[threading.Thread, _Client] = {}
        self._listener = _listen(options)

    @property
    def url(self) -> str:
        """Where it listens, as clients write it."""
        host, port = self._listener.getsockname()[:2]
        scheme = "http" if self._tls is None else "https"
        return f"{scheme}://{f'[{host}]' if ':' in host else host}:{port}/"

    def serve(self) -> None:
        """Answer until `stop` is called from another thread, or an exception ends it."""
        self._listener.settimeout(_WAKE_SECONDS)
        while not self._stopping.is_set():
            if not self._slots.acquire(timeout=_WAKE_SECONDS):
                continue
            try:
                accepted, address = self._listener.accept()
            except (TimeoutError, OSError) as error:
                self._slots.release()
                if not isinstance(error, TimeoutError) and not self._stopping.is_set():
                    self._log(f"cannot accept a connection: {os.strerror(error.errno or 0)}")
                    self._stopping.wait(_WAKE_SECONDS)
                continue
            except BaseException:
                self._slots.release()
                raise
            self._start(accepted, str(address[0]))

    def stop(self) -> None:
        """Take no more connections, let requests in progress end, and free everything."""
        self._stopping.set()
        with suppress(OSError):
            # Wakes a thread that waits in accept; closing alone does not.
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        with self._lock:
            clients = dict(self._open)
        for client in clients.values():
            client.end_if_idle()
        deadline = self._clock.monotonic() + _GRACE_SECONDS
        for thread in clients:
            thread.join(max(deadline - self._clock.monotonic(), 0))
        for thread, client in clients.items():
            if thread.is_alive():
                client.end()
                thread.join(_WAKE_SECONDS)

    def _start(self, accepted: socket.socket, peer: str) -> None:
        client = _Client(accepted)
        thread = threading.Thread(target=self._run, args=(client, peer), name=f"rest {peer}", daemon=True)
        with self._lock:
            self._open[thread] = client
        thread.start()

    def _run(self, client: _Client, peer: str) -> None:
        try:
            if self._tls is not None:
                client.socket.settimeout(self._options.patience.head)
                client.socket = self._tls.wrap(client.socket)
            connection = Connection(client.socket, self._clock, self._options.patience)
            Conversation(self._service, connection, peer, self._clock, self._log).run(
                client, last=lambda: self._stopping.is_set() or self._crowded()
            )
        except OSError as error:
            if not self._stopping.is_set():
                self._log(f"{peer} connection ended: {_reason(error)}")
        finally:
            client.end()
            client.socket.close()
            with self._lock:
                self._open.pop(threading.current_thread(), None)
            self._slots.release()

    def _crowded(self) -> bool:
        """Say whether connections must end after their request, so that others get their turn."""
        with self._lock:
            return 4 * len(self._open) > 3 * self._options.connections


class _Client:
    """A socket with what the conversation on it is doing."""

    def __init__(self, accepted: socket.socket) -> None:
        self.socket = accepted
        self._idle = True
        self._lock = threading.Lock()

    def working(self, busy: bool) -> None:
        """Say whether a request is in progress."""
        with self._lock:
            self._idle = not busy

    def end_if_idle(self) -> None:
        """Wake a thread that waits for a request."""
        with self._lock:
            if self._idle:
                self.end()

    def end(self) -> None:
        """Cut the connection; a thread that waits on it wakes up."""
        with suppress(OSError):
            self.socket.shutdown(socket.SHUT_RDWR)


class _Certificate:
    """TLS with the certificate on disk; a renewed one is used from the next connection on."""

    def __init__(self, options: Options) -> None:
        self._certificate, self._key = options.certificate, options.certificate_key
        self._context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self._context.minimum_version = ssl.TLSVersion.TLSv1_2
        self._lock = threading.Lock()
        self._seen: tuple[int, int] | None = None
        try:
            self._load()
        except (OSError, ssl.SSLError) as error:
            raise ConfigError(
                f"the certificate {self._certificate} or its key cannot be used: {_reason(error)}",
                hint="both in PEM; the key without a passphrase; the certificate with its chain",
            ) from error

    def wrap(self, accepted: socket.socket) -> socket.socket:
        """Shake hands. Raises OSError."""
        with self._lock, suppress(OSError):
            # While the files are being replaced, the certificate before goes on.
            self._load()
        return self._context.wrap_socket(accepted, server_side=True)

    def _load(self) -> None:
        assert self._certificate is not None
        assert self._key is not None
        seen = os.stat(self._certificate).st_mtime_ns, os.stat(self._key).st_mtime_ns
        if seen != self._seen:
            self._context.load_cert_chain(self._certificate, self._key, password=lambda: b"")
            self._seen = seen


def _listen(options: Options) -> socket.socket:
    family = socket.AF_INET6 if ":" in options.host else socket.AF_INET
    try:
        return socket.create_server(
            (options.host, options.port), family=family, backlog=_BACKLOG, reuse_port=False
        )
    except OSError as error:
        raise ConfigError(
            f"cannot listen on {options.host}:{options.port}: {os.strerror(error.errno or 0)}",
            hint="is another server using the port? `--listen 127.0.0.1:0` takes a free one",
        ) from error


def _reason(error: OSError) -> str:
    if isinstance(error, ssl.SSLError):
        return str(error.reason or "TLS failed").replace("_", " ").lower()
    return str(error.strerror or error)
