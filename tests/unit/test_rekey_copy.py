"""A copy to a new master key: equal contents, times and tags; nothing that the old key opens."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from sheetanchor.errors import BackendError, DamagedRepositoryError, FinalBackendError, RepositoryError
from sheetanchor.repository.backend.base import Kind
from sheetanchor.repository.backend.local import LocalBackend
from sheetanchor.repository.backend.memory import MemoryBackend
from sheetanchor.repository.crypto import Sealer
from sheetanchor.repository.keys import open_key
from sheetanchor.repository.repository import Repository
from sheetanchor.secret import Secret
from support.faulty import Fault, FaultyBackend
from support.repositories import PASSWORD, back_up, create, open_repository, restic


def _filled(place: Path | MemoryBackend, directory: Path) -> Repository:
    """Make a repository with two snapshots, the second a child of the first, and two objects."""
    (directory / "sub").mkdir(parents=True)
    (directory / "sub" / "random").write_bytes(os.urandom(3_000_000))
    (directory / "text").write_text("line\n" * 10_000)
    repository = create(place)
    first, _ = back_up(repository, directory)
    (directory / "text").write_text("line\n" * 10_000 + "one more\n")
    back_up(repository, directory, parent=first.snapshot.tree)
    repository.objects().put("wal", "16/000000010000000000000001", b"segment" * 1000)
    repository.objects().put("state", "verify-rotation", b"of packs that are not copied")
    return repository


def test_the_copy_is_equal_and_stock_restic_reads_it(tmp_path: Path) -> None:
    """Snapshots keep trees, times and tags and name their originals; restic restores them equal."""
    source = _filled(tmp_path / "old", tmp_path / "source")
    target = create(tmp_path / "new")
    report = source.repairs().copy_to(target.repairs())
    assert (report.snapshots, report.snapshots_copied, report.objects) == (2, 2, 1)
    old, new = source.snapshots(), open_repository(tmp_path / "new").snapshots()
    kept = [(one.snapshot.tree, one.snapshot.time_ns, one.snapshot.tags, one.snapshot.paths) for one in old]
    assert [(s.snapshot.tree, s.snapshot.time_ns, s.snapshot.tags, s.snapshot.paths) for s in new] == kept
    assert [one.snapshot.original for one in new] == [one.id for one in old]
    assert target.objects().get("wal", "16/000000010000000000000001") == b"segment" * 1000
    assert [found.name for found in target.objects().list("state")] == []
    restic(tmp_path / "new", "check", "--read-data")
    restic(tmp_path / "new", "restore", "latest", "--target", str(tmp_path / "restored"))
    for name in ("sub/random", "text"):
        restored = tmp_path / "restored" / "volumes" / "data" / name
        assert restored.read_bytes() == (tmp_path / "source" / name).read_bytes()


def test_the_old_key_opens_nothing_of_the_copy(tmp_path: Path) -> None:
    """Every sealed file of the new repository is refused under the old master key."""
    source = _filled(tmp_path / "old", tmp_path / "source")
    target = create(tmp_path / "new")
    source.repairs().copy_to(target.repairs())
    old_backend, new_backend = LocalBackend(tmp_path / "old"), LocalBackend(tmp_path / "new")
    old = Sealer(open_key(old_backend, Secret(PASSWORD)).master_key)
    assert (
        open_key(new_backend, Secret(PASSWORD)).master_key
        != open_key(old_backend, Secret(PASSWORD)).master_key
    )
    for kind in (Kind.CONFIG, Kind.INDEX, Kind.SNAPSHOTS, Kind.OBJECTS):
        for found in new_backend.list(kind):
            with pytest.raises(DamagedRepositoryError):
                old.open(new_backend.get(kind, found.name))
    for found in new_backend.list(Kind.DATA):
        pack = new_backend.get(Kind.DATA, found.name)
        length = int.from_bytes(pack[-4:], "little")
        with pytest.raises(DamagedRepositoryError):
            old.open(pack[-4 - length : -4])


def test_a_second_run_copies_what_is_new_only(tmp_path: Path) -> None:
    """A copy can be repeated: first nothing, then just the new backup's snapshot and blobs."""
    source, target = _filled(MemoryBackend(), tmp_path / "source"), create(MemoryBackend())
    source.repairs().copy_to(target.repairs())
    again = source.repairs().copy_to(target.repairs())
    assert (again.snapshots, again.snapshots_copied, again.bytes_added) == (2, 0, 0)
    (tmp_path / "source" / "late").write_bytes(os.urandom(5000))
    back_up(source, tmp_path / "source")
    third = source.repairs().copy_to(target.repairs())
    assert (third.snapshots, third.snapshots_copied) == (3, 1)
    assert 5000 < third.bytes_added < 20_000
    assert target.check(read_data=True).healthy


@pytest.mark.parametrize("method", ["put", "get", "list"])
def test_a_copy_that_is_cut_off_goes_on(tmp_path: Path, method: str) -> None:
    """Whichever call fails, nothing refers to what is not there, and a second run ends it."""
    source = _filled(MemoryBackend(), tmp_path / "source")

    def fail() -> None:
        raise FinalBackendError("the storage is gone")

    for call in range(1, 30):
        inner = MemoryBackend()
        create(inner)
        faulty = FaultyBackend(inner, Fault(method, first=call, last=call + 1000, before=fail))
        try:
            source.repairs().copy_to(open_repository(faulty).repairs())
        except BackendError:
            pass
        else:
            assert call > 1
            break
        assert open_repository(inner).check(read_data=True).healthy
        report = source.repairs().copy_to(open_repository(inner).repairs())
        assert report.snapshots == len(open_repository(inner).snapshots()) == 2
        assert open_repository(inner).check(read_data=True).healthy
    else:
        raise AssertionError("the copy never got through: the fault hit every call")


def test_a_damaged_source_is_refused(tmp_path: Path) -> None:
    """A blob that cannot be read stops the copy before any snapshot refers to it."""
    backend = MemoryBackend()
    source, target = _filled(backend, tmp_path / "source"), create(MemoryBackend())
    for found in list(backend.list(Kind.DATA)):
        data = bytearray(backend.get(Kind.DATA, found.name))
        data[30] ^= 1
        backend.put(Kind.DATA, found.name, data)
    with pytest.raises(DamagedRepositoryError):
        source.repairs().copy_to(target.repairs())
    assert target.snapshots() == []


def test_the_same_repository_is_refused(tmp_path: Path) -> None:
    """A copy onto itself would say that there is a new key when there is none."""
    source = _filled(MemoryBackend(), tmp_path / "source")
    with pytest.raises(RepositoryError, match="same repository"):
        source.repairs().copy_to(source.repairs())


def test_a_first_version_repository_becomes_a_second(tmp_path: Path) -> None:
    """A version 1 repository is copied into a compressed one of version 2."""
    directory = tmp_path / "source"
    directory.mkdir()
    (directory / "text").write_text("the same line\n" * 20_000)
    source, target = create(MemoryBackend(), version=1), create(tmp_path / "new")
    back_up(source, directory)
    report = source.repairs().copy_to(target.repairs())
    assert report.bytes_added < 20_000
    restic(tmp_path / "new", "check", "--read-data")
