"""Repairs under fire: cut off at every call, they lose nothing that could be read before."""

from __future__ import annotations

import os
import random
from collections.abc import Callable
from pathlib import Path

import pytest

from sheetanchor.errors import DamagedRepositoryError, FinalBackendError, SheetanchorError
from sheetanchor.repository.backend.base import Backend, Kind
from sheetanchor.repository.backend.memory import MemoryBackend
from sheetanchor.repository.node import NodeType
from sheetanchor.repository.repair_aids import RepairAids
from support.faulty import Fault, FaultyBackend
from support.repositories import back_up, create, open_repository

MARK = ("status=repaired",)
Contents = dict[str, bytes]


def _filled(directory: Path) -> tuple[MemoryBackend, Contents]:
    """Make a repository of three snapshots; return it and the files of the last."""
    backend = MemoryBackend()
    repository = create(backend)
    (directory / "sub").mkdir(parents=True)
    for number in range(3):
        for name in (f"file{number}", f"sub/other{number}"):
            (directory / name).write_bytes(os.urandom(1500 + number))
        back_up(repository, directory)
    return backend, {
        str(path.relative_to(directory)): path.read_bytes() for path in directory.rglob("*") if path.is_file()
    }


def _copy(backend: MemoryBackend) -> MemoryBackend:
    other = MemoryBackend()
    for kind in Kind:
        for found in backend.list(kind):
            other.put(kind, found.name, backend.get(kind, found.name))
    return other


def _readable(backend: Backend) -> dict[str, Contents]:
    """Return, by the snapshot's time, all files that can be read of each."""
    repository = open_repository(backend)
    reader = repository.reader()
    found: dict[str, Contents] = {}
    for stored in repository.snapshots():
        files = found.setdefault(str(stored.snapshot.time_ns), {})
        try:
            for path, node in reader.walk(stored.snapshot.tree):
                if node.type is NodeType.FILE:
                    try:
                        with reader.open(node) as stream:
                            files[path.decode().removeprefix("volumes/data/")] = stream.read()
                    except DamagedRepositoryError:
                        continue
        except DamagedRepositoryError:
            continue
    return found


def _all_repairs(aids: RepairAids) -> None:
    aids.index()
    aids.packs(read_data=True)
    aids.snapshots(MARK, forget=True)


def _flip_in(backend: MemoryBackend, kind: Kind, chance: random.Random) -> str:
    """Flip one bit of one file of a kind; return the file's name."""
    name = chance.choice(sorted(found.name for found in backend.list(kind)))
    data = bytearray(backend.get(kind, name))
    data[chance.randrange(len(data))] ^= 1 << chance.randrange(8)
    backend.put(kind, name, data)
    return name


def _damage_packs(backend: MemoryBackend) -> None:
    chance = random.Random(11)
    _flip_in(backend, Kind.DATA, chance)
    gone = sorted(found.name for found in backend.list(Kind.DATA))[-1]
    backend.put(Kind.DATA, gone, backend.get(Kind.DATA, gone)[:-40])


def _damage_index(backend: MemoryBackend) -> None:
    _flip_in(backend, Kind.INDEX, random.Random(2))


@pytest.mark.parametrize("damage", [_damage_packs, _damage_index])
@pytest.mark.parametrize("method", ["put", "delete"])
def test_a_repair_that_is_cut_off_loses_nothing_and_can_be_run_again(
    tmp_path: Path, damage: Callable[[MemoryBackend], None], method: str
) -> None:
    """Every write and removal fails in turn: what was readable stays so, and a second run ends clean."""
    damaged, _ = _filled(tmp_path / "source")
    damage(damaged)
    sound = _copy(damaged)
    _all_repairs(open_repository(sound).repairs())
    before = _readable(sound)

    def fail() -> None:
        raise FinalBackendError("the storage is gone")

    for call in range(1, 40):
        inner = _copy(damaged)
        faulty = FaultyBackend(inner, Fault(method, first=call, last=call + 1000, before=fail))
        try:
            _all_repairs(open_repository(faulty).repairs())
        except SheetanchorError:
            pass
        else:
            assert call > 1, "the repair changed nothing"
            return
        _all_repairs(open_repository(inner).repairs())
        assert open_repository(inner).check(read_data=True).errors == ()
        assert _readable(inner) == before
    raise AssertionError("the repair never got through")


@pytest.mark.parametrize("seed", range(24))
def test_any_flipped_bit_costs_at_most_what_the_report_names(tmp_path: Path, seed: int) -> None:
    """One to three flips anywhere: what is not named is restored equal, what could be read still can."""
    backend, contents = _filled(tmp_path / "source")
    chance = random.Random(seed)
    kinds = [chance.choice((Kind.DATA, Kind.DATA, Kind.INDEX, Kind.SNAPSHOTS)) for _ in range(3)]
    for kind in kinds[: chance.randint(1, 3)]:
        _flip_in(backend, kind, chance)
    before = {} if Kind.INDEX in kinds else _readable(backend)
    aids = open_repository(backend).repairs()
    aids.index()
    aids.packs(read_data=True)
    report = aids.snapshots(MARK, forget=True)
    assert open_repository(backend).check(read_data=True).errors == ()
    left = _readable(backend)
    assert all(files.items() <= left[time].items() for time, files in before.items() if files)
    lost = {found.stored.snapshot.time_ns: set(found.lost) for found in report.damaged}
    assert len(left) == 3 - len(report.unreadable) - sum("/" in paths for paths in lost.values())
    for time, files in left.items():
        named = lost.get(int(time), set())
        assert files == {name: contents[name] for name in files}
        numbers = {name[-1] for name in files} | {path[-1] for path in named if path[-1].isdigit()}
        newest = max(numbers, default="0")
        expected = {name for name in contents if name[-1] <= newest}
        missing = expected - files.keys()
        assert all(_is_named(name, named) for name in missing), (missing, named)


def _is_named(name: str, lost: set[str]) -> bool:
    path = f"/volumes/data/{name}"
    return any(path == one or (one.endswith("/") and path.startswith(one)) for one in lost)
