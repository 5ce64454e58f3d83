"""Encrypted archives of scripts that came before: `openssl enc` with whatever options, no HMAC.

Nothing authenticates them, so they are opened only on the operator's word. Which way of deriving
the key was used is found by the gzip header that has to come out.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator

from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes

from sheetanchor.archive.authentication import ITERATIONS
from sheetanchor.archive.encryption import (
    BLOCK_BYTES,
    HEADER_BYTES,
    KEY_BYTES,
    MAGIC,
    derive,
    split_key,
    strip_padding,
)
from sheetanchor.archive.streams import CHUNK_BYTES, ByteSource, read_exactly
from sheetanchor.errors import HostileArchiveError, WrongKeyError
from sheetanchor.secret import Secret

_GZIP = b"\x1f\x8b\x08"
_ITERATION_COUNTS = (10_000, ITERATIONS, 100_000)
"""`-pbkdf2` alone, with our own `-iter`, and with the count most often recommended."""


class OldDecryptingReader:
    """Decrypts an archive without authentication. Raises WrongKeyError when nothing fits."""

    def __init__(self, source: ByteSource, key: Secret, what: str) -> None:
        self._source = source
        self._what = what
        head = read_exactly(source, HEADER_BYTES + BLOCK_BYTES)
        if not head.startswith(MAGIC) or len(head) < HEADER_BYTES + BLOCK_BYTES:
            raise HostileArchiveError(f"{what}: not an encrypted archive")
        salt, first = head[len(MAGIC) : HEADER_BYTES], head[HEADER_BYTES:]
        for material in _candidates(key, salt):
            cipher_key, iv = split_key(material)
            cipher = Cipher(algorithms.AES256(cipher_key), modes.CBC(iv))
            if cipher.decryptor().update(first).startswith(_GZIP):
                break
        else:
            raise WrongKeyError(
                f"{what}: the encryption key does not open it",
                hint="set ENCRYPTION_KEY to the key used for this backup",
            )
        self._decryptor = cipher.decryptor()
        self._last = self._decryptor.update(first)
        self._ready = b""
        self._ended = False

    def read(self, size: int, /) -> bytes:
        """Return up to `size` decrypted bytes; b"" at the end."""
        while not self._ready and not self._ended:
            self._advance()
        data, self._ready = self._ready[:size], self._ready[size:]
        return data

    def _advance(self) -> None:
        """Decrypt the next piece, keeping back the block that may be the last."""
        piece = read_exactly(self._source, CHUNK_BYTES)
        if len(piece) % BLOCK_BYTES:
            raise HostileArchiveError(f"{self._what}: truncated (not a whole number of cipher blocks)")
        if not piece:
            self._ended = True
            self._ready = strip_padding(self._last, self._what)
            return
        plain = self._last + self._decryptor.update(piece)
        self._ready, self._last = plain[:-BLOCK_BYTES], plain[-BLOCK_BYTES:]


def _candidates(key: Secret, salt: bytes) -> Iterator[bytes]:
    """Yield key material in the ways openssl has derived it by default or by common advice."""
    yield _bytes_to_key(key, salt, hashlib.sha256)
    yield _bytes_to_key(key, salt, _md5)
    for count in _ITERATION_COUNTS:
        yield derive(key, salt, "sha256", count)


def _bytes_to_key(key: Secret, salt: bytes, make_hash: Callable[[bytes], hashlib._Hash]) -> bytes:
    """Derive as EVP_BytesToKey(3) does with a count of one: openssl's default without -pbkdf2."""
    password = key.reveal().encode("utf-8", "surrogateescape")
    material = block = b""
    while len(material) < KEY_BYTES + BLOCK_BYTES:
        block = make_hash(block + password + salt).digest()
        material += block
    return material[: KEY_BYTES + BLOCK_BYTES]


def _md5(data: bytes) -> hashlib._Hash:
    """Return the digest that openssl before 1.1.0 used."""
    return hashlib.md5(data, usedforsecurity=False)
