"""The write pipeline: nothing twice, nothing half, bounded memory, errors that stop everything."""

from __future__ import annotations

import hashlib
import io
import os
import random
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from sheetanchor.components.base import Entry, EntryType
from sheetanchor.errors import DamagedRepositoryError, NoSpaceError, RepositoryError
from sheetanchor.repository.backend.base import Kind
from sheetanchor.repository.backend.memory import MemoryBackend
from sheetanchor.repository.crypto import MasterKey, Sealer
from sheetanchor.repository.ids import BlobType, digest
from sheetanchor.repository.opener import Opener
from sheetanchor.repository.packer import PACK_SIZE, OpenPack, prove
from sheetanchor.repository.repository import Repository
from support.faulty import Fault, FaultyBackend
from support.repositories import create, draft, open_repository


class Endless(io.RawIOBase):
    """A stream of `size` bytes that do not repeat, made while they are read."""

    def __init__(self, size: int) -> None:
        super().__init__()
        self._left = size
        self._block = random.Random(5).randbytes(1 << 20)
        self._number = 0

    def readable(self) -> bool:
        """Say yes."""
        return True

    def readinto(self, buffer: Any) -> int:
        """Fill the buffer with the next bytes."""
        count = min(len(buffer), len(self._block), self._left)
        buffer[:count] = self._block[:count]
        if count >= 8:
            buffer[:8] = self._number.to_bytes(8, "little")
        self._number += 1
        self._left -= count
        return count


def _entry(path: bytes) -> Entry:
    return Entry(
        path=path,
        type=EntryType.FILE,
        mode=0o644,
        uid=1,
        gid=2,
        user="someone",
        group="some",
        mtime_ns=1_700_000_000_123_456_789,
        size=0,
        link_target=b"",
        device=0,
        links=1,
        hardlink_key=None,
        xattrs=(("user.note", b"n" * 100),),
    )


def test_a_stream_comes_back_with_its_hash() -> None:
    """Streams of every length around the chunker's borders read back equal, size and SHA-256 too."""
    repository = create(MemoryBackend())
    data = random.Random(1).randbytes(20 << 20)
    sizes = [0, 1, (512 << 10) - 1, 512 << 10, (512 << 10) + 1, 8 << 20, (16 << 20) - 1, 16 << 20, 20 << 20]
    with repository.writer() as session:
        writer = session.tree("/streams")
        for size in sizes:
            saved = writer.write_stream(f"{size}", io.BytesIO(data[:size]))
            assert saved.size == size
            assert saved.sha256 == hashlib.sha256(data[:size]).hexdigest()
        tree = writer.finish()
        session.flush()
    reader = repository.reader()
    for size in sizes:
        node = reader.node(tree, f"streams/{size}")
        assert node is not None
        with reader.open(node) as stream:
            assert stream.read() == data[:size]


def test_the_same_data_from_many_threads_is_stored_once() -> None:
    """Eight trees with equal content, written at once, cost the blobs of one."""
    repository = create(MemoryBackend())
    data = random.Random(2).randbytes(6 << 20)
    start = threading.Barrier(8)

    def write(number: int) -> bytes:
        writer = session.tree("/same")
        start.wait()
        writer.write_stream("file", io.BytesIO(data), mode=0o640)
        return writer.finish()

    with repository.writer() as session:
        with ThreadPoolExecutor(8) as threads:
            trees = set(threads.map(write, range(8)))
        session.flush()
        statistics = session.statistics
    assert statistics.bytes_new < len(data) + 10_000 * len(trees)
    assert statistics.bytes_read == 8 * len(data)
    report = repository.check(read_data=True)
    assert report.errors == ()
    assert report.blobs == statistics.data_blobs_new + statistics.tree_blobs_new


def test_more_parallel_trees_than_buffers_do_not_block() -> None:
    """Twelve writers share the few read buffers of two threads without waiting for one another."""
    repository = create(MemoryBackend())
    with repository.writer() as session:

        def write(number: int) -> None:
            writer = session.tree(f"/{number}")
            writer.write_stream("file", io.BytesIO(random.Random(number).randbytes(18 << 20)))
            writer.finish()

        with ThreadPoolExecutor(12) as threads:
            list(threads.map(write, range(12)))
        session.flush()
        assert session.statistics.bytes_read == 12 * (18 << 20)


def _store(repository: Repository, size: int) -> None:
    with repository.writer() as session:
        writer = session.tree("/x")
        writer.write_stream("file", Endless(size))  # type: ignore[arg-type]
        writer.finish()
        session.flush()


def test_a_failing_upload_stops_the_session() -> None:
    """The storage's own error comes out of the session, no thread stays, nothing is referenced."""

    def full() -> None:
        raise NoSpaceError("the disk is full")

    inner = MemoryBackend()
    create(inner)
    backend = FaultyBackend(inner, Fault("put", first=2, last=99, kind=Kind.DATA, before=full))
    repository = open_repository(backend)
    with pytest.raises(NoSpaceError, match="disk is full"):
        _store(repository, 200 << 20)
    assert [
        thread.name for thread in threading.enumerate() if thread.name.startswith(("blobs", "packs"))
    ] == []
    report = open_repository(inner).check(read_data=True)
    assert report.errors == ()
    assert report.snapshots == 0


def test_an_interrupt_ends_all_threads() -> None:
    """Ctrl-C in the middle of a stream comes out at once; what is stored is whole."""
    backend = MemoryBackend()
    repository = create(backend)

    class Interrupted(Endless):
        def readinto(self, buffer: Any) -> int:
            if self._left < 30 << 20:
                raise KeyboardInterrupt
            return super().readinto(buffer)

    with pytest.raises(KeyboardInterrupt), repository.writer() as session:
        session.tree("/x").write_stream("file", Interrupted(80 << 20))  # type: ignore[arg-type]
    assert [
        thread.name for thread in threading.enumerate() if thread.name.startswith(("blobs", "packs"))
    ] == []
    assert open_repository(backend).check(read_data=True).errors == ()


def test_a_source_that_fails_leaves_no_file() -> None:
    """A dump that dies in the middle raises its own error and puts nothing at its path."""
    repository = create(MemoryBackend())

    class Dying(Endless):
        def readinto(self, buffer: Any) -> int:
            if self._left < 1 << 20:
                raise RepositoryError("the dump died")
            return super().readinto(buffer)

    with repository.writer() as session:
        writer = session.tree("/x")
        with pytest.raises(RepositoryError, match="the dump died"):
            writer.write_stream("dump", Dying(9 << 20))  # type: ignore[arg-type]
        writer.write_stream("other", io.BytesIO(b"fine"))
        tree = writer.finish()
        session.flush()
    assert [
        node.name
        for node in repository.reader().children(repository.reader().children(tree)[0].subtree or b"")
    ] == [b"other"]


def test_a_snapshot_of_an_unflushed_tree_is_refused() -> None:
    """Before flush nothing may refer to a tree."""
    repository = create(MemoryBackend())
    with repository.writer() as session:
        writer = session.tree("/x")
        writer.write_stream("file", io.BytesIO(b"data"))
        tree = writer.finish()
        with pytest.raises(RepositoryError, match="is not stored"):
            repository.save_snapshot(draft(tree, "/x"))


def test_packs_are_proven_before_they_are_stored() -> None:
    """A bit that flips in memory after sealing is found before the upload."""
    sealer = Sealer(MasterKey.generate())
    for place in (40, 500, -5):
        pack = OpenPack(BlobType.DATA, memoryview(bytearray(PACK_SIZE)), sealer)
        for text in (b"first" * 20, b"second" * 30):
            pack.seal(pack.reserve(digest(text), len(text) + 32, 0), text)
        pack.close()
        finished = pack.finish(Opener(sealer))
        damaged = bytearray(finished)
        damaged[place % len(damaged)] ^= 4
        with pytest.raises(DamagedRepositoryError, match="damaged before it was stored"):
            prove(memoryview(damaged), pack.blobs, sealer, Opener(sealer))


def test_packs_stay_in_their_size_and_one_type() -> None:
    """No pack is over 16 MiB or mixes types, and a larger blob gets one of its own."""
    backend = MemoryBackend()
    repository = create(backend)
    with repository.writer() as session:
        writer = session.tree("/x")
        writer.write_stream("file", Endless(70 << 20))  # type: ignore[arg-type]
        writer.finish()
        session.flush()
    sizes = [stored.size for stored in backend.list(Kind.DATA)]
    assert max(sizes) <= PACK_SIZE
    assert len(sizes) <= 10
    assert repository.check().hints == ()


def test_a_directory_that_is_larger_than_a_pack() -> None:
    """A tree blob over 16 MiB (version 1 does not compress) has a pack of its own and reads back."""
    backend = MemoryBackend()
    repository = create(backend, version=1)
    chance = random.Random(4)
    names = [chance.randbytes(127).hex().encode() for _ in range(30_000)]
    with repository.writer() as session:
        writer = session.tree("/x")
        entries = ((_entry(name), io.BytesIO()) for name in names)
        saved = writer.write_entries("", entries)
        tree = writer.finish()
        session.flush()
    assert saved.files == len(names)
    assert max(stored.size for stored in backend.list(Kind.DATA)) > PACK_SIZE
    assert repository.check(read_data=True).errors == ()
    assert [node.name for node in repository.reader().children(saved.tree)] == sorted(names)
    assert repository.reader().node(tree, b"x/" + names[0]) is not None


@pytest.mark.slow
def test_memory_is_bounded(tmp_path: Path) -> None:
    """Backing up 1 GiB in a process of its own stays below 400 MiB of resident memory."""
    create(tmp_path / "repository")
    program = (
        "import re, sys; from pathlib import Path\n"
        "from support.repositories import open_repository\n"
        "from unit.test_repository_writer import Endless\n"
        "repository = open_repository(Path(sys.argv[1]))\n"
        "with repository.writer() as session:\n"
        "    writer = session.tree('/x')\n"
        "    writer.write_stream('file', Endless(1 << 30))\n"
        "    writer.finish(); session.flush()\n"
        "    assert session.statistics.bytes_read == 1 << 30\n"
        "print(re.search(r'VmHWM:\\s+(\\d+) kB', Path('/proc/self/status').read_text())[1])\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, str(tmp_path / "repository")],
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parent.parent)},
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) < 400 << 10
