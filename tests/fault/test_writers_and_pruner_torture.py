"""Eight writers and one that forgets and prunes, for TORTURE_SECONDS: nothing that is kept is lost."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest

from support.repositories import create, open_repository, restic

WRITERS = 8
SECONDS = float(os.environ.get("TORTURE_SECONDS", "600"))
_END = 180.0
"""Seconds that a process may need for the turn it is in when the time is over."""
_COMMON = """
import json, random, sys, time
from contextlib import ExitStack
from hashlib import sha256
from pathlib import Path
from sheetanchor.errors import RepositoryLockedError
from support.repositories import back_up, open_repository

def locked(repository, tries, exclusive=False):
    while True:
        try:
            with ExitStack() as stack:
                stack.enter_context(repository.lock(exclusive=exclusive))
                return stack.pop_all()
        except RepositoryLockedError:
            tries[0] += 1
            time.sleep(random.uniform(0.05, 0.5))

"""
_WRITER = """
place, source, seed, end = Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3]), float(sys.argv[4])
chance = random.Random(seed)
source.mkdir()
parent = None
while time.time() < end:
    for name in chance.sample(range(6), 3):
        # Some content is the same in all writers, so that they rely on each other's packs.
        common = random.Random(chance.randrange(16)).randbytes(200_000)
        (source / f"f{name}").write_bytes(common + chance.randbytes(chance.randrange(100_000)))
    tries = [0]
    repository = open_repository(place)
    with locked(repository, tries):
        stored, _ = back_up(repository, source, parent=parent)
    parent = stored.snapshot.tree if chance.randrange(2) else None
    described = {path.name: sha256(path.read_bytes()).hexdigest() for path in source.iterdir()}
    print(json.dumps({"snapshot": stored.id.hex(), "files": described, "waited": tries[0]}), flush=True)
    time.sleep(chance.uniform(0, 1.5))
"""
_PRUNER = """
place, end = Path(sys.argv[1]), float(sys.argv[2])
chance = random.Random(1)
while time.time() < end:
    forgotten, tries = [], [0]
    repository = open_repository(place)
    with locked(repository, tries, exclusive=True):
        for stored in repository.snapshots(strict=True)[:-10]:
            if chance.random() < 0.7:
                repository.delete_snapshot(stored.id)
                forgotten.append(stored.id.hex())
        pruner = repository.pruner()
        outcome = pruner.execute(pruner.prepare(chance.choice((0.0, 0.05))))
    print(json.dumps({"forgotten": forgotten, "freed": outcome.bytes_freed, "waited": tries[0]}), flush=True)
    time.sleep(1)
"""


def _start(program: str, *arguments: str) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [sys.executable, "-c", _COMMON + program, *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parent.parent)},
    )


def _run(place: Path, sources: Path) -> list[list[dict[str, Any]]]:
    """Run all of them to their end and return what each printed, the pruner last."""
    end = str(time.time() + SECONDS)
    running = [
        _start(_WRITER, str(place), str(sources / f"source{number}"), str(number), end)
        for number in range(WRITERS)
    ]
    running.append(_start(_PRUNER, str(place), end))
    printed = []
    try:
        for process in running:
            out, err = process.communicate(timeout=SECONDS + _END)
            assert process.returncode == 0, err.decode()
            printed.append([json.loads(line) for line in out.splitlines()])
    finally:
        for process in running:
            if process.poll() is None:
                process.kill()
                process.communicate()
    return printed


@pytest.mark.torture
def test_eight_writers_and_a_pruner(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Each backup not forgotten restores equal, none vanished, restic finds every byte whole."""
    place = tmp_path / "repository"
    create(place)
    *written, prunes = _run(place, tmp_path)
    forgotten = {name for one in prunes for name in one["forgotten"]}
    backups = {str(one["snapshot"]): one["files"] for writer in written for one in writer}
    assert all(written), "a writer never got a turn"
    assert forgotten, "nothing was forgotten between the backups"
    restic(place, "check", "--read-data")
    repository = open_repository(place)
    kept = {stored.id.hex(): stored.snapshot.tree for stored in repository.snapshots(strict=True)}
    assert kept.keys() == backups.keys() - forgotten
    for name, tree in kept.items():
        target = tmp_path / "restored" / name
        target.parent.mkdir(exist_ok=True)
        repository.reader().restore_tree(tree, "/volumes/data", target)
        assert {path.name: sha256(path.read_bytes()).hexdigest() for path in target.iterdir()} == backups[
            name
        ]
    freed = sum(one["freed"] for one in prunes)
    waited = sum(one["waited"] for writer in (*written, prunes) for one in writer)
    row = (
        f"{WRITERS} writers and a pruner, {SECONDS:.0f} s",
        f"{len(backups)} backups, {len(prunes)} prunes, {len(forgotten)} forgotten, {freed} bytes freed",
        f"{waited} waits for a lock",
        f"{len(kept)} kept, all restored equal, restic clean",
    )
    with capsys.disabled():
        print(f"\n| {' | '.join(row)} |")  # noqa: T201 - a line of the committed table
