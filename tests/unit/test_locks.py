"""Locks: conflicts, the dead and the living, refresh, loss, and SIGHUP."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest

from sheetanchor.clock import SystemClock
from sheetanchor.errors import (
    DamagedRepositoryError,
    NoSpaceError,
    PassingBackendError,
    ReadOnlyBackendError,
    RepositoryLockedError,
)
from sheetanchor.repository.backend.base import Kind
from sheetanchor.repository.held_lock import LOST_AFTER, REFRESH_EVERY
from sheetanchor.repository.ids import digest
from sheetanchor.repository.lock_file import LockFile, encode_lock, make_lock
from sheetanchor.repository.process_identity import ProcessIdentity, current_process, is_alive
from sheetanchor.repository.unpacked import save
from support.faulty import Fault, FaultyBackend
from support.locking import ELSEWHERE, SEALER, Place


@pytest.fixture
def place() -> Place:
    """An empty repository."""
    return Place()


@pytest.fixture
def dead() -> ProcessIdentity:
    """A process of this machine that has ended."""
    code = "from sheetanchor.repository.process_identity import current_process as c; print(repr(c()))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return eval(done.stdout, {"ProcessIdentity": ProcessIdentity})  # noqa: S307 - our own repr


def _started(pid: int) -> int:
    """Return the 22nd field of /proc/PID/stat; no name here holds a parenthesis."""
    return int(Path(f"/proc/{pid}/stat").read_text().split()[21])


def test_shared_locks_live_together_exclusive_ones_alone(place: Place) -> None:
    """Two shared locks are fine; exclusive beside anything is refused, and leaves nothing behind."""
    with place.locker().acquire(exclusive=False), place.locker(ELSEWHERE).acquire(exclusive=False):
        assert len(place.names()) == 2
        with pytest.raises(RepositoryLockedError):
            place.locker().acquire(exclusive=True)
        assert len(place.names()) == 2
    assert place.names() == []
    with place.locker().acquire(exclusive=True):
        for exclusive in (False, True):
            with pytest.raises(RepositoryLockedError):
                place.locker(ELSEWHERE).acquire(exclusive=exclusive)
    assert place.names() == []


def test_the_refusal_names_the_holder(place: Place) -> None:
    """Process, user, host, since when, and a next step: enough to act on at night."""
    place.leave_lock(ELSEWHERE)
    with pytest.raises(RepositoryLockedError) as caught:
        place.locker().acquire(exclusive=False)
    for fact in ("exclusively", "4711", "operator", "elsewhere-0123456789ab", "2026-03-01T12:00:00Z"):
        assert fact in caught.value.message
    assert "unlock" in str(caught.value.hint)


def test_waiting_for_a_lock(place: Place) -> None:
    """`retry_for` waits with growing pauses and takes the lock once the other is gone."""
    other = place.locker(ELSEWHERE).acquire(exclusive=True)
    with pytest.raises(RepositoryLockedError):
        place.locker().acquire(exclusive=True, retry_for=100)
    assert place.clock.sleeps[-5:] == [5.0, 10.0, 20.0, 40.0, 25.0]
    real_sleep = place.clock.sleep

    def sleep(seconds: float) -> None:
        real_sleep(seconds)
        if seconds == 20.0:
            other.release()

    place.clock.sleep = sleep  # type: ignore[method-assign]
    with place.locker().acquire(exclusive=True, retry_for=100):
        assert len(place.names()) == 1


def test_two_that_write_at_once_do_not_both_win(place: Place) -> None:
    """A lock that appears between the look and the write is seen by the second look."""
    real_sleep = place.clock.sleep

    def sleep(seconds: float) -> None:
        place.clock.sleep = real_sleep  # type: ignore[method-assign]
        place.leave_lock(ELSEWHERE)

    place.clock.sleep = sleep  # type: ignore[method-assign]
    with pytest.raises(RepositoryLockedError):
        place.locker().acquire(exclusive=True)
    assert len(place.names()) == 1


def test_the_lock_of_a_dead_process_is_cleared_and_reported(place: Place, dead: ProcessIdentity) -> None:
    """What `kill -9` left behind does not stop the next run, which says what it removed."""
    place.leave_lock(dead)
    with place.locker().acquire(exclusive=True):
        assert len(place.names()) == 1
    assert len(place.cleared) == 1
    assert f"process {dead.pid}" in place.cleared[0]
    assert "its process is gone" in place.cleared[0]


def test_a_reused_process_number_does_not_keep_a_lock_alive(place: Place) -> None:
    """This process lives under the lock's number, but started at another time: the holder is dead."""
    place.leave_lock(replace(current_process(), started=1))
    with place.locker().acquire(exclusive=True):
        pass
    assert "its process is gone" in place.cleared[0]


def test_the_lock_of_a_living_process_is_respected(place: Place) -> None:
    """A process of this machine that runs keeps its lock, and gets no signal."""
    with subprocess.Popen(["sleep", "60"]) as sleeper:
        try:
            started = _started(sleeper.pid)
            place.leave_lock(replace(current_process(), pid=sleeper.pid, started=started))
            with pytest.raises(RepositoryLockedError):
                place.locker().acquire(exclusive=False)
            assert sleeper.poll() is None
        finally:
            sleeper.kill()
            sleeper.wait()
    assert not is_alive(sleeper.pid, started)


def test_a_zombie_is_dead() -> None:
    """A process that has ended but was not waited for holds nothing."""
    with subprocess.Popen(["sleep", "60"]) as sleeper:
        started = _started(sleeper.pid)
        assert is_alive(sleeper.pid, started)
        sleeper.kill()
        os.waitid(os.P_PID, sleeper.pid, os.WEXITED | os.WNOWAIT)
        assert not is_alive(sleeper.pid, started)


@pytest.mark.parametrize("holder", ["host", "boot"])
def test_processes_of_other_machines_are_not_judged(place: Place, dead: ProcessIdentity, holder: str) -> None:
    """A dead number here says nothing about another host, nor about a twin that started lately."""
    foreign = replace(dead, hostname="other") if holder == "host" else replace(dead, boot_id="other")
    place.clock.advance((SystemClock().now() - place.clock.now()).total_seconds())
    place.leave_lock(foreign)
    with pytest.raises(RepositoryLockedError):
        place.locker().acquire(exclusive=True)
    assert place.cleared == []


def test_a_lock_from_before_a_restart_is_dead(place: Place) -> None:
    """This machine, another boot, and older than the boot: the lock was left by a power cut."""
    before = replace(current_process(), boot_id="an earlier one")
    lock = LockFile(10**18, True, before.hostname, "", before.pid, boot_id="an earlier one", started=5)
    place.clock.advance(-(place.clock.now().timestamp() - 10**9))
    save(place.memory, SEALER, 2, Kind.LOCKS, encode_lock(lock))
    with place.locker().acquire(exclusive=True):
        pass
    assert "restarted" in place.cleared[0]


def test_a_lock_not_refreshed_for_half_an_hour_is_dead(place: Place) -> None:
    """Up to 30 minutes it is respected, after that cleared, wherever its holder was."""
    place.leave_lock(ELSEWHERE)
    place.clock.advance(30 * 60 - 10)
    with pytest.raises(RepositoryLockedError):
        place.locker().acquire(exclusive=True)
    place.clock.advance(20)
    with place.locker().acquire(exclusive=True):
        pass
    assert "30 minutes" in place.cleared[0]


def test_a_wrong_clock_elsewhere_does_not_cost_its_lock(place: Place) -> None:
    """A lock whose own time is hours old, but which the storage received just now, is alive."""
    place.clock.advance(-7200)
    lock = encode_lock(make_lock(ELSEWHERE, place.clock.now(), exclusive=True))
    place.clock.advance(7200)
    save(place.backend, SEALER, 2, Kind.LOCKS, lock)
    with pytest.raises(RepositoryLockedError):
        place.locker().acquire(exclusive=True)


def test_a_lock_that_cannot_be_read_stops_until_it_is_old(place: Place) -> None:
    """Junk is read again with pauses, then refused; an empty file counts for nothing."""
    place.memory.put(Kind.LOCKS, digest(b"empty").hex(), b"")
    with place.locker().acquire(exclusive=True):
        pass
    place.memory.put(Kind.LOCKS, digest(b"junk").hex(), b"junk")
    with pytest.raises(DamagedRepositoryError) as caught:
        place.locker().acquire(exclusive=False)
    assert place.clock.sleeps[-3:] == [5.0, 10.0, 20.0]
    assert "unlock" in str(caught.value.hint)
    place.clock.advance(31 * 60)
    with place.locker().acquire(exclusive=False):
        pass
    assert "unreadable" in place.cleared[0]


def test_the_lock_is_refreshed(place: Place) -> None:
    """Every five minutes a new file takes the old one's place; others respect it for hours."""
    with place.locker(ELSEWHERE).acquire(exclusive=True) as held:
        for _ in range(20):
            before = held.id
            place.clock.advance(REFRESH_EVERY.total_seconds())
            held.step()
            held.check()
            assert held.id != before
            assert place.names() == [held.id.hex()]
        with pytest.raises(RepositoryLockedError):
            place.locker().acquire(exclusive=False)
    assert place.names() == []


def test_a_removed_lock_stops_its_holder(place: Place) -> None:
    """Within a minute of somebody's `unlock --all` the holder's next check raises."""
    with place.locker().acquire(exclusive=False) as held:
        held.check()
        assert place.locker().remove_all() == 1
        place.clock.advance(61)
        held.step()
        with pytest.raises(RepositoryLockedError, match="somebody removed it"):
            held.check()
    assert place.names() == []


def test_a_lock_that_cannot_be_refreshed_is_lost_in_time() -> None:
    """A storage that fails for 22.5 minutes stops the holder before others may take its lock for dead."""

    def fail() -> None:
        raise PassingBackendError("away")

    place = Place()
    place.backend = FaultyBackend(place.memory, Fault("size", 1, 10**6, before=fail))
    with place.locker().acquire(exclusive=False) as held:
        for _ in range(22):
            place.clock.advance(60)
            held.step()
            held.check()
        place.clock.advance(60)
        held.step()
        with pytest.raises(RepositoryLockedError, match="could not be refreshed: away"):
            held.check()


def test_after_standby_the_check_itself_refreshes_or_stops(place: Place) -> None:
    """The machine slept: with the lock still there it goes on, with a newer one in its place it stops."""
    with place.locker(ELSEWHERE).acquire(exclusive=False) as held:
        place.clock.advance(LOST_AFTER.total_seconds() + 60)
        before = held.id
        held.check()
        assert held.id != before
        place.clock.advance(timedelta(hours=3).total_seconds())
        with place.locker().acquire(exclusive=True), pytest.raises(RepositoryLockedError):
            held.check()


def test_after_standby_a_lock_taken_at_the_same_time_is_seen(place: Place) -> None:
    """Another takes an exclusive lock while the sleeper's is still listed: the sleeper gives way."""
    with place.locker(ELSEWHERE).acquire(exclusive=False) as held:
        place.clock.advance(LOST_AFTER.total_seconds() + 60)
        place.leave_lock(replace(ELSEWHERE, hostname="third"), exclusive=True)
        with pytest.raises(RepositoryLockedError, match="third"):
            held.check()


def test_a_full_storage_refuses_the_lock_and_leaves_nothing() -> None:
    """The error of the first write is told as it is."""

    def full() -> None:
        raise NoSpaceError("full")

    place = Place()
    place.backend = FaultyBackend(place.memory, Fault("put", before=full))
    with pytest.raises(NoSpaceError):
        place.locker().acquire(exclusive=False)
    assert place.names() == []


def test_a_read_only_storage_says_so_even_with_a_dead_lock_in_it(dead: ProcessIdentity) -> None:
    """The caller may then read without a lock: it must not be told that somebody holds one."""

    def refuse() -> None:
        raise ReadOnlyBackendError("read-only")

    place = Place()
    place.leave_lock(dead)
    faults = [Fault(method, 1, 99, before=refuse) for method in ("put", "delete")]
    place.backend = FaultyBackend(place.memory, *faults)
    with pytest.raises(ReadOnlyBackendError):
        place.locker().acquire(exclusive=False)
    assert len(place.names()) == 1


def test_clearing_by_command(place: Place, dead: ProcessIdentity) -> None:
    """`unlock` removes the dead and keeps the living."""
    place.leave_lock(dead)
    place.leave_lock(ELSEWHERE, exclusive=False)
    assert [stored.lock.pid for stored in place.locker().clear_dead() if stored.lock] == [dead.pid]
    assert [stored.lock.pid for stored in place.locker().stored_locks() if stored.lock] == [4711]
