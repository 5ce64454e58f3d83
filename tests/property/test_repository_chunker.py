"""Cuts depend on the bytes alone: not on how they arrive, and on nothing an outsider knows."""

from __future__ import annotations

import random
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from sheetanchor.repository.chunker import MAX_SIZE, MIN_SIZE, Chunker, derive_seed

DATA = random.Random(8).randbytes(24 << 20)
ZEROS = bytes(20 << 20)


def _cut(data: bytes, buffer_size: int, seed: int) -> list[int]:
    """Cut as the stream writer does: a buffer at a time, what is left over carried on."""
    chunker = Chunker(seed)
    lengths: list[int] = []
    done = 0
    while True:
        window = memoryview(data)[done : done + buffer_size]
        final = done + len(window) == len(data)
        found = chunker.cut(window, final=final)
        lengths += found
        done += sum(found)
        if final:
            return lengths


@settings(max_examples=25)
@given(st.integers(0, len(DATA)), st.integers(MAX_SIZE, 16 << 20), st.integers(1, 1 << 62))
def test_buffers_do_not_move_cuts(size: int, buffer_size: int, seed: int) -> None:
    """Any buffer of at least the largest chunk gives the same cuts as all bytes at once."""
    data = DATA[:size]
    lengths = _cut(data, buffer_size, seed)
    assert sum(lengths) == size
    assert lengths == _cut(data, len(DATA), seed)
    assert all(MIN_SIZE <= length <= MAX_SIZE for length in lengths[:-1])


@settings(max_examples=10)
@given(st.binary(min_size=1, max_size=100), st.integers(0, 20 << 20))
def test_an_insertion_moves_few_cuts(inserted: bytes, position: int) -> None:
    """After an insertion most chunks are found again: this is what deduplication lives on."""
    changed = DATA[:position] + inserted + DATA[position:]
    before, after = _chunks(DATA, 5), _chunks(changed, 5)
    assert len(before - after) <= 4


def _chunks(data: bytes, seed: int) -> set[Any]:
    at = 0
    found = set()
    for length in _cut(data, len(data) + 1, seed):
        found.add(data[at : at + length])
        at += length
    return found


def test_a_run_of_zeros_is_cut_at_the_largest_size() -> None:
    """Data without any cut is cut at 8 MiB, so that memory stays bounded."""
    assert max(_cut(ZEROS, 16 << 20, 3)) <= MAX_SIZE


def test_another_key_cuts_elsewhere() -> None:
    """Chunk lengths of known data differ between repositories, and are the same within one."""
    first, second = derive_seed(b"k" * 32), derive_seed(b"l" * 32)
    assert first != second
    assert first == derive_seed(b"k" * 32)
    assert 1 <= first <= 1 << 62
    assert _cut(DATA, 16 << 20, first) != _cut(DATA, 16 << 20, second)
