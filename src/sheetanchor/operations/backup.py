"""A backup: capture every chosen component, then commit all of them with one manifest.

Order on storage: packs, indexes, the components' snapshots, the manifest's snapshot. A run that
is cut off anywhere before the last step leaves a backup that is `incomplete`.
"""

from __future__ import annotations

import getpass
import io
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from sheetanchor import __version__
from sheetanchor.components.base import Component, IncompleteCaptureError, Proof
from sheetanchor.errors import (
    BackendError,
    ComponentError,
    InterruptedByUserError,
    NothingThereError,
    RepositoryError,
    SheetanchorError,
)
from sheetanchor.operations.catalog import Catalog
from sheetanchor.operations.environment import Environment, Selection
from sheetanchor.operations.manifest import MANIFEST_PATH, Manifest, ManifestComponent
from sheetanchor.operations.naming import MANUAL_TIER, Tags, backup_name, component_root
from sheetanchor.operations.results import BackupStatus, BackupSummary, ComponentBackup
from sheetanchor.operations.run_lock import run_lock
from sheetanchor.operations.store import RepositorySink
from sheetanchor.repository.ids import Id
from sheetanchor.repository.repository import WriteSession
from sheetanchor.repository.snapshot import Snapshot, StoredSnapshot, Summary
from sheetanchor.stacks.base import Work

PROGRAM = f"sheetanchor {__version__}"
CAPTURE = "capture"


@dataclass(frozen=True)
class BackupPlan:
    """One backup run before it starts."""

    name: str
    tier: str
    started_at: datetime
    components: tuple[str, ...]
    tags: tuple[str, ...] = ()
    lenient: bool = False
    """For a safety backup: what is damaged or gone is saved as far as it is there."""
    accept_empty: bool = False
    """Take it for right that a component is empty which was not at the last backup."""
    origin: str | None = None
    proven: bool = True


@dataclass(frozen=True)
class Previous:
    """What the last backup of a component left: to compare with, and to skip unchanged files."""

    snapshot: StoredSnapshot | None = None
    proof: Proof | None = None
    bytes_read: int | None = None
    """What this backup will read, as far as anyone can know before."""


@dataclass(frozen=True)
class Captured:
    """One component in the packs, not yet in a snapshot."""

    name: str
    kind: str
    root: str
    tree: Id
    proof: Proof
    bytes_read: int
    bytes_added: int
    duration_s: float
    previous: Previous
    error: SheetanchorError | None = None
    """Why it is not all there; what is there is kept, and the component counts as failed."""


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
        run_lock(environment.state_directory, f"backup {planned.name}"),
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


def commit(
    environment: Environment,
    session: WriteSession,
    planned: BackupPlan,
    outcomes: Sequence[Captured | SheetanchorError],
) -> tuple[ComponentBackup, ...]:
    """Make what was captured durable: packs and indexes, snapshots, and the manifest last."""
    session.flush()
    entries = tuple(
        _failed(environment, name, outcome, lenient=planned.lenient)
        if isinstance(outcome, SheetanchorError)
        else _save(environment, planned, outcome)
        for name, outcome in zip(planned.components, outcomes, strict=True)
    )
    _commit_manifest(environment, session, planned, _manifest(environment, planned, entries))
    return entries


def _previous(environment: Environment, catalog: Catalog, name: str) -> Previous:
    record = catalog.newest_holding(name)
    if record is None:
        return Previous()
    entry = catalog.manifest(record).component(name)
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


def _save(environment: Environment, planned: BackupPlan, captured: Captured) -> ComponentBackup:
    """Write one component's snapshot."""
    tags = Tags(
        stack=environment.stack_name,
        backup=planned.name,
        tier=planned.tier,
        component=captured.name,
        type=captured.kind,
        status="failed" if captured.error else None,
        others=planned.tags,
    )
    parent = captured.previous.snapshot
    stored = environment.repository.save_snapshot(
        _draft(environment, captured.tree, (captured.root,), tags, parent=parent.id if parent else None)
    )
    return ComponentBackup(
        name=captured.name,
        type=captured.kind,
        status="failed" if captured.error else "saved",
        error=captured.error.message if captured.error else None,
        hint=captured.error.hint if captured.error else None,
        snapshot=stored.id.hex(),
        bytes_read=captured.bytes_read,
        bytes_added=captured.bytes_added,
        duration_s=captured.duration_s,
        proof=captured.proof.model_dump(mode="json"),
        proof_summary=captured.proof.summary(),
        warnings=captured.proof.warnings,
    )


def _failed(
    environment: Environment, name: str, error: SheetanchorError, *, lenient: bool
) -> ComponentBackup:
    absent = lenient and isinstance(error, NothingThereError)
    return ComponentBackup(
        name=name,
        type=environment.components[name].kind,
        status="absent" if absent else "failed",
        error=error.message,
        hint=error.hint,
    )


def _manifest(
    environment: Environment, planned: BackupPlan, entries: tuple[ComponentBackup, ...]
) -> Manifest:
    if not any(entry.snapshot for entry in entries) and not planned.lenient:
        first = next(entry for entry in entries if entry.status == "failed")
        raise ComponentError(f"nothing was saved: {first.name}: {first.error}", hint=first.hint)
    failed = any(entry.status == "failed" for entry in entries)
    return Manifest(
        program=PROGRAM,
        stack=environment.stack_name,
        backup=planned.name,
        tier=planned.tier,
        status="partial" if failed else "complete",
        started_at=planned.started_at,
        finished_at=environment.clock.now(),
        components=tuple(_manifest_entry(environment, entry) for entry in entries),
        proven=planned.proven,
        origin=planned.origin,
    )


def _manifest_entry(environment: Environment, entry: ComponentBackup) -> ManifestComponent:
    tree = None
    if entry.snapshot is not None:
        tree = environment.repository.find_snapshot(entry.snapshot).snapshot.tree.hex()
    return ManifestComponent(
        root=component_root(entry.type, entry.name),
        tree=tree,
        **entry.model_dump(exclude={"hint"}),
    )


def _commit_manifest(
    environment: Environment, session: WriteSession, planned: BackupPlan, manifest: Manifest
) -> None:
    """Write the manifest's snapshot: the last thing, and the one that makes the backup count."""
    writer = session.tree("/")
    writer.write_stream(MANIFEST_PATH, io.BytesIO(manifest.encode()))
    tree = writer.finish()
    session.flush()
    tags = Tags(
        stack=environment.stack_name,
        backup=planned.name,
        tier=planned.tier,
        manifest=manifest.status,
        others=planned.tags,
    )
    summary = Summary(
        backup_start_ns=nanoseconds(planned.started_at),
        backup_end_ns=nanoseconds(manifest.finished_at),
        data_added_packed=session.statistics.bytes_added,
        total_bytes_processed=sum(entry.bytes_read for entry in manifest.components),
    )
    environment.repository.save_snapshot(
        _draft(environment, tree, (f"/{MANIFEST_PATH}",), tags, summary=summary)
    )


def _draft(
    environment: Environment,
    tree: Id,
    paths: tuple[str, ...],
    tags: Tags,
    *,
    parent: Id | None = None,
    summary: Summary | None = None,
) -> Snapshot:
    return Snapshot(
        time_ns=nanoseconds(environment.clock.now()),
        tree=tree,
        paths=paths,
        hostname=environment.stack_name,
        username=getpass.getuser(),
        tags=tags.encode(),
        parent=parent,
        program_version=PROGRAM,
        summary=summary,
    )


def nanoseconds(moment: datetime) -> int:
    """Return the moment as nanoseconds since the epoch, exact to the microsecond."""
    return int(moment.timestamp()) * 1_000_000_000 + moment.microsecond * 1000
