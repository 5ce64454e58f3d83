"""`sheetanchor repository serve`: the REST server, and its file of users."""

from __future__ import annotations

import os
import re
import sys
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from sheetanchor.cli.options import Context, Json, examples

if TYPE_CHECKING:
    from sheetanchor.cli.invocation import Invocation
    from sheetanchor.cli.output import Output
    from sheetanchor.repository.server.options import Options
    from sheetanchor.secret import Secret

EPILOG = examples(
    "sheetanchor repository serve --users /etc/sheetanchor/users --add-user web1 --right append-only",
    "sheetanchor repository serve /backups/repository --users /etc/sheetanchor/users \\",
    "    --listen 0.0.0.0:8000 --tls-cert /etc/ssl/backup.pem --tls-key /etc/ssl/backup.key",
    "sheetanchor repository serve /backups/repository        on 127.0.0.1 only, for everyone there",
)
USER_PASSWORD = "SHEETANCHOR_USER_PASSWORD"  # noqa: S105 - a name
LISTEN = "127.0.0.1:8000"
FULL = "full"
_SERVING = "What is served, and how"
_USERS = "Users"
_LIMITS = "Limits"

Directory = Annotated[
    Path | None,
    typer.Argument(
        metavar="DIRECTORY", help="A repository, or a folder of them; else the configured repository."
    ),
]
Listen = Annotated[
    str, typer.Option("--listen", metavar="HOST:PORT", help="Port 0: any free one.", rich_help_panel=_SERVING)
]
TlsCertificate = Annotated[
    Path | None,
    typer.Option("--tls-cert", metavar="F", help="PEM, with the chain.", rich_help_panel=_SERVING),
]
TlsKey = Annotated[Path | None, typer.Option("--tls-key", metavar="F", help="PEM.", rich_help_panel=_SERVING)]
AppendOnly = Annotated[
    bool,
    typer.Option(
        "--append-only",
        help="Nobody removes anything but locks, whatever their right.",
        rich_help_panel=_LIMITS,
    ),
]
PrivateRepositories = Annotated[
    bool,
    typer.Option(
        "--private-repos", help="Users see only paths that begin with their name.", rich_help_panel=_LIMITS
    ),
]
Quota = Annotated[
    str | None,
    typer.Option("--quota", metavar="SIZE", help="Most bytes stored (500G, 2T).", rich_help_panel=_LIMITS),
]
Users = Annotated[
    Path | None,
    typer.Option(
        "--users", metavar="F", help="The file of users; read anew on change.", rich_help_panel=_USERS
    ),
]
AddUser = Annotated[
    str | None,
    typer.Option(
        "--add-user", metavar="NAME", help="Add or change a user, and leave.", rich_help_panel=_USERS
    ),
]
RemoveUser = Annotated[
    str | None,
    typer.Option("--remove-user", metavar="NAME", help="Remove a user, and leave.", rich_help_panel=_USERS),
]
UserRight = Annotated[
    str,
    typer.Option("--right", metavar="R", help="full, append-only, run or read-only.", rich_help_panel=_USERS),
]
Expires = Annotated[
    str | None,
    typer.Option(
        "--expires", metavar="T", help="The user ends after this time (12h, 30d).", rich_help_panel=_USERS
    ),
]
UserPasswordFile = Annotated[
    Path | None,
    typer.Option(
        "--user-password-file",
        metavar="F",
        help=f"- is standard input; else {USER_PASSWORD}, else asked for.",
        rich_help_panel=_USERS,
    ),
]


def serve(
    context: Context,
    directory: Directory = None,
    listen: Listen = LISTEN,
    tls_cert: TlsCertificate = None,
    tls_key: TlsKey = None,
    append_only: AppendOnly = False,
    private_repos: PrivateRepositories = False,
    quota: Quota = None,
    users: Users = None,
    add_user: AddUser = None,
    remove_user: RemoveUser = None,
    right: UserRight = FULL,
    expires: Expires = None,
    user_password_file: UserPasswordFile = None,
    as_json: Json = False,
) -> None:
    """Serve repositories to other machines, for sheetanchor and for stock restic (rest:https://…).

    Stops on Ctrl-C and SIGTERM, after the requests in progress.
    """
    from sheetanchor.repository.server.options import Options, parse_listen

    output = context.obj.output
    if add_user is not None or remove_user is not None:
        _change_users(output, users, add_user, remove_user, right, expires, user_password_file)
        return
    host, port = parse_listen(listen)
    options = Options(
        directory=_directory(context.obj, directory),
        host=host,
        port=port,
        certificate=tls_cert,
        certificate_key=tls_key,
        append_only=append_only,
        private_repositories=private_repos,
        quota=_size(quota) if quota is not None else None,
    )
    _run(output, options, users)


def _run(output: Output, options: Options, users: Path | None) -> None:
    from sheetanchor.cli import words
    from sheetanchor.clock import SystemClock
    from sheetanchor.repository.server.server import Server
    from sheetanchor.repository.server.users import UserFile

    clock = SystemClock()

    def log(text: str) -> None:
        moment = clock.now().strftime("%Y-%m-%dT%H:%M:%SZ")
        if output.as_json:
            output.message({"message_type": "status", "time": moment, "message": text})
        else:
            output.note(f"{moment} {words.printable(text)}")

    source = UserFile(users) if users is not None else None
    if source is not None:
        source.users()
    else:
        output.warning("there are no users: every program on this machine may read and remove what is served")
    server = Server(options, source, clock, log)
    try:
        log(f"serving {options.directory} at rest:{server.url}")
        server.serve()
    except KeyboardInterrupt:
        log("stopping")
    finally:
        server.stop()
    log("stopped")


def _directory(invocation: Invocation, given: Path | None) -> Path:
    from sheetanchor.errors import UsageError

    if given is not None:
        return given.absolute()
    with invocation.application() as application:
        url = application.config.repository.url.removeprefix("local:")
    if not url.startswith("/"):
        raise UsageError(
            f"the configured repository {url} is no directory of this machine",
            hint="serve a directory: sheetanchor repository serve DIRECTORY",
        )
    return Path(url)


def _change_users(
    output: Output,
    users: Path | None,
    add: str | None,
    remove: str | None,
    right: str,
    expires: str | None,
    password_file: Path | None,
) -> None:
    from sheetanchor.clock import SystemClock
    from sheetanchor.errors import UsageError
    from sheetanchor.repository.server.passwords import hash_password
    from sheetanchor.repository.server.rights import Right
    from sheetanchor.repository.server.users import User, change_users

    if users is None or (add is not None and remove is not None):
        raise UsageError("which file of users, and which change?", hint="--users FILE --add-user NAME")
    if right not in tuple(Right):
        raise UsageError(f"--right: {right!r} is no right", hint=f"there are: {', '.join(Right)}")
    user = None
    if add is not None:
        until = SystemClock().now() + _duration(expires) if expires is not None else None
        user = User(add, hash_password(_password(output, password_file)), Right(right), until)
    change_users(users, add=user, remove=remove)
    done = {"status": "removed" if user is None else "added", "user": user.name if user else remove}
    if output.as_json:
        output.summary(done)
    else:
        output.line(f"{done['status']}: user {done['user']}" + (f", right {right}" if user else ""))


def _duration(text: str) -> timedelta:
    from sheetanchor.cli.words import parse_duration
    from sheetanchor.errors import UsageError

    try:
        return timedelta(seconds=parse_duration(text))
    except ValueError as error:
        raise UsageError(f"--expires: {error}") from error


def _size(text: str) -> int:
    from sheetanchor.errors import UsageError

    found = re.fullmatch(r"([0-9]{1,9})([KMGTP]?)(?:i?B)?", text)
    if found is None:
        raise UsageError(f"--quota: {text!r} is no size", hint="write it like 500G or 2T (powers of 1024)")
    return int(int(found[1]) * 1024 ** " KMGTP".index(found[2] or " "))


def _password(output: Output, file: Path | None) -> Secret:
    from sheetanchor.cli.invocation import ask_secret
    from sheetanchor.config.environment import MAX_PASSWORD_BYTES, read_password_file
    from sheetanchor.errors import UsageError
    from sheetanchor.secret import Secret

    if file is not None and str(file) != "-":
        return read_password_file(file, warn=output.warning)
    if file is not None:
        value = sys.stdin.read(MAX_PASSWORD_BYTES).rstrip("\r\n")
    else:
        value = os.environ.get(USER_PASSWORD, "").rstrip("\r\n")
    if value:
        return Secret(value)
    if file is not None or not output.interactive:
        raise UsageError("which password?", hint=f"--user-password-file F (- for stdin), or {USER_PASSWORD}")
    first = ask_secret("password of the user: ")
    if ask_secret("again: ").reveal() != first.reveal():
        raise UsageError("the two are not the same; nothing was changed")
    return first
