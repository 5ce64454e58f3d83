"""The index of blobs: complete, compact, and safe to use from several threads."""

from __future__ import annotations

import random
import subprocess
import sys
import threading

import pytest

from sheetanchor.errors import (
    DamagedRepositoryError,
)
from sheetanchor.repository.backend.memory import MemoryBackend
from sheetanchor.repository.crypto import MasterKey, Sealer
from sheetanchor.repository.ids import BlobType, Id, digest
from sheetanchor.repository.index import Index
from sheetanchor.repository.index_file import load_all, save_index
from sheetanchor.repository.pack import PackedBlob


def _pack(seed: int, count: int) -> tuple[Id, list[PackedBlob]]:
    source = random.Random(seed)
    blobs = [
        PackedBlob(
            source.choice(list(BlobType)), Id(source.randbytes(32)), 100 * n, 100, source.choice((0, 300))
        )
        for n in range(count)
    ]
    return Id(source.randbytes(32)), blobs


def test_the_index_finds_every_blob() -> None:
    """All of 20,000 blobs are found where they are, by type; others are not; packs come back whole."""
    index = Index()
    packs = dict(_pack(seed, 200) for seed in range(100))
    for pack_id, blobs in packs.items():
        index.add_pack(pack_id, blobs)
        index.add_pack(pack_id, blobs[::-1])
    for pack_id, blobs in packs.items():
        for blob in blobs:
            assert index.lookup(blob.type, blob.id) == (pack_id, *blob[2:])
            other = BlobType.TREE if blob.type is BlobType.DATA else BlobType.DATA
            assert not index.has(other, blob.id)
    assert index.lookup(BlobType.DATA, digest(b"no such blob")) is None
    assert dict(index.packs()) == packs
    assert index.count(BlobType.DATA) + index.count(BlobType.TREE) == 20_000


def test_a_blob_in_two_packs_has_two_places() -> None:
    """The first place is found; all are known, for when the first is damaged."""
    index = Index()
    blob = PackedBlob(BlobType.DATA, digest(b"twice"), 0, 50, 0)
    packs = [Id(bytes([number]) * 32) for number in range(3)]
    for pack_id in packs:
        index.add_pack(pack_id, [blob])
    assert index.lookup(BlobType.DATA, blob.id) == (packs[0], 0, 50, 0)
    assert [place.pack_id for place in index.locations(BlobType.DATA, blob.id)] == packs
    assert index.locations(BlobType.TREE, blob.id) == []


def test_a_pack_with_two_contents_is_damage() -> None:
    """Two index files that contradict one another are not both believed."""
    index = Index()
    pack_id, blobs = _pack(1, 3)
    index.add_pack(pack_id, blobs)
    with pytest.raises(DamagedRepositoryError, match=pack_id.hex()):
        index.add_pack(pack_id, blobs[:2])


def test_lookups_run_beside_adds() -> None:
    """What was added before a lookup is found by it, while another thread adds and the table grows."""
    index = Index()
    added: list[PackedBlob] = []
    done = threading.Event()
    missed: list[Id] = []

    def look() -> None:
        source = random.Random(5)
        while not done.is_set():
            if added:
                blob = added[source.randrange(len(added))]
                if index.lookup(blob.type, blob.id) is None:
                    missed.append(blob.id)

    threads = [threading.Thread(target=look) for _ in range(3)]
    for thread in threads:
        thread.start()
    try:
        for seed in range(100):
            pack_id, blobs = _pack(seed, 100)
            index.add_pack(pack_id, blobs)
            added.extend(blobs)
    finally:
        done.set()
        for thread in threads:
            thread.join()
    assert missed == []


def test_index_files_load_together() -> None:
    """Several files, some naming the same pack, make one index."""
    backend, sealer = MemoryBackend(), Sealer(MasterKey.generate())
    packs = [_pack(seed, 20) for seed in range(12)]
    for first in range(0, 12, 2):
        save_index(backend, sealer, 2, packs[first : first + 3])
    assert dict(load_all(backend, sealer, 2).packs()) == dict(packs)


@pytest.mark.slow
def test_a_million_blobs_fit_into_150_mib() -> None:
    """The index of a million blobs, measured as the growth of a fresh process's peak memory."""
    program = """
import os
from sheetanchor.repository.ids import BlobType, Id
from sheetanchor.repository.index import Index
from sheetanchor.repository.pack import PackedBlob
def peak():
    # Not ru_maxrss: a child starts with its parent's, and the growth would be hidden.
    status = open("/proc/self/status").read().splitlines()
    return next(int(line.split()[1]) for line in status if line.startswith("VmHWM:"))
before = peak()
index = Index()
for _ in range(10_000):
    ids = os.urandom(3200)
    blobs = [PackedBlob(BlobType.DATA, Id(ids[32 * n : 32 * n + 32]), 9 * n, 99, 300) for n in range(100)]
    index.add_pack(Id(os.urandom(32)), blobs)
assert index.count(BlobType.DATA) == 1_000_000
print(peak() - before)
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert int(done.stdout) / 1024 < 150
