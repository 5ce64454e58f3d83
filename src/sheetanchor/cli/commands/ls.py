"""`sheetanchor ls`: the files in a backup."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from sheetanchor.cli.options import BackupName, Context, Json, examples

if TYPE_CHECKING:
    from sheetanchor.operations.results import ListedEntry

EPILOG = examples(
    "sheetanchor ls latest",
    "sheetanchor ls latest /volumes/uploads",
    "sheetanchor ls latest --json | jq -r 'select(.message_type == \"entry\") | .path'",
)


def command(
    context: Context,
    name: BackupName,
    path: Annotated[str, typer.Argument(metavar="[PATH]", help="Only what is at and below it.")] = "/",
    as_json: Json = False,
) -> None:
    """List the files in a backup. NAME may also be the id of any restic snapshot."""
    from sheetanchor.cli.invocation import result_fields

    output = context.obj.output
    count = num_bytes = 0
    with context.obj.application() as application:
        for entry in application.list_entries(name, path):
            count += 1
            num_bytes += entry.size if entry.type == "file" else 0
            if output.as_json:
                output.message({"message_type": "entry", **result_fields(entry)})
            elif not output.line(_line(entry)):
                return
    if output.as_json:
        output.summary({"backup": name, "entries": count, "bytes": num_bytes})


def _line(entry: ListedEntry) -> str:
    from sheetanchor.cli import words

    owner = f"{entry.uid}:{entry.gid}"
    return (
        f"{entry.mode}  {owner:>11}  {words.size(entry.size):>9}  {words.moment(entry.mtime)}"
        f"  {words.printable(entry.path)}"
    )
