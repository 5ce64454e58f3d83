"""`export`: writes the portable archive, reads it back, writes its report, uploads both."""

from __future__ import annotations

import os
import shlex
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from sheetanchor.archive.layout import ArchiveForms
from sheetanchor.archive.reader import open_archive
from sheetanchor.archive.remote import upload
from sheetanchor.archive.report import (
    ComponentFigures,
    FileFigures,
    ReportFigures,
    render_report,
    report_name,
)
from sheetanchor.operations import export
from sheetanchor.operations.catalog import Catalog
from sheetanchor.operations.environment import Environment
from sheetanchor.operations.manifest import ManifestComponent
from sheetanchor.operations.results import ExportSummary
from sheetanchor.secret import Secret


@dataclass(frozen=True)
class PublishRequest:
    """Which backup goes where, in which forms."""

    backup: str
    directory: Path
    forms: ArchiveForms
    key: Secret | None
    upload: str | None
    environment: Mapping[str, str]
    """Where AWS_* variables are."""


def execute(environment: Environment, catalog: Catalog, request: PublishRequest) -> ExportSummary:
    """Write, prove and upload the archive. Raises ArchiveError, NoSpaceError, BackendError."""
    begin = environment.clock.monotonic()
    asked = export.ExportRequest(
        request.backup, request.directory, request.forms, request.key, request.directory
    )
    exported = export.execute(environment, catalog, asked)
    verified = tuple(
        _read_back(environment, path, request.key, exported.members) for path in _forms(exported)
    )
    addresses: tuple[str, ...] = ()
    if request.upload is not None:
        paths = [path for path, _, _ in exported.files]
        addresses = upload(paths, request.upload, request.environment, environment.listener)
    figures = _figures(environment, request, exported, verified, addresses)
    report = request.directory / report_name(exported.manifest.backup)
    _write_text(report, render_report(figures))
    if request.upload is not None:
        upload([report], request.upload, request.environment, environment.listener)
    return ExportSummary(
        backup=exported.manifest.backup,
        files=tuple(str(path) for path, _, _ in exported.files),
        bytes_before=figures.content_bytes,
        bytes_after=figures.archive_bytes,
        duration_s=environment.clock.monotonic() - begin,
        uploaded_to=request.upload,
        report=str(report),
    )


def _forms(exported: export.Exported) -> list[Path]:
    """Return the files that are whole archives, not what authenticates them."""
    suffixes = (".hmac", ".sha256")
    return [path for path, _, _ in exported.files if not path.name.endswith(suffixes)]


def _read_back(environment: Environment, path: Path, key: Secret | None, members: int) -> str:
    """Read an archive that was just written as a restore would, to its end; say what was checked."""
    environment.listener.started(f"read back {path.name}")
    with open_archive(path, key=key, trust=False):
        pass
    environment.listener.finished(f"read back {path.name}")
    how = "HMAC and checksums" if path.name.endswith(".enc") else "checksums"
    return f"{path.name} read back: {how} of {members} members agree"


def _figures(
    environment: Environment,
    request: PublishRequest,
    exported: export.Exported,
    verified: tuple[str, ...],
    addresses: tuple[str, ...],
) -> ReportFigures:
    manifest = exported.manifest
    forms = _forms(exported)
    sizes = [size for path, size, _ in exported.files if path in forms]
    return ReportFigures(
        backup=manifest.backup,
        stack=manifest.stack,
        status=manifest.status,
        taken_at=manifest.started_at,
        backup_duration_s=(manifest.finished_at - manifest.started_at).total_seconds(),
        components=tuple(_component(entry) for entry in manifest.components),
        repository=environment.repository.location,
        files=tuple(FileFigures(str(path), size, digest) for path, size, digest in exported.files),
        content_bytes=exported.content_bytes,
        archive_bytes=min(sizes),
        export_duration_s=exported.duration_s,
        encrypted=request.forms.enc and not request.forms.folder and not request.forms.tar,
        uploaded_to=addresses,
        verified=verified,
        restore_command=f"sheetanchor restore {shlex.quote(str(forms[-1]))}",
    )


def _component(entry: ManifestComponent) -> ComponentFigures:
    return ComponentFigures(
        name=entry.name,
        type=entry.type,
        status=entry.status,
        proof=entry.proof_summary,
        bytes_read=entry.bytes_read,
        bytes_added=entry.bytes_added,
        duration_s=entry.duration_s,
        warnings=entry.warnings,
        error=entry.error,
    )


def _write_text(path: Path, text: str) -> None:
    """Write a file whole or not at all."""
    temporary = path.with_name(f".{path.name}.tmp")
    with temporary.open("w", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    temporary.rename(path)
