"""`sheetanchor demo`: the embedded demonstration."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from sheetanchor.cli.options import Context, Json, examples

EPILOG = examples("sheetanchor demo", "sheetanchor demo --directory /tmp/demo", "sheetanchor demo --stop")


def command(
    context: Context,
    directory: Annotated[
        Path, typer.Option("--directory", "-d", metavar="DIR", help="Where everything of it is kept.")
    ] = Path(".demo"),
    stop: Annotated[bool, typer.Option("--stop", help="Stop the servers of the last demonstration.")] = False,
    as_json: Json = False,
) -> int:
    """Back up, destroy and bring back a real database, cache and volume, and prove them equal.

    Everything is embedded: no Docker, no root, nothing to install beforehand.
    """
    try:
        from sheetanchor.demo.run import run
    except ModuleNotFoundError as error:
        from sheetanchor.errors import ToolError

        raise ToolError(
            f"the demonstration needs {error.name}, which is not installed",
            hint="pip install 'sheetanchor[demo]'",
        ) from error
    output = context.obj.output
    if not output.as_json:
        return run(directory, stop=stop)
    import sys

    from rich.console import Console

    status = run(directory, stop=stop, console=Console(file=sys.stderr))
    output.summary({"status": "equal" if status == 0 else "different", "directory": str(directory)})
    return status
