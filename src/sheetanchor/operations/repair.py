"""Repairs of the repository: planned or carried out, and told in words of backups and components."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from contextlib import contextmanager
from datetime import datetime
from typing import Literal

from sheetanchor.clock import Clock, moment
from sheetanchor.operations.naming import read_tags
from sheetanchor.operations.repair_found import RecoveredSnapshot, recover
from sheetanchor.operations.results import Result
from sheetanchor.repository.repository import Repository

MARK = ("status=repaired",)
"""Tags of a copy without what is lost: no component of a backup, so never taken for one."""

Status = Literal["whole", "planned", "repaired"]


class IndexRepaired(Result):
    """What `repository repair index` found and did."""

    status: Status
    index_files: int
    damaged_index_files: tuple[str, ...]
    replaced_index_files: tuple[str, ...]
    added_packs: tuple[str, ...]
    corrected_packs: tuple[str, ...]
    missing_packs: tuple[str, ...]
    damaged_packs: tuple[str, ...]
    lost_blobs: int
    duration_s: float


class PackRepaired(Result):
    """One damaged pack; blobs that were saved from it, and those no pack holds any more."""

    pack: str
    reason: str
    readable: int
    lost: int


class PacksRepaired(Result):
    """What `repository repair packs` found and did."""

    status: Status
    packs: int
    """How many were looked at."""
    read_data: bool
    damaged: tuple[PackRepaired, ...]
    intact: tuple[str, ...]
    unknown: tuple[str, ...]
    """In no index and with an unreadable header: nothing can be said about what they held."""
    lost_blobs: int
    duration_s: float


class SnapshotRepaired(Result):
    """One snapshot that cannot be restored whole, and which of its files are lost."""

    snapshot: str
    time: datetime
    backup: str | None
    component: str | None
    lost: tuple[str, ...]
    copied: bool
    """There is a copy of it without what is lost."""


class SnapshotsRepaired(Result):
    """What `repository repair snapshots` found and did."""

    status: Status
    snapshots: int
    damaged: tuple[SnapshotRepaired, ...]
    unreadable: tuple[str, ...]
    recovered: tuple[RecoveredSnapshot, ...]
    forgotten: bool
    """The damaged and unreadable snapshots were removed."""
    duration_s: float


def repair_index(repository: Repository, clock: Clock, *, read_headers: bool, dry_run: bool) -> IndexRepaired:
    """Rebuild what is damaged or missing in the index from the packs' headers."""
    begin = clock.monotonic()
    with _locked(repository, dry_run):
        done = repository.repairs().index(read_headers=read_headers, dry_run=dry_run)
    return IndexRepaired(
        status=_status(done.needed, dry_run),
        index_files=done.files,
        damaged_index_files=_hex(done.damaged_files),
        replaced_index_files=_hex(done.replaced_files),
        added_packs=_hex(done.added_packs),
        corrected_packs=_hex(done.corrected_packs),
        missing_packs=_hex(done.missing_packs),
        damaged_packs=_hex(done.damaged_packs),
        lost_blobs=done.lost_blobs,
        duration_s=clock.monotonic() - begin,
    )


def repair_packs(
    repository: Repository, clock: Clock, packs: Collection[str], *, read_data: bool, dry_run: bool
) -> PacksRepaired:
    """Replace damaged packs by new ones with what can still be read of them."""
    begin = clock.monotonic()
    with _locked(repository, dry_run):
        done = repository.repairs().packs(packs, read_data=read_data, dry_run=dry_run)
    return PacksRepaired(
        status=_status(bool(done.damaged), dry_run),
        packs=done.looked_at,
        read_data=read_data or bool(packs),
        damaged=tuple(
            PackRepaired(pack=one.id.hex(), reason=one.reason, readable=one.readable, lost=one.lost)
            for one in done.damaged
        ),
        intact=_hex(done.intact),
        unknown=_hex(done.unknown),
        lost_blobs=done.lost_blobs,
        duration_s=clock.monotonic() - begin,
    )


def repair_snapshots(
    repository: Repository, clock: Clock, *, forget: bool, bring_back: bool, dry_run: bool
) -> SnapshotsRepaired:
    """Tell which files of which backups are lost, and copy the damaged snapshots without them.

    With `bring_back` snapshots whose files are gone are made again from their trees; with `forget`
    the damaged ones are removed.
    """
    begin = clock.monotonic()
    with _locked(repository, dry_run):
        recovered = recover(repository, clock, dry_run=dry_run) if bring_back else ()
        done = repository.repairs().snapshots(MARK, forget=forget, dry_run=dry_run)
    damaged = []
    for one in done.damaged:
        tags = read_tags(one.stored.snapshot.tags)
        damaged.append(
            SnapshotRepaired(
                snapshot=one.stored.id.hex(),
                time=moment(one.stored.snapshot.time_ns),
                backup=tags.backup if tags else None,
                component=(tags.component or "manifest") if tags else None,
                lost=one.lost,
                copied=one.copied or (one.repaired_tree is not None and not dry_run),
            )
        )
    return SnapshotsRepaired(
        status=_status(bool(damaged or done.unreadable or recovered), dry_run),
        snapshots=done.looked_at,
        damaged=tuple(damaged),
        unreadable=_hex(done.unreadable),
        recovered=recovered,
        forgotten=forget and not dry_run,
        duration_s=clock.monotonic() - begin,
    )


@contextmanager
def _locked(repository: Repository, dry_run: bool) -> Iterator[None]:
    """Hold an exclusive lock, unless nothing is going to be changed."""
    if dry_run:
        yield
        return
    with repository.lock(exclusive=True):
        yield


def _status(needed: bool, dry_run: bool) -> Status:
    if not needed:
        return "whole"
    return "planned" if dry_run else "repaired"


def _hex(ids: Collection[bytes]) -> tuple[str, ...]:
    return tuple(one.hex() for one in ids)
