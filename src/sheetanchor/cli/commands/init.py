"""`sheetanchor init`: find the stack, write the configuration, make the repository."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from sheetanchor.cli.options import Context, Json, examples

if TYPE_CHECKING:
    from sheetanchor.app import Application
    from sheetanchor.cli.invocation import Invocation
    from sheetanchor.cli.output import Output
    from sheetanchor.repository.repository import Repository
    from sheetanchor.setup import FirstConfiguration, Wishes

EPILOG = examples(
    "sheetanchor init",
    "sheetanchor init --repository s3:https://s3.example.com/bucket/prefix",
    "sheetanchor --config /etc/sheetanchor/sheetanchor.yml init --stack shop",
)


@dataclass(frozen=True)
class _Repository:
    id: str
    location: str
    created: bool
    keeps_first: bool | None
    """The storage refuses to replace an object when told so; None where that is not known."""


def command(
    context: Context,
    repository: Annotated[
        str | None,
        typer.Option(
            "--repository", metavar="URL", help="As restic writes it; a directory on this machine otherwise."
        ),
    ] = None,
    stack: Annotated[
        str | None,
        typer.Option("--stack", metavar="NAME", help="By the compose file or directory otherwise."),
    ] = None,
    password_file: Annotated[
        Path | None,
        typer.Option("--password-file", metavar="F", help="Used as it is, or made with a strong password."),
    ] = None,
    as_json: Json = False,
) -> None:
    """Find the stack on this machine, write sheetanchor.yml, make the repository.

    A configuration that exists is kept as it is, and so is a repository.
    """
    import os

    from sheetanchor.setup import Wishes, configuration_path

    invocation: Invocation = context.obj
    path = configuration_path(invocation.config, os.environ)
    wishes = Wishes(stack, repository, password_file)
    first = None
    if path.exists():
        _refuse_wishes(path, wishes)
        invocation.output.note(f"{path} is there already and is kept")
    else:
        first = _write(invocation.output, path, wishes)
    invocation.config = path
    with invocation.application() as application:
        made = _make_repository(application)
    output = invocation.output
    if output.as_json:
        output.summary(
            {
                "status": "created" if made.created else "present",
                "repository": made.location,
                "id": made.id,
                "conditional_put": made.keeps_first,
                "config": str(path),
                "config_written": first is not None,
                "password_file": str(first.password_file) if first else None,
                "password_made": bool(first and first.password_made),
                "components": [one.name for one in application.config.components],
            }
        )
        return
    done = "made" if made.created else "is there already; nothing was changed"
    output.line(f"repository {made.location} {done} (id {made.id[:8]})")
    if made.keeps_first is False:
        output.note(
            "this storage does not refuse to replace an object: of two who write one at once, the last wins"
        )
    output.line("next: `sheetanchor backup`")


def _make_repository(application: Application) -> _Repository:
    """Make the repository, or open the one that is there: either way its password is then proven."""
    from sheetanchor.errors import RepositoryError, RepositoryNotFoundError

    refusal: RepositoryError | None = None
    try:
        application.create_repository()
    except RepositoryError as error:
        refusal = error
    try:
        with application.repository() as repository:
            keeps_first = _keeps_first(repository) if refusal is None else None
            return _Repository(repository.id, repository.location, refusal is None, keeps_first)
    except RepositoryNotFoundError:
        raise refusal or RepositoryError("the repository that was just made is gone") from None


def _keeps_first(repository: Repository) -> bool | None:
    """Try out what conditional writes are worth; a storage without sealed objects cannot tell."""
    from sheetanchor.errors import BackendError

    try:
        return repository.honours_if_absent()
    except BackendError:
        return None


def _refuse_wishes(path: Path, wishes: Wishes) -> None:
    from sheetanchor.errors import UsageError

    if wishes.stack or wishes.repository or wishes.password_file:
        raise UsageError(
            f"{path} is there already, and init never changes a configuration",
            hint="edit it; or leave --stack, --repository and --password-file out",
        )


def _write(output: Output, path: Path, wishes: Wishes) -> FirstConfiguration:
    import os

    from sheetanchor.errors import ConfigError
    from sheetanchor.setup import write_first_configuration

    with output.watching() as listener:
        listener.started("looking around")
        first = write_first_configuration(path, wishes, os.environ)
        listener.finished("looking around")
    output.note(f"{path} written")
    for one in first.components:
        output.note(f"  found {one.name} ({one.type}): {', '.join(one.facts) or _place(one.settings)}")
    if first.password_made:
        output.note(f"{first.password_file} written: the repository's password")
        output.warning(
            f"without the password no backup can be read: keep a copy of {first.password_file} somewhere else"
        )
    if not first.components:
        raise ConfigError(
            f"{path}: nothing to protect was found on this machine",
            hint="name the components in the file (examples are in it), then run `sheetanchor init` again",
        )
    return first


def _place(settings: tuple[tuple[str, str | tuple[str, ...]], ...]) -> str:
    values = (value if isinstance(value, str) else ", ".join(value) for _, value in settings)
    return "; ".join(values)
