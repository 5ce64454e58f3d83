"""The repository's `config` file: format version, id, chunker polynomial.

restic's design, "Repository Layout": sealed JSON, never compressed, not named by its hash.
"""

from __future__ import annotations

import os
import re
from dataclasses import dataclass

from sheetanchor.errors import DamagedRepositoryError, ObjectAbsentError, RepositoryNotFoundError
from sheetanchor.repository import gojson, polynomial
from sheetanchor.repository.backend.base import CONFIG_NAME, Backend, Kind
from sheetanchor.repository.crypto import RandomBytes, Sealer
from sheetanchor.repository.ids import is_hex_id

VERSION = 2
"""What new repositories get; 1 is read and written too."""


@dataclass(frozen=True)
class Settings:
    """What holds for the whole repository, unchangeable but for the version."""

    version: int
    id: str
    """64 hex digits."""
    polynomial: int

    @classmethod
    def generate(cls, version: int = VERSION, random_bytes: RandomBytes = os.urandom) -> Settings:
        """Return the settings of a new repository."""
        return cls(version, random_bytes(32).hex(), polynomial.generate(random_bytes))

    def encode(self) -> bytes:
        """Return the JSON of the file, before sealing."""
        return gojson.encode(
            {"version": self.version, "id": self.id, "chunker_polynomial": f"{self.polynomial:x}"}
        ).encode()


def decode_settings(data: bytes) -> Settings:
    """Read the opened file. Raises DamagedRepositoryError."""
    try:
        match gojson.decode(data):
            case {"version": int(version), "id": str(repository_id), "chunker_polynomial": str(hex_digits)}:
                settings = Settings(version, repository_id, _parse_polynomial(hex_digits))
            case _:
                raise ValueError("a field is missing")
    except ValueError as error:
        raise DamagedRepositoryError(f"the repository's config cannot be read: {error}") from error
    if settings.version not in (1, 2):
        raise DamagedRepositoryError(
            f"the repository has format version {settings.version}; 1 and 2 are supported",
            hint="use a newer version of this program",
        )
    if not is_hex_id(settings.id):
        raise DamagedRepositoryError("the repository's config holds no valid id")
    if not polynomial.is_irreducible(settings.polynomial):
        raise DamagedRepositoryError("the repository's config holds a reducible polynomial")
    return settings


def save_settings(backend: Backend, sealer: Sealer, settings: Settings) -> None:
    """Write the `config` file, which makes a repository of the place: the last step of creation.

    Raises ObjectExistsError when there is one.
    """
    plain = settings.encode()
    sealed = sealer.seal(plain)
    if sealer.open(sealed) != plain:
        raise DamagedRepositoryError("the config changed while it was sealed: the machine miscalculates")
    backend.put(Kind.CONFIG, CONFIG_NAME, sealed, if_absent=True)


def load_settings(backend: Backend, sealer: Sealer) -> Settings:
    """Read the `config` file.

    Raises RepositoryNotFoundError, or DamagedRepositoryError: the password was right, so a failed
    authentication means that config or key file are damaged.
    """
    try:
        sealed = backend.get(Kind.CONFIG, CONFIG_NAME)
    except ObjectAbsentError as error:
        raise RepositoryNotFoundError(
            f"there is no repository at {backend.location}", hint="create one with `sheetanchor init`"
        ) from error
    try:
        return decode_settings(sealer.open(sealed))
    except DamagedRepositoryError as error:
        raise DamagedRepositoryError(
            f"{backend.location}: config: {error.message}",
            hint=error.hint or "restore the file `config` from a copy of the repository",
        ) from error


def _parse_polynomial(hex_digits: str) -> int:
    if re.fullmatch(r"[0-9a-f]{1,16}", hex_digits) is None:
        raise ValueError("the polynomial is no hex number")
    return int(hex_digits, 16)
