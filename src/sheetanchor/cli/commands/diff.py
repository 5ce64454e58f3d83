"""`sheetanchor diff`: what changed between two backups."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Annotated

import typer

from sheetanchor.cli.options import Context, Json, examples

if TYPE_CHECKING:
    from sheetanchor.operations.results import Change

EPILOG = examples(
    "sheetanchor diff backup_20261121_020000 latest",
    "sheetanchor diff backup_20261121_020000 backup_20261122_020000 --json",
)
_WORDS = {"+": "added", "-": "removed", "M": "content", "U": "metadata", "T": "type"}


def command(
    context: Context,
    before: Annotated[str, typer.Argument(metavar="A", help="The earlier backup.", show_default=False)],
    after: Annotated[str, typer.Argument(metavar="B", help="The later backup.", show_default=False)],
    as_json: Json = False,
) -> None:
    """Show what changed from backup A to backup B.

    + added, - removed, M other content, U other owner, mode or time, T another type.
    """
    from sheetanchor.cli.invocation import result_fields

    output = context.obj.output
    counts: Counter[str] = Counter()
    with context.obj.application() as application:
        for change in application.compare(before, after):
            counts[change.change] += 1
            if output.as_json:
                output.message({"message_type": "change", **result_fields(change)})
            elif not output.line(_line(change)):
                return
    totals = {word: counts[sign] for sign, word in _WORDS.items()}
    if output.as_json:
        output.summary({"before": before, "after": after, **totals})
    else:
        output.note(", ".join(f"{number:,} {word}" for word, number in totals.items()))


def _line(change: Change) -> str:
    from sheetanchor.cli import words

    sizes = ""
    if change.change == "M":
        sizes = f"  ({words.size(change.size_before)} -> {words.size(change.size_after)})"
    return f"{change.change}  {words.printable(change.path)}{sizes}"
