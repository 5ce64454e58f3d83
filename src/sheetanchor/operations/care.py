"""Care for the repository as a whole: check it, list its keys."""

from __future__ import annotations

from sheetanchor.clock import Clock, moment
from sheetanchor.events import Listener
from sheetanchor.operations.results import CheckSummary, KeyInfo
from sheetanchor.repository.repository import Finding, Repository


def check(
    repository: Repository, clock: Clock, listener: Listener, *, read_data: bool | float
) -> CheckSummary:
    """Check indexes, packs and trees, and with `read_data` all or a share of the data."""
    begin = clock.monotonic()
    report = repository.check(read_data=read_data, listener=listener)
    return CheckSummary(
        status="damaged" if report.errors else "whole",
        snapshots=report.snapshots,
        packs=report.packs,
        bytes_read=report.bytes_read,
        duration_s=clock.monotonic() - begin,
        errors=tuple(_told(finding) for finding in report.errors),
        notes=tuple(report.hints),
    )


def _told(finding: Finding) -> str:
    hit = ", ".join(snapshot[:8] for snapshot in finding.snapshots)
    return f"{finding.file}: {finding.what}" + (f" (snapshots {hit})" if hit else "")


def keys(repository: Repository) -> list[KeyInfo]:
    """Return the repository's keys, oldest first."""
    keyring = repository.keyring
    return [
        KeyInfo(
            key=stored.id.hex(),
            username=stored.file.username,
            hostname=stored.file.hostname,
            created=moment(stored.file.created_ns),
            current=stored.id == keyring.current,
        )
        for stored in keyring.list()
    ]
