"""`prune`: frees the space of what no backup needs any more. Plan, show, carry out."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from sheetanchor.clock import Clock
from sheetanchor.events import Listener
from sheetanchor.operations.results import Result
from sheetanchor.repository.model import PruneOutcome, PrunePlan
from sheetanchor.repository.repository import Repository


@dataclass(frozen=True)
class PruneRequest:
    """How to prune."""

    max_unused: float = 0.05
    """Share of the repository that may stay unused, from 0 up to but not including 1."""
    max_duration_s: float | None = None
    """After so many seconds nothing more is begun to be written anew."""
    wait_s: float = 0.0
    """For how long to wait for backups that are running."""
    dry_run: bool = False


class PruneFigures(Result):
    """A plan in figures; bytes as stored."""

    snapshots: int
    blobs_used: int
    blobs_unused: int
    packs_kept: int
    packs_to_delete: int
    """Nothing in them is used; those left by runs that were cut off included."""
    packs_to_repack: int
    bytes_before: int
    bytes_after: int
    bytes_to_free: int
    bytes_to_repack: int
    bytes_unused_left: int


class PruneSummary(Result):
    """One prune; `prune --json` ends with it."""

    status: Literal["planned", "pruned", "partial"]
    """Partial: something damaged was met, and left as it is."""
    duration_s: float
    plan: PruneFigures
    packs_removed: int = 0
    packs_repacked: int = 0
    packs_left: int = 0
    """Packs whose time did not come, or that are damaged; the next prune goes on with them."""
    bytes_freed: int = 0
    damaged: tuple[str, ...] = ()


def execute(
    repository: Repository,
    clock: Clock,
    listener: Listener,
    request: PruneRequest,
    on_plan: Callable[[PruneFigures], None],
) -> PruneSummary:
    """Plan, tell `on_plan`, and unless it is a dry run carry it out, under one exclusive lock.

    Raises RepositoryLockedError while backups run longer than the wait, DamagedRepositoryError
    before anything is touched when something that backups need is missing, and what the
    backend raises.
    """
    begin = clock.monotonic()
    with repository.lock(exclusive=not request.dry_run, retry_for=request.wait_s):
        pruner = repository.pruner(listener)
        prepared = pruner.prepare(request.max_unused)
        figures = _figures(prepared.plan)
        on_plan(figures)
        outcome = None
        if not request.dry_run:
            deadline = None if request.max_duration_s is None else begin + request.max_duration_s
            outcome = pruner.execute(prepared, deadline)
    return _summary(figures, outcome, clock.monotonic() - begin)


def _figures(plan: PrunePlan) -> PruneFigures:
    return PruneFigures(
        snapshots=plan.snapshots,
        blobs_used=plan.blobs_used,
        blobs_unused=plan.blobs_unused,
        packs_kept=plan.packs_kept,
        packs_to_delete=len(plan.delete) + len(plan.unreferenced),
        packs_to_repack=len(plan.repack),
        bytes_before=plan.bytes_before,
        bytes_after=plan.bytes_after,
        bytes_to_free=plan.bytes_to_free,
        bytes_to_repack=plan.bytes_to_repack,
        bytes_unused_left=plan.bytes_unused_left,
    )


def _summary(figures: PruneFigures, outcome: PruneOutcome | None, duration_s: float) -> PruneSummary:
    if outcome is None:
        return PruneSummary(status="planned", duration_s=duration_s, plan=figures)
    return PruneSummary(
        status="partial" if outcome.damaged else "pruned",
        duration_s=duration_s,
        plan=figures,
        packs_removed=outcome.packs_removed,
        packs_repacked=outcome.packs_repacked,
        packs_left=outcome.packs_left,
        bytes_freed=outcome.bytes_freed,
        damaged=outcome.damaged,
    )
