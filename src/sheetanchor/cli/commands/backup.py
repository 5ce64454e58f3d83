"""`sheetanchor backup`: one backup of everything, or of what is named."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from sheetanchor.cli.options import Context, Json, Only, Skip, SkipType, examples, separated

if TYPE_CHECKING:
    from sheetanchor.cli.output import Output
    from sheetanchor.operations.results import BackupSummary, ComponentBackup

EPILOG = examples(
    "sheetanchor backup",
    "sheetanchor backup --only postgres,redis",
    "sheetanchor backup --skip uploads --tag before-upgrade",
    "sheetanchor backup --json | tail -n 1 | jq -r .backup",
)


def command(
    context: Context,
    only: Only = None,
    skip: Skip = None,
    skip_type: SkipType = None,
    tag: Annotated[
        list[str] | None,
        typer.Option("--tag", metavar="T", help="A word of your own to mark the backup with."),
    ] = None,
    accept_empty: Annotated[
        bool,
        typer.Option(
            "--accept-empty", help="It is right that something is empty now that was not at the last backup."
        ),
    ] = False,
    as_json: Json = False,
) -> int:
    """Back up everything, or only what is named.

    A component that fails does not keep the others from being saved: the backup is then partial
    (exit code 3), and `restore latest` passes it over.
    """
    from sheetanchor.cli.invocation import result_fields, selection

    output = context.obj.output
    with context.obj.application() as application:
        summary = application.backup(
            selection(only, skip, skip_type), tags=separated(tag), accept_empty=accept_empty
        )
    if output.as_json:
        output.summary(result_fields(summary))
    else:
        output.lines(_report(output, summary))
    return _exit_code(output, summary)


def _exit_code(output: Output, summary: BackupSummary) -> int:
    from sheetanchor.errors import PartialBackupError

    failed = [component for component in summary.components if component.status == "failed"]
    if not failed:
        return 0
    if not output.as_json:
        first = failed[0]
        names = ", ".join(component.name for component in failed)
        output.error(
            PartialBackupError(
                f"{summary.backup} is partial; not saved: {names}: {first.error}", hint=first.hint
            )
        )
    return PartialBackupError.exit_code


def _report(output: Output, summary: BackupSummary) -> list[str]:
    from sheetanchor.cli import words
    from sheetanchor.cli.table import table

    headings = ("COMPONENT", "TYPE", "STATUS", "READ", "ADDED", "TIME", "CONTENTS")
    lines = table(headings, map(_row, summary.components), right=("READ", "ADDED", "TIME"))
    lines[0] = output.heading(lines[0])
    speed = words.rate(summary.bytes_read, summary.duration_s)
    return [
        *lines,
        "",
        f"{summary.backup}: {summary.status.value} in {words.duration(summary.duration_s)};"
        f" {words.size(summary.bytes_read)} read ({speed}), {words.size(summary.bytes_added)} added",
    ]


def _row(component: ComponentBackup) -> tuple[str, ...]:
    from sheetanchor.cli import words

    return (
        component.name,
        component.type,
        component.status,
        words.size(component.bytes_read),
        words.size(component.bytes_added),
        words.duration(component.duration_s),
        words.printable(component.proof_summary or component.error or ""),
    )
