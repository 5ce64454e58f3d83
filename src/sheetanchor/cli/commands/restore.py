"""`sheetanchor restore`: bring back everything, a part, or single files."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from sheetanchor.cli.options import WHICH, Context, Json, Only, Skip, SkipType, examples

if TYPE_CHECKING:
    from sheetanchor.cli.invocation import Invocation
    from sheetanchor.operations.environment import Selection
    from sheetanchor.operations.restore_plan import Options

EPILOG = examples(
    "sheetanchor restore latest                              shows the plan, asks, then brings it all back",
    "sheetanchor restore latest --dry-run                    the plan only",
    "sheetanchor restore latest --only postgres --no-confirm one component, from a script",
    "sheetanchor restore latest --only uploads --include 'invoices/2026-*'",
    "sheetanchor restore latest --target /tmp/look           files below a directory, touches nothing live",
    "sheetanchor restore --resume                            go on after a crash",
)
HOW, MOMENT = "How to restore", "To which moment (needs a WAL archive)"
MOMENT_HINT = "restore a backup: `sheetanchor list` shows their moments"


def command(
    context: Context,
    name: Annotated[
        str | None,
        typer.Argument(
            metavar="NAME",
            help="A backup's name, `latest`, or an archive (a path or s3://…); with --target also any"
            " restic snapshot's id.",
        ),
    ] = None,
    only: Only = None,
    skip: Skip = None,
    skip_type: SkipType = None,
    include: Annotated[
        list[str] | None,
        typer.Option(
            "--include", metavar="GLOB", help="Only matching files of volumes.", rich_help_panel=WHICH
        ),
    ] = None,
    target: Annotated[
        Path | None,
        typer.Option(
            "--target",
            metavar="DIR",
            help="Write the files below DIR and touch nothing live.",
            rich_help_panel=HOW,
        ),
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Show the plan and stop.", rich_help_panel=HOW)
    ] = False,
    no_confirm: Annotated[
        bool, typer.Option("--no-confirm", help="Do not ask.", rich_help_panel=HOW)
    ] = False,
    in_place: Annotated[
        bool,
        typer.Option(
            "--in-place",
            help="Where there is no room for two copies: overwrite, behind a safety backup.",
            rich_help_panel=HOW,
        ),
    ] = False,
    no_safety_backup: Annotated[
        bool,
        typer.Option(
            "--no-safety-backup",
            help="Do not save the present state first: a finished restore cannot be rolled back then.",
            rich_help_panel=HOW,
        ),
    ] = False,
    into: Annotated[
        str | None,
        typer.Option(
            "--into", metavar="STACK", help="This stack's name, for a backup of another.", rich_help_panel=HOW
        ),
    ] = None,
    trust_archive: Annotated[
        bool,
        typer.Option(
            "--trust-archive",
            help="Also restore what came from an archive without checksums.",
            rich_help_panel=HOW,
        ),
    ] = False,
    resume: Annotated[
        bool, typer.Option("--resume", help="Go on with an interrupted restore.", rich_help_panel=HOW)
    ] = False,
    to_time: Annotated[
        str | None,
        typer.Option("--to-time", metavar="T", help="Just before this time.", rich_help_panel=MOMENT),
    ] = None,
    to_xid: Annotated[
        str | None,
        typer.Option("--to-xid", metavar="X", help="Just before this transaction.", rich_help_panel=MOMENT),
    ] = None,
    to_lsn: Annotated[
        str | None,
        typer.Option("--to-lsn", metavar="L", help="To this WAL position.", rich_help_panel=MOMENT),
    ] = None,
    to_name: Annotated[
        str | None,
        typer.Option("--to-name", metavar="N", help="To this named restore point.", rich_help_panel=MOMENT),
    ] = None,
    to_immediate: Annotated[
        bool,
        typer.Option("--to-immediate", help="As soon as the base is consistent.", rich_help_panel=MOMENT),
    ] = False,
    timeline: Annotated[
        str | None,
        typer.Option("--timeline", metavar="N", help="Along this timeline.", rich_help_panel=MOMENT),
    ] = None,
    read_only: Annotated[
        bool, typer.Option("--read-only", help="Do not promote; only look.", rich_help_panel=MOMENT)
    ] = False,
    as_json: Json = False,
) -> None:
    """Bring back everything, a part, or single files.

    What is restored is built and proven beside the live data, after a safety backup of it, and
    then swapped in. A failure before the swap changes nothing; one after it puts the old state
    back.
    """
    from sheetanchor.cli import restoring
    from sheetanchor.cli.invocation import selection
    from sheetanchor.errors import UsageError
    from sheetanchor.operations.restore_plan import Options

    invocation: Invocation = context.obj
    if any((to_time, to_xid, to_lsn, to_name, to_immediate, timeline, read_only)):
        _refuse_moment()
    chosen = selection(only, skip, skip_type)
    if resume:
        _refuse_with_resume(name, chosen)
        restoring.resume(invocation)
        return
    if name is None:
        raise UsageError(
            "which backup?", hint="`sheetanchor restore latest`, or a name from `sheetanchor list`"
        )
    files = tuple(include or ())
    if target is not None:
        restoring.extract(invocation, name, chosen, target, files, trust=trust_archive)
        return
    options = Options(files, in_place, not no_safety_backup, into, trust_archive)
    _restore(invocation, name, chosen, options, dry_run=dry_run, no_confirm=no_confirm)


def _restore(
    invocation: Invocation, name: str, chosen: Selection, options: Options, *, dry_run: bool, no_confirm: bool
) -> None:
    from sheetanchor.cli import restoring
    from sheetanchor.cli.confirm import require_someone_to_ask

    if not dry_run and not no_confirm:
        require_someone_to_ask(invocation.output, "restore")
    restoring.restore(invocation, name, chosen, options, dry_run=dry_run, no_confirm=no_confirm)


def _refuse_moment() -> None:
    from sheetanchor.errors import PlanRefusedError

    raise PlanRefusedError(
        "point-in-time recovery needs a WAL archive; this repository has none", hint=MOMENT_HINT
    )


def _refuse_with_resume(name: str | None, chosen: Selection) -> None:
    from sheetanchor.errors import UsageError

    if name is not None or chosen.only or chosen.skip or chosen.skip_types:
        raise UsageError(
            "--resume goes on with what was asked for before; it takes no name and no selection",
            hint="`sheetanchor restore --resume`",
        )
