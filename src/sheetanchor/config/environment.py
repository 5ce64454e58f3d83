"""What comes from the environment: where the configuration is, and the repository's password."""

from __future__ import annotations

import stat
from collections.abc import Callable, Mapping
from pathlib import Path

from sheetanchor.errors import ConfigError
from sheetanchor.secret import Secret

CONFIG_VARIABLE = "SHEETANCHOR_CONFIG"
PASSWORD_VARIABLE = "SHEETANCHOR_PASSWORD"  # noqa: S105 - a name
PASSWORD_FILE_VARIABLE = "SHEETANCHOR_PASSWORD_FILE"  # noqa: S105 - a name
MAX_PASSWORD_BYTES = 4096


def repository_password(
    password_file: Path | None,
    environment: Mapping[str, str],
    *,
    warn: Callable[[str], None],
    ask: Callable[[], Secret] | None = None,
) -> Secret:
    """Return the repository's password.

    The environment stands above the configuration, so that a repository can be opened where the
    configured file is lost: SHEETANCHOR_PASSWORD_FILE, SHEETANCHOR_PASSWORD, `password_file`,
    then `ask` (a prompt, where there is a terminal). `warn` is told of a file that others may
    read. Raises ConfigError when there is none, or an empty one.
    """
    if named := environment.get(PASSWORD_FILE_VARIABLE):
        return read_password_file(Path(named), warn=warn)
    if PASSWORD_VARIABLE in environment:
        value = environment[PASSWORD_VARIABLE].rstrip("\r\n")
        if not value:
            raise ConfigError(f"{PASSWORD_VARIABLE} is set, but empty")
        return Secret(value)
    if password_file is not None:
        return read_password_file(password_file, warn=warn)
    if ask is not None:
        return ask()
    raise ConfigError(
        "no repository password: repository.password_file is not set",
        hint=f"set it, or {PASSWORD_FILE_VARIABLE}, or {PASSWORD_VARIABLE}",
    )


def read_password_file(path: Path, *, warn: Callable[[str], None]) -> Secret:
    """Return the file's first and only line.

    Raises ConfigError for a file that is missing, unreadable, empty, or more than a line.
    """
    try:
        with path.open("rb") as file:
            mode = path.stat().st_mode
            data = file.read(MAX_PASSWORD_BYTES + 1)
    except OSError as error:
        raise ConfigError(
            f"password file {path}: {error.strerror}",
            hint=f"give the password by {PASSWORD_FILE_VARIABLE} or {PASSWORD_VARIABLE} if the file is lost",
        ) from error
    if mode & (stat.S_IROTH | stat.S_IWOTH) and stat.S_ISREG(mode):
        warn(f"password file {path}: every user of this machine may read it; `chmod 600 {path}`")
    return Secret(_password_in(data, path))


def _password_in(data: bytes, path: Path) -> str:
    try:
        text = data.decode().rstrip("\r\n")
    except UnicodeDecodeError as error:
        raise ConfigError(f"password file {path}: not UTF-8 text") from error
    if not text:
        raise ConfigError(f"password file {path}: it is empty")
    if len(data) > MAX_PASSWORD_BYTES or "\n" in text:
        raise ConfigError(f"password file {path}: holds more than one line; the password is all of it")
    return text
