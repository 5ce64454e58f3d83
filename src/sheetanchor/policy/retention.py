"""Which backups are kept and which may go, and why: pure functions over plain records.

What always holds, whatever the rules say: a marked backup stays; for every choice of components the
newest complete backup that holds them stays; a partial, incomplete, imported, unproven or
safety backup never counts as such, and never takes a complete one's place. Rules are applied to
each component on its own, so that frequent backups of one component do not push out those of the
others; a backup stays whole when any of its components needs it.

Clocks may be wrong. A backup from the future is kept and counts for nothing. Where the storage
received a backup much later than its name says, it is judged by both moments and stays when either
keeps it. Ages are counted back from the newest backup that is not from the future, never from
the machine's clock alone.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from enum import StrEnum

UNLIMITED = -1
KEEP_TAG = "keep"
SAFETY_DAYS = INCOMPLETE_DAYS = timedelta(days=7)
FUTURE_SLACK = timedelta(hours=1)
"""How far two clocks may differ without suspicion."""
ARRIVAL_SLACK = timedelta(days=1)
"""How long after its begin a backup may be received without suspicion: it takes its time."""


class Status(StrEnum):
    """How far a backup got."""

    COMPLETE = "complete"
    PARTIAL = "partial"
    INCOMPLETE = "incomplete"


class Kind(StrEnum):
    """What a backup was made for; each kind is judged among its own."""

    REGULAR = "regular"
    SAFETY = "safety"
    IMPORTED = "imported"
    """From an archive, proven or not."""


@dataclass(frozen=True)
class Backup:
    """What retention has to know of a backup."""

    name: str
    time: datetime
    """When it was taken, as its maker says; aware."""
    status: Status
    components: frozenset[str]
    kind: Kind = Kind.REGULAR
    tier: str = ""
    tags: frozenset[str] = frozenset()
    received_at: datetime | None = None
    """When the storage received its last part, by the storage's own clock."""
    size: int | None = None
    """Bytes it added, None where nobody knows."""


@dataclass(frozen=True)
class Rules:
    """How many backups to keep of each sort; 0 none, UNLIMITED all. Days and weeks are in UTC."""

    last: int = 0
    hourly: int = 0
    daily: int = 0
    weekly: int = 0
    monthly: int = 0
    yearly: int = 0
    within: timedelta | None = None
    """Everything that is not older than this against the newest backup."""
    safety: int = 3
    """Safety backups kept besides those younger than 7 days."""

    @property
    def empty(self) -> bool:
        """Say whether no rule keeps anything."""
        counts = (self.last, self.hourly, self.daily, self.weekly, self.monthly, self.yearly)
        return not any(counts) and self.within is None


@dataclass(frozen=True)
class Decision:
    """What becomes of a backup, and why."""

    backup: Backup
    keep: bool
    reasons: tuple[str, ...]


@dataclass
class _Reasons:
    """Why backups stay, by name."""

    of: dict[str, list[str]] = field(default_factory=dict)

    def add(self, backup: Backup, reason: str) -> None:
        reasons = self.of.setdefault(backup.name, [])
        if reason not in reasons:
            reasons.append(reason)


def decide(
    backups: Sequence[Backup], rules: Rules, now: datetime, protected: Mapping[str, str] | None = None
) -> list[Decision]:
    """Return what becomes of each backup, oldest first.

    `protected` names backups that have to stay, with the reason. Raises ValueError when no rule
    would keep anything, and for two backups of one name.
    """
    if rules.empty:
        raise ValueError("no rule says what to keep")
    if len({backup.name for backup in backups}) != len(backups):
        raise ValueError("two backups have one name")
    reasons = _Reasons()
    for backup in backups:
        if protected and backup.name in protected:
            reasons.add(backup, protected[backup.name])
        if KEEP_TAG in backup.tags:
            reasons.add(backup, "marked to be kept")
        if _from_future(backup, now):
            reasons.add(backup, "from the future: its clock was wrong, or this machine's is")
    past = [backup for backup in backups if not _from_future(backup, now)]
    reference = max((_latest_moment(backup) for backup in past), default=now)
    for kind in (Kind.REGULAR, Kind.IMPORTED):
        _judge(kind, [backup for backup in past if backup.kind is kind], rules, reference, reasons)
    _judge_safety([backup for backup in past if backup.kind is Kind.SAFETY], rules, reference, reasons)
    for backup in past:
        if backup.status is Status.INCOMPLETE and reference - _latest_moment(backup) <= INCOMPLETE_DAYS:
            reasons.add(backup, "incomplete, but not older than 7 days: may still be running")
    ordered = sorted(backups, key=lambda backup: (backup.time, backup.name))
    return [_decision(backup, reasons, rules) for backup in ordered]


def _decision(backup: Backup, reasons: _Reasons, rules: Rules) -> Decision:
    why = reasons.of.get(backup.name)
    if why:
        return Decision(backup, True, tuple(why))
    if backup.status is Status.INCOMPLETE:
        return Decision(backup, False, ("incomplete and older than 7 days: its run was cut off",))
    if backup.kind is Kind.SAFETY:
        return Decision(
            backup, False, (f"safety backup older than 7 days, and not among the newest {rules.safety}",)
        )
    return Decision(backup, False, ("no rule keeps it",))


def _from_future(backup: Backup, now: datetime) -> bool:
    """Say whether a backup says to be newer than its reader's or its storage's clock."""
    received = backup.received_at
    return backup.time > now + FUTURE_SLACK or (
        received is not None and backup.time > received + FUTURE_SLACK
    )


def _latest_moment(backup: Backup) -> datetime:
    """Return the later of when it was taken and when it was received: it is no older than that."""
    if backup.received_at is None or backup.received_at <= backup.time + ARRIVAL_SLACK:
        return backup.time
    return backup.received_at


def _judge(
    kind: Kind, backups: Sequence[Backup], rules: Rules, reference: datetime, reasons: _Reasons
) -> None:
    """Apply the rules to complete backups, and apart from them to partial ones."""
    complete = [backup for backup in backups if backup.status is Status.COMPLETE]
    partial = [backup for backup in backups if backup.status is Status.PARTIAL]
    alike = all(_latest_moment(backup) == backup.time for backup in backups)
    for moment in (_own_time,) if alike else (_own_time, _latest_moment):
        _protect_newest(kind, complete, moment, reasons)
        for group, prefix in ((complete, ""), (partial, "partial: ")):
            for component in sorted({name for backup in group for name in backup.components} or {""}):
                holding = [one for one in group if not component or component in one.components]
                # Backups taken in one second are told apart by their names.
                holding.sort(key=lambda one: (moment(one), one.name), reverse=True)
                for backup, why in _picked(holding, rules, reference, moment):
                    reasons.add(backup, prefix + why)
    if partial:
        _keep_newer_partial(partial, complete, reasons)


def _own_time(backup: Backup) -> datetime:
    return backup.time


def _protect_newest(
    kind: Kind, complete: Sequence[Backup], moment: Callable[[Backup], datetime], reasons: _Reasons
) -> None:
    """Keep every backup that holds components which no newer one holds together."""
    newer: list[frozenset[str]] = []
    for backup in sorted(complete, key=lambda one: (moment(one), one.name), reverse=True):
        if not any(backup.components <= components for components in newer):
            what = "imported" if kind is Kind.IMPORTED else "complete"
            held = "" if not newer else f" with {', '.join(sorted(backup.components))}"
            reasons.add(backup, f"newest {what} backup{held}")
            newer.append(backup.components)


def _keep_newer_partial(partial: Sequence[Backup], complete: Sequence[Backup], reasons: _Reasons) -> None:
    """Keep partial backups that hold something newer than every complete backup does."""
    for backup in partial:
        newest = [one for one in complete if backup.components & one.components]
        if not newest or _latest_moment(backup) > max(_latest_moment(one) for one in newest):
            reasons.add(backup, "partial, but newer than the newest complete backup")


def _judge_safety(backups: Sequence[Backup], rules: Rules, reference: datetime, reasons: _Reasons) -> None:
    finished = [backup for backup in backups if backup.status is not Status.INCOMPLETE]
    finished.sort(key=lambda one: (_latest_moment(one), one.name), reverse=True)
    kept = finished if rules.safety == UNLIMITED else finished[: rules.safety]
    for number, backup in enumerate(kept, start=1):
        reasons.add(backup, f"safety backup {number} of {rules.safety if rules.safety > 0 else 'all'}")
    for backup in finished:
        if reference - _latest_moment(backup) <= SAFETY_DAYS:
            reasons.add(backup, "safety backup not older than 7 days")


_PERIODS = (
    ("hourly", "%Y-%m-%d %H:00"),
    ("daily", "%Y-%m-%d"),
    ("weekly", "%G-W%V"),
    ("monthly", "%Y-%m"),
    ("yearly", "%Y"),
)


def _picked(
    newest_first: Sequence[Backup],
    rules: Rules,
    reference: datetime,
    moment: Callable[[Backup], datetime],
) -> Iterator[tuple[Backup, str]]:
    """Yield the backups that rules keep, each with the rule; one may come several times."""
    count = len(newest_first) if rules.last == UNLIMITED else rules.last
    for number, backup in enumerate(newest_first[:count], start=1):
        yield backup, f"last {number}"
    for (word, form), limit in zip(
        _PERIODS, (rules.hourly, rules.daily, rules.weekly, rules.monthly, rules.yearly), strict=True
    ):
        if limit == 0:
            continue
        names = [f"{moment(backup).astimezone(UTC):{form}}" for backup in newest_first]
        for number, why in _fill(names, len(names) if limit == UNLIMITED else limit):
            yield newest_first[number], f"{word} {why}"
    if rules.within is not None:
        for backup in newest_first:
            if reference - moment(backup) <= rules.within:
                yield backup, "within the time to keep everything"


def _fill(names: Sequence[str], limit: int) -> Iterator[tuple[int, str]]:
    """Yield the newest of each of the latest `limit` periods, and the oldest while there is room.

    Without the oldest a yearly rule would keep nothing old in its first year.
    """
    left = limit
    for number, name in enumerate(names):
        if left <= 0:
            return
        first = number == 0 or name != names[number - 1]
        if first or number == len(names) - 1:
            yield number, name if first else "(the oldest)"
            left -= 1
