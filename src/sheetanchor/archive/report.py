"""`backup_report_<ts>.txt`: what one backup and its archive came to, in figures that were measured.

A figure that was not measured is left out or said to be unknown; none is a promise.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

REPORT_PREFIX = "backup_report_"
_UNITS = ("B", "KiB", "MiB", "GiB", "TiB", "PiB")


@dataclass(frozen=True)
class ComponentFigures:
    """One component of the backup."""

    name: str
    type: str
    status: str
    proof: str
    """What a restore must equal, as a phrase: "3 databases, 41,200 rows"."""
    bytes_read: int
    bytes_added: int
    """New bytes in the repository, deduplicated and compressed."""
    duration_s: float
    warnings: tuple[str, ...] = ()
    error: str | None = None


@dataclass(frozen=True)
class FileFigures:
    """One file (or folder) of the archive."""

    path: str
    size: int
    sha256: str


@dataclass(frozen=True)
class ReportFigures:
    """All that a report says."""

    backup: str
    stack: str
    status: str
    """"complete" or "partial"."""
    taken_at: datetime
    backup_duration_s: float
    components: tuple[ComponentFigures, ...]
    repository: str
    files: tuple[FileFigures, ...]
    """Of the archive; empty where none was written."""
    content_bytes: int
    """Of all members together before compression, as they stand in the archive's folder, volumes unpacked."""
    archive_bytes: int
    """Of the smallest single form that was written."""
    export_duration_s: float
    encrypted: bool
    uploaded_to: tuple[str, ...]
    verified: tuple[str, ...]
    """What was checked after writing, one phrase each; empty when nothing was."""
    restore_command: str


def report_name(backup: str) -> str:
    """Return the report's file name: `backup_report_20240101_020000.txt`."""
    return f"{REPORT_PREFIX}{backup.removeprefix('backup_')}.txt"


def render_report(figures: ReportFigures) -> str:
    """Return the report as text."""
    sections = [
        _heading(figures),
        _components(figures),
        _measures(figures),
        _files(figures),
        _warnings(figures),
        ["Restore with", f"  {_line(figures.restore_command)}"],
    ]
    return "\n\n".join("\n".join(section) for section in sections if section) + "\n"


def _heading(figures: ReportFigures) -> list[str]:
    rows = [
        ("Backup", figures.backup),
        ("Stack", figures.stack),
        ("Status", figures.status),
        ("Taken", f"{figures.taken_at:%Y-%m-%d %H:%M:%S %Z}".strip()),
        (
            "Duration",
            f"{_seconds(figures.backup_duration_s)}; the archive {_seconds(figures.export_duration_s)}",
        ),
        ("Repository", figures.repository),
        ("Uploaded to", figures.uploaded_to[0].rpartition("/")[0] if figures.uploaded_to else "nowhere"),
    ]
    return [f"{name + ':':<13}{_line(value)}" for name, value in rows]


def _components(figures: ReportFigures) -> list[str]:
    rows = [("COMPONENT", "TYPE", "STATUS", "READ", "ADDED", "TIME", "RATE", "HOLDS")]
    rows += [
        (
            component.name,
            component.type,
            component.status,
            _size(component.bytes_read),
            _size(component.bytes_added),
            _seconds(component.duration_s),
            _rate(component.bytes_read, component.duration_s),
            component.proof or "-",
        )
        for component in figures.components
    ]
    widths = [max(len(row[column]) for row in rows) for column in range(7)]
    lines = []
    for row in rows:
        cells = [
            cell.rjust(width) if 3 <= column <= 6 else cell.ljust(width)
            for column, (cell, width) in enumerate(zip(row[:7], widths, strict=True))
        ]
        lines.append(_line("  ".join([*cells, row[7]])))
    return lines


def _measures(figures: ReportFigures) -> list[str]:
    """Say what came of "incremental, compressed, encrypted, offsite, verified" this time."""
    read = sum(component.bytes_read for component in figures.components)
    added = sum(component.bytes_added for component in figures.components)
    archive = "not written"
    if figures.files:
        archive = f"{_size(figures.content_bytes)} became {_size(figures.archive_bytes)}"
        archive += f" ({_saved(figures.content_bytes, figures.archive_bytes)})"
    encrypted = "repository and archive (AES-256, authenticated)" if figures.encrypted else "repository only"
    offsite = f"{len(figures.uploaded_to)} files uploaded" if figures.uploaded_to else "no"
    rows = [
        ("Incremental", f"{_size(added)} added of {_size(read)} read ({_saved(read, added)})"),
        ("Compressed", archive),
        ("Encrypted", encrypted),
        ("Offsite", offsite),
        ("Verified", "; ".join(figures.verified) or "no"),
    ]
    return [f"{name + ':':<13}{_line(value)}" for name, value in rows]


def _files(figures: ReportFigures) -> list[str]:
    if not figures.files:
        return []
    lines = ["Files (SHA-256; of a folder: of its SHA256SUMS)"]
    lines += [f"  {file.sha256}  {_size(file.size):>10}  {_line(file.path)}" for file in figures.files]
    return lines + [f"  uploaded: {_line(address)}" for address in figures.uploaded_to]


def _warnings(figures: ReportFigures) -> list[str]:
    lines = [
        f"  {component.name}: {_line(text)}"
        for component in figures.components
        for text in (*((f"FAILED: {component.error}",) if component.error else ()), *component.warnings)
    ]
    return ["Warnings", *lines] if lines else ["No warnings"]


def _line(text: str) -> str:
    """Keep one thing on one line: a file name may hold anything."""
    return "".join(letter if letter.isprintable() else "?" for letter in text).rstrip()


def _size(count: float) -> str:
    for unit in _UNITS:
        if count < 1024 or unit == _UNITS[-1]:
            break
        count /= 1024
    return f"{count:.0f} {unit}" if unit == "B" else f"{count:.1f} {unit}"


def _seconds(duration: float) -> str:
    if duration < 60:
        return f"{duration:.1f} s"
    minutes, seconds = divmod(round(duration), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes:02} min {seconds:02} s" if hours else f"{minutes} min {seconds:02} s"


def _rate(count: int, duration: float) -> str:
    return f"{_size(count / duration)}/s" if duration > 0 and count else "-"


def _saved(before: int, after: int) -> str:
    """Say how much smaller: "71 % less, 3.4 to 1"; never that something larger became less."""
    if not before or not after:
        return "nothing to compare"
    if after >= before:
        return f"{after / before:.2f} times as large"
    return f"{100 * (before - after) / before:.0f} % less, {before / after:.1f} to 1"
