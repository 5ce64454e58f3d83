"""Forget killed between any two removals: a backup is whole or incomplete, never complete without parts."""

from __future__ import annotations

import io
import os
import shutil
import signal
import warnings
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from sheetanchor.clock import SystemClock
from sheetanchor.errors import DamagedRepositoryError, FinalBackendError, SheetanchorError
from sheetanchor.operations import forget
from sheetanchor.operations.catalog import Catalog
from sheetanchor.operations.manifest import Manifest, ManifestComponent
from sheetanchor.operations.naming import Tags, backup_name
from sheetanchor.operations.results import BackupStatus
from sheetanchor.policy.retention import Rules
from sheetanchor.repository.backend.base import Kind
from sheetanchor.repository.backend.local import LocalBackend
from sheetanchor.repository.options import Options
from sheetanchor.repository.repository import Repository
from sheetanchor.repository.snapshot import Snapshot
from sheetanchor.secret import Secret
from support.faulty import Fault, FaultyBackend
from support.repositories import PASSWORD, create, open_repository, restic

STACK = "shop"
COMPONENTS = ("database", "uploads")
TWO = Rules(last=2)
FIRST = datetime(2026, 1, 1, 2, tzinfo=UTC)


def _save(repository: Repository, when: datetime, *, finished: bool = True) -> str:
    """Store a backup of two components as the program does: parts first, the manifest last."""
    name, time_ns = backup_name(when), int(when.timestamp()) * 10**9
    entries = []
    with repository.writer() as session:
        for component in COMPONENTS:
            writer = session.tree(f"/volumes/{component}")
            writer.write_stream("file", io.BytesIO(f"{name} {component}".encode() * 50))
            tree = writer.finish()
            session.flush()
            tags = Tags(STACK, name, "daily", component=component, type="volume")
            stored = repository.save_snapshot(Snapshot(time_ns, tree, ("/",), tags=tags.encode()))
            entries.append(
                ManifestComponent(
                    name=component,
                    type="volume",
                    status="saved",
                    root=f"/volumes/{component}",
                    snapshot=stored.id.hex(),
                    tree=tree.hex(),
                )
            )
        if finished:
            manifest = Manifest(
                program="test",
                stack=STACK,
                backup=name,
                tier="daily",
                status="complete",
                started_at=when,
                finished_at=when,
                components=tuple(entries),
            )
            writer = session.tree("/")
            writer.write_stream("manifest.json", io.BytesIO(manifest.encode()))
            tree = writer.finish()
            session.flush()
            tags = Tags(STACK, name, "daily", manifest="complete")
            repository.save_snapshot(Snapshot(time_ns, tree, ("/manifest.json",), tags=tags.encode()))
    return name


@pytest.fixture(scope="module")
def five(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Four complete backups, and one that was cut off between the first and the second."""
    place = tmp_path_factory.mktemp("five") / "repository"
    repository = create(place)
    for day in range(5):
        _save(repository, FIRST + timedelta(days=10 * day), finished=day != 1)
    _age(place)
    return place


def _age(place: Path) -> None:
    """Make the storage say that it received everything long ago, as it would have."""
    repository = open_repository(place)
    for stored in repository.snapshots():
        seconds = stored.snapshot.time_ns / 1e9
        os.utime(place / "snapshots" / stored.id.hex(), (seconds, seconds))


def _open(place: Path, *faults: Fault) -> Repository:
    backend = FaultyBackend(LocalBackend(place), *faults)
    return Repository.open(backend, Secret(PASSWORD), options=Options(), clock=SystemClock())


def _forget(repository: Repository, rules: Rules = TWO) -> tuple[str, ...]:
    clock = SystemClock()
    planned = forget.plan(repository, STACK, rules, clock.now(), {})
    return forget.execute(repository, clock, planned, rules, {}).removed


def _assert_sound(place: Path) -> dict[str, BackupStatus]:
    """Every backup that says it is complete has all its parts; return the status of all."""
    catalog = Catalog(open_repository(place), STACK)
    for record in catalog.of_stack():
        if record.status is BackupStatus.COMPLETE:
            assert len(catalog.manifest(record).saved()) == len(COMPONENTS)
    restic(place, "check", "--read-data", "--no-lock")
    return {record.name: record.status for record in catalog.of_stack()}


def _killed_forget(place: Path, fault: Fault) -> bool:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        child = os.fork()
    if child == 0:
        status = 1
        try:
            _forget(_open(place, fault))
            status = 0
        finally:
            os._exit(status)
    _, status = os.waitpid(child, 0)
    return os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGKILL


@pytest.mark.slow
def test_a_forget_killed_before_or_after_every_removal(five: Path, tmp_path: Path) -> None:
    """Three backups of two and three snapshots go; whenever it is killed, the next run finishes."""
    names = [backup_name(FIRST + timedelta(days=10 * day)) for day in range(5)]
    snapshots = 3 + 2 + 3
    for number in range(1, snapshots + 1):
        for moment in ("before", "after"):
            place = tmp_path / f"{number}-{moment}"
            shutil.copytree(five, place)
            hook = {moment: lambda: os.kill(os.getpid(), signal.SIGKILL)}
            assert _killed_forget(place, Fault("delete", number, number, Kind.SNAPSHOTS, **hook))
            statuses = _assert_sound(place)
            assert [statuses[name] for name in names[3:]] == [BackupStatus.COMPLETE] * 2
            _forget(open_repository(place))
            assert set(_assert_sound(place)) == set(names[3:])
            shutil.rmtree(place)


def test_a_removal_that_fails_is_reported_and_finished_by_the_next_run(five: Path, tmp_path: Path) -> None:
    """The storage refuses the second removal: the first backup is incomplete, all others as before."""
    place = tmp_path / "repository"
    shutil.copytree(five, place)

    def refuse() -> None:
        raise FinalBackendError("forbidden")

    with pytest.raises(FinalBackendError):
        _forget(_open(place, Fault("delete", 2, 99, Kind.SNAPSHOTS, before=refuse)))
    statuses = list(_assert_sound(place).values())
    assert statuses == [BackupStatus.INCOMPLETE] * 2 + [BackupStatus.COMPLETE] * 3
    assert len(_forget(open_repository(place))) == 3
    assert len(_assert_sound(place)) == 2


@pytest.mark.parametrize("which", range(14))
def test_a_snapshot_that_cannot_be_read_stops_everything(five: Path, tmp_path: Path, which: int) -> None:
    """It may be the manifest of the newest complete backup: nothing is removed."""
    place = tmp_path / "repository"
    shutil.copytree(five, place)
    file = sorted((place / "snapshots").iterdir())[which]
    file.chmod(0o600)
    file.write_bytes(file.read_bytes()[:-1])
    before = sorted(path.name for path in (place / "snapshots").iterdir())
    with pytest.raises(DamagedRepositoryError):
        _forget(open_repository(place))
    assert sorted(path.name for path in (place / "snapshots").iterdir()) == before


def test_what_was_marked_after_the_plan_was_shown_stays(five: Path, tmp_path: Path) -> None:
    """Between the plan and the yes somebody marks a backup: it is not removed any more."""
    place = tmp_path / "repository"
    shutil.copytree(five, place)
    repository, clock, rules = open_repository(place), SystemClock(), Rules(last=1)
    planned = forget.plan(repository, STACK, rules, clock.now(), {})
    marked = planned.to_remove[0]
    forget.mark(open_repository(place), STACK, marked, keep=True)
    summary = forget.execute(repository, clock, planned, rules, {})
    assert summary.removed == planned.to_remove[1:]
    assert _assert_sound(place)[marked] is BackupStatus.COMPLETE


def test_an_interrupted_mark_leaves_the_backup_marked_and_whole(five: Path, tmp_path: Path) -> None:
    """Both manifests are there then: the backup counts once, stays, and marking again cleans up."""
    place = tmp_path / "repository"
    shutil.copytree(five, place)
    name = backup_name(FIRST)

    def refuse() -> None:
        raise FinalBackendError("forbidden")

    with pytest.raises(SheetanchorError):
        forget.mark(
            _open(place, Fault("delete", 1, 1, Kind.SNAPSHOTS, before=refuse)), STACK, name, keep=True
        )
    assert len(list((place / "snapshots").iterdir())) == 15
    assert name not in _forget(open_repository(place), Rules(last=1))
    assert _assert_sound(place)[name] is BackupStatus.COMPLETE
    forget.mark(open_repository(place), STACK, name, keep=False)
    assert len(list((place / "snapshots").iterdir())) == 3 + 3
    assert _forget(open_repository(place), Rules(last=1)) == (name,)
    assert len(_assert_sound(place)) == 1
