"""The report says what was measured, and nothing else."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime

from sheetanchor.archive.report import (
    ComponentFigures,
    FileFigures,
    ReportFigures,
    render_report,
    report_name,
)

MIB = 1 << 20
FIGURES = ReportFigures(
    backup="backup_20240101_020000",
    stack="prodstack",
    status="complete",
    taken_at=datetime(2024, 1, 1, 2, 0, tzinfo=UTC),
    backup_duration_s=75.0,
    components=(
        ComponentFigures(
            "postgres", "postgres", "saved", "2 databases, 41,200 rows", 100 * MIB, 10 * MIB, 50.0
        ),
        ComponentFigures(
            "uploads", "volume", "saved", "12 files", 60 * MIB, 6 * MIB, 20.0, ("a\nb changed",)
        ),
    ),
    repository="/srv/repository",
    files=(FileFigures("/backups/backup_20240101_020000.tar.gz", 40 * MIB, "ab" * 32),),
    content_bytes=160 * MIB,
    archive_bytes=40 * MIB,
    export_duration_s=8.0,
    encrypted=False,
    uploaded_to=(),
    verified=(),
    restore_command="./deploy/scripts/restore.sh backup_20240101_020000",
)


def test_the_report_holds_every_figure() -> None:
    """What was saved, sizes, ratios, rates, warnings, checksums, where, and how to restore it."""
    text = render_report(FIGURES)
    for expected in (
        "backup_20240101_020000",
        "2024-01-01 02:00:00 UTC",
        "1 min 15 s",
        "2 databases, 41,200 rows",
        "2.0 MiB/s",
        "16.0 MiB added of 160.0 MiB read (90 % less, 10.0 to 1)",
        "160.0 MiB became 40.0 MiB (75 % less, 4.0 to 1)",
        "ab" * 32,
        "/backups/backup_20240101_020000.tar.gz",
        "uploads: a?b changed",
        "./deploy/scripts/restore.sh backup_20240101_020000",
    ):
        assert expected in text


def test_nothing_is_claimed_that_did_not_happen() -> None:
    """Not uploaded, not encrypted, not verified, grown instead of shrunk: each said so."""
    text = render_report(replace(FIGURES, content_bytes=10 * MIB))
    assert "Offsite:     no" in text
    assert "Encrypted:   repository only" in text
    assert "Verified:    no" in text
    assert "4.00 times as large" in text


def test_a_failed_component_is_seen() -> None:
    """The reason stands among the warnings, and the status says partial."""
    failed = ComponentFigures("redis", "redis", "failed", "", 0, 0, 1.0, error="redis: connection refused")
    text = render_report(replace(FIGURES, status="partial", components=(*FIGURES.components, failed)))
    assert "Status:      partial" in text
    assert "redis: FAILED: redis: connection refused" in text


def test_the_report_has_the_runbooks_name() -> None:
    """`backup_report_<date>_<time>.txt`."""
    assert report_name("backup_20240101_020000") == "backup_report_20240101_020000.txt"
