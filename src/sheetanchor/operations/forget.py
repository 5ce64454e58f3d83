"""`forget` and `keep`: which backups go and which stay. A backup goes whole, its manifest first.

What is cut off in between is an incomplete backup, never a complete one with parts missing; the
next run finishes it. Space is freed by `prune`, not here.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Literal

from sheetanchor.clock import Clock, moment
from sheetanchor.errors import PlanRefusedError, UnknownBackupError, UsageError
from sheetanchor.operations.naming import IMPORTED_TIER, SAFETY_TIER, Tags, backup_time, read_tags
from sheetanchor.operations.results import Result
from sheetanchor.policy.retention import KEEP_TAG, Backup, Kind, Rules, Status, decide
from sheetanchor.repository.ids import Id
from sheetanchor.repository.repository import Repository
from sheetanchor.repository.snapshot import StoredSnapshot

UNPROVEN_TAG = "unproven"


class Judged(Result):
    """One backup, what becomes of it, and why."""

    backup: str
    time: datetime
    tier: str
    status: str
    components: tuple[str, ...]
    bytes_added: int | None
    keep: bool
    reasons: tuple[str, ...]


class ForgetPlan(Result):
    """What a run of `forget` will do; touches nothing."""

    stack: str
    backups: tuple[Judged, ...]

    @property
    def to_remove(self) -> tuple[str, ...]:
        """Return the names of the backups that go, oldest first."""
        return tuple(one.backup for one in self.backups if not one.keep)


class ForgetSummary(Result):
    """One run; `forget --json` ends with it."""

    status: Literal["planned", "forgotten"]
    stack: str
    duration_s: float
    removed: tuple[str, ...]
    kept: int
    backups: tuple[Judged, ...]


class KeepSummary(Result):
    """A backup that was marked, or is marked no more."""

    backup: str
    kept: bool


@dataclass(frozen=True)
class StoredBackup:
    """All snapshots of one backup, also those that a restore would never read."""

    name: str
    manifests: tuple[tuple[StoredSnapshot, Tags], ...]
    parts: tuple[tuple[StoredSnapshot, Tags], ...]

    @property
    def in_order_of_removal(self) -> tuple[StoredSnapshot, ...]:
        """Return the manifest first: without it the backup counts no more."""
        return tuple(stored for stored, _ in (*self.manifests, *self.parts))


def plan(
    repository: Repository,
    stack: str,
    rules: Rules,
    now: datetime,
    protected: Mapping[str, str],
) -> ForgetPlan:
    """Judge every backup of the stack. Raises UsageError when no rule says what to keep.

    Raises DamagedRepositoryError when a snapshot cannot be read: it may be the manifest that
    makes a backup complete.
    """
    if rules.empty:
        raise UsageError("no rule says what to keep", hint="for example: --keep-daily 7 --keep-weekly 5")
    received = repository.received_at()
    records = [_record(one, received) for one in _stored_backups(repository, stack).values()]
    decisions = decide(records, rules, now, protected)
    return ForgetPlan(
        stack=stack,
        backups=tuple(
            Judged(
                backup=decision.backup.name,
                time=decision.backup.time,
                tier=decision.backup.tier,
                status=decision.backup.status.value,
                components=tuple(sorted(decision.backup.components)),
                bytes_added=decision.backup.size,
                keep=decision.keep,
                reasons=decision.reasons,
            )
            for decision in decisions
        ),
    )


def execute(
    repository: Repository,
    clock: Clock,
    planned: ForgetPlan,
    rules: Rules,
    protected: Mapping[str, str],
    *,
    wait_s: float = 0.0,
) -> ForgetSummary:
    """Remove what the plan shows, under an exclusive lock and judged once more under it.

    A backup that has to stay meanwhile stays; none goes that the plan did not show. Raises
    RepositoryLockedError, DamagedRepositoryError, and what the backend raises.
    """
    begin = clock.monotonic()
    removed: list[str] = []
    with repository.lock(exclusive=True, retry_for=wait_s):
        again = plan(repository, planned.stack, rules, clock.now(), protected)
        stored = _stored_backups(repository, planned.stack)
        for name in again.to_remove:
            if name in planned.to_remove:
                for snapshot in stored[name].in_order_of_removal:
                    repository.delete_snapshot(snapshot.id)
                removed.append(name)
    return ForgetSummary(
        status="forgotten",
        stack=planned.stack,
        duration_s=clock.monotonic() - begin,
        removed=tuple(removed),
        kept=len(again.backups) - len(removed),
        backups=planned.backups,
    )


def untouched(planned: ForgetPlan) -> ForgetSummary:
    """Return what a run says that only planned."""
    return ForgetSummary(
        status="planned",
        stack=planned.stack,
        duration_s=0.0,
        removed=(),
        kept=len(planned.backups) - len(planned.to_remove),
        backups=planned.backups,
    )


def mark(repository: Repository, stack: str, name: str, *, keep: bool, wait_s: float = 0.0) -> KeepSummary:
    """Mark a backup so that no rule removes it, or take the mark away again.

    The manifest's snapshot is written anew with the tag `keep`; the old one goes after it. Raises
    UnknownBackupError, PlanRefusedError for a backup without a manifest, RepositoryLockedError.
    """
    with repository.lock(exclusive=True, retry_for=wait_s):
        stored = _stored_backups(repository, stack).get(name)
        if stored is None:
            raise UnknownBackupError(
                f"stack {stack} has no backup named {name!r}", hint="`sheetanchor list` shows what there is"
            )
        if not stored.manifests:
            raise PlanRefusedError(
                f"{name} is incomplete: its run was cut off, so there is nothing worth keeping in it",
                hint="mark a complete backup; `sheetanchor list` shows their status",
            )
        # The reader knows all trees, the manifest's among them: nothing may refer to one that is lost.
        repository.reader()
        _mark(repository, stored, keep=keep)
    return KeepSummary(backup=name, kept=keep)


def _mark(repository: Repository, stored: StoredBackup, *, keep: bool) -> None:
    """Leave one manifest, marked as asked; several are there when a mark was cut off."""
    manifest, tags = stored.manifests[-1]
    staying = manifest.id
    if (KEEP_TAG in tags.others) != keep:
        others = tuple(tag for tag in tags.others if tag != KEEP_TAG) + ((KEEP_TAG,) if keep else ())
        original = manifest.snapshot.original or manifest.id
        new = replace(manifest.snapshot, tags=replace(tags, others=others).encode(), original=original)
        staying = repository.save_snapshot(new).id
    for old, _ in stored.manifests:
        if old.id != staying:
            repository.delete_snapshot(old.id)


def _stored_backups(repository: Repository, stack: str) -> dict[str, StoredBackup]:
    """Return the stack's backups by name. Raises DamagedRepositoryError for an unreadable snapshot."""
    found: dict[str, tuple[list[tuple[StoredSnapshot, Tags]], list[tuple[StoredSnapshot, Tags]]]] = {}
    for stored in repository.snapshots(strict=True):
        tags = read_tags(stored.snapshot.tags)
        if tags is not None and tags.stack == stack:
            manifests, parts = found.setdefault(tags.backup, ([], []))
            (parts if tags.manifest is None else manifests).append((stored, tags))
    return {
        name: StoredBackup(name, tuple(manifests), tuple(parts)) for name, (manifests, parts) in found.items()
    }


def _record(stored: StoredBackup, received: Mapping[Id, datetime]) -> Backup:
    """Return what retention has to know; of a backup that was marked, any of its manifests counts."""
    every = (*stored.manifests, *stored.parts)
    tags = [one for _, one in every]
    others = frozenset(tag for one in tags for tag in one.others)
    tiers = {one.tier for one in tags}
    # A mark rewrites the manifest, so when that was received says nothing about the backup's age.
    arrivals = [received[one.id] for one, _ in stored.parts or stored.manifests if one.id in received]
    summaries = [one.snapshot.summary for one, _ in stored.manifests if one.snapshot.summary is not None]
    return Backup(
        name=stored.name,
        time=backup_time(stored.name) or _newest([one for one, _ in every]),
        status=_status({one.manifest for _, one in stored.manifests}),
        components=frozenset(
            one.component for _, one in stored.parts if one.component is not None and one.status is None
        ),
        kind=_kind(tiers, others),
        tier=", ".join(sorted(tiers)),
        tags=others,
        received_at=max(arrivals, default=None),
        size=summaries[0].data_added_packed if summaries else None,
    )


def _status(manifests: Collection[str | None]) -> Status:
    if not manifests:
        return Status.INCOMPLETE
    return Status.COMPLETE if manifests == {"complete"} else Status.PARTIAL


def _kind(tiers: Collection[str], others: Collection[str]) -> Kind:
    if SAFETY_TIER in tiers:
        return Kind.SAFETY
    return Kind.IMPORTED if IMPORTED_TIER in tiers or UNPROVEN_TAG in others else Kind.REGULAR


def _newest(snapshots: Sequence[StoredSnapshot]) -> datetime:
    return moment(max(one.snapshot.time_ns for one in snapshots))
