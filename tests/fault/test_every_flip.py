"""A flipped bit in every byte of a small repository: found by the check, never restored as if right."""

from __future__ import annotations

import random
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from sheetanchor.errors import SheetanchorError
from sheetanchor.repository.backend.base import Kind
from sheetanchor.repository.backend.memory import MemoryBackend
from support.repositories import back_up, create, open_repository

SEED = 20
SAMPLE = 200
_KINDS = (Kind.CONFIG, Kind.KEYS, Kind.SNAPSHOTS, Kind.INDEX, Kind.DATA)
Place = tuple[Kind, str, int]
"""Kind and name of a stored file, and a byte in it."""


@dataclass
class Campaign:
    """What was flipped and what came of it."""

    flipped: Counter[str] = field(default_factory=Counter)
    missed: list[Place] = field(default_factory=list)
    wrong: list[Place] = field(default_factory=list)
    restored: int = 0
    """Restores that gave the right bytes in spite of the flip."""
    refused: int = 0
    """Restores that ended in an error."""


def _make(source: Path) -> tuple[MemoryBackend, dict[str, bytes]]:
    """Return a repository of two snapshots, and the files of the second."""
    source.mkdir()
    chance = random.Random(SEED)
    backend = MemoryBackend()
    repository = create(backend)
    for number in range(2):
        (source / f"random {number}").write_bytes(chance.randbytes(150))
        (source / f"text {number}").write_bytes(b"the same words again and again " * 40)
        back_up(repository, source)
    return backend, {path.name: path.read_bytes() for path in source.iterdir()}


def _places(backend: MemoryBackend) -> list[Place]:
    return [
        (kind, stored.name, at)
        for kind in _KINDS
        for stored in backend.list(kind)
        for at in range(stored.size)
    ]


def _found(backend: MemoryBackend) -> bool:
    try:
        return not open_repository(backend).check(read_data=True).healthy
    except SheetanchorError:
        return True


def _restored(backend: MemoryBackend) -> dict[str, bytes] | None:
    """Return the files of the newest snapshot, None when an error says that it cannot be read."""
    try:
        repository = open_repository(backend)
        reader = repository.reader()
        tree = repository.find_snapshot("latest").snapshot.tree
        files = {}
        for path, node in reader.walk(tree, b"volumes/data"):
            if node.content is not None:
                with reader.open(node) as stream:
                    files[path.decode().rpartition("/")[2]] = stream.read()
    except SheetanchorError:
        return None
    return files


def _flip(
    backend: MemoryBackend, places: list[Place], right: dict[str, bytes], chance: random.Random
) -> Campaign:
    """Flip one bit of each byte in turn, check, restore, and put it right again."""
    done = Campaign()
    for kind, name, at in places:
        good = backend.get(kind, name)
        bad = bytearray(good)
        bad[at] ^= 1 << chance.randrange(8)
        backend.put(kind, name, bad)
        done.flipped[kind.value] += 1
        if not _found(backend):
            done.missed.append((kind, name, at))
        restored = _restored(backend)
        if restored is None:
            done.refused += 1
        elif restored == right:
            done.restored += 1
        # A snapshot that cannot be read is reported as a warning and is not the newest any more.
        elif kind is not Kind.SNAPSHOTS or not restored.items() <= right.items():
            done.wrong.append((kind, name, at))
        backend.put(kind, name, good)
    assert not _found(backend), "the repository was not put right again"
    assert _restored(backend) == right
    return done


def test_a_sample_of_bytes(tmp_path: Path) -> None:
    """Bytes drawn from all files, each kind among them: every flip is found, no wrong byte comes out."""
    backend, right = _make(tmp_path / "source")
    chance = random.Random(SEED)
    places = _places(backend)
    drawn = [
        place for kind in _KINDS for place in chance.sample([p for p in places if p[0] is kind], SAMPLE // 5)
    ]
    done = _flip(backend, drawn, right, chance)
    assert set(done.flipped) == {kind.value for kind in _KINDS}
    assert (done.missed, done.wrong) == ([], [])
    assert done.refused > 0
    assert done.restored > 0


@pytest.mark.torture
def test_every_byte(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The same for every byte of every file."""
    backend, right = _make(tmp_path / "source")
    places = _places(backend)
    done = _flip(backend, places, right, random.Random(SEED))
    row = (
        "a bit flipped in every byte",
        f"{len(places)} flips: {dict(done.flipped)}",
        f"{len(done.missed)} not found, {len(done.wrong)} wrong restores",
        f"{done.refused} restores refused, {done.restored} right in spite of it",
    )
    with capsys.disabled():
        print(f"\n| {' | '.join(row)} |")  # noqa: T201 - a line of the committed table
    assert sum(done.flipped.values()) == len(places)
    assert (done.missed, done.wrong) == ([], [])
