"""Makes what was captured count: packs and indexes, the components' snapshots, the manifest last.

A run that is cut off anywhere before the manifest's snapshot leaves a backup that is `incomplete`.
"""

from __future__ import annotations

import getpass
import io
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from sheetanchor import __version__
from sheetanchor.components.base import Proof
from sheetanchor.errors import (
    ComponentError,
    NothingThereError,
    SheetanchorError,
)
from sheetanchor.operations.environment import Environment
from sheetanchor.operations.manifest import MANIFEST_PATH, Manifest, ManifestComponent
from sheetanchor.operations.naming import Tags, component_root
from sheetanchor.operations.results import ComponentBackup
from sheetanchor.repository.ids import Id
from sheetanchor.repository.repository import WriteSession
from sheetanchor.repository.snapshot import Snapshot, StoredSnapshot, Summary

PROGRAM = f"sheetanchor {__version__}"


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
