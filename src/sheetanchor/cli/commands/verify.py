"""`sheetanchor verify`: prove that a backup is whole."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from sheetanchor.cli.commands.repository import report
from sheetanchor.cli.options import Context, Json, ReadData, examples, read_data_share

if TYPE_CHECKING:
    from sheetanchor.operations.results import VerifySummary

EPILOG = examples(
    "sheetanchor verify                       the newest complete backup: everything is there",
    "sheetanchor verify latest --read-data    every byte is read and checked",
    "sheetanchor verify --read-data=10%       for every night: all of the repository in ten of them",
)
SHOWN_ERRORS = 20


def command(
    context: Context,
    name: Annotated[str, typer.Argument(metavar="[NAME]", help="A backup's name, or `latest`.")] = "latest",
    read_data: ReadData = None,
    as_json: Json = False,
) -> int:
    """Prove that a backup is whole: its manifest, its snapshots, every file and every block.

    With a share (--read-data=10%) the whole repository is checked besides, and that share of all its
    packs is read, another one each time: after ten such runs every pack was read.

    Exit code 1 if anything is missing or damaged.
    """
    output = context.obj.output
    share = read_data_share(read_data)
    checked = None
    with context.obj.application() as application:
        summary = application.verify(name, read_data=share is True)
        if share not in {True, False}:
            checked = application.check(read_data=share)
    if output.as_json:
        from sheetanchor.cli.invocation import result_fields

        fields = result_fields(summary)
        output.summary(fields if checked is None else {**fields, "repository": result_fields(checked)})
    else:
        output.lines([*_report(summary), *(report(checked) if checked else ())])
    return 1 if summary.errors or (checked and checked.errors) else 0


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
