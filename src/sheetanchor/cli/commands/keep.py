"""`sheetanchor keep`: mark a backup so that no rule removes it."""

from __future__ import annotations

from typing import Annotated

import typer

from sheetanchor.cli.options import Context, Json, examples

EPILOG = examples(
    "sheetanchor keep backup_20260301_020000             before a risky change",
    "sheetanchor keep backup_20260301_020000 --remove    once it is not needed any more",
)


def command(
    context: Context,
    name: Annotated[str, typer.Argument(metavar="NAME", help="A backup's name.", show_default=False)],
    remove: Annotated[bool, typer.Option("--remove", help="Take the mark away.")] = False,
    wait: Annotated[
        str | None,
        typer.Option("--wait", metavar="TIME", help="Wait so long for backups that are running (10m, 2h)."),
    ] = None,
    as_json: Json = False,
) -> None:
    """Mark a backup so that `forget` never removes it."""
    from sheetanchor.cli.invocation import result_fields
    from sheetanchor.cli.retaining import seconds

    output = context.obj.output
    wait_s = seconds("--wait", wait) or 0.0
    with context.obj.application() as application:
        summary = application.keep(name, keep=not remove, wait_s=wait_s)
    if output.as_json:
        output.summary(result_fields(summary))
    else:
        word = "is kept whatever the rules say" if summary.kept else "is judged by the rules again"
        output.line(f"{summary.backup} {word}")
