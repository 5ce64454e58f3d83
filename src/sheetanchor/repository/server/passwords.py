"""Passwords of the server's users: salted scrypt hashes as text, and their comparison."""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import re
import secrets

from sheetanchor.errors import ConfigError
from sheetanchor.secret import Secret

_COST = 1 << 14
_BLOCK = 8
_PARALLEL = 1
"""16 MiB and about 40 ms for each guess."""
_HIGHEST_COST = 1 << 17
_HIGHEST_BLOCK = 16
_HIGHEST_PARALLEL = 4
_SALT_SIZE = 16
_HASH_SIZE = 32
_FORM = re.compile(
    r"scrypt\$([0-9]{1,7})\$([0-9]{1,2})\$([0-9]{1,2})\$([A-Za-z0-9+/=]{24})\$([A-Za-z0-9+/=]{44})"
)


def hash_password(password: Secret) -> str:
    """Return `scrypt$N$r$p$salt$hash`, salt and hash in base64, with a new random salt."""
    salt = secrets.token_bytes(_SALT_SIZE)
    derived = _derive(password, salt, _COST, _BLOCK, _PARALLEL)
    encoded = (base64.b64encode(part).decode("ascii") for part in (salt, derived))
    return "$".join(("scrypt", str(_COST), str(_BLOCK), str(_PARALLEL), *encoded))


def matches(password: Secret, hashed: str) -> bool:
    """Say whether `password` is the one that was hashed. Takes as long either way."""
    cost, block, parallel, salt, expected = _parts(hashed)
    return hmac.compare_digest(_derive(password, salt, cost, block, parallel), expected)


def check_hash(hashed: str) -> None:
    """Raise ConfigError for text that is no hash of `hash_password`, or one that is made to hurt."""
    _parts(hashed)


def _parts(hashed: str) -> tuple[int, int, int, bytes, bytes]:
    found = _FORM.fullmatch(hashed)
    if found is None:
        known = "a hash of htpasswd" if re.match(r"\$(2[aby]|apr1|5|6)\$|\{SHA\}", hashed) else "no hash"
        raise ConfigError(f"{known} where a scrypt hash belongs", hint="write the line with --add-user")
    cost, block, parallel = int(found[1]), int(found[2]), int(found[3])
    fits = 1 < cost <= _HIGHEST_COST and 0 < block <= _HIGHEST_BLOCK and 0 < parallel <= _HIGHEST_PARALLEL
    if not fits or cost & (cost - 1):
        raise ConfigError("impossible scrypt parameters", hint="write the line with --add-user")
    try:
        salt, derived = (base64.b64decode(part, validate=True) for part in (found[4], found[5]))
    except binascii.Error as error:
        raise ConfigError("a hash is damaged", hint="write the line with --add-user") from error
    return cost, block, parallel, salt, derived


def _derive(password: Secret, salt: bytes, cost: int, block: int, parallel: int) -> bytes:
    return hashlib.scrypt(
        password.reveal().encode("utf-8", "surrogateescape"),
        salt=salt,
        n=cost,
        r=block,
        p=parallel,
        maxmem=128 * block * (cost + parallel + 2) + (1 << 20),
        dklen=_HASH_SIZE,
    )
