"""Where small files are stored: in the thread that walks, or in processes when there are many."""

from __future__ import annotations

import sys
import threading
from concurrent.futures import Future
from typing import TYPE_CHECKING

from sheetanchor.repository.file_text import FileTexts
from sheetanchor.repository.filesystem import Owners
from sheetanchor.repository.small_batches import Job, Outcome
from sheetanchor.repository.small_files import store_small_files
from sheetanchor.repository.writer import Account, BlobWriter

if TYPE_CHECKING:
    from sheetanchor.repository.worker_pool import WorkerPool

MANY_FILES = 2_000
"""Small files after which it pays to start processes."""
MAX_PROCESSES = 4
"""Each takes about 70 MiB."""


class SmallFiles:
    """Stores small files of all walks of a session, from any thread."""

    def __init__(self, writer: BlobWriter, *, processes: int, many: int = MANY_FILES) -> None:
        """With fewer than two `processes` everything is done in the calling threads."""
        self._writer = writer
        self._processes = min(processes, MAX_PROCESSES)
        self._many = many
        self._texts = FileTexts(Owners())
        self._files = 0
        self._pool: WorkerPool | None = None
        self._lock = threading.Lock()

    def submit(self, job: Job, account: Account) -> Future[Outcome]:
        """Store the files of a job. Raises what stopped the writer."""
        pool = self._pool_for(sum(len(names) for _, names in job))
        future = pool.submit(job, account) if pool is not None else None
        if future is None:
            future = Future()
            future.set_result(self._store_here(job, account))
        return future

    def _pool_for(self, files: int) -> WorkerPool | None:
        with self._lock:
            self._files += files
            if self._pool is None and self._files > self._many and self._processes > 1:
                self._pool = self._start()
            return self._pool

    def _start(self) -> WorkerPool | None:
        """Start the processes; where there can be none, all goes on without them."""
        from sheetanchor.repository.worker_link import Setup
        from sheetanchor.repository.worker_pool import WorkerPool

        count, self._processes = self._processes, 0
        if not sys.executable:
            return None
        compressor = self._writer.compressor
        setup = Setup(self._writer.sealer.key, compressor.compression, compressor.version)
        try:
            pool = WorkerPool(self._writer, setup, count)
        except OSError:
            return None
        self._writer.attach(pool)
        return pool

    def _store_here(self, job: Job, account: Account) -> Outcome:
        return [
            store_small_files(
                directory, names, self._texts, lambda plains: self._writer.save_all(plains, account)
            )
            for directory, names in job
        ]
