"""Several writers, and a process that forgets and prunes beside them: nothing that is kept is lost."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from hashlib import sha256
from pathlib import Path

import pytest

from support.repositories import create, open_repository, restic

WRITERS = 3
SECONDS = 20.0
_LOCKED = """
import json, random, sys, time
from contextlib import ExitStack
from hashlib import sha256
from pathlib import Path
from sheetanchor.errors import RepositoryLockedError
from support.repositories import back_up, open_repository

def locked(repository, exclusive=False):
    # Trying often is what makes them meet; the wait of the lock itself begins at 5 s.
    while True:
        try:
            with ExitStack() as stack:
                stack.enter_context(repository.lock(exclusive=exclusive))
                return stack.pop_all()
        except RepositoryLockedError:
            time.sleep(random.uniform(0.05, 0.3))

"""
_WRITER = """
place, source, seed, seconds = Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3]), float(sys.argv[4])
chance = random.Random(seed)
source.mkdir()
end = time.monotonic() + seconds
while time.monotonic() < end:
    for name in range(3):
        # Some content is the same in all writers, so that they rely on each other's packs.
        common = random.Random(chance.randrange(12)).randbytes(200_000)
        (source / f"f{name}").write_bytes(common + chance.randbytes(chance.randrange(100_000)))
    repository = open_repository(place)
    with locked(repository):
        stored, _ = back_up(repository, source)
    described = {path.name: sha256(path.read_bytes()).hexdigest() for path in source.iterdir()}
    print(json.dumps({"snapshot": stored.id.hex(), "files": described}), flush=True)
    time.sleep(chance.uniform(0, 0.5))
"""
_PRUNER = """
place, seconds = Path(sys.argv[1]), float(sys.argv[2])
chance = random.Random(1)
end = time.monotonic() + seconds
while time.monotonic() < end:
    repository = open_repository(place)
    forgotten = []
    with locked(repository, exclusive=True):
        snapshots = repository.snapshots(strict=True)
        for stored in snapshots[:-3]:
            if chance.random() < 0.7:
                repository.delete_snapshot(stored.id)
                forgotten.append(stored.id.hex())
        pruner = repository.pruner()
        outcome = pruner.execute(pruner.prepare(0.0))
    print(json.dumps({"forgotten": forgotten, "freed": outcome.bytes_freed}), flush=True)
    time.sleep(1)
"""


def _start(program: str, *arguments: str) -> subprocess.Popen[bytes]:
    tests = Path(__file__).parent.parent
    return subprocess.Popen(
        [sys.executable, "-c", _LOCKED + program, *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": str(tests)},
    )


@pytest.mark.slow
def test_writers_and_a_pruner_at_once(tmp_path: Path) -> None:
    """Every backup that was not forgotten restores equal, and restic finds every byte whole."""
    place = tmp_path / "repository"
    create(place)
    begin = time.monotonic()
    running = [
        _start(_WRITER, str(place), str(tmp_path / f"source{number}"), str(number), str(SECONDS))
        for number in range(WRITERS)
    ]
    running.append(_start(_PRUNER, str(place), str(SECONDS)))
    try:
        printed = []
        for process in running:
            out, err = process.communicate(timeout=300)
            assert process.returncode == 0, err.decode()
            printed.append([json.loads(line) for line in out.splitlines()])
    finally:
        for process in running:
            if process.poll() is None:
                process.kill()
                process.communicate()
    assert time.monotonic() - begin >= SECONDS
    *written, prunes = printed
    assert all(len(one) >= 2 for one in written), "a writer hardly got a turn: the test shows little"
    assert sum(one["freed"] > 0 for one in prunes) >= 2, "nothing was pruned between the backups"
    forgotten = {name for one in prunes for name in one["forgotten"]}
    kept = {
        one["snapshot"]: one["files"]
        for writer in written
        for one in writer
        if one["snapshot"] not in forgotten
    }
    restic(place, "check", "--read-data")
    repository = open_repository(place)
    assert {stored.id.hex() for stored in repository.snapshots(strict=True)} == kept.keys()
    for name, files in kept.items():
        target = tmp_path / name
        tree = repository.find_snapshot(name).snapshot.tree
        repository.reader().restore_tree(tree, "/volumes/data", target)
        assert {path.name: sha256(path.read_bytes()).hexdigest() for path in target.iterdir()} == files
