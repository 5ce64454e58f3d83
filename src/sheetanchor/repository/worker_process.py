"""A worker process: reads, hashes, compresses, seals and proves small files beside its parent.

It is started by `worker_pool.py` with a socket and the buffers it fills, and ends when the other
end of the socket is closed, however the parent ended. It never touches the repository.
"""

from __future__ import annotations

import mmap
import os
import signal
import socket
import sys
from collections import deque
from collections.abc import Sequence

from sheetanchor.errors import DamagedRepositoryError, SheetanchorError
from sheetanchor.repository.codec import Compressor
from sheetanchor.repository.crypto import Sealer
from sheetanchor.repository.file_text import FileTexts
from sheetanchor.repository.filesystem import Owners
from sheetanchor.repository.ids import BlobType, Id, digest
from sheetanchor.repository.opener import Opener
from sheetanchor.repository.packer import PACK_SIZE, OpenPack, Packed, Packer, pack_new
from sheetanchor.repository.small_files import StoredFile, store_small_files
from sheetanchor.repository.worker_link import (
    BufferFree,
    Claim,
    Claimed,
    Failed,
    FilesStored,
    Flush,
    Flushed,
    PackFinished,
    Ready,
    Setup,
    StoreFiles,
    WorkerLink,
)


class Worker:
    """Does what the parent says, one message after the other."""

    def __init__(self, link: WorkerLink, setup: Setup, buffers: Sequence[memoryview]) -> None:
        sealer = Sealer(setup.key)
        self._link = link
        self._compressor = Compressor(setup.compression, setup.version)
        self._opener = Opener(sealer)
        self._packer = Packer(BlobType.DATA, sealer, self._take_buffer, self._pack_complete)
        self._texts = FileTexts(Owners())
        self._buffers = buffers
        self._free = list(range(len(buffers)))
        self._waiting: deque[tuple[StoreFiles, list[int]] | Flush] = deque()
        self._packed = Packed(0, 0, 0)

    def run(self) -> None:
        """Work until the other end is closed. Raises EOFError or OSError then."""
        self._link.send(Ready())
        while True:
            while not self._waiting:
                self._receive()
            match self._waiting.popleft():
                case Flush():
                    self._packer.flush()
                    self._link.send(Flushed())
                case (StoreFiles() as job, directories):
                    self._store(job, directories)

    def _receive(self) -> Claimed | None:
        """Take one message: keep work for later, note free buffers, return an answer."""
        message = self._link.receive()
        match message:
            case StoreFiles():
                self._waiting.append((message, self._link.receive_descriptors()))
            case Flush():
                self._waiting.append(message)
            case BufferFree(buffer):
                self._free.append(buffer)
            case Claimed():
                return message
        return None

    def _store(self, job: StoreFiles, directories: list[int]) -> None:
        self._packed = Packed(0, 0, 0)
        outcome: list[list[StoredFile | None]] = []
        try:
            for directory, names in zip(directories, job.names, strict=True):
                outcome.append(store_small_files(directory, names, self._texts, self._save_all))
        finally:
            for directory in directories:
                os.close(directory)
        self._link.send(FilesStored(job.number, outcome, self._packed))

    def _save_all(self, plains: Sequence[bytes]) -> list[Id]:
        ids = [digest(plain) for plain in plains]
        if not ids:
            return ids
        self._link.send(Claim(ids, sum(map(len, plains))))
        answer = self._receive()
        while answer is None:
            answer = self._receive()
        done = pack_new(ids, plains, answer.wanted, self._packer, self._compressor)
        before = self._packed
        self._packed = Packed(*(one + other for one, other in zip(before, done, strict=True)))
        return ids

    def _take_buffer(self) -> memoryview:
        while not self._free:
            self._receive()
        return self._buffers[self._free.pop()]

    def _pack_complete(self, pack: OpenPack) -> None:
        buffer = next(number for number, one in enumerate(self._buffers) if one is pack.buffer)
        if not pack.blobs:
            self._free.append(buffer)
            return
        content = pack.finish(self._opener)
        self._link.send(PackFinished(buffer, len(content), digest(content), pack.blobs))


def main(arguments: Sequence[str]) -> int:
    """Work for the parent at the other end of the socket with the number `arguments[0]`.

    The other numbers are shared buffers. Signals that end a whole process group are left to the
    parent, which then closes the socket.
    """
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    end, *memory = map(int, arguments)
    link = WorkerLink(socket.socket(fileno=end))
    buffers = [memoryview(mmap.mmap(fd, PACK_SIZE)) for fd in memory]
    try:
        setup = link.receive()
        assert isinstance(setup, Setup)
        try:
            Worker(link, setup, buffers).run()
        except SheetanchorError as error:
            link.send(Failed(error.message, error.hint, isinstance(error, DamagedRepositoryError)))
    except (EOFError, OSError):
        # The parent is done, or dead; either way nobody waits for anything.
        return 0
    return 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
