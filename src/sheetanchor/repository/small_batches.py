"""Small files on their way: gathered from several directories, stored together, given back.

A directory's descriptor is kept as long as something in it is on its way.
"""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Generic, Protocol, TypeVar

from sheetanchor.repository.small_files import StoredFile
from sheetanchor.repository.writer import Account

BATCH_FILES = 128
BATCH_BYTES = 1024 * 1024
BATCH_DIRECTORIES = 16
BATCH_NAME_BYTES = 16 * 1024
"""Bytes of all names together: a batch has to fit into a socket's buffer."""

SENT_BATCHES = 16
"""Batches on their way at once; each holds its directories open."""

Job = Sequence[tuple[int, Sequence[bytes]]]
"""Open directories, and names of files in each."""
Outcome = Sequence[Sequence[StoredFile | None]]
"""For each directory of a job what became of each name; see `small_files.store_small_files`."""

Owner = TypeVar("Owner")


class SmallFileStore(Protocol):
    """Stores the files of a job, here or elsewhere."""

    def submit(self, job: Job, account: Account) -> Future[Outcome]:
        """Begin; waits while too much is on its way. Raises what stopped the writer."""
        ...


@dataclass
class _Part(Generic[Owner]):
    """The files of one directory in one batch."""

    owner: Owner
    fd: int
    names: list[bytes] = field(default_factory=list)


@dataclass
class _Batch(Generic[Owner]):
    """Files that are stored together."""

    parts: list[_Part[Owner]] = field(default_factory=list)
    files: int = 0
    num_bytes: int = 0
    name_bytes: int = 0
    outcome: Future[Outcome] | None = None

    @property
    def is_full(self) -> bool:
        return (
            self.files >= BATCH_FILES
            or self.num_bytes >= BATCH_BYTES
            or self.name_bytes >= BATCH_NAME_BYTES
            or len(self.parts) >= BATCH_DIRECTORIES
        )

    @property
    def is_done(self) -> bool:
        return self.outcome is not None and self.outcome.done()

    def close(self) -> None:
        while self.parts:
            os.close(self.parts.pop().fd)


class SmallFileBatches(Generic[Owner]):
    """The batches of one walk, for one thread; an owner stands for one directory.

    `collect` gets an owner, its open directory, and its names with what became of them.
    """

    def __init__(
        self,
        store: SmallFileStore,
        account: Account,
        collect: Callable[[Owner, int, Sequence[bytes], Sequence[StoredFile | None]], None],
    ) -> None:
        self._store = store
        self._account = account
        self._collect = collect
        self._open: _Batch[Owner] = _Batch()
        self._sent: deque[_Batch[Owner]] = deque()
        self._on_its_way: dict[int, list[_Batch[Owner]]] = {}

    def add(self, owner: Owner, directory: int, name: bytes, size: int) -> None:
        """Take a file of about `size` bytes, which lies in the open `directory`."""
        batch = self._open
        if not batch.parts or batch.parts[-1].owner is not owner:
            batch.parts.append(_Part(owner, os.dup(directory)))
            self._on_its_way.setdefault(id(owner), []).append(batch)
        batch.parts[-1].names.append(name)
        batch.files += 1
        batch.num_bytes += size
        batch.name_bytes += len(name)
        if batch.is_full:
            self._send()

    def finish(self, owner: Owner) -> None:
        """Wait until all files of `owner` are stored and collected. Raises what stopped the writer."""
        batches = self._on_its_way.get(id(owner))
        if batches is None:
            return
        for batch in batches:
            if batch is self._open:
                self._send()
            self._gather(batch)
        del self._on_its_way[id(owner)]

    def close(self) -> None:
        """Let go of all directories, also of what was not collected."""
        for batches in self._on_its_way.values():
            for batch in batches:
                batch.close()

    def _send(self) -> None:
        batch, self._open = self._open, _Batch()
        batch.outcome = self._store.submit([(part.fd, part.names) for part in batch.parts], self._account)
        self._sent.append(batch)
        while self._sent and (len(self._sent) > SENT_BATCHES or self._sent[0].is_done):
            self._gather(self._sent.popleft())

    def _gather(self, batch: _Batch[Owner]) -> None:
        """Give back what is in a batch, once; all that it holds of other directories too."""
        if not batch.parts or batch.outcome is None:
            return
        outcome = batch.outcome.result()
        try:
            for part, stored in zip(batch.parts, outcome, strict=True):
                self._collect(part.owner, part.fd, part.names, stored)
        finally:
            batch.close()
