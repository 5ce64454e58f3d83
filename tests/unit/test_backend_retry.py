"""Trying again: what passes is waited out, what does not is told at once, time is bounded."""

from __future__ import annotations

import random

import pytest

from sheetanchor.errors import (
    FinalBackendError,
    NoSpaceError,
    ObjectAbsentError,
    ObjectExistsError,
    PassingBackendError,
)
from sheetanchor.repository.backend.base import CONFIG_NAME, Kind
from sheetanchor.repository.backend.memory import MemoryBackend
from sheetanchor.repository.backend.retry import RetryingBackend, RetryPolicy
from support.fake_clock import FakeClock
from support.faulty import Fault, FaultyBackend

NAME = "ab" * 32


def _lose_connection() -> None:
    raise PassingBackendError("connection lost")


def _fill_up() -> None:
    raise NoSpaceError("full")


def _retrying(
    inner: FaultyBackend, clock: FakeClock, notes: list[str] | None = None, total: float = 900.0
) -> RetryingBackend:
    policy = RetryPolicy(first_delay=1.0, longest_delay=60.0, total_seconds=total)
    on_retry = notes.append if notes is not None else None
    return RetryingBackend(inner, clock, random.Random(3), policy, on_retry)


def test_a_passing_failure_is_waited_out() -> None:
    """Three lost connections cost three growing waits with jitter and three notes, then it works."""
    memory, clock, notes = MemoryBackend(), FakeClock(), list[str]()
    faulty = FaultyBackend(memory, Fault("put", 1, 3, before=_lose_connection))
    _retrying(faulty, clock, notes).put(Kind.DATA, NAME, b"x")
    assert memory.get(Kind.DATA, NAME) == b"x"
    assert len(clock.sleeps) == len(notes) == 3
    for wait, delay in zip(clock.sleeps, (1, 2, 4), strict=True):
        assert delay / 2 <= wait <= delay
    assert "connection lost" in notes[0]


def test_waiting_has_an_end() -> None:
    """A storage that stays away fails within the total time, and the error says how long it took."""
    clock = FakeClock()
    faulty = FaultyBackend(MemoryBackend(), Fault("get", 1, 10**9, before=_lose_connection))
    with pytest.raises(PassingBackendError, match=r"connection lost; gave up after \d+ attempts in \d+ s"):
        _retrying(faulty, clock).get(Kind.DATA, NAME)
    assert 800 <= clock.monotonic() <= 900
    assert max(clock.sleeps) <= 60


@pytest.mark.parametrize("fault", [_fill_up])
def test_a_final_failure_is_told_at_once(fault: object) -> None:
    """A full disk is not asked again."""
    clock = FakeClock()
    faulty = FaultyBackend(MemoryBackend(), Fault("put", 1, 9, before=_fill_up))
    with pytest.raises(NoSpaceError):
        _retrying(faulty, clock).put(Kind.DATA, NAME, b"x")
    assert clock.sleeps == []
    assert faulty.calls["put"] == 1


def test_absence_is_told_at_once() -> None:
    """What is not there is not asked for again."""
    faulty = FaultyBackend(MemoryBackend())
    with pytest.raises(ObjectAbsentError):
        _retrying(faulty, FakeClock()).get(Kind.DATA, NAME)
    assert faulty.calls["get"] == 1


def test_a_conditional_put_whose_reply_was_lost_succeeds() -> None:
    """The object stands, only the reply was lost: the second attempt finds its own bytes."""
    memory = MemoryBackend()
    faulty = FaultyBackend(memory, Fault("put", after=_lose_connection))
    _retrying(faulty, FakeClock()).put(Kind.CONFIG, CONFIG_NAME, b"mine", if_absent=True)
    assert memory.get(Kind.CONFIG, CONFIG_NAME) == b"mine"
    assert faulty.calls["put"] == 2


def test_a_conditional_put_beaten_by_another_fails() -> None:
    """The connection was lost before anything was stored, and another writer came first."""
    memory = MemoryBackend()

    def beaten() -> None:
        memory.put(Kind.CONFIG, CONFIG_NAME, b"theirs")
        raise PassingBackendError("connection lost")

    faulty = FaultyBackend(memory, Fault("put", before=beaten))
    with pytest.raises(ObjectExistsError):
        _retrying(faulty, FakeClock()).put(Kind.CONFIG, CONFIG_NAME, b"mine", if_absent=True)
    assert memory.get(Kind.CONFIG, CONFIG_NAME) == b"theirs"


def test_equal_bytes_of_another_are_no_success_without_a_lost_reply() -> None:
    """An object that was there before the first attempt is an error even when it is equal."""
    memory = MemoryBackend()
    memory.put(Kind.CONFIG, CONFIG_NAME, b"same")
    with pytest.raises(ObjectExistsError):
        _retrying(FaultyBackend(memory), FakeClock()).put(Kind.CONFIG, CONFIG_NAME, b"same", if_absent=True)


def test_a_listing_that_breaks_off_starts_anew() -> None:
    """No object is missing and none comes twice."""
    memory = MemoryBackend()
    names = {f"{number:064x}" for number in range(20)}
    for name in names:
        memory.put(Kind.LOCKS, name, b"x")
    faulty = FaultyBackend(memory, Fault("list", 1, 2, before=_lose_connection))
    listed = [found.name for found in _retrying(faulty, FakeClock()).list(Kind.LOCKS)]
    assert sorted(listed) == sorted(names)
    assert faulty.calls["list"] == 3


def test_a_short_read_is_not_repeated() -> None:
    """Fewer bytes than asked for is damage, not weather."""
    memory = MemoryBackend()
    memory.put(Kind.DATA, NAME, b"0123")
    faulty = FaultyBackend(memory)
    with pytest.raises(FinalBackendError):
        _retrying(faulty, FakeClock()).get(Kind.DATA, NAME, 0, 5)
    assert faulty.calls["get"] == 1
