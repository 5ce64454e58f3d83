"""A write session: the threads and counters behind all trees of one backup."""

from __future__ import annotations

from collections.abc import Callable

from sheetanchor.clock import Clock
from sheetanchor.repository.chunker import Chunker
from sheetanchor.repository.file_tree import LoadTree
from sheetanchor.repository.ids import BlobType, Id
from sheetanchor.repository.index import Index
from sheetanchor.repository.model import Statistics
from sheetanchor.repository.small_store import SmallFiles
from sheetanchor.repository.stream_writer import StreamWriter
from sheetanchor.repository.tree_writer import TreeWriter
from sheetanchor.repository.writer import Account, BlobWriter

Progress = Callable[[int, int], None]


def _no_progress(num_bytes: int, items: int) -> None:
    del num_bytes, items


class WriteSession:
    """Makes tree writers, which may be used in parallel threads, one thread each.

    The first error of any of its threads stops the session: every further call raises it.
    """

    def __init__(
        self, writer: BlobWriter, index: Index, *, chunker_seed: int, load_tree: LoadTree, clock: Clock
    ) -> None:
        self._writer = writer
        self._index = index
        self._chunker_seed = chunker_seed
        self._load_tree = load_tree
        self._clock = clock
        self._small = SmallFiles(writer, processes=writer.threads)

    @property
    def statistics(self) -> Statistics:
        """What was read and stored so far."""
        return self._writer.statistics

    def tree(self, root: str, *, progress: Progress = _no_progress) -> TreeWriter:
        """Return a writer for one snapshot's tree; what it gets lands below `root`.

        `progress` is called with bytes and entries as they are read.
        """
        account = Account()
        return TreeWriter(
            root,
            self._writer,
            StreamWriter(self._writer, Chunker(self._chunker_seed), account),
            self._small,
            has_blob=self._has_data,
            load_tree=self._load_tree,
            clock=self._clock,
            progress=progress,
            account=account,
        )

    def flush(self) -> None:
        """Make everything written durable, packs before indexes; needed before a snapshot is saved.

        No tree writer may be at work meanwhile.
        """
        self._writer.flush()

    def _has_data(self, blob_id: Id) -> bool:
        return self._index.has(BlobType.DATA, blob_id)
