"""`sheetanchor verify`: prove that a backup is whole."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from sheetanchor.cli.options import Context, Json, ReadData, examples, read_data_share

if TYPE_CHECKING:
    from sheetanchor.operations.results import VerifySummary

EPILOG = examples(
    "sheetanchor verify                       the newest complete backup: everything is there",
    "sheetanchor verify latest --read-data    every byte is read and checked",
)
SHOWN_ERRORS = 20


def command(
    context: Context,
    name: Annotated[str, typer.Argument(metavar="[NAME]", help="A backup's name, or `latest`.")] = "latest",
    read_data: ReadData = None,
    as_json: Json = False,
) -> int:
    """Prove that a backup is whole: its manifest, its snapshots, every file and every block.

    Exit code 1 if anything is missing or damaged.
    """
    output = context.obj.output
    share = read_data_share(read_data)
    if share not in {True, False}:
        from sheetanchor.errors import UsageError

        raise UsageError(
            "verify reads a backup's data whole or not at all",
            hint="`sheetanchor repository check --read-data=5%` reads a share of the whole repository",
        )
    with context.obj.application() as application:
        summary = application.verify(name, read_data=share is True)
    if output.as_json:
        from sheetanchor.cli.invocation import result_fields

        output.summary(result_fields(summary))
    else:
        output.lines(_report(summary))
    return 1 if summary.errors else 0


def _report(summary: VerifySummary) -> list[str]:
    from sheetanchor.cli import words

    depth = (
        f"{words.size(summary.bytes_checked)} read and checked"
        if summary.read_data
        else "structure only; --read-data checks the bytes too"
    )
    lines = [f"damaged: {words.printable(error)}" for error in summary.errors[:SHOWN_ERRORS]]
    if len(summary.errors) > SHOWN_ERRORS:
        lines.append(f"and {len(summary.errors) - SHOWN_ERRORS} more (--json shows all)")
    files = words.count(summary.files, "file")
    return [
        *lines,
        f"{summary.backup}: {summary.status}, {files} in {words.duration(summary.duration_s)} ({depth})",
    ]
