"""Help in groups, with examples: plain text, so that it is there in a tenth of a second."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import typer
from typer.core import TyperCommand, TyperGroup

CONTEXT_SETTINGS = {"help_option_names": ["-h", "--help"], "max_content_width": 110}


class Command(TyperCommand):
    """A command whose options stand under the headings they were given."""

    def format_options(self, ctx: Any, formatter: Any) -> None:
        """Write the arguments, then the options by heading."""
        _write_parameters(self, ctx, formatter)

    def format_epilog(self, ctx: Any, formatter: Any) -> None:
        """Write the examples as they are."""
        _write_examples(self.epilog, formatter)


class Group(TyperGroup):
    """A group whose commands stand under the headings they were given."""

    def format_options(self, ctx: Any, formatter: Any) -> None:
        """Write the commands first, then the options: that is the order people look in."""
        self.format_commands(ctx, formatter)
        _write_parameters(self, ctx, formatter)

    def format_commands(self, ctx: Any, formatter: Any) -> None:
        """Write the commands by heading."""
        headed: dict[str, list[tuple[str, str]]] = {}
        longest = max(map(len, self.commands), default=0)
        for name, command in self.commands.items():
            heading = getattr(command, "rich_help_panel", None)
            text = command.get_short_help_str(formatter.width - longest - 6)
            headed.setdefault(heading if isinstance(heading, str) else "Commands", []).append(
                (name.ljust(longest), text)
            )
        _write_sections(headed, formatter)

    def format_epilog(self, ctx: Any, formatter: Any) -> None:
        """Write the examples as they are."""
        _write_examples(self.epilog, formatter)


def group(help_text: str, epilog: str) -> typer.Typer:
    """Return an empty group of commands that shows its help when it is called alone."""
    app = typer.Typer(
        cls=Group,
        help=help_text,
        epilog=epilog,
        no_args_is_help=False,
        invoke_without_command=True,
        rich_markup_mode=None,
        context_settings=CONTEXT_SETTINGS,
    )
    app.callback()(_show_help_without_command)
    return app


def _show_help_without_command(context: typer.Context) -> None:
    if context.invoked_subcommand is None:
        typer.echo(context.get_help(), err=True)
        raise typer.Exit(2)


def _write_parameters(command: Any, context: Any, formatter: Any) -> None:
    headed: dict[str, list[tuple[str, str]]] = {"Arguments": [], "Options": []}
    for parameter in command.get_params(context):
        record = parameter.get_help_record(context)
        if record is None:
            continue
        if parameter.param_type_name == "argument":
            record = (parameter.display_name_raw, record[1])
        heading = getattr(parameter, "rich_help_panel", None)
        fallback = "Arguments" if parameter.param_type_name == "argument" else "Options"
        headed.setdefault(heading if isinstance(heading, str) else fallback, []).append(record)
    headed["Options"] = headed.pop("Options")
    _write_sections(headed, formatter)


def _write_sections(headed: dict[str, list[tuple[str, str]]], formatter: Any) -> None:
    for heading, rows in headed.items():
        if rows:
            with formatter.section(heading):
                formatter.write_dl(rows)


def _write_examples(epilog: str | None, formatter: Any) -> None:
    lines: Iterable[str] = (epilog or "").splitlines()
    if not epilog:
        return
    with formatter.section("Examples"):
        for line in lines:
            formatter.write(f"  {line}".rstrip() + "\n")
