"""Sealed objects: what is inside the seal is checked, so nothing can be swapped, cut or changed."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from sheetanchor.errors import (
    DamagedRepositoryError,
    FinalBackendError,
    ObjectAbsentError,
    ObjectExistsError,
)
from sheetanchor.repository.backend.base import Kind
from sheetanchor.repository.backend.memory import MemoryBackend
from sheetanchor.repository.crypto import MasterKey, Sealer
from sheetanchor.repository.objects import SealedObjects, derive_key
from support.repositories import PASSWORD, back_up, create, open_repository, restic

KEY = MasterKey.generate()
WAL = "16/000000010000000000000001"


@pytest.fixture
def backend() -> MemoryBackend:
    """An empty place."""
    return MemoryBackend()


@pytest.fixture
def objects(backend: MemoryBackend) -> SealedObjects:
    """Its objects."""
    return SealedObjects(backend, KEY)


def test_what_was_put_is_got_compressed_or_not(objects: SealedObjects, backend: MemoryBackend) -> None:
    """Content comes back whatever its form; what compresses takes less room, unless told not to."""
    for number, data in enumerate((b"", b"x", bytes(100_000), os.urandom(70_000))):
        for compress in (True, False):
            objects.put("wal", f"{number}/{compress}", data, compress=compress)
            assert objects.get("wal", f"{number}/{compress}") == data
    assert backend.size(Kind.OBJECTS, "wal/2/True") < 500
    assert backend.size(Kind.OBJECTS, "wal/2/False") > 100_000
    assert backend.size(Kind.OBJECTS, "wal/3/True") < 70_200


def test_every_flipped_bit_is_detected(objects: SealedObjects, backend: MemoryBackend) -> None:
    """Each of the bits of a small object, flipped alone, makes the object refused."""
    objects.put("state", "small", b"forty-two")
    sealed = backend.get(Kind.OBJECTS, "state/small")
    for position in range(8 * len(sealed)):
        damaged = bytearray(sealed)
        damaged[position // 8] ^= 1 << position % 8
        backend.put(Kind.OBJECTS, "state/small", damaged)
        with pytest.raises(DamagedRepositoryError):
            objects.get("state", "small")
    backend.put(Kind.OBJECTS, "state/small", sealed)
    assert objects.get("state", "small") == b"forty-two"


def test_every_cut_and_every_addition_is_detected(objects: SealedObjects, backend: MemoryBackend) -> None:
    """An object that ends early anywhere, or goes on, is refused."""
    objects.put("state", "small", b"forty-two")
    sealed = backend.get(Kind.OBJECTS, "state/small")
    for damaged in [sealed[:end] for end in range(len(sealed))] + [sealed + b"\0", b"\0" + sealed]:
        backend.put(Kind.OBJECTS, "state/small", damaged)
        with pytest.raises(DamagedRepositoryError):
            objects.get("state", "small")


def test_an_object_of_another_name_or_kind_is_refused(objects: SealedObjects, backend: MemoryBackend) -> None:
    """Genuine objects put into one another's places are told apart, also where only the border moves."""
    objects.put("wal", WAL, b"segment one")
    for place in ("wal/16/000000010000000000000002", f"state/{WAL}", "wal/16", "wa/l"):
        backend.put(Kind.OBJECTS, place, backend.get(Kind.OBJECTS, f"wal/{WAL}"))
        kind, _, name = place.partition("/")
        with pytest.raises(DamagedRepositoryError, match=f"it is the object wal/{WAL}"):
            objects.get(kind, name)


def test_only_the_own_repository_opens_an_object(objects: SealedObjects, backend: MemoryBackend) -> None:
    """Another repository's object of the same name is refused."""
    SealedObjects(backend, MasterKey.generate()).put("state", "x", b"other")
    with pytest.raises(DamagedRepositoryError, match="objects/state/x"):
        objects.get("state", "x")


def test_a_blob_that_looks_like_an_object_is_none(objects: SealedObjects, backend: MemoryBackend) -> None:
    """Content made up to be an object, and sealed by a backup, does not pass when it is copied out."""
    objects.put("state", "x", b"true")
    forged = Sealer(derive_key(KEY)).open(backend.get(Kind.OBJECTS, "state/x"))
    backend.put(Kind.OBJECTS, "state/x", Sealer(KEY).seal(forged))
    with pytest.raises(DamagedRepositoryError, match="authentication"):
        objects.get("state", "x")


def test_if_absent_keeps_what_is_there(objects: SealedObjects) -> None:
    """A second conditional put is refused; a plain one replaces; a deleted object is absent."""
    objects.put("state", "once", b"first", if_absent=True)
    with pytest.raises(ObjectExistsError):
        objects.put("state", "once", b"second", if_absent=True)
    assert objects.get("state", "once") == b"first"
    objects.put("state", "once", b"third")
    assert objects.get("state", "once") == b"third"
    objects.delete("state", "once")
    objects.delete("state", "once")
    with pytest.raises(ObjectAbsentError):
        objects.get("state", "once")


def test_listing_by_kind_and_beginning(objects: SealedObjects) -> None:
    """Only the asked kind is listed, by names without it; one kind is never a prefix of another."""
    for kind, name in (("wal", "16/a"), ("wal", "16/b"), ("wal", "17/a"), ("wal-2", "16/a")):
        objects.put(kind, name, b"x")
    assert sorted(found.name for found in objects.list("wal")) == ["16/a", "16/b", "17/a"]
    assert sorted(found.name for found in objects.list("wal", "16/")) == ["16/a", "16/b"]
    assert [found.name for found in objects.list("wa")] == []


@pytest.mark.parametrize(("kind", "name"), [("a/b", "c"), ("..", "c"), ("a", "../c"), ("a", ""), ("", "a")])
def test_impossible_names_are_refused(objects: SealedObjects, kind: str, name: str) -> None:
    """No kind or name leads out of its folder."""
    with pytest.raises(FinalBackendError):
        objects.put(kind, name, b"x")
    with pytest.raises(FinalBackendError):
        objects.get(kind, name)


def test_stock_restic_passes_over_objects(tmp_path: Path) -> None:
    """With objects beside a backup, restic checks and prunes without a word, and ours finds no fault."""
    source = tmp_path / "source"
    source.mkdir()
    (source / "file").write_bytes(os.urandom(50_000))
    place = tmp_path / "repository"
    repository = create(place)
    with repository.lock():
        back_up(repository, source)
    repository.objects().put("wal", WAL, b"segment")
    report = repository.check(read_data=True)
    assert report.healthy
    assert report.hints == ()
    for arguments in (("check", "--read-data"), ("prune",), ("forget", "--keep-last", "1", "--prune")):
        done = restic(place, *arguments)
        assert "objects" not in done.stdout + done.stderr
    assert open_repository(place).objects().get("wal", WAL) == b"segment"
    assert PASSWORD not in repr(repository.objects())
