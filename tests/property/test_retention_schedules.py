"""Random schedules, clocks and rules: the last good backup is never lost."""

from __future__ import annotations

import random
from dataclasses import replace
from datetime import UTC, datetime, timedelta

from hypothesis import given
from hypothesis import strategies as st

from sheetanchor.policy.retention import FUTURE_SLACK, Backup, Kind, Rules, Status, decide

START = datetime(2026, 1, 1, tzinfo=UTC)
SCHEDULES = 4000
COMPONENTS = ("database", "uploads", "cache")
counts = st.integers(min_value=-1, max_value=4)
spans = st.integers(min_value=-3 * 366 * 24, max_value=3 * 366 * 24).map(lambda hours: timedelta(hours=hours))
rules_of_any_kind = st.builds(
    Rules,
    last=counts,
    hourly=counts,
    daily=counts,
    weekly=counts,
    monthly=counts,
    yearly=counts,
    within=st.none() | st.integers(min_value=0, max_value=90).map(lambda days: timedelta(days=days)),
    safety=counts,
).filter(lambda rules: not rules.empty)


@st.composite
def backups_of_any_kind(draw: st.DrawFn) -> list[Backup]:
    """Backups at any time, of any kind and state, some received when they say, some not."""
    found = []
    for number in range(draw(st.integers(min_value=1, max_value=25))):
        when = START + draw(spans)
        received = draw(st.sampled_from(("unknown", "at once", "elsewhen")))
        found.append(
            Backup(
                name=f"b{number}",
                time=when,
                status=draw(st.sampled_from(Status)),
                components=frozenset(draw(st.sets(st.sampled_from(COMPONENTS), min_size=1))),
                kind=draw(st.sampled_from((*Kind, Kind.REGULAR, Kind.REGULAR))),
                tags=frozenset(draw(st.sampled_from(((), (), ("keep",))))),
                received_at={"unknown": None, "at once": when}.get(received, START + draw(spans)),
            )
        )
    return found


def _good(backup: Backup, now: datetime) -> bool:
    """Say whether a backup is one that people would restore, of a time that can be believed."""
    latest = now if backup.received_at is None else min(now, backup.received_at)
    sane = backup.time <= latest + FUTURE_SLACK
    return sane and backup.status is Status.COMPLETE and backup.kind is Kind.REGULAR


@given(backups=backups_of_any_kind(), rules=rules_of_any_kind, ahead=spans)
def test_the_last_good_backup_of_every_component_stays(
    backups: list[Backup], rules: Rules, ahead: timedelta
) -> None:
    """Whatever the schedule, the rules and the clock, run after run until nothing goes any more."""
    _assert_the_last_good_stay(backups, rules, START + ahead)


def test_thousands_of_schedules() -> None:
    """The same for schedules made by chance alone, which is fast enough for thousands of them."""
    chance = random.Random(20)
    for _ in range(SCHEDULES):
        limits = [chance.choice((0, 0, 0, 1, 2, 7, -1)) for _ in range(7)]
        within = timedelta(days=chance.randrange(60)) if chance.random() < 0.3 else None
        rules = Rules(*limits[:6], within=within, safety=limits[6])
        if not rules.empty:
            now = START + timedelta(hours=chance.randrange(-9000, 9000))
            _assert_the_last_good_stay(_schedule(chance), rules, now)


def _schedule(chance: random.Random) -> list[Backup]:
    """Return backups at fairly even distances, some of them odd in every way."""
    found = []
    true_time = START - timedelta(days=chance.randrange(400))
    step = chance.choice((1, 6, 24, 24, 100))
    for number in range(chance.randrange(1, 30)):
        true_time += timedelta(hours=step * chance.random() * 2)
        jump = timedelta(hours=chance.randrange(-20_000, 20_000)) if chance.random() < 0.1 else timedelta(0)
        found.append(
            Backup(
                name=f"b{number}",
                time=true_time + jump,
                status=chance.choice((*Status, Status.COMPLETE, Status.COMPLETE)),
                components=frozenset(chance.sample(COMPONENTS, chance.choice((1, 2, 3, 3, 3)))),
                kind=chance.choice((*Kind, Kind.REGULAR, Kind.REGULAR, Kind.REGULAR)),
                tags=frozenset({"keep"} if chance.random() < 0.05 else ()),
                received_at=true_time if chance.random() < 0.7 else None,
            )
        )
    return found


def _assert_the_last_good_stay(backups: list[Backup], rules: Rules, now: datetime) -> None:
    left = list(backups)
    while True:
        decisions = decide(left, rules, now)
        assert len(decisions) == len(left)
        assert all(one.reasons for one in decisions)
        remaining = [one.backup for one in decisions if one.keep]
        if len(remaining) == len(left):
            break
        left = remaining
    names = {one.name for one in left}
    for component in COMPONENTS:
        good = [one for one in backups if _good(one, now) and component in one.components]
        if good:
            assert max(good, key=lambda one: (one.time, one.name)).name in names
    full = [one for one in backups if _good(one, now) and set(COMPONENTS) <= one.components]
    if full:
        assert max(full, key=lambda one: (one.time, one.name)).name in names
    assert {one.name for one in backups if "keep" in one.tags} <= names


@given(
    gaps=st.lists(st.integers(min_value=1, max_value=200), min_size=1, max_size=25),
    rules=rules_of_any_kind,
    jumps=st.dictionaries(st.integers(min_value=0, max_value=24), spans, max_size=3),
    broken=st.sets(st.integers(min_value=0, max_value=24)),
)
def test_a_schedule_with_forget_after_every_backup_never_loses_the_last_good_one(
    gaps: list[int], rules: Rules, jumps: dict[int, timedelta], broken: set[int]
) -> None:
    """Backups come one by one, the clock jumps, some runs break: after each forget the newest good is left.

    The storage's own clock goes right all the time.
    """
    true_time = START
    offset = timedelta(0)
    left: list[Backup] = []
    for number, gap in enumerate(gaps):
        true_time += timedelta(hours=gap)
        offset = jumps.get(number, offset)
        status = Status.PARTIAL if number in broken else Status.COMPLETE
        taken = Backup(f"b{number}", true_time + offset, status, frozenset(COMPONENTS), received_at=true_time)
        left.append(taken)
        good_before = [one for one in left if one.status is Status.COMPLETE]
        left = [one.backup for one in decide(left, rules, true_time + offset) if one.keep]
        if good_before:
            newest = max(good_before, key=lambda one: (one.received_at or one.time, one.name))
            assert newest in left


@given(backups=backups_of_any_kind(), rules=rules_of_any_kind, extra=backups_of_any_kind())
def test_backups_that_do_not_count_never_push_out_one_that_does(
    backups: list[Backup], rules: Rules, extra: list[Backup]
) -> None:
    """Partial ones and safety backups among the others change nothing for the complete ones.

    Ages are counted from the newest of all, so that without a limit of age the choice is the same.
    """
    rules = replace(rules, within=None, last=max(rules.last, 1) if rules.last >= 0 else -1)
    complete = [one for one in backups if one.status is Status.COMPLETE and one.kind is Kind.REGULAR]
    noise = [
        replace(one, name=f"x{one.name}")
        for one in extra
        if one.status is Status.PARTIAL or one.kind is Kind.SAFETY
    ]
    alone = {one.backup.name for one in decide(complete, rules, START) if one.keep}
    mixed = {one.backup.name for one in decide([*complete, *noise], rules, START) if one.keep}
    assert {name for name in mixed if not name.startswith("x")} == alone
