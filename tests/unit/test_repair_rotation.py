"""Reading shares of the packs: in a known number of runs every pack is read, and that is said."""

from __future__ import annotations

import math
import os
import re
from datetime import timedelta
from pathlib import Path

import pytest

from sheetanchor.errors import DamagedRepositoryError, ReadOnlyBackendError
from sheetanchor.repository.backend.base import Kind
from sheetanchor.repository.backend.memory import MemoryBackend
from sheetanchor.repository.crypto import MasterKey
from sheetanchor.repository.ids import Id
from sheetanchor.repository.objects import SealedObjects
from sheetanchor.repository.verify_rotation import KIND, NAME, Rotation, Rotator, decode_rotation
from support.fake_clock import FakeClock
from support.repositories import back_up, create, open_repository


class RecordingBackend(MemoryBackend):
    """Remembers which packs were read from their first to their last byte."""

    def __init__(self) -> None:
        super().__init__()
        self.read: list[str] = []

    def get(self, kind: Kind, name: str, offset: int = 0, length: int | None = None) -> bytes:
        """Return bytes of an object; see Backend."""
        if kind is Kind.DATA and length is None:
            self.read.append(name)
        return super().get(kind, name, offset, length)


class ReadOnlyObjects(MemoryBackend):
    """Takes everything but sealed objects."""

    def put(
        self, kind: Kind, name: str, data: bytes | bytearray | memoryview, *, if_absent: bool = False
    ) -> None:
        """Refuse; see Backend."""
        raise ReadOnlyBackendError("nothing can be written here")


def _fill(backend: MemoryBackend, directory: Path, backups: int) -> set[str]:
    """Make a repository of some twenty packs; return their names."""
    repository = create(backend)
    directory.mkdir()
    for _ in range(backups):
        (directory / "file").write_bytes(os.urandom(2000))
        back_up(repository, directory)
    return {found.name for found in backend.list(Kind.DATA)}


@pytest.mark.parametrize("share", [0.1, 0.25, 0.4])
def test_every_pack_is_read_within_a_known_number_of_runs(tmp_path: Path, share: float) -> None:
    """After 1/share runs, each by a new process, every pack was read; the report says so only then."""
    backend = RecordingBackend()
    packs = _fill(backend, tmp_path / "source", 11)
    runs = math.ceil(1 / share)
    for run in range(1, runs + 1):
        report = open_repository(backend).check(read_data=share)
        assert report.healthy
        (note,) = report.hints
        if set(backend.read) != packs:
            assert run < runs
            assert "have been read so far" in note
    assert set(backend.read) == packs
    assert "every pack that was there at" in note
    said = re.search(r"within the last (\d+) runs", note)
    assert said is not None
    assert 1 < int(said[1]) <= runs


def test_packs_that_come_later_are_read_in_the_next_round(tmp_path: Path) -> None:
    """A pack stored between two runs is read within one more round."""
    backend = RecordingBackend()
    _fill(backend, tmp_path / "source", 6)
    for _ in range(4):
        open_repository(backend).check(read_data=0.25)
    (tmp_path / "source" / "late").write_bytes(os.urandom(3000))
    back_up(open_repository(backend), tmp_path / "source")
    backend.read.clear()
    for _ in range(5):
        open_repository(backend).check(read_data=0.25)
    assert set(backend.read) == {found.name for found in backend.list(Kind.DATA)}


def test_damage_is_found_within_the_round(tmp_path: Path) -> None:
    """A flipped bit in any pack is reported by one of the runs of a round."""
    backend = MemoryBackend()
    packs = _fill(backend, tmp_path / "source", 5)
    victim = sorted(packs)[3]
    data = bytearray(backend.get(Kind.DATA, victim))
    data[10] ^= 4
    backend.put(Kind.DATA, victim, data)
    reports = [open_repository(backend).check(read_data=0.2) for _ in range(5)]
    found = {finding.file for report in reports for finding in report.errors}
    assert f"data/{victim}" in found


def _packs(*first_bytes: int) -> list[Id]:
    return [Id(bytes([first]) * 32) for first in first_bytes]


def test_the_oldest_reading_decides_and_its_age_is_told() -> None:
    """Two runs of a half, a day apart: the report gives the older one's time and the number of runs."""
    objects, clock = SealedObjects(MemoryBackend(), MasterKey.generate()), FakeClock()
    packs = _packs(1, 2, 3, 4)
    rotator = Rotator(objects, clock)
    first = rotator.choose(packs, 0.5)
    assert len(first) == 2
    assert rotator.finish() == [
        "50 % of the groups of packs have been read so far; 1 more such run reads the rest"
    ]
    before = clock.now()
    clock.sleep(timedelta(days=3).total_seconds())
    rotator = Rotator(objects, clock)
    assert set(rotator.choose(packs, 0.5)) == set(packs) - set(first)
    assert rotator.finish() == [
        f"every pack that was there at {before:%Y-%m-%d %H:%M} UTC was read within the last 2 runs (3 days)"
    ]
    third = Rotator(objects, clock)
    assert set(third.choose(packs, 0.5)) == set(first)


def test_a_damaged_record_is_begun_anew_and_said() -> None:
    """The record is a hint, so a damaged one stops nothing; the note tells of it."""
    backend = MemoryBackend()
    objects = SealedObjects(backend, MasterKey.generate())
    backend.put(Kind.OBJECTS, f"{KIND}/{NAME}", b"garbage" * 20)
    rotator = Rotator(objects, FakeClock())
    assert len(rotator.choose(_packs(1, 2), 0.5)) == 1
    notes = rotator.finish()
    assert "a new record begins" in notes[0]
    assert decode_rotation(objects.get(KIND, NAME)).runs == 1


def test_where_nothing_can_be_recorded_the_check_goes_on() -> None:
    """A read-only repository is checked by chance, and the note says that nothing is recorded."""
    rotator = Rotator(SealedObjects(ReadOnlyObjects(), MasterKey.generate()), FakeClock())
    assert len(rotator.choose(_packs(1, 2, 3), 0.5)) == 2
    (note,) = rotator.finish()
    assert "cannot be recorded" in note


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"[]",
        b'{"format":2,"runs":0,"run":[],"at":[]}',
        Rotation.fresh().encode().replace(b'"runs":0', b'"runs":-1'),
        Rotation.fresh().encode().replace(b"[0,", b"[true,", 1),
        Rotation.fresh().encode().replace(b"[0,", b"[7,", 1),
        Rotation.fresh().encode().replace(b"[0,", b"[", 1),
    ],
)
def test_a_record_of_another_form_is_refused(data: bytes) -> None:
    """Whatever is not exactly a record is none."""
    with pytest.raises(DamagedRepositoryError):
        decode_rotation(data)
