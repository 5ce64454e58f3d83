"""How `forget` and `prune` read durations and shares, and how a judgement of backups is shown."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from sheetanchor.operations.forget import ForgetPlan


def seconds(option: str, text: str | None) -> float | None:
    """Return a duration option in seconds, None where it was not given. Raises UsageError."""
    from sheetanchor.cli.words import parse_duration
    from sheetanchor.errors import UsageError

    if text is None:
        return None
    try:
        return parse_duration(text)
    except ValueError as error:
        raise UsageError(f"{option}: {error}") from error


def max_unused_share(text: str) -> float:
    """Return `--max-unused` as a share from 0 up to but not including 1. Raises UsageError."""
    from sheetanchor.cli.words import parse_percent
    from sheetanchor.errors import UsageError

    if text.strip() in {"0", "0%"}:
        return 0.0
    try:
        share = parse_percent(text)
    except ValueError as error:
        raise UsageError(f"--max-unused: {error}") from error
    if share == 1:
        raise UsageError("--max-unused: 100% would never free anything", hint="write for example 5%")
    return share


def judgement(plan: ForgetPlan) -> list[str]:
    """Return the lines of a plan: every backup, what becomes of it, and why."""
    from sheetanchor.cli import words
    from sheetanchor.cli.table import table

    rows = [
        (
            "keep" if one.keep else "remove",
            words.printable(one.backup),
            words.printable(one.tier),
            one.status,
            words.size(one.bytes_added),
            words.printable("; ".join(one.reasons)),
        )
        for one in plan.backups
    ]
    return table(("", "BACKUP", "TIER", "STATUS", "ADDED", "WHY"), rows, right=("ADDED",))
