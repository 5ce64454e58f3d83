"""Worker processes for small files, which cost more in Python than in the libraries below it.

The parent walks, decides what is new, and uploads; the workers do all between. They share
memory for packs and a socket each, and they have no way to the repository.
"""

from __future__ import annotations

import mmap
import os
import socket
import subprocess
import sys
import threading
from concurrent.futures import Future
from contextlib import suppress

from sheetanchor.errors import DamagedRepositoryError, RepositoryError
from sheetanchor.repository.packer import OPEN_PACKS, PACK_SIZE
from sheetanchor.repository.small_batches import Job, Outcome
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
from sheetanchor.repository.writer import Account, BlobWriter, FinishedPack

BUFFERS = OPEN_PACKS + 1
"""Packs in a worker: those being filled, and one on its way to the storage."""
JOBS = 2
"""Jobs that a worker has at most: one it is at, and the next."""
_END_SECONDS = 10.0
_MODULE = "sheetanchor.repository.worker_process"


class WorkerPool:
    """Some worker processes. Any thread may submit; `flush` and `close` as `writer.Helper` says."""

    def __init__(self, writer: BlobWriter, setup: Setup, count: int) -> None:
        """Start the processes. Raises OSError when that is impossible here."""
        self._writer = writer
        self._changed = threading.Condition()
        self._workers: list[_WorkerHandle] = []
        try:
            for _ in range(count):
                self._workers.append(_WorkerHandle(writer, setup, self._changed))
        except OSError:
            self.close()
            raise

    @property
    def pids(self) -> list[int]:
        """The processes that have come up."""
        return [worker.pid for worker in self._workers if worker.is_ready]

    def submit(self, job: Job, account: Account) -> Future[Outcome] | None:
        """Hand a job to a worker, waiting for one with room; None when none has come up yet.

        Raises what stopped the writer.
        """
        with self._changed:
            while True:
                self._writer.check()
                ready = [worker for worker in self._workers if worker.is_ready]
                if not ready:
                    return None
                worker = min(ready, key=_jobs_of)
                if worker.jobs < JOBS:
                    break
                self._changed.wait(0.2)
            return worker.submit(job, account)

    def flush(self) -> None:
        """Have all packs finished and handed to the writer. Raises what stopped the writer."""
        with self._changed:
            workers = [worker for worker in self._workers if worker.is_ready]
            for worker in workers:
                worker.begin_flush()
            while not all(worker.is_flushed for worker in workers):
                self._writer.check()
                self._changed.wait(0.2)

    def close(self) -> None:
        """End the processes; one that does not end by itself is killed."""
        for worker in self._workers:
            worker.end()
        for worker in self._workers:
            worker.wait()


def _jobs_of(worker: _WorkerHandle) -> int:
    return worker.jobs


class _WorkerHandle:
    """One worker process as its parent sees it; a thread listens to it."""

    def __init__(self, writer: BlobWriter, setup: Setup, changed: threading.Condition) -> None:
        self.is_ready = False
        self.is_flushed = True
        self._writer = writer
        self._changed = changed
        self._send_lock = threading.Lock()
        self._jobs: dict[int, tuple[Future[Outcome], Account]] = {}
        self._numbers = 0
        self._ending = False
        self._start()
        self._listener = threading.Thread(target=self._listen, name="small-files", daemon=True)
        self._listener.start()
        self._send(setup)

    @property
    def pid(self) -> int:
        """The process."""
        return self._process.pid

    @property
    def jobs(self) -> int:
        """How many jobs it has."""
        return len(self._jobs)

    def submit(self, job: Job, account: Account) -> Future[Outcome]:
        """Send a job; the caller holds the pool's condition."""
        future: Future[Outcome] = Future()
        self._numbers += 1
        self._jobs[self._numbers] = (future, account)
        names = tuple(tuple(files) for _, files in job)
        self._tell(StoreFiles(self._numbers, names), [directory for directory, _ in job])
        return future

    def begin_flush(self) -> None:
        """Ask for all packs; `is_flushed` says when they are there."""
        self.is_flushed = False
        self._tell(Flush())

    def end(self) -> None:
        """Close the socket: the process ends as soon as it notices."""
        self._ending = True
        self._link.close()

    def wait(self) -> None:
        """Wait for the end of process and thread."""
        try:
            self._process.wait(_END_SECONDS)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._listener.join()

    def _start(self) -> None:
        ours, theirs = socket.socketpair()
        memory = [os.memfd_create("packs") for _ in range(BUFFERS)]
        try:
            for fd in memory:
                os.ftruncate(fd, PACK_SIZE)
            self._buffers = [memoryview(mmap.mmap(fd, PACK_SIZE)) for fd in memory]
            passed = [theirs.fileno(), *memory]
            self._process = subprocess.Popen(
                # -P: modules that happen to lie in the working directory are none of ours.
                [sys.executable, "-P", "-m", _MODULE, *map(str, passed)],
                pass_fds=passed,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
            )
        except OSError:
            ours.close()
            raise
        finally:
            theirs.close()
            for fd in memory:
                os.close(fd)
        self._link = WorkerLink(ours)

    def _tell(self, message: object, descriptors: list[int] | None = None) -> None:
        """Send a message; when the process is gone the listener sees it too, and stops the writer."""
        with suppress(OSError):
            self._send(message, descriptors)

    def _send(self, message: object, descriptors: list[int] | None = None) -> None:
        with self._send_lock:
            self._link.send(message, descriptors or ())

    def _listen(self) -> None:
        try:
            while True:
                self._handle(self._link.receive())
        except (EOFError, OSError):
            if self.is_ready and not self._ending:
                self._writer.fail(
                    RepositoryError(
                        "a process that stores small files has ended before its time",
                        hint="see whether the system ran out of memory, and run the backup again",
                    )
                )
        except BaseException as error:  # noqa: BLE001 - kept, and raised by the next call of any thread
            self._writer.fail(error)
        self._give_up()

    def _handle(self, message: object) -> None:
        match message:
            case Claim(ids, num_bytes):
                self._send(Claimed(bytes(self._writer.claim(ids, num_bytes))))
            case FilesStored():
                self._stored(message)
            case PackFinished():
                self._pack_finished(message)
            case Ready():
                self._note(is_ready=True)
            case Flushed():
                self._note(is_flushed=True)
            case Failed(text, hint, is_damage):
                kind = DamagedRepositoryError if is_damage else RepositoryError
                raise kind(text, hint=hint)

    def _stored(self, message: FilesStored) -> None:
        with self._changed:
            future, account = self._jobs.pop(message.number)
            self._changed.notify_all()
        self._writer.count_new(message.packed, account)
        future.set_result(message.outcome)

    def _pack_finished(self, message: PackFinished) -> None:
        content = self._buffers[message.buffer][: message.length]
        pack = FinishedPack(message.pack_id, content, message.blobs)
        free = BufferFree(message.buffer)
        self._writer.store_finished(pack, lambda: self._tell(free))

    def _note(self, *, is_ready: bool = True, is_flushed: bool = True) -> None:
        with self._changed:
            self.is_ready = is_ready
            self.is_flushed = is_flushed
            self._changed.notify_all()

    def _give_up(self) -> None:
        """Tell everybody who waits; the writer's error says why."""
        with self._changed:
            jobs, self._jobs = self._jobs, {}
            self._changed.notify_all()
        for future, _ in jobs.values():
            future.set_exception(RepositoryError("the write session was ended"))
