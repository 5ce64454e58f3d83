"""Gives an RDB file to a server that replicates from us: the restore without file access.

The server itself receives the file, loads it and rewrites its append-only file; we only play
the master for the length of one full synchronisation (redis.io/docs, "Redis replication").
"""

from __future__ import annotations

import hmac
import socket
import threading
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import BinaryIO, Self

from sheetanchor.components.redis.wire import encoded
from sheetanchor.errors import ComponentError
from sheetanchor.secret import Secret

PIECE_BYTES = 1 << 20
ACCEPT_SECONDS = 0.2
IDLE_SECONDS = 120.0


class ReplicationFeed:
    """Listens on the loopback address and gives one RDB file to whoever knows the password."""

    def __init__(
        self,
        rdb: Path,
        *,
        replication_id: str,
        username: str | None,
        password: Secret,
        advanced: Callable[[int], None],
    ) -> None:
        """Be ready to serve `rdb` under the replication id (40 hex digits)."""
        self._rdb = rdb
        self._replication_id = replication_id
        self._login = [word.encode() for word in (username, password.reveal()) if word]
        self._advanced = advanced
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._listener.settimeout(ACCEPT_SECONDS)
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._serve, name="redis-feed", daemon=True)
        self.failure: str | None = None
        """Why the last connection ended badly."""
        self.sent_bytes = 0

    @property
    def port(self) -> int:
        """The TCP port on 127.0.0.1."""
        port: int = self._listener.getsockname()[1]
        return port

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, _type: type[BaseException] | None, _error: BaseException | None, _trace: TracebackType | None
    ) -> None:
        self._stopping.set()
        self._thread.join()
        self._listener.close()

    def _serve(self) -> None:
        while not self._stopping.is_set():
            try:
                connection, _ = self._listener.accept()
            except TimeoutError:
                continue
            with connection:
                connection.settimeout(IDLE_SECONDS)
                try:
                    self._converse(connection)
                except (OSError, EOFError, ValueError, ComponentError) as error:
                    self.failure = str(error) or type(error).__name__

    def _converse(self, connection: socket.socket) -> None:
        """Answer the replica's handshake and send the file when it asks."""
        allowed = False
        with connection.makefile("rb") as requests:
            while True:
                words = _read_command(requests)
                name = words[0].upper()
                if name == b"AUTH":
                    allowed = hmac.compare_digest(b"\0".join(words[1:]), b"\0".join(self._login))
                    connection.sendall(b"+OK\r\n" if allowed else b"-WRONGPASS invalid password\r\n")
                elif not allowed:
                    connection.sendall(b"-NOAUTH Authentication required.\r\n")
                elif name in {b"PSYNC", b"SYNC"}:
                    self._send_file(connection, with_header=name == b"PSYNC")
                    self._stay(connection)
                    return
                else:
                    connection.sendall(b"+PONG\r\n" if name == b"PING" else b"+OK\r\n")

    def _send_file(self, connection: socket.socket, *, with_header: bool) -> None:
        if with_header:
            connection.sendall(f"+FULLRESYNC {self._replication_id} 1\r\n".encode())
        with self._rdb.open("rb") as file:
            size = file.seek(0, 2)
            file.seek(0)
            connection.sendall(b"$%d\r\n" % size)
            while piece := file.read(PIECE_BYTES):
                connection.sendall(piece)
                self.sent_bytes += len(piece)
                self._advanced(len(piece))

    def _stay(self, connection: socket.socket) -> None:
        """Keep the link while the replica loads; it reports every second, we report too."""
        connection.settimeout(ACCEPT_SECONDS)
        while not self._stopping.is_set():
            try:
                if not connection.recv(4096):
                    return
            except TimeoutError:
                continue
            connection.sendall(encoded(["PING"]))


def _read_command(requests: BinaryIO) -> list[bytes]:
    """Read one command: an array of bulk strings. Raises EOFError, ValueError."""
    line = b"\n"
    while line in {b"\n", b"\r\n"}:
        line = requests.readline(64)
    if not line:
        raise EOFError("the server closed the connection")
    if not line.startswith(b"*"):
        raise ValueError("the server sent something that is no command")
    words = []
    for _ in range(int(line[1:])):
        length = int(requests.readline(64)[1:])
        words.append(requests.read(length + 2)[:-2])
    return words
