"""How fresh are the backups? Everything derives from the repository: silence is never green."""

from __future__ import annotations

from datetime import datetime, timedelta

from sheetanchor.operations.catalog import BackupRecord, Catalog
from sheetanchor.operations.journal import JournalState
from sheetanchor.operations.naming import SAFETY_TIER
from sheetanchor.operations.results import BackupStatus, FreshnessLevel, StatusSummary

FUTURE_TOLERANCE = timedelta(minutes=5)
"""A backup further ahead of our clock than this means that a clock is wrong."""


def assess(
    catalog: Catalog,
    stack: str,
    components: tuple[str, ...],
    now: datetime,
    *,
    warn: timedelta,
    alert: timedelta,
    unfinished: JournalState | None = None,
) -> StatusSummary:
    """Judge the age of the newest complete backup of all `components`.

    Over `warn` is a warning, over `alert` critical; so are no backup at all, a newest backup
    from the future, and a restore that was left half done.
    """
    own = [record for record in catalog.of_stack() if record.tier != SAFETY_TIER]
    newest = catalog.newest_complete(components)
    later = [record for record in own if newest is None or record.time > newest.time]
    partial = max(
        (record for record in later if record.status is BackupStatus.PARTIAL),
        key=lambda record: record.time,
        default=None,
    )
    age = now - newest.time if newest else None
    level, message = _judge(newest, age, partial, warn, alert)
    if unfinished is not None:
        level = FreshnessLevel.CRITICAL
        message = f"a restore of {unfinished.request.backup} was left half done; {message}"
    ages = {name: _age(catalog, name, now) for name in components}
    return StatusSummary(
        stack=stack,
        level=level,
        message=message,
        newest_complete=newest.info() if newest else None,
        age_s=age.total_seconds() if age else None,
        newest_partial=partial.info() if partial else None,
        components={name: value for name, value in ages.items() if value is not None},
        missing_components=tuple(name for name, value in ages.items() if value is None),
        backups=sum(record.status is BackupStatus.COMPLETE for record in own),
        unfinished_restore=unfinished.token if unfinished else None,
    )


def _judge(
    newest: BackupRecord | None,
    age: timedelta | None,
    partial: BackupRecord | None,
    warn: timedelta,
    alert: timedelta,
) -> tuple[FreshnessLevel, str]:
    if newest is None or age is None:
        extra = f"; the newest, {partial.name}, is partial" if partial else ""
        return FreshnessLevel.CRITICAL, f"no complete backup{extra}"
    said = f"{newest.name} is {_spoken(age)} old"
    if age < -FUTURE_TOLERANCE:
        return FreshnessLevel.CRITICAL, f"{newest.name} is from the future: a clock is wrong"
    if age > alert:
        return FreshnessLevel.CRITICAL, said
    if age > warn:
        return FreshnessLevel.WARNING, said
    if partial is not None:
        return FreshnessLevel.WARNING, f"{said}; {partial.name} after it is only partial"
    return FreshnessLevel.OK, said


def _spoken(age: timedelta) -> str:
    minutes = int(age.total_seconds() // 60)
    if minutes < 120:
        return f"{minutes} minute{'' if minutes == 1 else 's'}"
    return f"{age.total_seconds() / 3600:.1f} hours"


def _age(catalog: Catalog, component: str, now: datetime) -> float | None:
    record = catalog.newest_holding(component)
    return (now - record.time).total_seconds() if record else None
