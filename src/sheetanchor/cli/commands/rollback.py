"""`sheetanchor rollback`: take the last restore back."""

from __future__ import annotations

from typing import Annotated

import typer

from sheetanchor.cli.options import Context, Json, examples

EPILOG = examples("sheetanchor rollback", "sheetanchor rollback --no-confirm")


def command(
    context: Context,
    no_confirm: Annotated[bool, typer.Option("--no-confirm", help="Do not ask.")] = False,
    as_json: Json = False,
) -> None:
    """Take the last restore back.

    An interrupted restore is undone; a finished one is answered by restoring its safety backup.
    """
    from sheetanchor.cli.confirm import confirm, require_someone_to_ask
    from sheetanchor.cli.restoring import report

    output = context.obj.output
    if not no_confirm:
        require_someone_to_ask(output, "rollback")
    with context.obj.application() as application:
        if not no_confirm:
            output.note("The state before the last restore replaces the present one.")
            confirm(output, application.stack_name)
        summary = application.rollback()
    report(output, summary)
