"""A backup: capture every chosen component, then commit all of them with one manifest.

Order on storage: packs, indexes, the components' snapshots, the manifest's snapshot. A run that
is cut off anywhere before the last step leaves a backup that is `incomplete`.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from datetime import timedelta

from sheetanchor.components.base import Component, IncompleteCaptureError, Proof
from sheetanchor.errors import (
    BackendError,
    ComponentError,
    DamagedRepositoryError,
    InterruptedByUserError,
    RepositoryError,
    SheetanchorError,
)
from sheetanchor.operations.catalog import Catalog
from sheetanchor.operations.commit import BackupPlan, Captured, Previous, commit
from sheetanchor.operations.environment import Environment, Selection
from sheetanchor.operations.naming import MANUAL_TIER, backup_name, component_root
from sheetanchor.operations.results import BackupStatus, BackupSummary
from sheetanchor.operations.run_lock import only_run
from sheetanchor.operations.store import RepositorySink
from sheetanchor.repository.repository import WriteSession
from sheetanchor.stacks.base import Work

CAPTURE = "capture"


def plan(
    environment: Environment,
    catalog: Catalog,
    selection: Selection,
    *,
    tier: str = MANUAL_TIER,
    tags: tuple[str, ...] = (),
    lenient: bool = False,
    accept_empty: bool = False,
    origin: str | None = None,
) -> BackupPlan:
    """Decide what a backup will hold and how it is called."""
    kinds = {name: component.kind for name, component in environment.components.items()}
    moment = environment.clock.now()
    taken = {record.name for record in catalog.records}
    while backup_name(moment) in taken:
        moment += timedelta(seconds=1)
    return BackupPlan(
        name=backup_name(moment),
        tier=tier,
        started_at=moment,
        components=selection.apply(kinds),
        tags=tags,
        lenient=lenient,
        accept_empty=accept_empty,
        origin=origin,
    )


def execute(environment: Environment, catalog: Catalog, planned: BackupPlan) -> BackupSummary:
    """Carry out a planned backup under the stack's run lock and a shared repository lock."""
    with (
        only_run(environment, f"backup {planned.name}"),
        environment.repository.lock(),
    ):
        return execute_locked(environment, catalog, planned)


def execute_locked(environment: Environment, catalog: Catalog, planned: BackupPlan) -> BackupSummary:
    """Carry out a planned backup; the caller holds the locks.

    Failures of single components are in the summary. Raises when the repository itself fails.
    """
    previous = {name: _previous(environment, catalog, name) for name in planned.components}
    begin = environment.clock.monotonic()
    with environment.repository.writer() as session:
        works = [Work(CAPTURE, name, planned.name) for name in planned.components]
        stopped = threading.Event()
        outcomes = environment.stack.run(
            works,
            lambda work: _capture(
                environment, session, planned, work.component, previous[work.component], stopped
            ),
            stop=stopped.set,
        )
        for outcome in outcomes:
            if isinstance(outcome, BackendError | RepositoryError | InterruptedByUserError):
                raise outcome
        entries = commit(environment, session, planned, outcomes)
        bytes_added = session.statistics.bytes_added
    failed = any(entry.status == "failed" for entry in entries)
    return BackupSummary(
        backup=planned.name,
        stack=environment.stack_name,
        status=BackupStatus.PARTIAL if failed else BackupStatus.COMPLETE,
        tier=planned.tier,
        started_at=planned.started_at,
        duration_s=environment.clock.monotonic() - begin,
        bytes_read=sum(entry.bytes_read for entry in entries),
        bytes_added=bytes_added,
        components=entries,
    )


def _previous(environment: Environment, catalog: Catalog, name: str) -> Previous:
    record = catalog.newest_holding(name)
    if record is None:
        return Previous()
    try:
        entry = catalog.manifest(record).component(name)
    except DamagedRepositoryError as error:
        # What is wrong with an old backup must not keep a new one from being made.
        environment.listener.warning(name, f"the last backup cannot be compared with: {error.message}")
        return Previous()
    if entry is None or entry.proof is None:
        return Previous(record.components[name])
    model = environment.components[name].proof_model
    return Previous(record.components[name], model.model_validate(entry.proof), entry.bytes_read or None)


def _capture(
    environment: Environment,
    session: WriteSession,
    planned: BackupPlan,
    name: str,
    previous: Previous,
    stopped: threading.Event,
) -> Captured:
    component = environment.components[name]
    root = component_root(component.kind, name)
    begin = environment.clock.monotonic()
    environment.listener.started(name, previous.bytes_read)
    writer = session.tree(root, progress=_progress(environment, name, stopped))
    sink = RepositorySink(writer, previous.snapshot.snapshot.tree if previous.snapshot else None)
    failure: SheetanchorError | None = None
    try:
        try:
            proof = _with_hooks(environment, component, sink, previous, planned)
        except IncompleteCaptureError as error:
            proof, failure = error.proof, error
        failure = failure or _sudden_emptiness(planned, name, proof, previous.proof)
        tree = writer.finish()
    finally:
        environment.listener.finished(name)
    for warning in proof.warnings:
        environment.listener.warning(name, warning)
    return Captured(
        name=name,
        kind=component.kind,
        root=root,
        tree=tree,
        proof=proof,
        bytes_read=sink.bytes_read,
        bytes_added=writer.bytes_added,
        duration_s=environment.clock.monotonic() - begin,
        previous=previous,
        error=failure,
    )


def _progress(environment: Environment, name: str, stopped: threading.Event) -> Callable[[int, int], None]:
    """Return what is told of every stored piece: passed on, and the place where a stop takes effect."""

    def advance(size: int, items: int) -> None:
        if stopped.is_set():
            raise InterruptedByUserError(f"{name}: interrupted")
        environment.listener.advanced(name, size, items)

    return advance


def _sudden_emptiness(
    planned: BackupPlan, name: str, proof: Proof, before: Proof | None
) -> ComponentError | None:
    """Say so when everything is gone since the last backup: that is a failure, not a saving."""
    if before is None or before.empty or not proof.empty or planned.lenient or planned.accept_empty:
        return None
    return ComponentError(
        f"{name} is empty; the last backup held {before.summary()}",
        hint="if it is meant to be empty: `sheetanchor backup --accept-empty`",
    )


def _with_hooks(
    environment: Environment,
    component: Component,
    sink: RepositorySink,
    previous: Previous,
    planned: BackupPlan,
) -> Proof:
    """Run the pre commands, the capture and, whatever happened, the post commands."""
    hooks = environment.hooks[component.name]
    try:
        for command in hooks.pre:
            environment.processes.run(command)
        return component.capture(
            sink,
            None if planned.lenient or planned.accept_empty else previous.proof,
            lenient=planned.lenient,
        )
    finally:
        for command in hooks.post:
            environment.processes.run(command)
