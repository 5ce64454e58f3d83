"""`sheetanchor dump`: one stored file to standard output."""

from __future__ import annotations

import os
import sys
from typing import Annotated

import typer

from sheetanchor.cli.options import BackupName, Context, Json, examples

BROKEN_PIPE = 141
"""What a shell reports for a program that SIGPIPE ended."""

EPILOG = examples(
    "sheetanchor dump latest /postgres/postgres/globals.sql",
    "sheetanchor dump latest /postgres/postgres/shop.dump | pg_restore -l",
    "sheetanchor dump latest /volumes/uploads/a.pdf > a.pdf",
)


def command(
    context: Context,
    name: BackupName,
    path: Annotated[str, typer.Argument(metavar="PATH", help="As `ls` shows it.", show_default=False)],
    as_json: Json = False,
) -> int:
    """Write one stored file to standard output. With --json the messages go to standard error."""
    output = context.obj.output
    output.data_on_stdout()
    if sys.stdout.isatty() and not path.endswith((".sql", ".json", ".yml", ".txt", ".conf", ".jsonl")):
        from sheetanchor.errors import UsageError

        raise UsageError(f"{path} would be written to the terminal", hint=f"add `> {os.path.basename(path)}`")
    with context.obj.application() as application:
        try:
            size = application.dump(name, path, sys.stdout.buffer)
            sys.stdout.buffer.flush()
        except BrokenPipeError:
            _give_up_stdout()
            return BROKEN_PIPE
    if output.as_json:
        output.summary({"backup": name, "path": path, "bytes": size})
    return 0


def _give_up_stdout() -> None:
    """Leave nothing buffered that would fail once more at exit."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, sys.stdout.fileno())
    os.close(nowhere)
