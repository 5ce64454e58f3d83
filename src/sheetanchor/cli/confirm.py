"""Asks before anything live is replaced."""

from __future__ import annotations

import sys

from sheetanchor.cli.output import Output
from sheetanchor.errors import PlanRefusedError, UsageError


def require_someone_to_ask(output: Output, what: str) -> None:
    """Refuse early where nobody can answer. Raises UsageError."""
    if not output.interactive:
        reason = "--json takes no answers" if output.as_json else "there is no terminal"
        raise UsageError(
            f"{what} asks for a confirmation, and {reason}",
            hint="add --no-confirm, once you are sure",
        )


def confirm(output: Output, stack: str) -> None:
    """Have the stack's name typed: a reflex cannot do that. Raises PlanRefusedError."""
    output.note(f"To go on, type the stack's name ({stack}):")
    answer = sys.stdin.readline().strip()
    if answer != stack:
        said = f"{answer!r} is not {stack!r}" if answer else "no answer"
        raise PlanRefusedError(f"not confirmed ({said}); nothing was touched")
