"""What operations hand back: frozen models whose JSON is the public machine-readable output."""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict


class Result(BaseModel):
    """Base of all results."""

    model_config = ConfigDict(frozen=True)


class BackupStatus(StrEnum):
    """How far a backup got."""

    COMPLETE = "complete"
    PARTIAL = "partial"
    INCOMPLETE = "incomplete"
    """No manifest: the run was cut off; never a restore point."""


class ComponentBackup(Result):
    """One component of a backup run."""

    name: str
    type: str
    status: Literal["saved", "failed", "absent"]
    snapshot: str | None = None
    """Hex id of the restic snapshot."""
    bytes_read: int = 0
    bytes_added: int = 0
    duration_s: float = 0.0
    proof: dict[str, Any] | None = None
    proof_summary: str = ""
    warnings: tuple[str, ...] = ()
    error: str | None = None
    hint: str | None = None


class BackupSummary(Result):
    """One backup run; `backup --json` ends with it."""

    backup: str
    stack: str
    status: BackupStatus
    tier: str
    started_at: datetime
    duration_s: float
    bytes_read: int
    bytes_added: int
    components: tuple[ComponentBackup, ...]


class BackupInfo(Result):
    """One backup as a listing shows it."""

    backup: str
    stack: str
    status: BackupStatus
    tier: str
    time: datetime
    components: tuple[str, ...]
    tags: tuple[str, ...] = ()
    bytes_read: int | None = None
    bytes_added: int | None = None
    duration_s: float | None = None
    unproven: bool = False
    """Came from an archive without checksums."""


class ComponentPlan(Result):
    """What a restore will do to one component."""

    name: str
    type: str
    contents: str
    """The proof in a phrase: "3 databases, 41,200 rows"."""
    needed_bytes: int
    free_bytes: int | None
    interrupts_service: bool
    notes: tuple[str, ...] = ()


class RestorePlan(Result):
    """A restore as it will be carried out; printable, and touches nothing."""

    backup: str
    stack: str
    token: str
    taken_at: datetime
    components: tuple[ComponentPlan, ...]
    steps: tuple[str, ...]
    in_place: bool
    safety_backup: bool
    include: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()


class ComponentRestored(Result):
    """One component of a restore."""

    name: str
    type: str
    status: Literal["restored", "unchanged", "failed", "undone"]
    compared: tuple[str, ...] = ()
    duration_s: float = 0.0
    error: str | None = None


class RestoreSummary(Result):
    """One restore; `restore --json` ends with it."""

    backup: str
    status: Literal["restored", "undone", "rolled_back", "extracted"]
    duration_s: float
    safety_backup: str | None
    components: tuple[ComponentRestored, ...]
    warnings: tuple[str, ...] = ()


class VerifySummary(Result):
    """What `verify` looked at and found."""

    backup: str
    status: Literal["whole", "damaged"]
    duration_s: float
    read_data: bool
    files: int
    bytes_checked: int
    errors: tuple[str, ...]


class ListedEntry(Result):
    """One line of `ls`."""

    path: str
    type: str
    mode: str
    uid: int
    gid: int
    size: int
    mtime: datetime


class Change(Result):
    """One line of `diff`: + added, - removed, M content, U metadata, T type."""

    change: Literal["+", "-", "M", "U", "T"]
    path: str
    size_before: int | None = None
    size_after: int | None = None


class FreshnessLevel(StrEnum):
    """The words of monitoring plugins, with their exit codes."""

    OK = "ok"
    WARNING = "warning"
    CRITICAL = "critical"
    UNKNOWN = "unknown"

    @property
    def exit_code(self) -> int:
        """Return 0, 1, 2 or 3."""
        return list(FreshnessLevel).index(self)


class StatusSummary(Result):
    """How fresh the backups of a stack are."""

    stack: str
    level: FreshnessLevel
    message: str
    newest_complete: BackupInfo | None
    age_s: float | None
    newest_partial: BackupInfo | None
    components: dict[str, float]
    """Age in seconds of the newest saved state of each configured component."""
    missing_components: tuple[str, ...] = ()
    backups: int = 0
    unfinished_restore: str | None = None


class ExportSummary(Result):
    """A portable archive that was written."""

    backup: str
    files: tuple[str, ...]
    bytes_before: int
    bytes_after: int
    duration_s: float
    uploaded_to: str | None = None
    report: str | None = None


class ImportSummary(Result):
    """A portable archive that is now a backup in the repository."""

    backup: str
    status: Literal["imported", "present"]
    proven: bool
    components: tuple[ComponentBackup, ...]
    duration_s: float


class CheckSummary(Result):
    """What a check of the whole repository looked at and found."""

    status: Literal["whole", "damaged"]
    snapshots: int
    packs: int
    bytes_read: int
    duration_s: float
    errors: tuple[str, ...]
    notes: tuple[str, ...] = ()
    """What is no damage, such as packs that nothing refers to."""


class KeyInfo(Result):
    """One password's key."""

    key: str
    username: str
    hostname: str
    created: datetime | None
    current: bool
    """This run opened the repository with it."""
