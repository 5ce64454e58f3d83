"""`sheetanchor list`: which backups there are."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sheetanchor.cli.options import Context, Json, examples

if TYPE_CHECKING:
    from sheetanchor.operations.results import BackupInfo

EPILOG = examples(
    "sheetanchor list",
    "sheetanchor list --json | jq -r '.[] | select(.status == \"complete\") | .backup'",
)


def command(context: Context, as_json: Json = False) -> None:
    """Show all backups, oldest first.

    Only a complete backup is a restore point: a partial one lacks what failed, an incomplete one
    was cut off before it was committed.
    """
    from sheetanchor.cli.invocation import result_fields
    from sheetanchor.cli.table import table

    output = context.obj.output
    with context.obj.application() as application:
        backups = application.backups()
    if output.as_json:
        output.message([result_fields(backup) for backup in backups])
        return
    if not backups:
        output.note("no backups yet; `sheetanchor backup` makes the first")
        return
    headings = ("BACKUP", "TIME", "STATUS", "TIER", "READ", "ADDED", "DURATION", "COMPONENTS", "TAGS")
    lines = table(headings, map(_row, backups), right=("READ", "ADDED", "DURATION"))
    output.lines([output.heading(lines[0]), *lines[1:]])


def _row(backup: BackupInfo) -> tuple[str, ...]:
    from sheetanchor.cli import words

    status = backup.status.value + (" (unproven)" if backup.unproven else "")
    return (
        words.printable(backup.backup),
        words.moment(backup.time),
        status,
        backup.tier,
        words.size(backup.bytes_read),
        words.size(backup.bytes_added),
        words.duration(backup.duration_s),
        words.printable(", ".join(backup.components)),
        words.printable(", ".join(backup.tags)),
    )
