"""Pruning judged by stock restic: ours on its repositories, its on ours, and restores afterwards."""

from __future__ import annotations

import random
import shutil
from pathlib import Path

import pytest

from sheetanchor.repository.model import PruneOutcome
from sheetanchor.repository.repository import Repository
from support.repositories import PASSWORD, back_up, create, open_repository, restic
from support.restic import stock_restic


def _tree(root: Path, chance: random.Random, files: int = 12) -> None:
    """Fill a directory with files of many sizes, some of several blobs, some empty."""
    root.mkdir(parents=True, exist_ok=True)
    for number in range(files):
        folder = root / f"d{number % 4}"
        folder.mkdir(exist_ok=True)
        (folder / f"f{number}").write_bytes(
            chance.randbytes(chance.choice((0, 100, 5_000, 300_000, 3_000_000)))
        )


def _described(root: Path) -> dict[str, bytes]:
    return {str(path.relative_to(root)): path.read_bytes() for path in root.rglob("*") if path.is_file()}


def _prune(repository: Repository, *, max_unused: float = 0.0) -> PruneOutcome:
    with repository.lock(exclusive=True):
        pruner = repository.pruner()
        return pruner.execute(pruner.prepare(max_unused))


def _size(repository: Path) -> int:
    return sum(path.stat().st_size for path in (repository / "data").rglob("*") if path.is_file())


@pytest.mark.parametrize("version", [1, 2])
def test_what_is_kept_restores_equal_after_a_prune(tmp_path: Path, version: int) -> None:
    """Half of the backups go; restic finds the rest whole, and each restores byte for byte."""
    place, source = tmp_path / "repository", tmp_path / "source"
    chance = random.Random(version)
    repository = create(place, version=version)
    kept: dict[str, dict[str, bytes]] = {}
    _tree(source, chance)
    for number in range(6):
        for path in chance.sample(sorted(path for path in source.rglob("*") if path.is_file()), 4):
            path.write_bytes(chance.randbytes(700_000))
        stored, _ = back_up(repository, source)
        if number % 2:
            kept[stored.id.hex()] = _described(source)
        else:
            repository.delete_snapshot(stored.id)
    before = _size(place)
    with repository.lock(exclusive=True):
        pruner = repository.pruner()
        prepared = pruner.prepare(0.0)
        outcome = pruner.execute(prepared)
    assert outcome.packs_repacked == len(prepared.plan.repack) > 0
    assert outcome.bytes_freed == before - _size(place) > 1_000_000
    assert abs(prepared.plan.bytes_after - _size(place)) < 10_000
    assert outcome.damaged == ()
    restic(place, "check", "--read-data")
    for snapshot, described in kept.items():
        target = tmp_path / snapshot
        restic(place, "restore", snapshot, "--target", str(target))
        assert _described(target / "volumes" / "data") == described
        ours = tmp_path / f"ours-{snapshot}"
        stored = repository.find_snapshot(snapshot)
        repository.reader().restore_tree(stored.snapshot.tree, "/volumes/data", ours)
        assert _described(ours) == described
    again = open_repository(place)
    with again.lock(exclusive=True):
        assert again.pruner().prepare(0.0).plan.nothing_to_do


def test_restic_prunes_after_us_and_we_after_restic(tmp_path: Path) -> None:
    """A repository made by restic, pruned by us, pruned by restic and by us again stays whole."""
    stock = stock_restic(tmp_path, PASSWORD)
    stock.run("init")
    place, source = tmp_path / "repository", tmp_path / "source"
    chance = random.Random(3)
    _tree(source, chance)
    described: dict[str, dict[str, bytes]] = {}
    ours: list[str] = []
    for number in range(6):
        for path in chance.sample(sorted(path for path in source.rglob("*") if path.is_file()), 3):
            path.write_bytes(chance.randbytes(400_000))
        if number % 2:
            stored, _ = back_up(open_repository(place), source)
            ours.append(stored.id.hex())
            described[stored.id.hex()] = _described(source)
        else:
            stock.run("backup", str(source))
    theirs = [one["id"] for one in stock.json("snapshots") if one["id"] not in described]
    stock.run("forget", theirs[0], ours[0])
    assert _prune(open_repository(place)).bytes_freed > 0
    stock.run("check", "--read-data")
    stock.run("forget", "--prune", "--max-unused", "0", theirs[1])
    stock.run("check", "--read-data")
    stock.run("forget", theirs[2])
    assert _prune(open_repository(place)).bytes_freed > 0
    stock.run("check", "--read-data")
    stock.run("prune", "--max-unused", "0")
    for snapshot in ours[1:]:
        target = tmp_path / snapshot
        stock.run("restore", snapshot, "--target", str(target))
        assert _described(target / "volumes" / "data") == described[snapshot]
        shutil.rmtree(target)
