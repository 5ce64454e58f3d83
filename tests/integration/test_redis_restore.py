"""What a restore of a real Redis or Valkey brings back, keeps, and survives."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import redis as client

from sheetanchor.errors import ComponentError, SheetanchorError
from support.redis import LiveServer, live_server, programs
from support.redis_saved import TOKEN, Saved, save

RESTARTS = {
    "append-only file": ("kill", "appendonly yes"),
    "snapshots": ("stop", "save 3600 1"),
    "no persistence": ("kill", 'save ""'),
    "disk replication": (
        "stop",
        "appendonly yes",
        "repl-diskless-sync no",
        "masterauth own-secret",
        "masteruser me",
    ),
}


@pytest.fixture(params=["redis", "valkey"])
def program(request: pytest.FixtureRequest) -> Path:
    """Return the server program of each product."""
    if request.param not in programs():
        pytest.skip("needs the program redis-server (Debian package redis-server)")
    return programs()[request.param]


@pytest.fixture
def saved(program: Path, tmp_path: Path) -> Iterator[Saved]:
    """Run a server with an append-only file and a password."""
    with live_server(program, tmp_path / "live", "appendonly yes", password="open-sesame") as server:
        yield save(server, tmp_path)


@pytest.mark.parametrize("kind", RESTARTS)
def test_restored_data_survives_a_restart(program: Path, tmp_path: Path, kind: str) -> None:
    """Started again from its own files, the server holds what was restored; after undo, the old data."""
    ending, *settings = RESTARTS[kind]
    with live_server(program, tmp_path / "live", *settings) as server:
        saved = save(server, tmp_path)
        changed = saved.now()
        with server.client() as connection:
            configured = connection.config_get("*")
        staged = saved.stage()
        staged.swap()
        assert saved.now() == saved.before
        getattr(server, ending)()
        server.start()
        assert saved.now() == saved.before
        staged.undo()
        getattr(server, ending)()
        server.start()
        assert saved.now() == changed
        with server.client() as connection:
            assert connection.config_get("*") == configured
            assert connection.info("replication")["role"] == "master"


def test_restore_onto_an_empty_new_server(program: Path, tmp_path: Path) -> None:
    """After a total loss: another server, nothing in it."""
    with live_server(program, tmp_path / "first") as server:
        saved = save(server, tmp_path)
    with live_server(program, tmp_path / "second") as other:
        saved.server = other
        staged = saved.stage()
        staged.verify(saved.proof)
        staged.swap()
        staged.discard()
        assert saved.now() == saved.before


def test_no_write_is_lost_under_load(saved: Saved) -> None:
    """Every acknowledged write is in the old data that is kept, or in the new: none falls between."""
    acknowledged = [0]
    stop = threading.Event()

    def write() -> None:
        with saved.server.client() as connection:
            while not stop.is_set():
                connection.incr("counter")
                acknowledged[0] += 1

    writer = threading.Thread(target=write)
    writer.start()
    try:
        staged = saved.stage()
        time.sleep(0.2)
        staged.swap()
        time.sleep(0.2)
    finally:
        stop.set()
        writer.join()
    with saved.server.client() as connection:
        written_after = int(connection.get("counter") or 0)
        staged.undo()
        written_before = int(connection.get("counter") or 0)
    assert written_before > 0
    assert written_after > 0
    assert written_before + written_after == acknowledged[0]


def test_reads_go_on_and_blocked_writes_are_carried_out(saved: Saved) -> None:
    """A client that writes during the exchange waits and is then served by the restored data."""
    slowest = [0.0]
    errors: list[Exception] = []
    stop = threading.Event()

    def read() -> None:
        with saved.server.client() as connection:
            while not stop.is_set():
                begin = time.monotonic()
                try:
                    connection.dbsize()
                except client.RedisError as error:
                    errors.append(error)
                slowest[0] = max(slowest[0], time.monotonic() - begin)

    reader = threading.Thread(target=read)
    reader.start()
    try:
        saved.stage().swap()
    finally:
        stop.set()
        reader.join()
    assert all(isinstance(error, client.BusyLoadingError) for error in errors)
    assert slowest[0] < 5


_RESTORE = """
import sys
from pathlib import Path
sys.path.insert(0, sys.argv[1])
from support.directory_store import DirectorySource
from support.redis import LiveServer, component
base = Path(sys.argv[2])
server = LiveServer(Path("unused"), base / "live", password="open-sesame", port=int(sys.argv[3]))
staged = component(server, base / "work").resume(sys.argv[4], DirectorySource(base / "store"))
print("go", flush=True)
staged.swap()
print("swapped", flush=True)
staged.undo()
print("undone", flush=True)
"""


@pytest.mark.slow
def test_kill_at_any_moment(saved: Saved) -> None:
    """After kill -9 in swap or undo, resume finishes either way, and no scratch server stays."""
    changed = saved.now()
    dice = random.Random(7)
    duration = _measure_restore(saved)
    for attempt in range(6):
        saved.stage()
        with _restoring(saved) as process:
            time.sleep(dice.uniform(0, duration))
            process.send_signal(signal.SIGKILL)
        _wait_for_no_scratch_server(saved.directory)
        if attempt % 3 == 1:
            saved.resume().undo()
            assert saved.now() == changed, attempt
        else:
            _finish_swap(saved)
            assert saved.now() == saved.before, attempt
            saved.resume().undo()
            assert saved.now() == changed, attempt
        _require_settled(saved.server)
        saved.resume().discard()
    assert [each.name for each in (saved.directory / "work").iterdir()] == ["password"]


def _finish_swap(saved: Saved) -> None:
    """Finish what was begun: an undo that was cut off comes first."""
    try:
        saved.resume().swap()
    except ComponentError:
        saved.resume().undo()
        saved.resume().swap()


def _restoring(saved: Saved) -> subprocess.Popen[str]:
    tests = Path(__file__).parent.parent
    arguments = [str(tests), str(saved.directory), str(saved.server.port), TOKEN]
    process = subprocess.Popen(
        [sys.executable, "-c", _RESTORE, *arguments], stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "go\n"
    return process


def _measure_restore(saved: Saved) -> float:
    saved.stage()
    begin = time.monotonic()
    with _restoring(saved) as process:
        assert process.stdout is not None
        assert process.stdout.read() == "swapped\nundone\n"
    saved.resume().discard()
    return time.monotonic() - begin


def _wait_for_no_scratch_server(directory: Path) -> None:
    """Wait until no process was started with a file of the restore's directory."""
    deadline = time.monotonic() + 10
    while _servers_of(directory / "work"):
        assert time.monotonic() < deadline, _servers_of(directory / "work")
        time.sleep(0.02)


def _servers_of(directory: Path) -> list[str]:
    found = []
    for entry in Path("/proc").iterdir():
        try:
            if entry.name.isdigit() and Path(os.readlink(entry / "cwd")).is_relative_to(directory):
                found.append((entry / "cmdline").read_text())
        except OSError:
            continue
    return found


def _require_settled(server: LiveServer) -> None:
    with server.client() as connection:
        assert connection.info("replication")["role"] == "master"
        assert connection.config_get("masterauth") == {"masterauth": ""}


def test_live_server_killed_in_the_middle_of_the_exchange(saved: Saved) -> None:
    """The server dies while it loads: once it runs again, the restore can be resumed and undone."""
    changed = saved.now()
    staged = saved.stage()
    with saved.server.client() as connection:
        connection.config_set("key-load-delay", 20_000)
    threading.Timer(0.8, saved.server.kill).start()
    with pytest.raises(SheetanchorError):
        staged.swap()
    saved.server.kill()
    saved.server.start()
    saved.resume().swap()
    assert saved.now() == saved.before
    saved.resume().undo()
    assert saved.now() == changed


def test_writes_go_on_after_a_failure(saved: Saved) -> None:
    """A staged file that is damaged is found before the live server is touched."""
    changed = saved.now()
    staged = saved.stage()
    file = next((saved.directory / "work").glob("*/staged.rdb"))
    file.write_bytes(file.read_bytes()[:-9])
    with pytest.raises(ComponentError):
        staged.swap()
    assert saved.now() == changed
    with saved.server.client() as connection:
        connection.set("written", "at once")
    _require_settled(saved.server)
