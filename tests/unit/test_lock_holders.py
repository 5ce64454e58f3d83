"""Who holds a lock: the file, signals, threads."""

from __future__ import annotations

import signal
import subprocess
import sys
import threading
import time

import pytest

from sheetanchor.clock import SystemClock
from sheetanchor.repository.lock_file import decode_lock, encode_lock, make_lock
from sheetanchor.repository.locks import Locker
from sheetanchor.repository.process_identity import current_process
from support.locking import ELSEWHERE, SEALER, Place


@pytest.fixture
def place() -> Place:
    """An empty repository."""
    return Place()


def test_the_file_is_restics_with_two_fields_of_ours(place: Place) -> None:
    """Order and omissions are restic's; what comes back equals what was written."""
    lock = make_lock(ELSEWHERE, place.clock.now(), exclusive=False)
    encoded = encode_lock(lock)
    assert encoded == (
        b'{"time":"2026-03-01T12:00:00Z","exclusive":false,"hostname":"elsewhere-0123456789ab",'
        b'"username":"operator","pid":4711,"boot_id":"boot","started":99}'
    )
    assert decode_lock(encoded) == lock


def test_hangups_do_not_end_the_holder() -> None:
    """SIGHUP, with which restic tests holders, passes over while a lock is held, and ends it after."""
    program = """
import os, signal, sys
from sheetanchor.clock import SystemClock
from sheetanchor.repository.backend.memory import MemoryBackend
from sheetanchor.repository.crypto import MasterKey, Sealer
from sheetanchor.repository.locks import Locker
from sheetanchor.repository.process_identity import current_process
locker = Locker(MemoryBackend(), Sealer(MasterKey.generate()), 2, current_process(), SystemClock(), print)
with locker.acquire(exclusive=True):
    os.kill(os.getpid(), signal.SIGHUP)
    print("survived", flush=True)
os.kill(os.getpid(), signal.SIGHUP)
print("not reached", flush=True)
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert done.stdout == "survived\n"
    assert done.returncode == -signal.SIGHUP


def test_a_lock_taken_in_a_thread_leaves_signals_alone(place: Place) -> None:
    """Only the main thread may set handlers: elsewhere the lock works without."""
    before = signal.getsignal(signal.SIGHUP)
    errors: list[BaseException] = []

    def work() -> None:
        try:
            with place.locker().acquire(exclusive=True) as held:
                held.check()
        except BaseException as error:  # noqa: BLE001 - handed to the test
            errors.append(error)

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert errors == []
    assert signal.getsignal(signal.SIGHUP) is before


def test_giving_back_is_quick() -> None:
    """The refreshing thread ends at once, not at its next turn."""
    place = Place()
    held = Locker(place.memory, SEALER, 2, current_process(), SystemClock(), print).acquire(exclusive=True)
    start = time.monotonic()
    held.release()
    held.release()
    assert time.monotonic() - start < 1
    assert place.names() == []
