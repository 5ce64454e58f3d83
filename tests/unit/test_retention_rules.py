"""Retention: what each rule keeps, with its reason, and what no rule may remove."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from sheetanchor.policy.retention import UNLIMITED, Backup, Decision, Kind, Rules, Status, decide

NOW = datetime(2026, 11, 20, 12, tzinfo=UTC)
BOTH = frozenset({"database", "uploads"})


def _backup(age: timedelta, name: str = "", **changes: object) -> Backup:
    fields: dict[str, object] = {"status": Status.COMPLETE, "components": BOTH} | changes
    when = NOW - age
    return Backup(name=name or f"{when:%Y%m%d_%H%M%S}", time=when, **fields)  # type: ignore[arg-type] # as given


def _days(*ages: float, **changes: object) -> list[Backup]:
    return [_backup(timedelta(days=age), **changes) for age in ages]


def _kept(decisions: list[Decision]) -> set[str]:
    return {one.backup.name for one in decisions if one.keep}


def _reasons(decisions: list[Decision], backup: Backup) -> tuple[str, ...]:
    return next(one.reasons for one in decisions if one.backup is backup)


def test_last_keeps_the_newest() -> None:
    """`last 2` of four keeps two, and says of the others why they go."""
    backups = _days(4, 3, 2, 1)
    decisions = decide(backups, Rules(last=2), NOW)
    assert [one.keep for one in decisions] == [False, False, True, True]
    assert decisions[0].reasons == ("no rule keeps it",)
    assert decisions[2].reasons == ("last 2",)
    assert decisions[3].reasons == ("newest complete backup", "last 1")


@pytest.mark.parametrize(
    ("rules", "hours", "kept"),
    [
        (Rules(hourly=2), (0.1, 0.2, 1.1, 1.2, 2.1), (0.1, 1.1)),
        (Rules(daily=2), (1, 5, 20, 30, 50), (1, 20)),
        (Rules(weekly=2), (1, 24 * 5, 24 * 9, 24 * 13), (1, 24 * 5)),
        (Rules(monthly=2), (1, 24 * 10, 24 * 25, 24 * 60), (1, 24 * 25)),
        (Rules(yearly=2), (1, 24 * 300, 24 * 400, 24 * 500, 24 * 900), (1, 24 * 400)),
    ],
)
def test_each_period_keeps_its_newest(
    rules: Rules, hours: tuple[float, ...], kept: tuple[float, ...]
) -> None:
    """The newest of the latest periods that have a backup; empty periods take no place."""
    backups = {age: _backup(timedelta(hours=age)) for age in hours}
    assert _kept(decide(list(backups.values()), rules, NOW)) == {backups[age].name for age in kept}


def test_the_oldest_stays_while_a_rule_has_room() -> None:
    """A yearly rule keeps the very first backup until the years are filled."""
    backups = _days(20, 10, 1)
    decisions = decide(backups, Rules(yearly=3), NOW)
    assert _kept(decisions) == {backups[0].name, backups[2].name}
    assert _reasons(decisions, backups[0]) == ("yearly (the oldest)",)


def test_unlimited_keeps_one_of_every_period() -> None:
    """-1 daily keeps a backup of each day."""
    backups = [*_days(0.1, 1, 2, 3, 40), _backup(timedelta(days=1, hours=2))]
    assert len(_kept(decide(backups, Rules(daily=UNLIMITED), NOW))) == 5


def test_within_counts_back_from_the_newest_backup() -> None:
    """When backups stopped long ago, the passing of time alone removes nothing."""
    backups = _days(403, 402, 401, 300.5, 300)
    decisions = decide(backups, Rules(within=timedelta(days=2)), NOW)
    assert _kept(decisions) == {backups[3].name, backups[4].name}


def test_no_rule_is_an_error() -> None:
    """Rules that keep nothing are refused rather than obeyed."""
    with pytest.raises(ValueError, match="no rule"):
        decide(_days(1), Rules(), NOW)


def test_the_newest_complete_stays_behind_newer_ones_that_do_not_count() -> None:
    """Partial, incomplete, imported, unproven and safety backups never stand for a complete one."""
    good = _backup(timedelta(days=400))
    newer = [
        _backup(timedelta(days=1), status=Status.PARTIAL),
        _backup(timedelta(days=2), status=Status.INCOMPLETE),
        _backup(timedelta(days=3), kind=Kind.IMPORTED),
        _backup(timedelta(days=4), kind=Kind.SAFETY),
    ]
    decisions = decide([good, *newer], Rules(last=1), NOW)
    assert _reasons(decisions, good) == ("newest complete backup", "last 1")
    assert _kept(decisions) == {one.name for one in (good, *newer)}


def test_partial_backups_take_no_place_of_complete_ones() -> None:
    """Partial ones are judged among themselves."""
    complete, partial = _days(5, 3, 1), _days(4.5, 2.5, status=Status.PARTIAL)
    decisions = decide([*complete, *partial], Rules(last=2), NOW)
    assert [one.keep for one in decisions if one.backup in complete] == [False, True, True]
    assert _reasons(decisions, partial[1]) == ("partial: last 1",)


def test_a_partial_backup_with_newer_data_stays() -> None:
    """What it holds of a component is newer than in every complete backup, so it is worth having."""
    partial = _days(3, 2, 1, status=Status.PARTIAL)
    decisions = decide([*_days(10), *partial], Rules(last=1), NOW)
    assert len(_kept(decisions)) == 4
    assert _reasons(decisions, partial[0]) == ("partial, but newer than the newest complete backup",)


def test_each_component_has_its_own_rules() -> None:
    """Hourly backups of the database do not push out those that hold the uploads."""
    full = _days(3, 2)
    only = _days(0.3, 0.2, 0.1, components=frozenset({"database"}))
    decisions = decide([*full, *only], Rules(last=1), NOW)
    assert _kept(decisions) == {full[1].name, only[2].name}
    assert "newest complete backup with database, uploads" in _reasons(decisions, full[1])


def test_a_marked_backup_stays() -> None:
    """However old."""
    marked = _backup(timedelta(days=4000), tags=frozenset({"keep"}))
    decisions = decide([marked, *_days(2, 1)], Rules(last=1), NOW)
    assert _reasons(decisions, marked) == ("marked to be kept",)


def test_protected_backups_stay_with_the_reason_given() -> None:
    """What a running restore needs is named by the caller."""
    backups = _days(3, 2, 1)
    decisions = decide(backups, Rules(last=1), NOW, {backups[0].name: "needed by a restore"})
    assert _reasons(decisions, backups[0]) == ("needed by a restore",)


def test_safety_backups_have_their_own_rule() -> None:
    """The newest N stay, and all that are younger than 7 days; the other rules are not for them."""
    regular = _days(0.1)
    safety = _days(30, 20, 10, 6, 5, kind=Kind.SAFETY)
    decisions = decide([*regular, *safety], Rules(last=UNLIMITED, safety=3), NOW)
    assert [one.keep for one in decisions if one.backup in safety] == [False, False, True, True, True]
    decisions = decide([*regular, *safety], Rules(last=1, safety=0), NOW)
    assert [one.keep for one in decisions if one.backup in safety] == [False, False, False, True, True]
    assert "older than 7 days" in decisions[0].reasons[0]


def test_incomplete_backups_go_after_seven_days() -> None:
    """A younger one may still be running; none of them ever fills a rule."""
    complete = _days(20, 0.1)
    old, young = _days(8, 6, status=Status.INCOMPLETE)
    decisions = decide([*complete, old, young], Rules(last=1), NOW)
    assert _kept(decisions) == {complete[1].name, young.name}
    assert "cut off" in _reasons(decisions, old)[0]


def test_a_backup_from_the_future_counts_for_nothing() -> None:
    """It stays, fills no period, makes nothing old and is no newest complete backup."""
    past = _days(3, 2, 1)
    future = _backup(timedelta(days=-4000))
    without = decide(past, Rules(last=1, within=timedelta(days=1)), NOW)
    decisions = decide([*past, future], Rules(last=1, within=timedelta(days=1)), NOW)
    assert [one for one in decisions if one.backup is not future] == without
    assert "from the future" in _reasons(decisions, future)[0]


def test_the_storage_gives_a_clock_away_that_ran_ahead() -> None:
    """Said to be of 2040, received in 2026: still from the future once this machine says 2041."""
    ahead = datetime(2040, 1, 1, tzinfo=UTC)
    odd = Backup("odd", ahead, Status.COMPLETE, BOTH, received_at=NOW)
    past = _days(2, 1)
    rules = Rules(last=1, within=timedelta(days=30))
    decisions = decide([*past, odd], rules, datetime(2041, 1, 1, tzinfo=UTC))
    assert _kept(decisions) == {"odd", *(one.name for one in past)}


def test_a_clock_that_ran_behind_makes_nothing_old() -> None:
    """Said to be of 1970, received yesterday: judged as of yesterday too."""
    behind = Backup(
        "behind", datetime(1970, 1, 1, tzinfo=UTC), Status.COMPLETE, BOTH, received_at=NOW - timedelta(days=1)
    )
    past = _days(20, 10, 5)
    decisions = decide([*past, behind], Rules(last=2), NOW)
    assert behind.name in _kept(decisions)
    assert {past[1].name, past[2].name} <= _kept(decisions)


def test_a_repository_that_was_copied_keeps_its_history() -> None:
    """When all was received today, as after a copy, days are still those of the backups."""
    days = range(1, 30)
    copied = [_backup(timedelta(days=age), received_at=NOW) for age in days]
    kept = _kept(decide(copied, Rules(daily=7), NOW))
    assert {one.name for one in copied[:7]} <= kept
    assert len(kept) < 10


def test_a_long_backup_is_judged_by_its_name_alone() -> None:
    """Received hours after it began, it still belongs to the day in its name."""
    early = _backup(timedelta(days=1, hours=2), received_at=NOW - timedelta(days=1, hours=2))
    late = _backup(timedelta(days=1, hours=-11), received_at=NOW - timedelta(hours=5))
    newest = _backup(timedelta(hours=1), received_at=NOW)
    assert _kept(decide([early, late, newest], Rules(daily=2), NOW)) == {late.name, newest.name}
