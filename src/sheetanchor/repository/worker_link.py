"""What a backup and its worker processes say to each other, and the socket between them.

Both ends are this program on this machine, joined by a socket pair that nobody else holds; that
is why messages may be pickled.
"""

from __future__ import annotations

import array
import socket
from collections.abc import Sequence
from contextlib import suppress
from multiprocessing.connection import Connection
from typing import NamedTuple

from sheetanchor.repository.codec import Compression
from sheetanchor.repository.crypto import MasterKey
from sheetanchor.repository.ids import Id
from sheetanchor.repository.pack import PackedBlob
from sheetanchor.repository.packer import Packed
from sheetanchor.repository.small_files import StoredFile

SOCKET_BYTES = 1 << 20
"""Room for all messages that can be on their way, so that the two never wait for each other."""
_MAX_DESCRIPTORS = 64


class Setup(NamedTuple):
    """To the worker, first of all."""

    key: MasterKey
    compression: Compression
    version: int


class Ready(NamedTuple):
    """From the worker: it can begin."""


class StoreFiles(NamedTuple):
    """To the worker; the open directories come along."""

    number: int
    names: tuple[tuple[bytes, ...], ...]
    """For each directory, the names of files in it."""


class Claim(NamedTuple):
    """From the worker: which of these blobs are to be stored?"""

    ids: list[Id]
    num_bytes: int


class Claimed(NamedTuple):
    """The answer: one byte for each, 1 for what the worker has to store."""

    wanted: bytes


class FilesStored(NamedTuple):
    """From the worker: a job is done, its new blobs are in packs that follow."""

    number: int
    outcome: list[list[StoredFile | None]]
    packed: Packed


class PackFinished(NamedTuple):
    """From the worker: a pack stands in one of the shared buffers, proven."""

    buffer: int
    length: int
    pack_id: Id
    blobs: list[PackedBlob]


class BufferFree(NamedTuple):
    """To the worker: a pack is stored, its buffer may be used again."""

    buffer: int


class Flush(NamedTuple):
    """To the worker: finish all packs."""


class Flushed(NamedTuple):
    """From the worker: nothing is left in it."""


class Failed(NamedTuple):
    """From the worker: it cannot go on."""

    message: str
    hint: str | None
    is_damage: bool
    """What was sealed does not read back."""


class WorkerLink:
    """One end of the socket: messages, and with some of them open directories."""

    def __init__(self, end: socket.socket) -> None:
        end.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SOCKET_BYTES)
        self._socket = end
        self._connection = Connection(end.dup().detach())

    def send(self, message: object, descriptors: Sequence[int] = ()) -> None:
        """Send a message. Raises OSError when the other end is gone. Not for two threads at once."""
        self._connection.send(message)
        if descriptors:
            ancillary = (socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", descriptors))
            self._socket.sendmsg([b"d"], [ancillary])

    def receive(self) -> object:
        """Wait for a message. Raises EOFError or OSError when the other end is gone."""
        return self._connection.recv()

    def receive_descriptors(self) -> list[int]:
        """Return the descriptors that came with the last message."""
        return socket.recv_fds(self._socket, 1, _MAX_DESCRIPTORS)[1]

    def close(self) -> None:
        """End the connection, for whoever waits on either side."""
        # The other end may have been faster.
        with suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)
        self._socket.close()
