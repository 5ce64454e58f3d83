"""Who sends a request: HTTP basic authentication (RFC 7617) against the server's users."""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import secrets
import threading
from http import HTTPStatus

from sheetanchor.clock import Clock
from sheetanchor.repository.server.passwords import hash_password, matches
from sheetanchor.repository.server.refused import RefusedError
from sheetanchor.repository.server.users import User, UserSource
from sheetanchor.secret import Secret

_AT_ONCE = 2
"""How many passwords are tried at once: each costs 16 MiB and a processor."""
_LONGEST = 1024


class Authenticator:
    """Checks credentials; a password that was right once is not derived again."""

    def __init__(self, source: UserSource, clock: Clock) -> None:
        self._source = source
        self._clock = clock
        self._trying = threading.BoundedSemaphore(_AT_ONCE)
        self._key = secrets.token_bytes(32)
        self._proven: dict[str, bytes] = {}
        self._nobody = hash_password(Secret(secrets.token_hex(16)))

    def user(self, authorization: str | None) -> User:
        """Return who an Authorization header proves. Raises RefusedError (401).

        An unknown name takes as long as a wrong password.
        """
        name, password = _credentials(authorization)
        user = self._source.users().get(name)
        hashed = self._nobody if user is None else user.password_hash
        if not self._right(name, password, hashed) or user is None:
            raise _unauthorised("wrong name or password")
        if user.expires is not None and self._clock.now() >= user.expires:
            raise _unauthorised("this credential has expired")
        return user

    def _right(self, name: str, password: Secret, hashed: str) -> bool:
        text = f"{hashed}\0{password.reveal()}".encode("utf-8", "surrogateescape")
        proof = hmac.digest(self._key, text, hashlib.sha256)
        if hmac.compare_digest(self._proven.get(name, b""), proof):
            return True
        with self._trying:
            right = matches(password, hashed)
        if right:
            self._proven[name] = proof
        return right


def _credentials(authorization: str | None) -> tuple[str, Secret]:
    if not authorization:
        raise _unauthorised("a name and a password are needed")
    scheme, _, encoded = authorization.partition(" ")
    try:
        decoded = base64.b64decode(encoded.strip(), validate=True).decode("utf-8")
    except (binascii.Error, ValueError):
        decoded = ""
    name, colon, password = decoded.partition(":")
    if scheme.lower() != "basic" or not colon or len(decoded) > _LONGEST:
        raise _unauthorised("basic authentication is needed")
    return name, Secret(password)


def _unauthorised(reason: str) -> RefusedError:
    return RefusedError(HTTPStatus.UNAUTHORIZED, reason)
