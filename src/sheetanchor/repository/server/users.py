"""The server's users: a file of `name:hash:right:expiry` lines, and records for a single run."""

from __future__ import annotations

import fcntl
import os
import re
import secrets
import threading
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Protocol

from sheetanchor.errors import ConfigError
from sheetanchor.repository.server.passwords import check_hash
from sheetanchor.repository.server.rights import Right

NEVER = "-"
_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,63}")
_LARGEST_FILE = 1 << 20
_EXPIRY = "%Y-%m-%dT%H:%M:%SZ"


@dataclass(frozen=True)
class User:
    """Who may do what, and until when (UTC, None: for ever)."""

    name: str
    password_hash: str = field(repr=False)
    right: Right
    expires: datetime | None = None

    def line(self) -> str:
        """Return the user's line of the file."""
        expiry = NEVER if self.expires is None else self.expires.astimezone(UTC).strftime(_EXPIRY)
        return f"{self.name}:{self.password_hash}:{self.right}:{expiry}"


class UserSource(Protocol):
    """Where users are known."""

    def users(self) -> Mapping[str, User]:
        """Return all users by name, as of now."""
        ...


@dataclass(frozen=True)
class FixedUsers:
    """Users that live as long as the server does: the credentials of one run."""

    known: Mapping[str, User]

    def users(self) -> Mapping[str, User]:
        """Return all users by name."""
        return self.known


class UserFile:
    """A file of users, read anew whenever it has changed."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._lock = threading.Lock()
        self._seen: tuple[int, int, int] | None = None
        self._users: Mapping[str, User] = {}

    def users(self) -> Mapping[str, User]:
        """Return all users by name. Raises ConfigError for a file that is missing or wrong."""
        with self._lock:
            try:
                status = os.stat(self._path)
            except OSError as error:
                raise _unreadable(self._path, error) from error
            seen = status.st_mtime_ns, status.st_size, status.st_ino
            if seen != self._seen:
                self._users = read_users(self._path)
                self._seen = seen
            return self._users


def read_users(path: Path) -> dict[str, User]:
    """Read a file of users. Raises ConfigError, naming the line but nothing of what is in it."""
    try:
        with path.open("rb") as file:
            data = file.read(_LARGEST_FILE + 1)
        text = data.decode("ascii")
    except OSError as error:
        raise _unreadable(path, error) from error
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path}: not plain text") from error
    if len(data) > _LARGEST_FILE:
        raise ConfigError(f"{path}: larger than a file of users can be")
    users: dict[str, User] = {}
    for number, line in enumerate(text.splitlines(), start=1):
        if not line.strip() or line.startswith("#"):
            continue
        try:
            user = parse_user(line)
        except ConfigError as error:
            raise ConfigError(f"{path}, line {number}: {error.message}", hint=error.hint) from error
        if user.name in users:
            raise ConfigError(f"{path}, line {number}: {user.name} is there already")
        users[user.name] = user
    return users


def parse_user(line: str) -> User:
    """Read one line: name, hash, right (else `full`), expiry (else never). Raises ConfigError."""
    name, hashed, right, expiry, *more = [*line.strip().split(":", 3), "", "", ""][:5]
    if not _NAME.fullmatch(name) or any(more):
        raise ConfigError("no line of the form name:hash:right:expiry", hint="write it with --add-user")
    check_hash(hashed)
    if right and right not in tuple(Right):
        raise ConfigError("an unknown right", hint=f"there are: {', '.join(Right)}")
    expires = None
    if expiry not in ("", NEVER):
        try:
            expires = datetime.strptime(expiry, _EXPIRY).replace(tzinfo=UTC)
        except ValueError as error:
            raise ConfigError("a wrong expiry", hint="write it as 2030-01-31T12:00:00Z, or -") from error
    return User(name, hashed, Right(right or Right.FULL), expires)


def change_users(path: Path, *, add: User | None = None, remove: str | None = None) -> None:
    """Put a user into the file, or take one out; the file appears whole, readable by its owner only.

    Raises ConfigError for a name that cannot be one, or is not there, and for a wrong file.
    """
    if add is not None and not _NAME.fullmatch(add.name):
        raise ConfigError(f"{add.name[:80]!r} cannot be a user's name", hint="letters, digits, . _ - only")
    try:
        with open(f"{path}.lock", "w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            users = read_users(path) if path.exists() else {}
            if remove is not None and users.pop(remove, None) is None:
                raise ConfigError(f"{path}: there is no user {remove[:80]!r}")
            if add is not None:
                users[add.name] = add
            _write(path, "".join(f"{user.line()}\n" for user in users.values()))
    except OSError as error:
        raise ConfigError(f"{path}: cannot be written: {error.strerror}") from error


def _write(path: Path, text: str) -> None:
    temporary = f"{path}.{secrets.token_hex(8)}"
    try:
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        with os.fdopen(descriptor, "w", encoding="ascii") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    finally:
        with suppress(FileNotFoundError):
            os.unlink(temporary)


def _unreadable(path: Path, error: OSError) -> ConfigError:
    return ConfigError(
        f"file of users {path}: {error.strerror}",
        hint="`sheetanchor repository serve --users FILE --add-user NAME` makes one",
    )
