"""`sheetanchor prune`: free the space of what no backup needs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from sheetanchor.cli.options import Context, Json, examples

if TYPE_CHECKING:
    from sheetanchor.cli.output import Output
    from sheetanchor.operations.prune import PruneFigures, PruneSummary

EPILOG = examples(
    "sheetanchor prune --dry-run              what would be freed",
    "sheetanchor prune --wait 2h              wait for running backups, then free it",
    "sheetanchor prune --max-duration 30m     stop in time; the next prune goes on",
)


def command(
    context: Context,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Show the plan and stop.")] = False,
    max_unused: Annotated[
        str,
        typer.Option("--max-unused", metavar="P%", help="Share of the repository that may stay unused."),
    ] = "5%",
    max_duration: Annotated[
        str | None,
        typer.Option("--max-duration", metavar="TIME", help="Write no more packs anew after this (30m, 2h)."),
    ] = None,
    limit: Annotated[
        str | None,
        typer.Option("--limit", metavar="SIZE", help="Bytes a second, each way (500K, 10M)."),
    ] = None,
    wait: Annotated[
        str | None,
        typer.Option("--wait", metavar="TIME", help="Wait so long for backups that are running (10m, 2h)."),
    ] = None,
    as_json: Json = False,
) -> int:
    """Free the space of what no backup needs.

    Nobody else can use the repository meanwhile. Interrupted or killed at any moment it leaves the
    repository whole, and the next run goes on. Exit code 3 if damaged data was met and left alone.
    """
    from sheetanchor.cli.invocation import result_fields
    from sheetanchor.cli.retaining import max_unused_share, seconds
    from sheetanchor.operations.prune import PruneRequest

    output = context.obj.output
    request = PruneRequest(
        max_unused=max_unused_share(max_unused),
        max_duration_s=seconds("--max-duration", max_duration),
        wait_s=seconds("--wait", wait) or 0.0,
        dry_run=dry_run,
    )
    rate = _rate(limit)
    with context.obj.application() as application:
        summary = application.prune(request, lambda figures: _show(output, figures), limit=rate)
    if output.as_json:
        output.summary(result_fields(summary))
    elif not dry_run:
        output.lines(_report(summary))
    return 3 if summary.damaged else 0


def _rate(limit: str | None) -> int | None:
    from sheetanchor.cli.words import parse_size
    from sheetanchor.errors import UsageError

    if limit is None:
        return None
    try:
        return parse_size(limit)
    except ValueError as error:
        raise UsageError(f"--limit: {error}") from error


def _show(output: Output, figures: PruneFigures) -> None:
    from sheetanchor.cli import words

    if output.as_json:
        return
    count = words.count
    output.lines(
        (
            f"{count(figures.snapshots, 'snapshot')} need {count(figures.blobs_used, 'block')};"
            f" {count(figures.blobs_unused, 'block')} are not needed",
            f"remove:     {count(figures.packs_to_delete, 'pack')}",
            f"write anew: {count(figures.packs_to_repack, 'pack')},"
            f" {words.size(figures.bytes_to_repack)} of them",
            f"keep:       {count(figures.packs_kept, 'pack')},"
            f" {words.size(figures.bytes_unused_left)} in them not needed",
            f"size:       {words.size(figures.bytes_before)} now,"
            f" {words.size(figures.bytes_after)} afterwards,"
            f" {words.size(figures.bytes_to_free)} to free",
        )
    )


def _report(summary: PruneSummary) -> list[str]:
    from sheetanchor.cli import words

    lines = [f"damaged, left as it is: {words.printable(what)}" for what in summary.damaged]
    left = summary.packs_left - len(summary.damaged)
    if left:
        lines.append(f"{words.count(left, 'pack')} left for the next prune")
    lines.append(
        f"{summary.status}: {words.size(summary.bytes_freed)} freed,"
        f" {words.count(summary.packs_removed, 'pack')} removed"
        f" ({summary.packs_repacked} of them written anew), in {words.duration(summary.duration_s)}"
    )
    return lines
