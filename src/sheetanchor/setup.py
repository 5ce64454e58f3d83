"""The first configuration of a machine: what `init` finds, writes and never overwrites."""

from __future__ import annotations

import os
import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from sheetanchor.config.environment import (
    CONFIG_VARIABLE,
    PASSWORD_FILE_VARIABLE,
    PASSWORD_VARIABLE,
)
from sheetanchor.config.load import FILE_NAME, SYSTEM_PATH
from sheetanchor.config.sample import SampleComponent, render
from sheetanchor.errors import ConfigError
from sheetanchor.stacks.base import Discovered
from sheetanchor.stacks.discovery import compose
from sheetanchor.stacks.discovery.local import discover

SYSTEM_DIRECTORY = SYSTEM_PATH.parent
SYSTEM_REPOSITORY = "/backups/repository"
PASSWORD_BYTES = 32


@dataclass(frozen=True)
class Wishes:
    """What the operator asked for; the rest is chosen."""

    stack: str | None = None
    repository: str | None = None
    password_file: Path | None = None


@dataclass(frozen=True)
class FirstConfiguration:
    """What was found and written."""

    path: Path
    components: tuple[Discovered, ...]
    password_file: Path
    password_made: bool


def configuration_path(explicit: Path | None, environment: Mapping[str, str]) -> Path:
    """Return where the configuration is, or where `init` writes it: what was named, or here."""
    if explicit is not None:
        return explicit
    if named := environment.get(CONFIG_VARIABLE):
        return Path(named)
    here = Path.cwd() / FILE_NAME
    return SYSTEM_PATH if SYSTEM_PATH.exists() and not here.exists() else here


def write_first_configuration(
    path: Path, wishes: Wishes, environment: Mapping[str, str]
) -> FirstConfiguration:
    """Look around, write the configuration and, where there is none, a password.

    Existing files are never overwritten. Raises ConfigError when a file cannot be written.
    """
    directory = path.absolute().parent
    stack = wishes.stack or compose.stack_name(directory)
    url = wishes.repository or _default_repository(directory)
    password_file = (wishes.password_file or _default_password_file(stack, environment)).absolute()
    components = discover(directory, environment).components
    samples = [SampleComponent(one.name, one.type, one.settings, one.facts) for one in components]
    _write_new(path, render(stack, url, password_file, samples), 0o644)
    made = not password_file.exists() and not _password_by_environment(environment)
    if made:
        _write_new(password_file, secrets.token_urlsafe(PASSWORD_BYTES) + "\n", 0o600)
    return FirstConfiguration(path, components, password_file, made)


def _default_repository(directory: Path) -> str:
    return SYSTEM_REPOSITORY if os.geteuid() == 0 else str(directory / "repository")


def _default_password_file(stack: str, environment: Mapping[str, str]) -> Path:
    """Outside of the working directory, which is often a git repository."""
    if os.geteuid() == 0:
        return SYSTEM_DIRECTORY / f"{stack}.password"
    home = Path(environment.get("HOME") or Path.home())
    configured = environment.get("XDG_CONFIG_HOME")
    return (Path(configured) if configured else home / ".config") / "sheetanchor" / f"{stack}.password"


def _password_by_environment(environment: Mapping[str, str]) -> bool:
    return bool(environment.get(PASSWORD_FILE_VARIABLE) or environment.get(PASSWORD_VARIABLE))


def _write_new(path: Path, text: str, mode: int) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o755 if mode & 0o044 else 0o700)
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, mode)
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
    except OSError as error:
        raise ConfigError(f"{path}: cannot be written: {error.strerror}") from error
