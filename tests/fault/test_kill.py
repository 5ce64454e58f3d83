"""`kill -9` at random moments: the repository stays clean, live data is old, new, or recoverable.

The normal run takes a fixed sample of moments; `./dev torture` takes 50 of each.
"""

from __future__ import annotations

import contextlib
import os
import random
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from support.stack import StackUnderTest, stack_under_test

SAMPLE = 8
TORTURE = int(os.environ.get("TORTURE_KILLS", "50"))
START_SECONDS = 0.35
"""Before this the program is still being loaded; killing it then would show nothing."""


def _moments(count: int, duration: float, seed: int) -> list[float]:
    """Return moments spread over a run: one at random in each of `count` equal parts."""
    chance = random.Random(seed)
    part = (duration - START_SECONDS) / count
    return [START_SECONDS + part * (number + chance.random()) for number in range(count)]


def _duration(stack: StackUnderTest, *arguments: str) -> float:
    begin = time.monotonic()
    assert stack.run(*arguments).status == 0
    return time.monotonic() - begin


def _kill_backups(stack: StackUnderTest, count: int) -> int:
    good = stack.backup()
    before = stack.describe()
    duration = _duration(stack, "backup")
    killed = 0
    for number, moment in enumerate(_moments(count, duration, seed=count)):
        (stack.volume.live / "growing").write_bytes(os.urandom(2_000_000))
        killed += stack.kill_after(moment, "backup")
        stack.assert_clean_by_restic()
        listed = stack.run("list").messages[-1]
        assert all(one["status"] in {"complete", "incomplete"} for one in listed), (number, listed)
    assert stack.run("backup").status == 0
    (stack.volume.live / "growing").unlink()
    stack.restore(good)
    assert stack.describe() == before
    return killed


def _kill_restores(stack: StackUnderTest, count: int) -> dict[str, int]:
    old = stack.describe()
    name = stack.backup()
    stack.change()
    newer = stack.backup()
    duration = _duration(stack, "restore", name, "--no-confirm")
    # From here on the live server has the database that the change dropped: restores drop none.
    stack.restore(newer, "--no-safety-backup")
    new = stack.describe()
    assert new != old
    outcomes = {"resumed": 0, "rolled back": 0, "not begun": 0, "finished": 0}
    for number, moment in enumerate(_moments(count, duration, seed=count + 1)):
        stack.restore(newer, "--no-safety-backup")
        assert stack.describe() == new
        stack.kill_after(moment, "restore", name, "--no-confirm")
        how = _recover(stack, resume=number % 2 == 0, old=old, new=new)
        outcomes[how] += 1
        assert stack.leftovers() == [], (number, how)
        stack.assert_clean_by_restic()
    return outcomes


def _recover(stack: StackUnderTest, *, resume: bool, old: object, new: object) -> str:
    """Recover as an operator would; say how, after checking that the outcome is the right one."""
    status = stack.run("status").messages[-1]
    if status["unfinished_restore"] is None:
        state = stack.describe()
        assert state in (old, new)
        return "finished" if state == old else "not begun"
    if resume:
        done = stack.run("restore", "--resume", "--no-confirm")
        assert done.status == 0, (done.messages, done.stderr)
        assert stack.describe() == old
        return "resumed"
    done = stack.run("rollback", "--no-confirm")
    assert done.status == 0, (done.messages, done.stderr)
    assert stack.describe() == new
    return "rolled back"


@pytest.mark.slow
def test_killed_backups_harm_nothing(tmp_path: Path) -> None:
    """After each kill restic finds the repository whole, and the next backup needs no human."""
    with stack_under_test(tmp_path) as stack:
        assert _kill_backups(stack, SAMPLE) >= SAMPLE // 2


@pytest.mark.slow
def test_killed_restores_are_completed_or_taken_back(tmp_path: Path) -> None:
    """After each kill `--resume` reaches the backup's state and `rollback` the state before."""
    with stack_under_test(tmp_path) as stack:
        outcomes = _kill_restores(stack, SAMPLE)
    assert outcomes["resumed"] + outcomes["rolled back"] >= SAMPLE // 2, outcomes


@pytest.fixture
def reachable_directory() -> Iterator[Path]:
    """Yield a temporary directory that an unprivileged server can reach, and nobody else uses."""
    with tempfile.TemporaryDirectory() as name:
        Path(name).chmod(0o755)
        yield Path(name)


@pytest.mark.slow
def test_killed_import_leaves_no_server_behind(tmp_path: Path, reachable_directory: Path) -> None:
    """The sandbox server of a killed import is stopped and removed by the next run, whatever that is."""
    own = {"TMPDIR": str(reachable_directory)}
    with stack_under_test(tmp_path) as stack:
        name = stack.backup()
        assert stack.run("export", name, "--directory", str(tmp_path / "out"), "--form", "tar").status == 0
        shutil.rmtree(stack.repository)
        assert stack.run("init").status == 0
        archive = str(tmp_path / "out" / f"{name}.tar.gz")
        child = subprocess.Popen(
            stack.command("import", archive), stdout=subprocess.DEVNULL, env={**os.environ, **own}
        )
        try:
            pid_file = _wait_for_sandbox(reachable_directory, child)
        finally:
            child.kill()
            child.wait(30)
        server = int(pid_file.read_text().splitlines()[0])
        assert Path(f"/proc/{server}").exists()
        assert stack.run("backup", **own).status == 0
        assert not Path(f"/proc/{server}").exists()
        assert list(reachable_directory.iterdir()) == []


def _wait_for_sandbox(directory: Path, child: subprocess.Popen[bytes]) -> Path:
    """Wait until an import has started its PostgreSQL server; return its pid file."""
    while child.poll() is None:
        for path in directory.glob("sheetanchor-pg-*/data/postmaster.pid"):
            with contextlib.suppress(FileNotFoundError):  # initdb has one for a moment
                if "ready" in path.read_text():
                    return path
        time.sleep(0.01)
    raise AssertionError("the import ended before its sandbox was seen")


@pytest.mark.torture
def test_many_killed_backups(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The full count of the campaign."""
    with stack_under_test(tmp_path) as stack:
        killed = _kill_backups(stack, TORTURE)
    with capsys.disabled():
        print(f"\n| backups killed | {killed} of {TORTURE} | repository clean each time |")  # noqa: T201 - a line of the committed table


@pytest.mark.torture
def test_many_killed_restores(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The full count of the campaign, on PostgreSQL 15 and Redis with an append-only file."""
    with stack_under_test(tmp_path, postgres=15, cache="redis") as stack:
        outcomes = _kill_restores(stack, TORTURE)
    with capsys.disabled():
        print(f"\n| restores killed | {TORTURE} | {outcomes} |")  # noqa: T201 - a line of the committed table
