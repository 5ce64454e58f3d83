"""Every single flipped bit of a repository is found by a check that reads the data."""

from __future__ import annotations

import os
import random
from pathlib import Path

import pytest

from sheetanchor.errors import SheetanchorError
from support.repositories import back_up, create, open_repository

FLIPS_PER_FILE = 24


def _files(place: Path) -> list[Path]:
    return sorted(path for path in place.rglob("*") if path.is_file())


def _make(tmp_path: Path) -> Path:
    source = tmp_path / "source"
    (source / "sub").mkdir(parents=True)
    for number in range(5):
        (source / "sub" / f"file {number}").write_bytes(os.urandom(300) + b"text" * 100)
    place = tmp_path / "repository"
    back_up(create(place), source)
    return place


def _found(place: Path) -> bool:
    """Say whether opening or checking the repository finds an error."""
    try:
        return not open_repository(place).check(read_data=True).healthy
    except SheetanchorError:
        return True


def _write(path: Path, data: bytes) -> None:
    path.unlink(missing_ok=True)
    path.write_bytes(data)


def test_single_bit_flips_are_found(tmp_path: Path) -> None:
    """A sample of positions in every file: ends, lengths, headers and bodies of each kind."""
    place = _make(tmp_path)
    assert not _found(place)
    chance = random.Random(3)
    missed = []
    files = _files(place)
    assert {path.relative_to(place).parts[0] for path in files} == {
        "config",
        "data",
        "index",
        "keys",
        "snapshots",
    }
    for path in files:
        good = path.read_bytes()
        bits = len(good) * 8
        positions = {0, bits - 1, bits - 32, *(chance.randrange(bits) for _ in range(FLIPS_PER_FILE))}
        for position in sorted(positions):
            bad = bytearray(good)
            bad[position // 8] ^= 1 << position % 8
            _write(path, bytes(bad))
            if not _found(place):
                missed.append((path.name, position))
        _write(path, good)
    assert missed == []
    assert not _found(place)


@pytest.mark.parametrize("kind", ["data", "index", "snapshots", "keys", "config"])
def test_files_cut_off_or_lost_are_found(tmp_path: Path, kind: str) -> None:
    """A file that lost its last byte, all bytes, or is gone altogether is found."""
    place = _make(tmp_path)
    for path in [path for path in _files(place) if path.relative_to(place).parts[0] == kind]:
        good = path.read_bytes()
        for bad in (good[:-1], good[: len(good) // 2], b""):
            _write(path, bad)
            assert _found(place), f"{kind} cut to {len(bad)} bytes"
        path.unlink()
        # A snapshot that is gone leaves no trace: that is what the manifest of a backup is for.
        assert _found(place) or kind == "snapshots"
        _write(path, good)
    assert not _found(place)


def test_findings_name_the_snapshots_they_hit(tmp_path: Path) -> None:
    """Damage to a pack that only one of two snapshots needs is reported for that one alone."""
    place = _make(tmp_path)
    repository = open_repository(place)
    old = {path.name for path in _files(place / "data")}
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "file").write_bytes(os.urandom(5000))
    second, _ = back_up(repository, tmp_path / "other", root="/other")
    new = next(path for path in _files(place / "data") if path.name not in old and path.stat().st_size > 4000)
    _write(new, new.read_bytes()[:100] + b"\x00" * 8 + new.read_bytes()[108:])
    report = open_repository(place).check(read_data=True)
    assert {finding.file for finding in report.errors} == {f"data/{new.name}"}
    assert {finding.snapshots for finding in report.errors if finding.snapshots} == {(second.id.hex(),)}
    new.unlink()
    report = open_repository(place).check()
    assert [(finding.what, finding.snapshots) for finding in report.errors] == [
        ("is missing", (second.id.hex(),))
    ]
