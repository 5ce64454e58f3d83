"""`sheetanchor status`: how fresh the backups are."""

from __future__ import annotations

from enum import StrEnum
from typing import TYPE_CHECKING, Annotated

import typer

from sheetanchor.cli.options import Context, Json, examples

if TYPE_CHECKING:
    from sheetanchor.cli.output import Output
    from sheetanchor.errors import SheetanchorError
    from sheetanchor.operations.results import StatusSummary

EPILOG = examples(
    "sheetanchor status",
    "sheetanchor status --format nagios --warn 25h --alert 30h",
    "sheetanchor status --format prometheus > /var/lib/node_exporter/sheetanchor.prom",
)


class Format(StrEnum):
    """How the answer is written."""

    TEXT = "text"
    NAGIOS = "nagios"
    JSON = "json"
    PROMETHEUS = "prometheus"


def command(
    context: Context,
    warn: Annotated[str, typer.Option("--warn", metavar="AGE", help="Older than this is a warning.")] = "25h",
    alert: Annotated[
        str, typer.Option("--alert", metavar="AGE", help="Older than this is critical.")
    ] = "30h",
    form: Annotated[Format, typer.Option("--format", help="For whom to write.")] = Format.TEXT,
    as_json: Json = False,
) -> int:
    """Say how fresh the backups are; the exit code is a monitoring plugin's.

    0 ok, 1 warning, 2 critical (or no complete backup), 3 unknown (the repository or the
    configuration cannot be read).
    """
    from sheetanchor.cli.output import unexpected
    from sheetanchor.errors import InterruptedByUserError, SheetanchorError

    output = context.obj.output
    output.as_json = output.as_json or form is Format.JSON
    form = Format.JSON if output.as_json else form
    try:
        warn_s, alert_s = _limits(warn, alert)
        with context.obj.application() as application:
            from datetime import timedelta

            summary = application.status(warn=timedelta(seconds=warn_s), alert=timedelta(seconds=alert_s))
    except InterruptedByUserError:
        raise
    except SheetanchorError as error:
        return _unknown(output, form, error)
    except Exception as error:  # noqa: BLE001 - an exit code of 1 would be read as "warning"
        return _unknown(output, form, unexpected(error))
    _print(output, form, summary, warn, alert)
    return int(summary.level.exit_code)


def _limits(warn: str, alert: str) -> tuple[float, float]:
    from sheetanchor.cli.words import parse_duration
    from sheetanchor.errors import UsageError

    try:
        limits = parse_duration(warn), parse_duration(alert)
    except ValueError as error:
        raise UsageError(str(error)) from error
    if limits[0] > limits[1]:
        raise UsageError(f"--warn {warn} is later than --alert {alert}")
    return limits


def _print(output: Output, form: Format, summary: StatusSummary, warn: str, alert: str) -> None:
    from sheetanchor.cli import freshness
    from sheetanchor.cli.invocation import result_fields

    if form is Format.JSON:
        output.summary(result_fields(summary))
    elif form is Format.NAGIOS:
        output.line(freshness.nagios_line(summary, *_limits(warn, alert)))
    elif form is Format.PROMETHEUS:
        output.lines(freshness.prometheus_lines(summary))
    else:
        output.lines(freshness.text_lines(summary, warn, alert))


def _unknown(output: Output, form: Format, error: SheetanchorError) -> int:
    """Answer in the asked form: a monitoring system reads standard output, and silence is not "ok"."""
    from sheetanchor.cli import freshness
    from sheetanchor.operations.results import FreshnessLevel

    level = FreshnessLevel.UNKNOWN
    output.error(error)
    if form is Format.JSON:
        output.summary({"level": level.value, "message": error.message})
    elif form is Format.NAGIOS:
        output.line(freshness.nagios_unknown(error.message))
    elif form is Format.PROMETHEUS:
        output.lines(freshness.prometheus_level(level, None))
    else:
        output.line("UNKNOWN: the state of the backups cannot be told")
    return int(level.exit_code)
