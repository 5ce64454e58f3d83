"""Forget and prune killed at every call to the storage: nothing kept is lost, the next run finishes."""

from __future__ import annotations

import os
import random
import shutil
import signal
import warnings
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import pytest

from sheetanchor.clock import SystemClock
from sheetanchor.errors import (
    BackendError,
    DamagedRepositoryError,
    FinalBackendError,
    NoSpaceError,
    PassingBackendError,
    RepositoryError,
    SheetanchorError,
)
from sheetanchor.repository.backend.base import Kind
from sheetanchor.repository.backend.local import LocalBackend
from sheetanchor.repository.codec import Compression
from sheetanchor.repository.options import Options
from sheetanchor.repository.repository import Repository
from sheetanchor.secret import Secret
from support.faulty import Fault, FaultyBackend
from support.repositories import PASSWORD, back_up, create, open_repository, restic

WRITES = ("put", "delete")


@dataclass(frozen=True)
class Wasteful:
    """A repository of which half may go, and what must be left of it."""

    place: Path
    kept: dict[str, dict[str, bytes]]

    def copy(self, to: Path) -> Wasteful:
        """Return the same at another place."""
        shutil.copytree(self.place, to)
        return Wasteful(to, self.kept)

    def assert_whole(self) -> None:
        """Restic finds every byte whole, and all kept snapshots restore equal."""
        restic(self.place, "check", "--read-data", "--no-lock")
        repository = open_repository(self.place)
        reader = repository.reader()
        for name, wanted in self.kept.items():
            tree = repository.find_snapshot(name).snapshot.tree
            found = {}
            for path, node in reader.walk(tree, b"volumes/data"):
                if node.content is not None:
                    with reader.open(node) as stream:
                        found[path.decode().rpartition("/")[2]] = stream.read()
            assert found == wanted


def _described(root: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in root.iterdir()}


@pytest.fixture(scope="module")
def wasteful(tmp_path_factory: pytest.TempPathFactory) -> Wasteful:
    """Six backups of which three were forgotten, and a pack that nothing refers to."""
    directory = tmp_path_factory.mktemp("wasteful")
    place, source = directory / "repository", directory / "source"
    source.mkdir()
    chance = random.Random(5)
    repository = create(place)
    kept: dict[str, dict[str, bytes]] = {}
    # Its data stays in use, its tree does not: an index file of which a part has to stay.
    (source / "stable").write_bytes(chance.randbytes(40_000))
    stable, _ = back_up(repository, source)
    repository.delete_snapshot(stable.id)
    for number in range(6):
        for name in range(4):
            (source / f"f{(number + name) % 9}").write_bytes(chance.randbytes(60_000 + 1000 * name))
        stored, _ = back_up(repository, source)
        if number % 2:
            kept[stored.id.hex()] = _described(source)
        else:
            repository.delete_snapshot(stored.id)
    before = set((place / "index").iterdir())
    (source / "lost").write_bytes(chance.randbytes(50_000))
    last, _ = back_up(repository, source)
    repository.delete_snapshot(last.id)
    for index in set((place / "index").iterdir()) - before:
        index.unlink()
    return Wasteful(place, kept)


def _open(place: Path, *faults: Fault) -> tuple[Repository, FaultyBackend]:
    """Open with one thread, so that calls come in the same order each time."""
    backend = FaultyBackend(LocalBackend(place), *faults)
    options = Options(compression=Compression.AUTO, threads=1)
    return Repository.open(backend, Secret(PASSWORD), options=options, clock=SystemClock()), backend


def _prune(repository: Repository) -> None:
    with repository.lock(exclusive=True):
        pruner = repository.pruner()
        pruner.execute(pruner.prepare(0.0))


def _kill() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def _killed(place: Path, fault: Fault) -> bool:
    """Prune in a child that the fault kills; return whether it did."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        child = os.fork()
    if child == 0:
        status = 1
        try:
            repository, _ = _open(place, fault)
            _prune(repository)
            status = 0
        finally:
            os._exit(status)
    _, status = os.waitpid(child, 0)
    if os.WIFSIGNALED(status):
        assert os.WTERMSIG(status) == signal.SIGKILL
        return True
    assert os.waitstatus_to_exitcode(status) == 0, "the prune failed before it was killed"
    return False


def _calls(wasteful: Wasteful, directory: Path) -> dict[str, int]:
    """Count the writing calls of a whole prune."""
    probe = wasteful.copy(directory / "probe")
    repository, backend = _open(probe.place)
    before = dict(backend.calls)
    _prune(repository)
    probe.assert_whole()
    return {method: backend.calls[method] - before.get(method, 0) for method in WRITES}


@pytest.mark.slow
@pytest.mark.parametrize("moment", ["before", "after"])
@pytest.mark.parametrize("method", WRITES)
def test_a_prune_killed_at_every_writing_call(
    wasteful: Wasteful, tmp_path: Path, method: str, moment: str
) -> None:
    """Killed before or after any put or delete, the repository is whole and the next run finishes."""
    count = _calls(wasteful, tmp_path)[method]
    assert count >= 4, "too few calls to show anything"
    for number in range(1, count + 1):
        here = wasteful.copy(tmp_path / f"{method}-{number}")
        hook = {moment: _kill}
        assert _killed(here.place, Fault(method, number, number, **hook)), number
        here.assert_whole()
        # No human, no unlock: the lock of the dead process is cleared.
        repository = open_repository(here.place)
        _prune(repository)
        here.assert_whole()
        with repository.lock(exclusive=True):
            assert repository.pruner().prepare(0.0).plan.nothing_to_do
        shutil.rmtree(here.place)


def _raising(error: BackendError) -> Callable[[], None]:
    def strike() -> None:
        raise error

    return strike


FAULTS = {
    "full while packs are copied": Fault("put", 1, 99, Kind.DATA, before=_raising(NoSpaceError("no room"))),
    "full while the index is written": Fault(
        "put", 2, 99, Kind.INDEX, before=_raising(NoSpaceError("no room"))
    ),
    "the first index cannot be written": Fault(
        "put", 1, 99, Kind.INDEX, before=_raising(NoSpaceError("no room"))
    ),
    "an index file cannot be removed": Fault(
        "delete", 1, 99, Kind.INDEX, before=_raising(FinalBackendError("forbidden"))
    ),
    "the second index file cannot be removed": Fault(
        "delete", 2, 99, Kind.INDEX, before=_raising(FinalBackendError("forbidden"))
    ),
    "packs cannot be removed": Fault(
        "delete", 1, 99, Kind.DATA, before=_raising(FinalBackendError("forbidden"))
    ),
    "some packs cannot be removed": Fault(
        "delete", 2, 3, Kind.DATA, before=_raising(PassingBackendError("reset"))
    ),
    "a reply got lost": Fault("put", 1, 1, Kind.DATA, after=_raising(PassingBackendError("reset"))),
    "the list of snapshots breaks off": Fault(
        "list", 1, 1, Kind.SNAPSHOTS, before=_raising(PassingBackendError("reset"))
    ),
    "the list of packs breaks off": Fault(
        "list", 1, 1, Kind.DATA, before=_raising(PassingBackendError("reset"))
    ),
    "the list of index files breaks off": Fault(
        "list", 2, 2, Kind.INDEX, before=_raising(PassingBackendError("reset"))
    ),
    "a tree is damaged on the way": Fault("get", 1, 1, Kind.DATA, change=lambda data: data[:-1] + b"\0"),
}


@pytest.mark.parametrize("name", FAULTS)
def test_a_prune_that_fails_loses_nothing(wasteful: Wasteful, tmp_path: Path, name: str) -> None:
    """Whatever the storage does in the middle, it is reported, and the next run finishes."""
    here = wasteful.copy(tmp_path / "repository")
    repository, _ = _open(here.place, FAULTS[name])
    with pytest.raises(SheetanchorError):
        _prune(repository)
    here.assert_whole()
    assert not list((here.place / "locks").iterdir())
    after = open_repository(here.place)
    _prune(after)
    here.assert_whole()
    with after.lock(exclusive=True):
        assert after.pruner().prepare(0.0).plan.nothing_to_do


class _Forgetful(FaultyBackend):
    """Leaves the last file out of one listing, as a storage does that is not consistent yet."""

    def __init__(self, inner: LocalBackend, kind: Kind, listing: int) -> None:
        super().__init__(inner)
        self._kind = kind
        self._left = listing

    def list(self, kind: Kind):  # type: ignore[no-untyped-def] # the parent's signature
        """Yield all objects, or all but one."""
        found = sorted(super().list(kind), key=lambda one: one.name)
        if kind is self._kind:
            self._left -= 1
            if self._left == 0:
                found.pop()
        return iter(found)


@pytest.mark.parametrize("kind", [Kind.SNAPSHOTS, Kind.INDEX])
@pytest.mark.parametrize("listing", [1, 2])
def test_a_listing_that_is_silently_cut_short_stops_everything(
    wasteful: Wasteful, tmp_path: Path, kind: Kind, listing: int
) -> None:
    """A snapshot or index file left out of one listing never makes data look unused."""
    here = wasteful.copy(tmp_path / "repository")
    before = _files(here.place)
    backend = _Forgetful(LocalBackend(here.place), kind, listing)
    repository = Repository.open(backend, Secret(PASSWORD), options=Options(), clock=SystemClock())
    with pytest.raises(RepositoryError):
        _prune(repository)
    assert _files(here.place) == before


def test_a_list_of_packs_that_is_silently_cut_short_loses_nothing(wasteful: Wasteful, tmp_path: Path) -> None:
    """A pack left out of the list is needed, and stops it, or is not, and is removed the next time."""
    here = wasteful.copy(tmp_path / "repository")
    backend = _Forgetful(LocalBackend(here.place), Kind.DATA, 1)
    repository = Repository.open(backend, Secret(PASSWORD), options=Options(), clock=SystemClock())
    with suppress(DamagedRepositoryError):
        _prune(repository)
    here.assert_whole()
    _prune(open_repository(here.place))
    here.assert_whole()


@pytest.mark.parametrize("damage", ["missing", "cut", "longer"])
def test_a_needed_pack_that_is_not_whole_stops_everything(
    wasteful: Wasteful, tmp_path: Path, damage: str
) -> None:
    """Nothing at all is touched, so that whoever repairs still has everything."""
    here = wasteful.copy(tmp_path / "repository")
    repository = open_repository(here.place)
    with repository.lock(exclusive=True):
        needed = repository.pruner().prepare(0.0)
    pack = here.place / "data" / needed.plan.repack[0].hex()[:2] / needed.plan.repack[0].hex()
    content = pack.read_bytes()
    pack.unlink()
    if damage != "missing":
        pack.write_bytes(content[:-5] if damage == "cut" else content + b"12345")
    before = _files(here.place)
    with pytest.raises(DamagedRepositoryError, match="nothing was removed"):
        _prune(repository)
    assert _files(here.place) == before
    pack.unlink(missing_ok=True)
    pack.write_bytes(content)
    _prune(repository)
    here.assert_whole()


@pytest.mark.parametrize("kind", ["snapshots", "index"])
def test_a_damaged_file_stops_everything(wasteful: Wasteful, tmp_path: Path, kind: str) -> None:
    """A snapshot or index that cannot be read may name what looks unused: nothing is touched."""
    here = wasteful.copy(tmp_path / "repository")
    file = min((here.place / kind).iterdir())
    content = file.read_bytes()
    file.chmod(0o600)
    file.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    before = _files(here.place)
    with pytest.raises(DamagedRepositoryError):
        _prune(open_repository(here.place))
    assert _files(here.place) == before


def _files(place: Path) -> dict[str, int]:
    kinds = ("data", "index", "snapshots", "keys")
    return {
        str(path): path.stat().st_size
        for kind in kinds
        for path in (place / kind).rglob("*")
        if path.is_file()
    }
