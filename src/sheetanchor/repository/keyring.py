"""The passwords of an open repository: list, add, remove, change."""

from __future__ import annotations

import getpass
import os

from sheetanchor.clock import Clock
from sheetanchor.errors import UnknownBackupError, UsageError
from sheetanchor.repository.backend.base import Backend
from sheetanchor.repository.ids import Id
from sheetanchor.repository.keys import (
    KeyOwner,
    OpenedKey,
    StoredKey,
    add_key,
    change_password,
    list_keys,
    remove_key,
)
from sheetanchor.repository.scrypt import ScryptParameters, calibrate
from sheetanchor.repository.snapshot import find_by_prefix
from sheetanchor.secret import Secret


class Keyring:
    """Key files all hold the same master key; removing one shuts a password out."""

    def __init__(
        self, backend: Backend, opened: OpenedKey, clock: Clock, scrypt: ScryptParameters | None = None
    ) -> None:
        self._backend = backend
        self._opened = opened
        self._clock = clock
        self._scrypt = scrypt

    @property
    def current(self) -> Id:
        """The key that opened the repository."""
        return self._opened.id

    def list(self) -> list[StoredKey]:
        """Return all keys, oldest first."""
        return list_keys(self._backend)

    def add(self, password: Secret) -> Id:
        """Let `password` open the repository too; return the new key's id."""
        return add_key(
            self._backend,
            self._opened.master_key,
            password,
            self._owner(),
            self._now(),
            self._scrypt or calibrate(self._clock),
        )

    def remove(self, prefix: str) -> Id:
        """Remove the key whose id begins with `prefix`; return its id.

        Raises UsageError when none or several do, RepositoryError for the one in use.
        """
        try:
            key = find_by_prefix((stored.id for stored in self.list()), prefix)
        except UnknownBackupError as error:
            raise UsageError(
                error.message.replace("snapshot", "key"), hint="`sheetanchor key list` shows them"
            ) from None
        remove_key(self._backend, key, self._opened.id)
        return key

    def change(self, password: Secret) -> Id:
        """Replace the password in use by `password`; return the new key's id."""
        return change_password(
            self._backend,
            self._opened,
            password,
            self._owner(),
            self._now(),
            self._scrypt or calibrate(self._clock),
        )

    def _owner(self) -> KeyOwner:
        return KeyOwner(getpass.getuser(), os.uname().nodename)

    def _now(self) -> int:
        return int(self._clock.now().timestamp()) * 1_000_000_000
