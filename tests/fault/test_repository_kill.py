"""A writer that is killed at any moment leaves a repository that stock restic finds clean."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from support import nasty_tree
from support.repositories import back_up, create, open_repository, restic

pytestmark = pytest.mark.slow

KILLS = 6
_WRITER = """
import sys
from pathlib import Path
from support.repositories import back_up, open_repository

repository = open_repository(Path(sys.argv[1]))
with repository.lock():
    print("locked", flush=True)
    back_up(repository, Path(sys.argv[2]))
"""


def _killed_after(place: Path, source: Path, seconds: float) -> bool:
    """Start a backup in a process of its own, kill it `seconds` after it has its lock."""
    tests = Path(__file__).parent.parent
    writer = subprocess.Popen(
        [sys.executable, "-c", _WRITER, str(place), str(source)],
        stdout=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": str(tests)},
    )
    try:
        assert writer.stdout is not None
        assert writer.stdout.readline() == b"locked\n"
        time.sleep(seconds)
    finally:
        writer.send_signal(signal.SIGKILL)
        writer.communicate(timeout=30)
    return writer.returncode == -signal.SIGKILL


def test_kill_at_random_moments(tmp_path: Path) -> None:
    """After every kill restic check --read-data is clean, and a later backup clears the dead lock."""
    place, source = tmp_path / "repository", tmp_path / "source"
    nasty_tree.make(source)
    chance = random.Random(11)
    repository = create(place)
    first, _ = back_up(repository, source)
    killed = 0
    for number in range(KILLS):
        (source / "new.bin").write_bytes(chance.randbytes(24 << 20))
        killed += _killed_after(place, source, (KILLS - 1 - number) * 0.05 + chance.random() * 0.05)
        restic(place, "check", "--read-data", "--no-lock")
    assert killed >= KILLS // 2, "the writers ended before they were killed: the test shows nothing"
    heard: list[str] = []

    class Listener:
        """Keeps the warnings."""

        def started(self, task: str, total_bytes: int | None = None) -> None:
            """Pass over it."""

        def advanced(self, task: str, num_bytes: int, items: int = 0) -> None:
            """Pass over it."""

        def finished(self, task: str) -> None:
            """Pass over it."""

        def warning(self, task: str, message: str) -> None:
            """Keep it."""
            heard.append(message)

    after = open_repository(place, listener=Listener())
    with after.lock(exclusive=True):
        last, _ = back_up(after, source)
    assert any("removed the lock" in message for message in heard)
    restic(place, "check", "--read-data")
    after.reader().restore_tree(last.snapshot.tree, "/volumes/data", tmp_path / "out")
    assert nasty_tree.describe(tmp_path / "out") == nasty_tree.describe(source)
    assert first.id in {stored.id for stored in after.snapshots()}
