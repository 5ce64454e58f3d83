"""Rekey: everything in a repository copied to a new one, which has a new master key."""

from __future__ import annotations

from sheetanchor.clock import Clock
from sheetanchor.operations.results import Result
from sheetanchor.repository.repository import Repository


class RekeySummary(Result):
    """What of the old repository is in the new one, as counted there afterwards."""

    status: str
    """"copied", or "present" when all of it was there already."""
    repository: str
    id: str
    snapshots: int
    snapshots_copied: int
    data_blobs: int
    tree_blobs: int
    objects: int
    bytes_added: int
    duration_s: float


def execute(source: Repository, target: Repository, clock: Clock) -> RekeySummary:
    """Copy `source` into `target`. Backups into either may go on meanwhile; removals may not.

    What is backed up into `source` after the copy has begun needs another run.
    """
    begin = clock.monotonic()
    with source.lock(), target.lock():
        done = source.repairs().copy_to(target.repairs())
    return RekeySummary(
        status="copied" if done.snapshots_copied or done.bytes_added else "present",
        repository=target.location,
        id=target.id,
        snapshots=done.snapshots,
        snapshots_copied=done.snapshots_copied,
        data_blobs=done.data_blobs,
        tree_blobs=done.tree_blobs,
        objects=done.objects,
        bytes_added=done.bytes_added,
        duration_s=clock.monotonic() - begin,
    )
