"""`sheetanchor key`: the passwords that open the repository."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from sheetanchor.cli.help import Command
from sheetanchor.cli.help import group as new_group
from sheetanchor.cli.options import Context, Json, examples

if TYPE_CHECKING:
    from sheetanchor.cli.output import Output
    from sheetanchor.secret import Secret

EPILOG = examples(
    "sheetanchor key list",
    "sheetanchor key add --new-password-file /root/second-password",
    "sheetanchor key passwd",
)
NEW_PASSWORD = "SHEETANCHOR_NEW_PASSWORD"  # noqa: S105 - a name
group = new_group("The passwords that open the repository. Several can be valid at once.", EPILOG)

NewPasswordFile = Annotated[
    Path | None,
    typer.Option("--new-password-file", metavar="F", help=f"Else {NEW_PASSWORD}, else asked for."),
]


@group.command("list", cls=Command, epilog=examples("sheetanchor key list"))
def list_keys(context: Context, as_json: Json = False) -> None:
    """Show all keys; the one that opened the repository now is marked."""
    from sheetanchor.cli import words
    from sheetanchor.cli.invocation import result_fields
    from sheetanchor.cli.table import table

    output = context.obj.output
    with context.obj.application() as application:
        keys = application.keys()
    if output.as_json:
        output.message([result_fields(key) for key in keys])
        return
    rows = [
        (
            ("*" if key.current else " ") + key.key[:8],
            words.printable(f"{key.username}@{key.hostname}"),
            words.moment(key.created) if key.created else "-",
        )
        for key in keys
    ]
    output.lines(table((" KEY", "MADE BY", "MADE AT"), rows))


@group.command("add", cls=Command, epilog=examples("sheetanchor key add --new-password-file /root/second"))
def add(context: Context, new_password_file: NewPasswordFile = None, as_json: Json = False) -> None:
    """Let one more password open the repository."""
    output = context.obj.output
    password = new_password(output, new_password_file)
    with context.obj.application() as application:
        key = application.add_key(password)
    _done(output, "added", key)


@group.command("remove", cls=Command, epilog=examples("sheetanchor key remove 4c1f9a02"))
def remove(
    context: Context,
    key: Annotated[str, typer.Argument(metavar="KEY", help="Its id, or the beginning.", show_default=False)],
    as_json: Json = False,
) -> None:
    """Shut a password out. The key in use cannot be removed.

    Who knew the password may have copied the master key: when in doubt, make a new repository.
    """
    with context.obj.application() as application:
        removed = application.remove_key(key)
    _done(context.obj.output, "removed", removed)


@group.command("passwd", cls=Command, epilog=examples("sheetanchor key passwd --new-password-file /root/new"))
def passwd(context: Context, new_password_file: NewPasswordFile = None, as_json: Json = False) -> None:
    """Replace the password in use by a new one. The password file is not touched."""
    output = context.obj.output
    password = new_password(output, new_password_file)
    with context.obj.application() as application:
        key = application.change_password(password)
        file = application.config.repository.password_file
    _done(output, "changed", key)
    if file is not None:
        output.note(f"put the new password into {file}, or the next run will not open the repository")


def _done(output: Output, what: str, key: str) -> None:
    if output.as_json:
        output.summary({"status": what, "key": key})
    else:
        output.line(f"{what}: key {key[:8]}")


def new_password(output: Output, file: Path | None) -> Secret:
    """Return the new password: from `file`, the environment, or asked for twice. Raises UsageError."""
    import os

    from sheetanchor.cli.invocation import ask_secret
    from sheetanchor.config.environment import read_password_file
    from sheetanchor.errors import UsageError
    from sheetanchor.secret import Secret

    if file is not None:
        return read_password_file(file, warn=output.warning)
    if value := os.environ.get(NEW_PASSWORD):
        return Secret(value.rstrip("\r\n"))
    if not output.interactive:
        raise UsageError(
            "which new password? there is no terminal to ask at",
            hint=f"--new-password-file F, or {NEW_PASSWORD}",
        )
    first = ask_secret("new password: ")
    if ask_secret("new password again: ").reveal() != first.reveal():
        raise UsageError("the two are not the same; nothing was changed")
    return first
