"""What `restore` and `rollback` show, ask and do."""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING

from sheetanchor.cli import words
from sheetanchor.cli.confirm import confirm
from sheetanchor.cli.invocation import Invocation, result_fields
from sheetanchor.cli.output import Output
from sheetanchor.cli.table import table

if TYPE_CHECKING:
    from sheetanchor.operations.environment import Selection
    from sheetanchor.operations.restore_plan import Options
    from sheetanchor.operations.results import ComponentPlan, RestorePlan, RestoreSummary


def restore(
    invocation: Invocation, name: str, chosen: Selection, options: Options, *, dry_run: bool, no_confirm: bool
) -> None:
    """Plan, show, ask, and carry the plan out."""
    from sheetanchor.cli.archives import encryption_key

    output = invocation.output
    with invocation.application() as application, ExitStack() as stack:
        name = application.backup_of(
            name, key=lambda: encryption_key(None, output), trust=options.trust_unproven
        )
        planned = stack.enter_context(application.planned_restore(name, chosen, options))
        prepared, execute = planned
        if dry_run and output.as_json:
            output.summary(result_fields(prepared.plan))
        elif not output.as_json:
            output.lines(describe_plan(output, prepared.plan))
        if dry_run:
            output.note("dry run: nothing live was touched")
            return
        if not no_confirm:
            confirm(output, application.stack_name)
        summary = execute()
    report(output, summary)


def resume(invocation: Invocation) -> None:
    """Go on with an interrupted restore."""
    with invocation.application() as application:
        summary = application.resume()
    report(invocation.output, summary)


def extract(
    invocation: Invocation,
    name: str,
    chosen: Selection,
    target: Path,
    include: tuple[str, ...],
    *,
    trust: bool,
) -> None:
    """Write files below a directory."""
    from sheetanchor.cli.archives import encryption_key

    output = invocation.output
    with invocation.application() as application:
        name = application.backup_of(name, key=lambda: encryption_key(None, output), trust=trust)
        summary = application.extract(name, chosen, target, include)
    report(output, summary, target=target)


def describe_plan(output: Output, plan: RestorePlan) -> list[str]:
    """Return the plan as lines for the person who has to confirm it."""
    lines = [
        output.heading(f"Restore {plan.backup} (taken {words.moment(plan.taken_at)}) into {plan.stack}"),
        "",
    ]
    headings = ("COMPONENT", "TYPE", "NEEDS", "FREE", "SERVICE", "CONTENTS")
    lines += table(headings, map(_plan_row, plan.components), right=("NEEDS", "FREE"))
    lines += [f"note: {one.name}: {words.printable(note)}" for one in plan.components for note in one.notes]
    lines += [f"warning: {words.printable(warning)}" for warning in plan.warnings]
    if plan.include:
        lines.append(f"only files that match: {', '.join(plan.include)}")
    lines += ["", *(f"{number:>3}. {text}" for number, text in enumerate(_phases(plan), 1)), ""]
    return lines


def _plan_row(component: ComponentPlan) -> tuple[str, ...]:
    service = "interrupted" if component.interrupts_service else "goes on"
    return (
        component.name,
        component.type,
        words.size(component.needed_bytes),
        words.size(component.free_bytes),
        service,
        words.printable(component.contents),
    )


def _phases(plan: RestorePlan) -> list[str]:
    texts = {
        "check": "check that the backup is whole",
        "safety": "save the present state in a safety backup (`sheetanchor rollback` brings it back)",
        "stage": "build the restored state in place of the live one"
        if plan.in_place
        else "build the restored state beside the live one",
        "verify": "compare it with what the backup says it has to be",
        "stop": "stop the services that have a stop command",
        "swap": "put it in place" if plan.in_place else "swap the live state for it",
        "start": "start the services again",
        "health": "check that every service answers",
        "discard": "remove the old state",
    }
    phases = dict.fromkeys(step.partition(":")[0] for step in plan.steps)
    return [texts.get(phase, phase) for phase in phases]


def report(output: Output, summary: RestoreSummary, *, target: Path | None = None) -> None:
    """Say how a restore ended."""
    if output.as_json:
        output.summary(result_fields(summary))
        return
    for component in summary.components:
        compared = f": {'; '.join(component.compared)}" if component.compared else ""
        spent = f" in {words.duration(component.duration_s)}" if component.duration_s else ""
        output.line(
            f"{component.name} ({component.type}): {component.status}{spent}{words.printable(compared)}"
        )
    for warning in summary.warnings:
        output.warning(warning)
    status = summary.status.replace("_", " ")
    where = f" below {target}" if target else ""
    output.line(f"{summary.backup}: {status}{where} in {words.duration(summary.duration_s)}")
    if summary.safety_backup and summary.status == "restored":
        output.line(f"the state before is in {summary.safety_backup}; `sheetanchor rollback` brings it back")
