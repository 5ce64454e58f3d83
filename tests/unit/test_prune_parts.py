"""Parts of a prune: time limit, rate limit, copies, damage, small packs and index files, memory."""

from __future__ import annotations

import random
import shutil
import threading
from pathlib import Path

import pytest

from sheetanchor.clock import SystemClock
from sheetanchor.errors import DamagedRepositoryError
from sheetanchor.events import SilentListener
from sheetanchor.repository.backend.base import Kind
from sheetanchor.repository.backend.limit import LimitedBackend
from sheetanchor.repository.backend.local import LocalBackend
from sheetanchor.repository.backend.memory import MemoryBackend
from sheetanchor.repository.backend.s3 import S3Backend
from sheetanchor.repository.ids import BlobType, Id
from sheetanchor.repository.index import Index
from sheetanchor.repository.pack import PackedBlob, pack_size
from sheetanchor.repository.prune_plan import make_plan
from sheetanchor.repository.prune_used import IdTable, UsedBlobs, references
from sheetanchor.repository.repository import Repository
from support.fake_clock import FakeClock
from support.repositories import back_up, create, open_repository, restic
from support.s3_server import location, make_bucket, moto_server


def _half_wasted(place: Path, source: Path, backups: int = 8) -> tuple[Repository, Id]:
    """Make many packs of which each is used in part; return the snapshot that stays."""
    chance = random.Random(backups)
    repository = create(place)
    source.mkdir()
    for number in range(backups):
        (source / f"kept{number}").write_bytes(chance.randbytes(30_000))
        (source / "changing").write_bytes(chance.randbytes(50_000))
        stored, _ = back_up(repository, source)
        if number < backups - 1:
            repository.delete_snapshot(stored.id)
    return repository, stored.id


def _restored(repository: Repository, snapshot: Id, target: Path) -> dict[str, bytes]:
    tree = repository.find_snapshot(snapshot.hex()).snapshot.tree
    repository.reader().restore_tree(tree, "/volumes/data", target)
    return {path.name: path.read_bytes() for path in target.iterdir()}


def _described(source: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in source.iterdir()}


def test_what_the_time_did_not_suffice_for_is_done_the_next_time(tmp_path: Path) -> None:
    """Without time nothing is written anew, unused packs go nevertheless; a later run does the rest."""
    place, source = tmp_path / "repository", tmp_path / "source"
    repository, snapshot = _half_wasted(place, source)
    with repository.lock(exclusive=True):
        pruner = repository.pruner()
        prepared = pruner.prepare(0.0)
        assert len(prepared.plan.repack) >= 7
        outcome = pruner.execute(prepared, deadline=SystemClock().monotonic() - 1)
    assert outcome.packs_repacked == 0
    assert outcome.packs_left == len(prepared.plan.repack)
    assert outcome.packs_removed == len(prepared.plan.delete) > 0
    restic(place, "check", "--read-data")
    with repository.lock(exclusive=True):
        pruner = repository.pruner()
        outcome = pruner.execute(pruner.prepare(0.0))
    assert outcome.packs_left == 0
    assert outcome.packs_repacked >= 7
    restic(place, "check", "--read-data")
    assert _restored(open_repository(place), snapshot, tmp_path / "out") == _described(source)


def test_what_may_stay_unused_stays(tmp_path: Path) -> None:
    """A generous limit leaves wasteful data packs alone; what is left unused is within the limit."""
    place, source = tmp_path / "repository", tmp_path / "source"
    repository, _ = _half_wasted(place, source)
    with repository.lock(exclusive=True):
        pruner = repository.pruner()
        none, some, half = (pruner.prepare(share).plan for share in (0.0, 0.2, 0.9))
    assert none.bytes_unused_left == 0
    assert len(half.repack) < len(some.repack) < len(none.repack)
    for plan, share in ((some, 0.2), (half, 0.9)):
        assert plan.bytes_unused_left <= share * plan.bytes_after
    assert some.bytes_after < half.bytes_after < none.bytes_before


def test_blobs_stored_twice_are_kept_once(tmp_path: Path) -> None:
    """Two writers that did not see each other stored the same data: one copy goes."""
    place, source = tmp_path / "repository", tmp_path / "source"
    source.mkdir()
    (source / "file").write_bytes(random.Random(4).randbytes(300_000))
    first = create(place)
    aside = tmp_path / "aside"
    shutil.copytree(place, aside)
    back_up(first, source)
    back_up(open_repository(aside), source)
    for kind in ("data", "index", "snapshots"):
        shutil.copytree(aside / kind, place / kind, dirs_exist_ok=True)
    repository = open_repository(place)
    with repository.lock(exclusive=True):
        pruner = repository.pruner()
        prepared = pruner.prepare(0.0)
        assert prepared.plan.blobs_unused > 0
        assert pruner.execute(prepared).bytes_freed > 290_000
    restic(place, "check", "--read-data")
    for stored in repository.snapshots():
        out = tmp_path / stored.id.hex()
        assert _restored(open_repository(place), stored.id, out) == _described(source)


def test_a_lost_pack_whose_data_was_stored_again_leaves_the_index(tmp_path: Path) -> None:
    """A backup healed the loss; prune then makes restic's check clean again, without a repair."""
    place, source = tmp_path / "repository", tmp_path / "source"
    source.mkdir()
    (source / "file").write_bytes(random.Random(4).randbytes(300_000))
    repository = create(place)
    back_up(repository, source)
    lost = max(
        (path for path in (place / "data").rglob("*") if path.is_file()), key=lambda one: one.stat().st_size
    )
    lost.unlink()
    healed = open_repository(place)
    back_up(healed, source)
    assert restic(place, "check", check=False).returncode != 0
    with healed.lock(exclusive=True):
        pruner = healed.pruner()
        prepared = pruner.prepare()
        assert [one.hex() for one in prepared.plan.lost] == [lost.name]
        pruner.execute(prepared)
    restic(place, "check", "--read-data")
    for stored in healed.snapshots():
        out = tmp_path / stored.id.hex()
        assert _restored(open_repository(place), stored.id, out) == _described(source)


def test_a_damaged_pack_is_left_alone_and_the_rest_goes_on(tmp_path: Path) -> None:
    """A flipped bit in a needed blob is reported; that pack stays as it is, the others are pruned."""
    place, source = tmp_path / "repository", tmp_path / "source"
    repository, _ = _half_wasted(place, source)
    with repository.lock(exclusive=True):
        plan = repository.pruner().prepare(0.0).plan
        sizes = {one: (place / "data" / one.hex()[:2] / one.hex()).stat().st_size for one in plan.repack}
        bad = max(sizes, key=lambda one: sizes[one])
        path = place / "data" / bad.hex()[:2] / bad.hex()
        content = bytearray(path.read_bytes())
        # Blobs are in any order: one of these two places is in the one that is needed.
        content[20_000] ^= 1
        content[60_000] ^= 1
        path.chmod(0o600)
        path.write_bytes(content)
        pruner = repository.pruner(SilentListener())
        outcome = pruner.execute(pruner.prepare(0.0))
    assert len(outcome.damaged) == 1
    assert bad.hex() in outcome.damaged[0]
    assert outcome.packs_left == 1
    assert outcome.packs_repacked == len(plan.repack) - 1
    assert path.read_bytes() == content
    errors = repository.check(read_data=True).errors
    assert {error.file for error in errors} == {f"data/{bad.hex()}"}


def test_small_packs_and_small_index_files_are_merged(tmp_path: Path) -> None:
    """Many short backups leave many small files; a prune makes a few of them, and a second none."""
    place, source = tmp_path / "repository", tmp_path / "source"
    source.mkdir()
    repository = create(place)
    for number in range(12):
        (source / f"f{number}").write_bytes(random.Random(number).randbytes(20_000))
        back_up(repository, source)
    assert len(list((place / "index").iterdir())) == 12
    with repository.lock(exclusive=True):
        pruner = repository.pruner()
        outcome = pruner.execute(pruner.prepare())
        assert outcome.packs_repacked == 24
        assert pruner.prepare().plan.nothing_to_do
    assert len(list((place / "index").iterdir())) <= 2
    assert sum(path.is_file() for path in (place / "data").rglob("*")) == 2
    restic(place, "check", "--read-data")


def test_a_repository_in_s3_is_pruned_too(tmp_path: Path) -> None:
    """The same through S3's protocol, behind a limit that wraps it: what is kept is whole and equal."""
    source = tmp_path / "source"
    source.mkdir()
    chance = random.Random(6)
    with moto_server() as endpoint:
        make_bucket(endpoint, "backups")
        s3 = S3Backend(location(endpoint, "backups/prefix"))
        try:
            backend = LimitedBackend(s3, SystemClock(), 1 << 30)
            repository = create(backend)
            for number in range(4):
                (source / f"kept{number}").write_bytes(chance.randbytes(30_000))
                (source / "changing").write_bytes(chance.randbytes(50_000))
                stored, _ = back_up(repository, source)
                if number < 3:
                    repository.delete_snapshot(stored.id)
            with repository.lock(exclusive=True):
                pruner = repository.pruner()
                outcome = pruner.execute(pruner.prepare(0.0))
            assert outcome.bytes_freed > 3 * 50_000
            again = open_repository(backend)
            assert again.check(read_data=True).healthy
            assert not again.check().hints
            assert _restored(again, stored.id, tmp_path / "out") == _described(source)
        finally:
            s3.close()


def test_new_packs_have_fresh_nonces(tmp_path: Path) -> None:
    """A blob that was copied is sealed anew: no stored byte range of it comes again."""
    place, source = tmp_path / "repository", tmp_path / "source"
    repository, _ = _half_wasted(place, source)
    before = _nonces(repository, place)
    with repository.lock(exclusive=True):
        pruner = repository.pruner()
        plan = pruner.prepare(0.0)
        pruner.execute(plan)
    after = _nonces(open_repository(place), place)
    copied = {blob for pack in plan.plan.repack for blob in before[pack]}
    nonces = {nonce for pack in after.values() for nonce in pack.values()}
    assert copied
    assert nonces.isdisjoint(before[pack][blob] for pack in plan.plan.repack for blob in before[pack])


def _nonces(repository: Repository, place: Path) -> dict[Id, dict[Id, bytes]]:
    with repository.lock(exclusive=True):
        index = repository.pruner().prepare().files.index
    found: dict[Id, dict[Id, bytes]] = {}
    for pack_id, blobs in index.packs():
        data = (place / "data" / pack_id.hex()[:2] / pack_id.hex()).read_bytes()
        found[pack_id] = {blob.id: data[blob.offset : blob.offset + 16] for blob in blobs}
    return found


@pytest.mark.parametrize(
    "data",
    [
        b"not json",
        b'{"trees":[]}',
        b'{"nodes":[{"name":"a"}]}',
        b'{"nodes":[{"name":"a","type":"dir"}]}',
        b'{"nodes":[{"name":"a","type":"dir","subtree":"12"}]}',
        b'{"nodes":[{"name":"a","type":"file","content":["zz"]}]}',
        b'{"nodes":[{"name":"a","type":"file","content":"abc"}]}',
        b'{"nodes":["a"]}',
        b'{"nodes":[7]}',
    ],
)
def test_a_tree_that_leaves_a_reference_in_doubt_is_refused(data: bytes) -> None:
    """What is not understood may name what looks unused."""
    with pytest.raises(DamagedRepositoryError, match="not known"):
        references(Id(bytes(32)), data)


def test_ids_are_found_again_however_many_there_are() -> None:
    """The table grows, keeps positions, and tells what was never added."""
    chance = random.Random(9)
    ids = [chance.randbytes(32) for _ in range(20_000)]
    table = IdTable()
    assert all(table.add(one) for one in ids)
    assert not any(table.add(one) for one in ids)
    assert [table.find(one) for one in ids] == list(range(len(ids)))
    assert table.find(chance.randbytes(32)) == -1
    table.count_copy(3, 7)
    assert len(list(table.without_copy())) == len(ids) - 1


def test_a_used_blob_takes_less_than_150_bytes() -> None:
    """A million used blobs in a plan take well below 150 MiB, by the sizes of what holds them."""
    import tracemalloc

    chance = random.Random(2)
    index, stored, names = _index_of(chance, packs=40, blobs=500)
    tracemalloc.start()
    try:
        used = UsedBlobs()
        for name in names[::2]:
            used.of(BlobType.DATA).add(name)
        make_plan(index, used, stored, 1, 0.05)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak / len(used) < 150


def _index_of(chance: random.Random, packs: int, blobs: int) -> tuple[Index, dict[Id, int], list[Id]]:
    index, stored, names = Index(), {}, []
    for _ in range(packs):
        pack_id = Id(chance.randbytes(32))
        content = [
            PackedBlob(BlobType.DATA, Id(chance.randbytes(32)), 1000 * number, 1000, 0)
            for number in range(blobs)
        ]
        index.add_pack(pack_id, content)
        stored[pack_id] = pack_size(content)
        names += [blob.id for blob in content]
    return index, stored, names


def test_a_limit_holds_on_average() -> None:
    """Twenty objects of 1 MB at 1 MB a second take 19 s and the last one's own time, each way."""
    clock = FakeClock()
    backend = LimitedBackend(MemoryBackend(), clock, 1_000_000)
    for number in range(20):
        backend.put(Kind.DATA, f"{number:064x}", bytes(1_000_000))
    assert clock.monotonic() == pytest.approx(19.0)
    clock.advance(1)
    start = clock.monotonic()
    for number in range(10):
        backend.get(Kind.DATA, f"{number:064x}", 0, 500_000)
        backend.get(Kind.DATA, f"{number:064x}", 500_000)
    assert clock.monotonic() - start == pytest.approx(9.5, abs=0.6)
    with pytest.raises(ValueError, match="rate"):
        LimitedBackend(MemoryBackend(), clock, 0)


def test_threads_share_one_limit(tmp_path: Path) -> None:
    """Four threads together are not faster than one: 4 x 100 KB at 400 KB a second take 0.75 s at least."""
    clock = SystemClock()
    backend = LimitedBackend(LocalBackend(tmp_path), clock, 400_000)
    backend.create()
    begin = clock.monotonic()
    threads = [
        threading.Thread(target=backend.put, args=(Kind.DATA, f"{number:064x}", bytes(100_000)))
        for number in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert clock.monotonic() - begin >= 0.74
