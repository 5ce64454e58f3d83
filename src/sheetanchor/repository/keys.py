"""Key files: each password's way to the one master key.

restic's design, "Keys, Encryption and MAC": plain JSON named by its SHA-256, holding scrypt
parameters and the master key sealed with what scrypt makes of the password.
"""

from __future__ import annotations

import base64
import os
from dataclasses import dataclass

from sheetanchor.errors import (
    DamagedRepositoryError,
    ObjectAbsentError,
    RepositoryError,
    RepositoryNotFoundError,
    WrongPasswordError,
)
from sheetanchor.repository import gojson
from sheetanchor.repository.backend.base import CONFIG_NAME, Backend, Kind
from sheetanchor.repository.crypto import MasterKey, RandomBytes, Sealer
from sheetanchor.repository.ids import Id, digest, parse_id
from sheetanchor.repository.scrypt import SALT_SIZE, ScryptParameters, derive
from sheetanchor.secret import Secret

MAX_TRIED = 20
"""Key files tried with a password, as many as restic tries."""
_MAX_FILE = 64 << 10


@dataclass(frozen=True)
class KeyFile:
    """One key file's content; nothing in it is secret."""

    created_ns: int
    username: str
    hostname: str
    parameters: ScryptParameters
    salt: bytes
    data: bytes
    """The sealed master key."""


@dataclass(frozen=True)
class StoredKey:
    """A key file with its id, the name of its file."""

    id: Id
    file: KeyFile


@dataclass(frozen=True)
class OpenedKey:
    """What a password opened."""

    id: Id
    file: KeyFile
    master_key: MasterKey


@dataclass(frozen=True)
class KeyOwner:
    """Who and where a key is made for, as shown by `key list`."""

    username: str
    hostname: str


def add_key(
    backend: Backend,
    master_key: MasterKey,
    password: Secret,
    owner: KeyOwner,
    created_ns: int,
    parameters: ScryptParameters,
    random_bytes: RandomBytes = os.urandom,
) -> Id:
    """Store a key file that opens `master_key` with `password`; return its id.

    Raises DamagedRepositoryError, before anything is stored, when it does not open again.
    """
    salt = random_bytes(SALT_SIZE)
    user_key = MasterKey.from_bytes(derive(password, salt, parameters))
    sealed = Sealer(user_key, random_bytes).seal(master_key.to_json())
    file = KeyFile(created_ns, owner.username, owner.hostname, parameters, salt, sealed)
    stored = encode_key(file)
    if _unseal(decode_key(stored), password) != master_key:
        raise DamagedRepositoryError("a new key does not open again: the machine miscalculates")
    key_id = digest(stored)
    backend.put(Kind.KEYS, key_id.hex(), stored)
    return key_id


def open_key(backend: Backend, password: Secret, hint: Id | None = None) -> OpenedKey:
    """Find the key that `password` opens: the hinted one first, then at most 20 others.

    Raises WrongPasswordError, RepositoryNotFoundError, or DamagedRepositoryError when none opens
    and a key file is damaged (a damaged one beside a good one does no harm).
    """
    names = sorted(parse_id(stored.name) for stored in backend.list(Kind.KEYS))
    if not names:
        raise _no_keys(backend)
    if hint in names:
        names.remove(hint)
        names.insert(0, hint)
    damage: DamagedRepositoryError | None = None
    for name in names[:MAX_TRIED]:
        try:
            file = load_key(backend, name)
            master_key = _unseal(file, password)
        except ObjectAbsentError:
            continue
        except DamagedRepositoryError as error:
            damage = error
            continue
        if master_key is not None:
            return OpenedKey(name, file, master_key)
    if damage is not None:
        raise damage
    raise WrongPasswordError(
        f"no key of {backend.location} opens with this password",
        hint="check the password file, and that this is the repository it belongs to"
        if len(names) <= MAX_TRIED
        else f"only {MAX_TRIED} of {len(names)} keys are tried; remove keys that are not needed",
    )


def list_keys(backend: Backend) -> list[StoredKey]:
    """Return all key files, oldest first. Raises DamagedRepositoryError."""
    names = [parse_id(stored.name) for stored in backend.list(Kind.KEYS)]
    keys = [StoredKey(name, load_key(backend, name)) for name in names]
    return sorted(keys, key=lambda key: (key.file.created_ns, key.id))


def remove_key(backend: Backend, key_id: Id, in_use: Id) -> None:
    """Remove a key file. Raises RepositoryError for the one in use, ObjectAbsentError."""
    if key_id == in_use:
        raise RepositoryError(
            f"key {key_id.hex()[:8]} is the one in use",
            hint="open the repository with another password to remove this one",
        )
    backend.size(Kind.KEYS, key_id.hex())
    backend.delete(Kind.KEYS, key_id.hex())


def change_password(
    backend: Backend,
    opened: OpenedKey,
    password: Secret,
    owner: KeyOwner,
    created_ns: int,
    parameters: ScryptParameters,
) -> Id:
    """Replace the opened key's password and return the new key's id; the master key stays.

    The new key file is stored and read back before the old one goes.
    """
    new = add_key(backend, opened.master_key, password, owner, created_ns, parameters)
    if _unseal(load_key(backend, new), password) != opened.master_key:
        raise DamagedRepositoryError(f"the new key {new.hex()[:8]} does not read back; the old one stays")
    backend.delete(Kind.KEYS, opened.id.hex())
    return new


def load_key(backend: Backend, key_id: Id) -> KeyFile:
    """Read a key file. Raises ObjectAbsentError, DamagedRepositoryError."""
    stored = backend.get(Kind.KEYS, key_id.hex())
    try:
        if len(stored) > _MAX_FILE:
            raise DamagedRepositoryError("it is too big")
        if digest(stored) != key_id:
            raise DamagedRepositoryError("its content does not match its name")
        return decode_key(stored)
    except DamagedRepositoryError as error:
        raise DamagedRepositoryError(
            f"{backend.location}: keys/{key_id.hex()}: {error.message}",
            hint=error.hint or "use another password, or bring the file back from a copy of the repository",
        ) from error


def encode_key(file: KeyFile) -> bytes:
    """Return the bytes of a key file."""
    return gojson.encode(
        {
            "created": gojson.format_time(file.created_ns),
            "username": file.username,
            "hostname": file.hostname,
            "kdf": "scrypt",
            "N": file.parameters.n,
            "r": file.parameters.r,
            "p": file.parameters.p,
            "salt": base64.b64encode(file.salt).decode(),
            "data": base64.b64encode(file.data).decode(),
        }
    ).encode()


def decode_key(data: bytes) -> KeyFile:
    """Read the bytes of a key file; scrypt parameters are checked. Raises DamagedRepositoryError."""
    try:
        fields = gojson.decode(data)
        if not isinstance(fields, dict) or fields.get("kdf") != "scrypt":
            raise ValueError("no key derivation that is known")
        file = KeyFile(
            gojson.parse_time(str(fields.get("created"))),
            str(fields.get("username") or ""),
            str(fields.get("hostname") or ""),
            ScryptParameters(*(_number(fields.get(name)) for name in ("N", "r", "p"))),
            base64.b64decode(str(fields.get("salt")), validate=True),
            base64.b64decode(str(fields.get("data")), validate=True),
        )
    except ValueError as error:
        raise DamagedRepositoryError(f"a key file cannot be read: {error}") from error
    if len(file.salt) != SALT_SIZE:
        raise DamagedRepositoryError(f"a key file has a salt of {len(file.salt)} bytes")
    file.parameters.check()
    return file


def _number(value: object) -> int:
    if type(value) is not int:
        raise ValueError("a scrypt parameter is no number")
    return value


def _unseal(file: KeyFile, password: Secret) -> MasterKey | None:
    """Return the master key, None when the password does not fit. Raises DamagedRepositoryError."""
    user_key = MasterKey.from_bytes(derive(password, file.salt, file.parameters))
    try:
        plain = Sealer(user_key).open(file.data)
    except DamagedRepositoryError:
        return None
    try:
        return MasterKey.from_json(plain)
    except ValueError as error:
        raise DamagedRepositoryError(f"a key file holds no usable master key: {error}") from error


def _no_keys(backend: Backend) -> RepositoryError:
    try:
        backend.size(Kind.CONFIG, CONFIG_NAME)
    except ObjectAbsentError:
        return RepositoryNotFoundError(
            f"there is no repository at {backend.location}", hint="create one with `sheetanchor init`"
        )
    return DamagedRepositoryError(
        f"{backend.location} has no key files, so no password can open it",
        hint="bring the directory `keys` back from a copy of the repository",
    )
