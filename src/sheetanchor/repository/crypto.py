"""Sealing: encryption and authentication of everything in a repository but the key files' frame.

Sealed bytes are nonce (16) || AES-256-CTR ciphertext || Poly1305-AES tag (16); restic's design,
"Keys, Encryption and MAC". The tag is checked before a byte is decrypted.
"""

from __future__ import annotations

import base64
import hmac
import os
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from cryptography.hazmat.primitives.ciphers import Cipher, CipherContext
from cryptography.hazmat.primitives.ciphers.algorithms import AES
from cryptography.hazmat.primitives.ciphers.modes import CTR, ECB
from cryptography.hazmat.primitives.poly1305 import Poly1305

from sheetanchor.errors import DamagedRepositoryError
from sheetanchor.repository import gojson

Buffer = bytes | bytearray | memoryview

NONCE_SIZE = 16
TAG_SIZE = 16
OVERHEAD = NONCE_SIZE + TAG_SIZE
"""Bytes that sealing adds."""

RandomBytes = Callable[[int], bytes]


@dataclass(frozen=True)
class MasterKey:
    """The key that seals a repository; every password opens this same one."""

    encrypt: bytes = field(repr=False)
    """AES-256 key, 32 bytes."""
    mac_k: bytes = field(repr=False)
    """AES-128 key of Poly1305-AES, 16 bytes."""
    mac_r: bytes = field(repr=False)
    """Poly1305's r, 16 bytes, clamped on use."""

    def __post_init__(self) -> None:
        if (len(self.encrypt), len(self.mac_k), len(self.mac_r)) != (32, 16, 16):
            raise ValueError("a key has the wrong length")
        if not (any(self.encrypt) and any(self.mac_k) and any(self.mac_r)):
            raise ValueError("a key is all zero")

    @classmethod
    def generate(cls, random_bytes: RandomBytes = os.urandom) -> MasterKey:
        """Return a new random key."""
        return cls(random_bytes(32), random_bytes(16), random_bytes(16))

    @classmethod
    def from_bytes(cls, material: bytes) -> MasterKey:
        """Return the key made of 64 bytes: encrypt, k, r. Raises ValueError for an unusable one."""
        return cls(material[:32], material[32:48], material[48:])

    @classmethod
    def from_json(cls, data: bytes) -> MasterKey:
        """Read the form in which key files hold it. Raises ValueError."""
        match gojson.decode(data):
            case {"mac": {"k": str(mac_k), "r": str(mac_r)}, "encrypt": str(encrypt)}:
                parts = [base64.b64decode(text, validate=True) for text in (encrypt, mac_k, mac_r)]
                return cls(*parts)
        raise ValueError("not a master key")

    def to_json(self) -> bytes:
        """Return the form in which key files hold it, before sealing."""
        mac_k, mac_r, encrypt = (
            base64.b64encode(part).decode() for part in (self.mac_k, self.mac_r, self.encrypt)
        )
        return gojson.encode({"mac": {"k": mac_k, "r": mac_r}, "encrypt": encrypt}).encode()


class Sealer:
    """Seals and opens with one key; may be used by many threads at once."""

    def __init__(self, key: MasterKey, random_bytes: RandomBytes = os.urandom) -> None:
        self.key = key
        self._random_bytes = random_bytes
        self._contexts = _Contexts(key)

    def seal(self, plain: Buffer) -> bytes:
        """Return `plain` sealed, under a fresh nonce."""
        out = bytearray(len(plain) + OVERHEAD)
        self.seal_into(plain, out, 0)
        return bytes(out)

    def seal_into(self, plain: Buffer, out: bytearray | memoryview, offset: int = 0) -> int:
        """Write `plain` sealed to `out[offset:]`; return the number of bytes written.

        Raises ValueError when `out` is too small.
        """
        size = len(plain)
        end = offset + size + OVERHEAD
        view = memoryview(out)
        if len(view) < end:
            raise ValueError("no room for the sealed bytes")
        nonce = self._nonce()
        view[offset : offset + NONCE_SIZE] = nonce
        body = view[offset + NONCE_SIZE : end - TAG_SIZE]
        self._contexts.encrypt(nonce, plain, body)
        view[end - TAG_SIZE : end] = self._tag(nonce, body)
        return size + OVERHEAD

    def open(self, sealed: Buffer) -> bytes:
        """Return what was sealed.

        Raises DamagedRepositoryError when a single bit differs, or another key sealed it.
        """
        view = self._verified(sealed)
        out = bytearray(len(view) - OVERHEAD)
        self._contexts.decrypt(bytes(view[:NONCE_SIZE]), view[NONCE_SIZE:-TAG_SIZE], memoryview(out))
        return bytes(out)

    def open_into(self, sealed: Buffer, out: bytearray | memoryview) -> int:
        """Write what was sealed to the front of `out`; return its size.

        Raises DamagedRepositoryError as `open` does; ValueError when `out` is too small.
        """
        view = self._verified(sealed)
        size = len(view) - OVERHEAD
        target = memoryview(out)
        if len(target) < size:
            raise ValueError("no room for the opened bytes")
        self._contexts.decrypt(bytes(view[:NONCE_SIZE]), view[NONCE_SIZE:-TAG_SIZE], target[:size])
        return size

    def verify(self, sealed: Buffer) -> None:
        """Check the tag alone, without decrypting. Raises DamagedRepositoryError."""
        self._verified(sealed)

    def _verified(self, sealed: Buffer) -> memoryview:
        view = memoryview(sealed)
        if len(view) < OVERHEAD:
            raise DamagedRepositoryError(f"sealed data of {len(view)} bytes is too short")
        nonce = bytes(view[:NONCE_SIZE])
        tag = self._tag(nonce, view[NONCE_SIZE:-TAG_SIZE])
        if not any(nonce) or not hmac.compare_digest(tag, view[-TAG_SIZE:]):
            raise DamagedRepositoryError("sealed data does not pass its authentication check")
        return view

    def _nonce(self) -> bytes:
        nonce = self._random_bytes(NONCE_SIZE)
        if len(nonce) != NONCE_SIZE or not any(nonce):
            raise ValueError("the source of randomness failed")
        return nonce

    def _tag(self, nonce: bytes, ciphertext: memoryview) -> bytes:
        return Poly1305.generate_tag(self.key.mac_r + self._contexts.pad(nonce), ciphertext)


class _Contexts(threading.local):
    """One thread's cipher contexts: making them anew costs more than sealing a small blob."""

    def __init__(self, key: MasterKey) -> None:
        super().__init__()
        zero = bytes(NONCE_SIZE)
        self._encryptor: Any = Cipher(AES(key.encrypt), CTR(zero)).encryptor()
        self._decryptor: Any = Cipher(AES(key.encrypt), CTR(zero)).decryptor()
        self._mac: CipherContext = Cipher(AES(key.mac_k), ECB()).encryptor()  # noqa: S305 - Poly1305-AES

    def pad(self, nonce: bytes) -> bytes:
        """Return Poly1305-AES's s for a nonce."""
        return self._mac.update(nonce)

    def encrypt(self, nonce: bytes, plain: Buffer, out: memoryview) -> None:
        self._encryptor.reset_nonce(nonce)
        self._encryptor.update_into(plain, out)

    def decrypt(self, nonce: bytes, ciphertext: memoryview, out: memoryview) -> None:
        self._decryptor.reset_nonce(nonce)
        self._decryptor.update_into(ciphertext, out)
