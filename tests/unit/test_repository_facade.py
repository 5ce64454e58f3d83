"""Making, opening and listing repositories, and what happens when one is not as it should be."""

from __future__ import annotations

import io
from pathlib import Path

import pytest

from sheetanchor.clock import SystemClock
from sheetanchor.errors import (
    RepositoryError,
    RepositoryLockedError,
    RepositoryNotFoundError,
    UnknownBackupError,
    WrongPasswordError,
)
from sheetanchor.events import SilentListener
from sheetanchor.repository.backend.base import CONFIG_NAME, Kind
from sheetanchor.repository.backend.local import LocalBackend
from sheetanchor.repository.backend.memory import MemoryBackend
from sheetanchor.repository.options import Options
from sheetanchor.repository.repository import Repository
from sheetanchor.repository.snapshot import StoredSnapshot
from sheetanchor.secret import Secret
from support.repositories import back_up, create, draft, open_repository


class Hearing(SilentListener):
    """Keeps warnings."""

    def __init__(self) -> None:
        self.heard: list[str] = []

    def warning(self, task: str, message: str) -> None:
        """Keep it."""
        self.heard.append(message)


def _snapshot(repository: Repository, name: str) -> StoredSnapshot:
    with repository.writer() as session:
        writer = session.tree(f"/{name}")
        writer.write_stream("file", io.BytesIO(name.encode()))
        tree = writer.finish()
        session.flush()
        return repository.save_snapshot(draft(tree, f"/{name}"))


def test_nothing_there_is_told_apart_from_a_wrong_password(tmp_path: Path) -> None:
    """Exit codes 10 and 12: no repository, and one that the password does not open."""
    with pytest.raises(RepositoryNotFoundError) as missing:
        open_repository(tmp_path / "nothing")
    assert missing.value.exit_code == 10
    create(tmp_path / "repository")
    with pytest.raises(WrongPasswordError) as wrong:
        Repository.open(
            LocalBackend(tmp_path / "repository"), Secret("no"), options=Options(), clock=SystemClock()
        )
    assert wrong.value.exit_code == 12
    assert "correct horse" not in str(wrong.value)


@pytest.mark.parametrize("left", [Kind.CONFIG, Kind.KEYS, Kind.SNAPSHOTS])
def test_creating_over_anything_is_refused(left: Kind) -> None:
    """A config, a key or a snapshot that is there stops a new repository from being made."""
    backend = MemoryBackend()
    _snapshot(create(backend), "x")
    for kind in (Kind.CONFIG, Kind.KEYS, Kind.SNAPSHOTS):
        if kind is not left:
            for stored in list(backend.list(kind)):
                backend.delete(kind, stored.name)
    with pytest.raises(RepositoryError, match="holds"):
        create(backend)


def test_a_creation_that_was_cut_off_says_so() -> None:
    """A key without a config is no repository, and the error names what to do."""
    backend = MemoryBackend()
    create(backend)
    backend.delete(Kind.CONFIG, CONFIG_NAME)
    with pytest.raises(RepositoryNotFoundError, match="keys but no config") as error:
        open_repository(backend)
    assert error.value.hint is not None


def test_snapshots_are_found_by_prefix_and_latest() -> None:
    """The newest is "latest"; a prefix of several ids, or of none, is refused."""
    repository = create(MemoryBackend())
    with pytest.raises(UnknownBackupError):
        repository.find_snapshot("latest")
    first, second = _snapshot(repository, "first"), _snapshot(repository, "second")
    assert [stored.id for stored in repository.snapshots()] == [first.id, second.id]
    assert repository.find_snapshot("latest").id == second.id
    assert repository.find_snapshot(first.id.hex()[:12]).snapshot.paths == ("/first",)
    with pytest.raises(UnknownBackupError):
        repository.find_snapshot("0123456789abcdef")
    repository.delete_snapshot(first.id)
    repository.delete_snapshot(first.id)
    assert [stored.id for stored in repository.snapshots()] == [second.id]


def test_a_damaged_snapshot_is_told_not_dropped() -> None:
    """The others are listed; the damaged one is a warning with its name, and an error when asked for."""
    backend = MemoryBackend()
    repository = create(backend)
    bad, good = _snapshot(repository, "bad"), _snapshot(repository, "good")
    data = bytearray(backend.get(Kind.SNAPSHOTS, bad.id.hex()))
    data[-1] ^= 1
    backend.put(Kind.SNAPSHOTS, bad.id.hex(), bytes(data))
    listener = Hearing()
    again = open_repository(backend, listener=listener)
    assert [stored.id for stored in again.snapshots()] == [good.id]
    assert any(bad.id.hex() in message for message in listener.heard)
    with pytest.raises(RepositoryError):
        again.find_snapshot(bad.id.hex())
    report = again.check()
    assert [(finding.file, finding.snapshots) for finding in report.errors] == [
        (f"snapshots/{bad.id.hex()}", (bad.id.hex(),))
    ]


def test_a_reader_finds_what_another_process_wrote() -> None:
    """Index files that appear later are read by the next reader, and only those."""
    backend = MemoryBackend()
    one, other = create(backend), open_repository(backend)
    other.reader()
    for name in ("a", "b"):
        stored = _snapshot(one, name)
        node = other.reader().node(other.find_snapshot(stored.id.hex()).snapshot.tree, f"{name}/file")
        assert node is not None
        with other.reader().open(node) as stream:
            assert stream.read() == name.encode()


def test_an_exclusive_lock_keeps_others_out() -> None:
    """While one holds the repository alone, another gets exit code 11 and the holder's name."""
    backend = MemoryBackend()
    one, other = create(backend), open_repository(backend)
    with one.lock(exclusive=True), pytest.raises(RepositoryLockedError) as error, other.lock():
        pass
    assert error.value.exit_code == 11
    with one.lock(), other.lock():
        pass
    assert list(backend.list(Kind.LOCKS)) == []


def test_a_lost_lock_stops_the_writer() -> None:
    """Once somebody removed the lock and it is noticed, nothing is published any more."""
    repository = create(MemoryBackend())
    with repository.lock() as held:
        held._lost = "somebody removed it"
        with pytest.raises(RepositoryLockedError, match="was lost"):
            _snapshot(repository, "x")
    assert repository.snapshots() == []


def test_a_backup_never_relies_on_a_lost_pack(tmp_path: Path) -> None:
    """With a pack gone, the next backup says so and stores its data again: both are whole then."""
    backend = MemoryBackend()
    source = tmp_path / "source"
    source.mkdir()
    (source / "file").write_bytes(b"precious" * 1000)
    first, _ = back_up(create(backend), source)
    for stored in list(backend.list(Kind.DATA)):
        backend.delete(Kind.DATA, stored.name)
    assert not open_repository(backend).check().healthy
    listener = Hearing()
    repository = open_repository(backend, listener=listener)
    second, saved = back_up(repository, source, parent=first.snapshot.tree)
    assert saved.failures == ()
    assert any("2 packs are lost" in message for message in listener.heard)
    again = open_repository(backend)
    report = again.check(read_data=True)
    assert [finding.what for finding in report.errors] == ["is missing"] * 2
    assert all(finding.snapshots == () for finding in report.errors)
    for snapshot in (first, second):
        target = tmp_path / snapshot.id.hex()
        again.reader().restore_tree(snapshot.snapshot.tree, "volumes/data", target)
        assert (target / "file").read_bytes() == b"precious" * 1000


def test_leftovers_are_a_hint_and_no_error() -> None:
    """Packs of a run that was cut off are named as such; the repository counts as whole."""
    backend = MemoryBackend()
    repository = create(backend)
    _snapshot(repository, "x")
    for stored in list(backend.list(Kind.INDEX)):
        backend.delete(Kind.INDEX, stored.name)
    for stored in list(backend.list(Kind.SNAPSHOTS)):
        backend.delete(Kind.SNAPSHOTS, stored.name)
    report = open_repository(backend).check(read_data=True)
    assert report.healthy
    assert len(report.hints) == 1
    assert "in no index" in report.hints[0]


def test_a_share_of_the_packs_can_be_read() -> None:
    """Reading a quarter of many packs reads about a quarter; a tiny share still reads one."""
    repository = create(MemoryBackend())
    for number in range(8):
        _snapshot(repository, str(number))
    packs = repository.check().packs
    assert packs == 16
    assert repository.check().packs_read == 0
    assert repository.check(read_data=0.25).packs_read == 4
    assert repository.check(read_data=0.001).packs_read == 1
    assert repository.check(read_data=1.0).packs_read == packs
