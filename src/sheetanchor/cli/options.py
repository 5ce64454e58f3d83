"""Options and arguments that several commands share, so that they read the same everywhere."""

from __future__ import annotations

from typing import Annotated

import typer

Context = typer.Context
WHICH = "Which components"

Json = Annotated[bool, typer.Option("--json", help="One JSON object a line, for programs.")]
Only = Annotated[
    list[str] | None,
    typer.Option(
        "--only", metavar="C,…", help="Only these (names, separated by commas).", rich_help_panel=WHICH
    ),
]
Skip = Annotated[
    list[str] | None,
    typer.Option("--skip", metavar="C,…", help="All but these.", rich_help_panel=WHICH),
]
SkipType = Annotated[
    list[str] | None,
    typer.Option(
        "--skip-type",
        metavar="T,…",
        help="All but those of a type: postgres, redis, volume, configs.",
        rich_help_panel=WHICH,
    ),
]
ReadData = Annotated[
    str | None,
    typer.Option(
        "--read-data",
        metavar="[=P%]",
        help="Read and check the stored data too: all, or a share, another one each time (--read-data=5%).",
    ),
]
BackupName = Annotated[
    str, typer.Argument(metavar="NAME", help="A backup's name, or `latest`.", show_default=False)
]


def separated(values: list[str] | None) -> tuple[str, ...]:
    """Split `--only a,b --only c` into a, b, c."""
    parts = (part.strip() for value in values or () for part in value.split(","))
    return tuple(part for part in parts if part)


def examples(*lines: str) -> str:
    """Return the epilog of a command's help: one example a line."""
    return "\n".join(lines)


def read_data_share(value: str | None) -> bool | float:
    """Turn `--read-data` into what the check takes: False, True or a share."""
    from sheetanchor.cli.words import parse_percent
    from sheetanchor.errors import UsageError

    if value is None:
        return False
    try:
        share = parse_percent(value)
    except ValueError as error:
        raise UsageError(f"--read-data: {error}", hint="without a share all of it is read") from error
    return True if share == 1 else share
