"""`sheetanchor repository`: check it, repair it, copy it to a new key, clear locks, serve it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from sheetanchor.cli.commands import repository_rekey, repository_repair, serve
from sheetanchor.cli.help import Command
from sheetanchor.cli.help import group as new_group
from sheetanchor.cli.options import Context, Json, ReadData, examples, read_data_share

if TYPE_CHECKING:
    from sheetanchor.operations.results import CheckSummary

EPILOG = examples(
    "sheetanchor repository check",
    "sheetanchor repository check --read-data",
    "sheetanchor repository repair --help",
    "sheetanchor repository unlock",
    "sheetanchor repository serve --help",
)
SHOWN_ERRORS = 50
group = new_group(
    "Check the repository, repair it, clear locks that were left behind, serve it to others.", EPILOG
)
group.add_typer(repository_repair.group, name="repair")
group.command("rekey", cls=Command, epilog=repository_rekey.EPILOG)(repository_rekey.rekey)
group.command("serve", cls=Command, epilog=serve.EPILOG)(serve.serve)


@group.command(
    "check",
    cls=Command,
    epilog=examples(
        "sheetanchor repository check                  every index, pack and tree",
        "sheetanchor repository check --read-data      every byte",
        "sheetanchor repository check --read-data=10%  a tenth of the packs, another one each time",
    ),
)
def check(context: Context, read_data: ReadData = None, as_json: Json = False) -> int:
    """Check the whole repository, whoever wrote it. Exit code 1 if anything is damaged."""
    output = context.obj.output
    share = read_data_share(read_data)
    with context.obj.application() as application:
        summary = application.check(read_data=share)
    if output.as_json:
        from sheetanchor.cli.invocation import result_fields

        output.summary(result_fields(summary))
    else:
        output.lines(report(summary))
    return 1 if summary.errors else 0


@group.command("unlock", cls=Command, epilog=examples("sheetanchor repository unlock"))
def unlock(
    context: Context,
    everything: Annotated[
        bool, typer.Option("--all", help="Also locks that are in use: only if you know that they are not.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Remove locks whose process is dead or that are older than 30 minutes."""
    output = context.obj.output
    with context.obj.application() as application:
        removed = application.unlock(everything=everything)
    if output.as_json:
        output.summary({"status": "unlocked", "removed": removed})
    else:
        output.line(f"{removed} locks removed" if removed != 1 else "1 lock removed")


def report(summary: CheckSummary) -> list[str]:
    """Return what a check found as lines for people."""
    from sheetanchor.cli import words

    lines = [f"damaged: {words.printable(error)}" for error in summary.errors[:SHOWN_ERRORS]]
    if len(summary.errors) > SHOWN_ERRORS:
        lines.append(f"and {len(summary.errors) - SHOWN_ERRORS} more (--json shows all)")
    if summary.errors:
        lines.append("next: `sheetanchor repository repair --help` says in which order this is repaired")
    lines += [f"note: {words.printable(note)}" for note in summary.notes]
    read = f", {words.size(summary.bytes_read)} read" if summary.bytes_read else ""
    counted = ", ".join((words.count(summary.snapshots, "snapshot"), words.count(summary.packs, "pack")))
    lines.append(f"{summary.status}: {counted}{read}, in {words.duration(summary.duration_s)}")
    return lines
