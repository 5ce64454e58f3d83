"""Every kind of damage, repaired: what can be restored is restored equal, what is lost is named."""

from __future__ import annotations

import os
import random
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from sheetanchor.errors import DamagedRepositoryError, UsageError
from sheetanchor.repository.backend.local import LocalBackend
from sheetanchor.repository.crypto import Sealer
from sheetanchor.repository.ids import BlobType, Id
from sheetanchor.repository.index import Index
from sheetanchor.repository.index_file import load_all
from sheetanchor.repository.keys import open_key
from sheetanchor.repository.repository import Repository
from sheetanchor.repository.snapshot import StoredSnapshot
from sheetanchor.secret import Secret
from support.repositories import PASSWORD, back_up, create, open_repository, restic

MARK = ("status=repaired",)


@dataclass
class Case:
    """A repository of two snapshots of one directory, the second with one more file."""

    place: Path
    source: Path
    restored: Path
    snapshots: list[StoredSnapshot]

    @property
    def contents(self) -> dict[str, bytes]:
        """The source's files by relative path."""
        return _files(self.source)

    def open(self) -> Repository:
        """Open the repository as a new process would."""
        return open_repository(self.place)

    def pack_of(self, name: str) -> tuple[Path, list[tuple[Id, int, int]]]:
        """Return the pack that holds a file's first blob, and that pack's blobs: id, offset, length."""
        index = self.index()
        repository = self.open()
        node = repository.reader().node(self.snapshots[-1].snapshot.tree, f"volumes/data/{name}")
        assert node is not None
        assert node.content
        location = index.lookup(BlobType.DATA, node.content[0])
        assert location is not None
        blobs = [(blob.id, blob.offset, blob.length) for blob in index.pack(location.pack_id) or []]
        return self._file(location.pack_id), blobs

    def tree_pack(self) -> Path:
        """Return the pack that holds the root tree of the last snapshot."""
        location = self.index().lookup(BlobType.TREE, self.snapshots[-1].snapshot.tree)
        assert location is not None
        return self._file(location.pack_id)

    def blob_of(self, name: str) -> tuple[Path, int, int]:
        """Return where a file's first blob is: pack, offset, length."""
        repository = self.open()
        node = repository.reader().node(self.snapshots[-1].snapshot.tree, f"volumes/data/{name}")
        assert node is not None
        assert node.content
        location = self.index().lookup(BlobType.DATA, node.content[0])
        assert location is not None
        return self._file(location.pack_id), location.offset, location.length

    def index(self) -> Index:
        """Return the index as it is stored."""
        backend = LocalBackend(self.place)
        return load_all(backend, Sealer(open_key(backend, Secret(PASSWORD)).master_key), 2)

    def files_of(self, snapshot: str) -> dict[str, bytes]:
        """Restore a snapshot with stock restic and return its files."""
        target = self.restored / snapshot
        restic(self.place, "restore", snapshot, "--target", str(target))
        return _files(target / "volumes" / "data")

    def _file(self, pack_id: Id) -> Path:
        return self.place / "data" / pack_id.hex()[:2] / pack_id.hex()


@pytest.fixture
def case(tmp_path: Path) -> Case:
    """Make it: ten small files in two packs of data at least, since each backup flushes its own."""
    source, place = tmp_path / "source", tmp_path / "repository"
    (source / "sub").mkdir(parents=True)
    chance = random.Random(3)
    for number in range(8):
        (source / ("sub" if number % 2 else ".") / f"file{number}").write_bytes(
            chance.randbytes(3000 + number)
        )
    repository = create(place)
    with repository.lock():
        first = back_up(repository, source)[0]
        (source / "late").write_bytes(chance.randbytes(20_000))
        second = back_up(repository, source)[0]
    return Case(place, source, tmp_path / "restored", [first, second])


def _files(directory: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(directory)): path.read_bytes()
        for path in sorted(directory.rglob("*"))
        if path.is_file()
    }


def _flip(path: Path, position: int) -> None:
    path.chmod(0o600)
    data = bytearray(path.read_bytes())
    data[position] ^= 0x10
    path.write_bytes(data)


def _overwrite(path: Path, data: bytes) -> None:
    path.chmod(0o600)
    path.write_bytes(data)


def _clean(place: Path) -> None:
    """Fail unless stock restic and our own check find nothing wrong."""
    restic(place, "check", "--read-data")
    report = open_repository(place).check(read_data=True)
    assert report.errors == ()


def _remove_index(case: Case) -> None:
    for file in (case.place / "index").iterdir():
        file.unlink()


def _remove_one_index(case: Case) -> None:
    sorted((case.place / "index").iterdir())[0].unlink()


def _garbage_index(case: Case) -> None:
    _overwrite(sorted((case.place / "index").iterdir())[0], os.urandom(300))


def _flipped_index(case: Case) -> None:
    for file in (case.place / "index").iterdir():
        _flip(file, 40)


def _empty_index(case: Case) -> None:
    _overwrite(sorted((case.place / "index").iterdir())[0], b"")


@pytest.mark.parametrize(
    "damage", [_remove_index, _remove_one_index, _garbage_index, _flipped_index, _empty_index]
)
def test_an_index_is_rebuilt_without_loss(case: Case, damage: Callable[[Case], None]) -> None:
    """However index files are damaged or gone, the packs' headers give all of it back."""
    damage(case)
    assert not case.open().check().healthy
    before = sorted(path.name for path in (case.place / "index").iterdir())
    planned = case.open().repairs().index(dry_run=True)
    assert planned.needed
    assert sorted(path.name for path in (case.place / "index").iterdir()) == before
    repository = case.open()
    with repository.lock(exclusive=True):
        done = repository.repairs().index()
    assert done == planned
    assert done.lost_blobs == 0
    _clean(case.place)
    assert case.files_of("latest") == case.contents
    assert not case.open().repairs().index(dry_run=True).needed


def test_a_good_index_is_left_alone(case: Case) -> None:
    """Where nothing is wrong nothing is written, also when every header is read."""
    before = sorted(path.name for path in (case.place / "index").iterdir())
    repository = case.open()
    with repository.lock(exclusive=True):
        assert not repository.repairs().index().needed
        assert not repository.repairs().index(read_headers=True).needed
    assert sorted(path.name for path in (case.place / "index").iterdir()) == before


def _repair(case: Case, *, forget: bool, read_data: bool = True) -> tuple[int, list[tuple[str, ...]]]:
    """Run all repairs in their order; return the lost blobs and the lost paths of each snapshot."""
    repository = case.open()
    with repository.lock(exclusive=True):
        aids = repository.repairs()
        index = aids.index()
        packs = aids.packs(read_data=read_data)
        snapshots = aids.snapshots(MARK, forget=forget)
    return index.lost_blobs + packs.lost_blobs, [found.lost for found in snapshots.damaged]


def test_a_flip_in_a_blob_loses_that_file_and_nothing_else(case: Case) -> None:
    """The other blobs of the pack are saved; the lost file is named in both snapshots' reports."""
    pack, offset, length = case.blob_of("sub/file3")
    _flip(pack, offset + length // 2)
    assert "sub/file3" in case.contents
    lost, paths = _repair(case, forget=True)
    assert lost == 1
    assert paths == [("/volumes/data/sub/file3",)] * 2
    _clean(case.place)
    expected = case.contents
    del expected["sub/file3"]
    assert case.files_of("latest") == expected
    assert not pack.exists()


def test_a_flip_in_a_header_loses_nothing(case: Case) -> None:
    """The index still knows where every blob is, so all of them are saved."""
    pack, blobs = case.pack_of("late")
    _flip(pack, sum(length for _, _, length in blobs) + 20)
    assert _repair(case, forget=False) == (0, [])
    _clean(case.place)
    assert case.files_of("latest") == case.contents
    assert not pack.exists()


def test_a_cut_pack_keeps_what_stands_before_the_cut(case: Case) -> None:
    """A pack without its second half gives back the first; reading by size alone finds it."""
    pack, blobs = case.pack_of("file0")
    cut = blobs[len(blobs) // 2][1]
    with pack.open("rb") as file:
        _overwrite(pack, file.read(cut))
    whole = {blob for blob, offset, length in blobs if offset + length <= cut}
    assert whole
    lost, paths = _repair(case, forget=True, read_data=False)
    assert lost == len(blobs) - len(whole)
    assert [len(found) for found in paths] == [lost, lost]
    _clean(case.place)
    gone = {path.removeprefix("/volumes/data/") for path in paths[1]}
    assert case.files_of("latest") == {name: data for name, data in case.contents.items() if name not in gone}


def test_a_pack_that_is_gone_takes_only_its_files(case: Case) -> None:
    """The index forgets it, the report names its files, and everything else is restored equal."""
    pack, _ = case.pack_of("late")
    pack.unlink()
    lost, paths = _repair(case, forget=True)
    assert lost == 1
    assert paths == [("/volumes/data/late",)]
    _clean(case.place)
    expected = case.contents
    del expected["late"]
    assert case.files_of("latest") == expected


def test_lost_trees_are_named_as_directories(case: Case) -> None:
    """Without the newest trees the newest snapshot is lost as a whole, and said to be; older ones stay."""
    case.tree_pack().unlink()
    lost, paths = _repair(case, forget=True)
    assert lost > 0
    assert ("/",) in paths
    restic(case.place, "check", "--read-data")
    older = case.files_of(case.snapshots[0].id.hex())
    assert older == {name: data for name, data in case.contents.items() if name != "late"}


def test_the_next_backup_heals(case: Case) -> None:
    """After a repair that only forgets packs, a backup of the intact source makes old snapshots whole."""
    pack, offset, length = case.blob_of("sub/file3")
    _flip(pack, offset + length // 2)
    late, _ = case.pack_of("late")
    late.unlink()
    repository = case.open()
    with repository.lock(exclusive=True):
        repository.repairs().index()
        packs = repository.repairs().packs(read_data=True)
    assert packs.lost_blobs == 1
    assert not case.open().check().healthy
    repository = case.open()
    with repository.lock():
        back_up(repository, case.source, parent=case.snapshots[-1].snapshot.tree)
    _clean(case.place)
    for stored in case.snapshots:
        restored = case.files_of(stored.id.hex())
        assert restored == {name: case.contents[name] for name in restored}
    assert len(restored) == len(case.contents)


def test_nothing_is_deleted_without_the_flag(case: Case) -> None:
    """Damaged snapshots stay beside their marked copies; a second run makes no second copy."""
    pack, _ = case.pack_of("late")
    pack.unlink()
    _repair(case, forget=False)
    stored = case.open().snapshots()
    copies = [one for one in stored if set(MARK) <= set(one.snapshot.tags)]
    assert {one.id for one in case.snapshots} <= {one.id for one in stored}
    assert [(one.snapshot.original, one.snapshot.time_ns) for one in copies] == [
        (case.snapshots[1].id, case.snapshots[1].snapshot.time_ns)
    ]
    _repair(case, forget=False)
    assert len(case.open().snapshots()) == len(stored)
    expected = case.contents
    del expected["late"]
    assert case.files_of(copies[0].id.hex()) == expected


def test_a_dry_run_changes_nothing(case: Case) -> None:
    """Every repair plans the same with and without it, and leaves each file as it was."""
    pack, offset, _ = case.blob_of("file2")
    _flip(pack, offset + 3)
    before = _files(case.place)
    aids = case.open().repairs()
    assert not aids.index(dry_run=True).needed
    plan = aids.packs(read_data=True, dry_run=True)
    assert [(one.lost, one.id.hex()) for one in plan.damaged] == [(1, pack.name)]
    assert aids.snapshots(MARK, dry_run=True, forget=True).damaged == ()
    assert _files(case.place) == before


def test_packs_are_named_by_prefix(case: Case) -> None:
    """An intact pack is left alone and said to be; a prefix of nothing is refused."""
    pack, _ = case.pack_of("late")
    repository = case.open()
    with repository.lock(exclusive=True):
        plan = repository.repairs().packs([pack.name[:10]])
        assert [one.hex() for one in plan.intact] == [pack.name]
        assert plan.damaged == ()
        with pytest.raises(UsageError, match="no pack has an id"):
            repository.repairs().packs(["abcdef0123"])
    assert pack.exists()


def test_a_pack_nobody_knows_is_left_alone(case: Case) -> None:
    """Without its index and its header a pack cannot be read: it is told of, and not removed."""
    pack, blobs = case.pack_of("late")
    _flip(pack, sum(length for _, _, length in blobs) + 20)
    _remove_index(case)
    repository = case.open()
    with repository.lock(exclusive=True):
        index = repository.repairs().index()
        packs = repository.repairs().packs(read_data=True)
        snapshots = repository.repairs().snapshots(MARK, forget=True)
    assert [one.hex() for one in index.damaged_packs] == [pack.name]
    assert [one.hex() for one in packs.unknown] == [pack.name]
    assert packs.damaged == ()
    assert [found.lost for found in snapshots.damaged] == [("/volumes/data/late",)]
    assert pack.exists()
    restic(case.place, "check", "--read-data")
    restic(case.place, "prune")
    assert not pack.exists()


def test_packs_wait_for_a_readable_index(case: Case) -> None:
    """With a damaged index file the repair of packs says what has to come first."""
    _garbage_index(case)
    with pytest.raises(DamagedRepositoryError) as caught:
        case.open().repairs().packs(dry_run=True)
    assert caught.value.hint is not None
    assert "repair index" in caught.value.hint


def test_deleted_snapshots_are_found_by_their_trees(case: Case) -> None:
    """The roots of snapshots whose files are gone are exactly the trees nothing refers to."""
    for stored in case.snapshots:
        (case.place / "snapshots" / stored.id.hex()).unlink()
    orphans = case.open().repairs().orphans([])
    assert set(orphans.roots) == {stored.snapshot.tree for stored in case.snapshots}
    assert case.open().repairs().orphans([case.snapshots[0].snapshot.tree]).roots == (
        case.snapshots[1].snapshot.tree,
    )


def test_a_damaged_snapshot_file_goes_only_with_the_flag(case: Case) -> None:
    """A snapshot file that cannot be read is reported, stays without the flag and goes with it."""
    file = case.place / "snapshots" / case.snapshots[0].id.hex()
    _flip(file, 50)
    repository = case.open()
    with repository.lock(exclusive=True):
        assert repository.repairs().snapshots(MARK).unreadable == (case.snapshots[0].id,)
        assert file.exists()
        repository.repairs().snapshots(MARK, forget=True)
    assert not file.exists()
    _clean(case.place)
