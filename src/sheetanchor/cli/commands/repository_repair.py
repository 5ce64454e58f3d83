"""`sheetanchor repository repair`: the index, damaged packs, snapshots that need what is lost."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from sheetanchor.cli.help import Command
from sheetanchor.cli.help import group as new_group
from sheetanchor.cli.options import Context, Json, examples, read_data_share

if TYPE_CHECKING:
    from sheetanchor.operations.repair import (
        IndexRepaired,
        PacksRepaired,
        SnapshotRepaired,
        SnapshotsRepaired,
    )

EPILOG = examples(
    "sheetanchor repository check --read-data             what is damaged?",
    "sheetanchor repository repair index                  1. the index, from the packs",
    "sheetanchor repository repair packs --read-data      2. save what can be read of damaged packs",
    "sheetanchor backup                                   3. stores again what is lost and still exists",
    "sheetanchor repository repair snapshots              4. which files of which backups are lost?",
)
SHOWN = 20
group = new_group(
    "Repair what `repository check` finds. Each step says what it did, and can be repeated.", EPILOG
)

DryRun = Annotated[bool, typer.Option("--dry-run", help="Only say what would be done.")]


@group.command(
    "index",
    cls=Command,
    epilog=examples(
        "sheetanchor repository repair index --dry-run", "sheetanchor repository repair index --read-headers"
    ),
)
def index(
    context: Context,
    read_headers: Annotated[
        bool, typer.Option("--read-headers", help="Compare the header of every pack, not only doubtful ones.")
    ] = False,
    dry_run: DryRun = False,
    as_json: Json = False,
) -> int:
    """Rebuild damaged or missing index files from the packs. Good ones are left alone.

    Exit code 1 if data is lost or packs are damaged, or with --dry-run if there is work to do.
    """
    output = context.obj.output
    with context.obj.application() as application, application.repository() as repository:
        from sheetanchor.operations.repair import repair_index

        done = repair_index(repository, application.world.clock, read_headers=read_headers, dry_run=dry_run)
    if output.as_json:
        from sheetanchor.cli.invocation import result_fields

        output.summary(result_fields(done))
    else:
        output.lines(_index_report(done))
    return int(done.status == "planned" or bool(done.lost_blobs or done.damaged_packs))


@group.command(
    "packs",
    cls=Command,
    epilog=examples(
        "sheetanchor repository repair packs --read-data --dry-run",
        "sheetanchor repository repair packs 4c1f9a02",
    ),
)
def packs(
    context: Context,
    ids: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[ID]...", help="Packs, or the beginnings of their ids; else all.", show_default=False
        ),
    ] = None,
    read_data: Annotated[
        str | None,
        typer.Option("--read-data", metavar="", help="Find damaged packs by reading all, not by size alone."),
    ] = None,
    dry_run: DryRun = False,
    as_json: Json = False,
) -> int:
    """Store anew what can be read of damaged packs, and remove these packs.

    What is lost is forgotten, so that the next backup stores it again where it still exists. Exit
    code 1 if data is lost or may be, or with --dry-run if there is work to do.
    """
    output = context.obj.output
    whole = _whole(read_data)
    with context.obj.application() as application, application.repository() as repository:
        from sheetanchor.operations.repair import repair_packs

        done = repair_packs(repository, application.world.clock, ids or (), read_data=whole, dry_run=dry_run)
    if output.as_json:
        from sheetanchor.cli.invocation import result_fields

        output.summary(result_fields(done))
    else:
        output.lines(_packs_report(done))
    return int(done.status == "planned" or bool(done.lost_blobs or done.unknown))


@group.command(
    "snapshots",
    cls=Command,
    epilog=examples(
        "sheetanchor repository repair snapshots --dry-run      which files of which backups are lost?",
        "sheetanchor repository repair snapshots                copies without them, beside the damaged ones",
        "sheetanchor repository repair snapshots --forget       and the damaged ones go",
        "sheetanchor repository repair snapshots --recover      snapshots that were deleted come back",
    ),
)
def snapshots(
    context: Context,
    forget: Annotated[
        bool,
        typer.Option("--forget", help="Remove damaged snapshots. Without it the next backup may heal them."),
    ] = False,
    bring_back: Annotated[
        bool,
        typer.Option("--recover", help="Make deleted snapshots again, those forgotten on purpose too."),
    ] = False,
    dry_run: DryRun = False,
    as_json: Json = False,
) -> int:
    """Say which files of which backups are lost, and copy these snapshots without them.

    A copy is tagged status=repaired and is no part of its backup: `restore --target` reads it by its
    id. Exit code 1 if anything is lost.
    """
    output = context.obj.output
    with context.obj.application() as application, application.repository() as repository:
        from sheetanchor.operations.repair import repair_snapshots

        clock = application.world.clock
        done = repair_snapshots(repository, clock, forget=forget, bring_back=bring_back, dry_run=dry_run)
    if output.as_json:
        from sheetanchor.cli.invocation import result_fields

        output.summary(result_fields(done))
    else:
        output.lines(_snapshots_report(done))
    return int(bool(done.damaged or done.unreadable) or done.status == "planned")


def _whole(read_data: str | None) -> bool:
    """Turn `--read-data` into yes or no. Raises UsageError for a share."""
    from sheetanchor.errors import UsageError

    share = read_data_share(read_data)
    if share not in {True, False}:
        raise UsageError(
            "repair reads packs whole or not at all",
            hint="--read-data reads all; name packs by their ids to read only these",
        )
    return share is True


def _index_report(done: IndexRepaired) -> list[str]:
    from sheetanchor.cli import words

    facts = (
        (done.damaged_index_files, "damaged index file", "cannot be read"),
        (done.added_packs, "pack", "in no readable index: taken in by their headers"),
        (done.corrected_packs, "pack", "with another header than the index says: the header counts"),
        (done.missing_packs, "pack", "gone: the index forgets them"),
        (done.damaged_packs, "pack", "damaged: `sheetanchor repository repair packs` saves what can be read"),
    )
    lines = [f"{words.count(len(ids), what)}: {said}" for ids, what, said in facts if ids]
    if done.lost_blobs:
        lines.append(_lost_blobs(done.lost_blobs))
    replaced = words.count(len(done.replaced_index_files), "index file")
    return [*lines, _last(done.status, f"{replaced} replaced, of {done.index_files}", done.duration_s)]


def _packs_report(done: PacksRepaired) -> list[str]:
    from sheetanchor.cli import words

    lines = [
        f"damaged: pack {one.pack[:16]} {words.printable(one.reason)}: "
        f"{words.count(one.readable, 'blob')} readable, {one.lost} lost"
        for one in done.damaged
    ]
    lines += [
        f"unknown: pack {pack[:16]} is in no index and its header cannot be read; prune removes it"
        for pack in done.unknown
    ]
    lines += [f"intact: pack {pack[:16]} is left alone" for pack in done.intact]
    if done.lost_blobs:
        lines.append(_lost_blobs(done.lost_blobs))
    how = "read" if done.read_data else "compared by size (--read-data reads them)"
    return [*lines, _last(done.status, f"{words.count(done.packs, 'pack')} {how}", done.duration_s)]


def _snapshots_report(done: SnapshotsRepaired) -> list[str]:
    from sheetanchor.cli import words

    lines = [
        f"recovered: tree {one.tree[:8]}: "
        + (f"{one.backup}, {one.component}" if one.backup else "of no known backup")
        for one in done.recovered
    ]
    for one in done.damaged:
        lines += _lost_lines(one)
    lines += [f"damaged: snapshot file {name[:16]} cannot be read" for name in done.unreadable]
    if done.damaged and not done.forgotten:
        lines.append("the damaged snapshots are still there (--forget removes them)")
    return [*lines, _last(done.status, words.count(done.snapshots, "snapshot"), done.duration_s)]


def _lost_lines(one: SnapshotRepaired) -> list[str]:
    from sheetanchor.cli import words

    name = f"{one.backup}, {one.component}" if one.backup else words.moment(one.time)
    lines = [f"damaged: snapshot {one.snapshot[:8]} ({words.printable(name)}), lost:"]
    lines += [f"  {words.printable(path)}" for path in one.lost[:SHOWN]]
    if len(one.lost) > SHOWN:
        lines.append(f"  and {len(one.lost) - SHOWN} more (--json shows all)")
    return lines


def _lost_blobs(number: int) -> str:
    from sheetanchor.cli import words

    return (
        f"{words.count(number, 'blob')} lost: the next backup stores them again where they still exist; "
        "`sheetanchor repository repair snapshots` names the files"
    )


def _last(status: str, what: str, seconds: float) -> str:
    from sheetanchor.cli import words

    said = {
        "whole": "nothing to repair",
        "planned": "nothing was changed (--dry-run)",
        "repaired": "repaired",
    }
    return f"{said[status]}: {what}, in {words.duration(seconds)}"
