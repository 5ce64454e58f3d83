"""The program's entry: assembles the commands, runs one, and turns every failure into one line."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

from sheetanchor import __version__
from sheetanchor.cli.commands import (
    backup,
    config,
    demo,
    diff,
    dump,
    export,
    forget,
    import_,
    init,
    keep,
    key,
    list_,
    ls,
    prune,
    repository,
    restore,
    rollback,
    show,
    status,
    verify,
)
from sheetanchor.cli.help import CONTEXT_SETTINGS, Command, Group
from sheetanchor.cli.invocation import Invocation
from sheetanchor.cli.options import Context, examples
from sheetanchor.cli.output import Output, unexpected
from sheetanchor.cli.signals import Interrupts, interruptible
from sheetanchor.clock import SystemClock
from sheetanchor.errors import InterruptedByUserError, SheetanchorError, UsageError

PROGRAM = "sheetanchor"
MAKE = "Make backups"
LOOK = "Look at backups"
RESTORE = "Bring things back"
CARRY = "Carry backups elsewhere"
KEEP = "Keep and forget backups"
CARE = "Care for the repository and the configuration"
TRY = "Try it"
COMMANDS = {
    "init": (MAKE, init, "Find what is here, write sheetanchor.yml, make the repository."),
    "backup": (MAKE, backup, "Back up everything, or what is named."),
    "status": (MAKE, status, "Say how fresh the backups are, for monitoring too."),
    "list": (LOOK, list_, "Show all backups."),
    "show": (LOOK, show, "Show one backup in detail."),
    "ls": (LOOK, ls, "List the files in a backup."),
    "diff": (LOOK, diff, "Show what changed between two backups."),
    "dump": (LOOK, dump, "Write one stored file to standard output."),
    "verify": (LOOK, verify, "Prove that a backup is whole."),
    "restore": (RESTORE, restore, "Bring back everything, a part, or single files."),
    "rollback": (RESTORE, rollback, "Take the last restore back."),
    "export": (CARRY, export, "Write a backup as files for stock tools."),
    "import": (CARRY, import_, "Take such files into the repository."),
    "keep": (KEEP, keep, "Mark a backup so that no rule removes it."),
    "forget": (KEEP, forget, "Remove the backups that no rule keeps."),
    "prune": (KEEP, prune, "Free the space of what no backup needs."),
    "demo": (TRY, demo, "Back up, destroy and bring back a real stack."),
}
EPILOG = examples(
    "sheetanchor init                        find what is here, write sheetanchor.yml, make the repository",
    "sheetanchor backup                      back everything up",
    "sheetanchor list                        see what there is",
    "sheetanchor restore latest              bring everything back (shows the plan and asks first)",
    "sheetanchor restore latest --only db    bring one component back",
    "sheetanchor status --format nagios      is the newest backup fresh?",
)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the program with `arguments` (the process's own by default); return the exit code."""
    given = list(sys.argv[1:] if arguments is None else arguments) or ["--help"]
    output = _output(given)
    with interruptible(output.note) as interrupts:
        try:
            return _run(_normalised(given), Invocation(output), interrupts)
        except SheetanchorError as error:
            return _failed(output, error, interrupts)
        except KeyboardInterrupt:
            return _interrupted(output)
        except Exception as error:  # noqa: BLE001 - the outermost boundary: a defect is one line too
            return _failed(output, unexpected(error), interrupts)


def build() -> typer.Typer:
    """Assemble the command line."""
    app = typer.Typer(
        name=PROGRAM,
        cls=Group,
        help="Back up a whole stack with one command, bring it back with one, and prove that it is equal.",
        epilog=EPILOG,
        rich_markup_mode=None,
        pretty_exceptions_enable=False,
        context_settings=CONTEXT_SETTINGS,
    )
    app.callback()(_common)
    for name, (panel, module, short) in COMMANDS.items():
        register = app.command(
            name, cls=Command, rich_help_panel=panel, epilog=module.EPILOG, short_help=short
        )
        register(module.command)
    for name, module in {"repository": repository, "key": key, "config": config}.items():
        app.add_typer(module.group, name=name, rich_help_panel=CARE)
    return app


def _common(
    context: Context,
    config_file: Annotated[
        Path | None,
        typer.Option(
            "--config",
            "-c",
            metavar="FILE",
            help="The configuration; else SHEETANCHOR_CONFIG, ./sheetanchor.yml,"
            " /etc/sheetanchor/sheetanchor.yml.",
        ),
    ] = None,
    debug: Annotated[bool, typer.Option("--debug", help="Show the traceback of a failure.")] = False,
    as_json: Annotated[
        bool, typer.Option("--json", help="One JSON object a line; also after every command.")
    ] = False,
    version: Annotated[
        bool,
        typer.Option("--version", help="Show the version and leave.", callback=_show_version, is_eager=True),
    ] = False,
) -> None:
    context.obj.config = config_file


def _show_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"{PROGRAM} {__version__}")
        raise typer.Exit


def _run(arguments: list[str], invocation: Invocation, interrupts: Interrupts) -> int:
    try:
        result = build()(args=arguments, prog_name=PROGRAM, standalone_mode=False, obj=invocation)
    except typer.TyperException as error:
        raise _usage(error) from error
    except typer.Abort as error:
        raise InterruptedByUserError("not confirmed; nothing was touched") from error
    if interrupts.received and result:
        # The library turns KeyboardInterrupt into a code.
        raise KeyboardInterrupt
    return result if isinstance(result, int) else 0


def _output(arguments: Sequence[str]) -> Output:
    """Build the output before anything is parsed: a wrong option has to be reported as asked, too."""
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")
    options = arguments[: arguments.index("--")] if "--" in arguments else arguments
    return Output(
        as_json="--json" in options,
        debug="--debug" in options,
        clock=SystemClock(),
        stdout=sys.stdout,
        stderr=sys.stderr,
        colour=sys.stderr.isatty() and sys.stdout.isatty() and not os.environ.get("NO_COLOR"),
    )


def _normalised(arguments: Sequence[str]) -> list[str]:
    """Give `--read-data` the value that typer cannot leave out, and take `--debug` anywhere."""
    end = arguments.index("--") if "--" in arguments else len(arguments)
    options = ["--read-data=100%" if one == "--read-data" else one for one in arguments[:end]]
    return [one for one in options if one != "--debug"] + list(arguments[end:])


def _usage(error: typer.TyperException) -> UsageError:
    message = error.format_message().rstrip(".")
    message = message[:1].lower() + message[1:]
    context = getattr(error, "ctx", None)
    command = context.command_path if context is not None else PROGRAM
    option = getattr(error, "option_name", "")
    if option in {"--config", "-c", "--version"} and command != PROGRAM:
        rest = command.removeprefix(PROGRAM).strip()
        return UsageError(message, hint=f"it stands before the command: {PROGRAM} {option} … {rest}")
    return UsageError(message, hint=f"see `{command} --help`")


def _failed(output: Output, error: SheetanchorError, interrupts: Interrupts) -> int:
    if interrupts.received and not isinstance(error, InterruptedByUserError):
        # A child that died of the same Ctrl-C is no failure of its own.
        return _interrupted(output, error)
    output.error(error)
    return error.exit_code


def _interrupted(output: Output, cause: SheetanchorError | None = None) -> int:
    message = f"interrupted ({cause.message})" if cause else "interrupted"
    error = InterruptedByUserError(message, hint=cause.hint if cause else None)
    error.__cause__ = cause
    output.error(error)
    return error.exit_code
