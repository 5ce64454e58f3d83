"""`sheetanchor forget`: remove the backups that no rule keeps."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from sheetanchor.cli.options import Context, Json, examples

if TYPE_CHECKING:
    from sheetanchor.operations.forget import ForgetSummary
    from sheetanchor.policy.retention import Rules

RULES = "What to keep (-1: all)"
EPILOG = examples(
    "sheetanchor forget --keep-daily 7 --keep-weekly 5 --keep-monthly 12 --dry-run",
    "sheetanchor forget --keep-within 30d --no-confirm && sheetanchor prune",
)


def _rule(name: str, text: str) -> typer.models.OptionInfo:
    option: typer.models.OptionInfo = typer.Option(
        f"--keep-{name}", metavar="N", min=-1, help=text, rich_help_panel=RULES
    )
    return option


def command(
    context: Context,
    last: Annotated[int, _rule("last", "The newest N.")] = 0,
    hourly: Annotated[int, _rule("hourly", "The newest of each of N hours that have one.")] = 0,
    daily: Annotated[int, _rule("daily", "The newest of each of N days (UTC).")] = 0,
    weekly: Annotated[int, _rule("weekly", "The newest of each of N weeks (Monday to Sunday).")] = 0,
    monthly: Annotated[int, _rule("monthly", "The newest of each of N months.")] = 0,
    yearly: Annotated[int, _rule("yearly", "The newest of each of N years.")] = 0,
    within: Annotated[
        str | None,
        typer.Option(
            "--keep-within",
            metavar="TIME",
            help="All that are not older than this against the newest (36h, 30d, 8w).",
            rich_help_panel=RULES,
        ),
    ] = None,
    safety: Annotated[
        int, _rule("safety", "The newest N safety backups, besides those of the last 7 days.")
    ] = 3,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Show the plan and stop.")] = False,
    no_confirm: Annotated[bool, typer.Option("--no-confirm", help="Do not ask.")] = False,
    wait: Annotated[
        str | None,
        typer.Option("--wait", metavar="TIME", help="Wait so long for backups that are running (10m, 2h)."),
    ] = None,
    as_json: Json = False,
) -> None:
    """Remove the backups that no rule keeps; `prune` frees their space.

    Never goes: the newest complete backup of any component, a backup marked by `keep`, half a
    backup. Rules look at each component on its own, and a backup stays whole.
    """
    from datetime import timedelta

    from sheetanchor.cli.retaining import seconds
    from sheetanchor.policy.retention import Rules

    age = seconds("--keep-within", within)
    rules = Rules(
        last=last,
        hourly=hourly,
        daily=daily,
        weekly=weekly,
        monthly=monthly,
        yearly=yearly,
        within=None if age is None else timedelta(seconds=age),
        safety=safety,
    )
    wait_s = seconds("--wait", wait) or 0.0
    _run(context, rules, wait_s, dry_run=dry_run, no_confirm=no_confirm)


def _run(context: Context, rules: Rules, wait_s: float, *, dry_run: bool, no_confirm: bool) -> None:
    from sheetanchor.cli.confirm import confirm, require_someone_to_ask
    from sheetanchor.cli.invocation import result_fields
    from sheetanchor.cli.retaining import judgement
    from sheetanchor.operations.forget import untouched

    output = context.obj.output
    asks = not dry_run and not no_confirm
    if asks:
        require_someone_to_ask(output, "forget")
    with context.obj.application() as application, application.planned_forget(rules) as (planned, go):
        if not output.as_json:
            output.lines(judgement(planned))
        if dry_run or not planned.to_remove:
            summary = untouched(planned)
        else:
            if asks:
                confirm(output, application.stack_name)
            summary = go(wait_s)
    if output.as_json:
        output.summary(result_fields(summary))
    else:
        output.line(_closing(summary, len(planned.to_remove)))


def _closing(summary: ForgetSummary, to_remove: int) -> str:
    from sheetanchor.cli import words

    kept = words.count(summary.kept, "backup")
    if not to_remove:
        return f"nothing to forget: the rules keep all of {kept}"
    if summary.status == "planned":
        return f"{words.count(to_remove, 'backup')} would go, {kept} would stay"
    done = f"{words.count(len(summary.removed), 'backup')} forgotten, {kept} kept"
    if len(summary.removed) < to_remove:
        done += f" ({to_remove - len(summary.removed)} of the plan have to stay since)"
    return f"{done}; `sheetanchor prune` frees the space"
