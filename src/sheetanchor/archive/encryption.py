"""AES-256-CBC as `openssl enc` writes and reads it, with every piece authenticated first.

Opens with stock openssl:

    openssl enc -d -aes-256-cbc -pbkdf2 -iter 600000 -md sha256 -pass env:ENCRYPTION_KEY \
        -in NAME.tar.gz.enc -out NAME.tar.gz

The file is "Salted__", eight bytes of salt, then the ciphertext with PKCS#7 padding; key and IV
are the first 48 bytes of PBKDF2-HMAC-SHA256 (openssl-enc(1), apps/enc.c).
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable

from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes

from sheetanchor.archive.authentication import (
    ITERATIONS,
    PIECE_BYTES,
    SALT_BYTES,
    MacFile,
    PieceMacs,
    check_piece,
)
from sheetanchor.archive.streams import ByteSource, read_exactly
from sheetanchor.errors import HostileArchiveError
from sheetanchor.secret import Secret

MAGIC = b"Salted__"
OPENSSL_SALT_BYTES = 8
HEADER_BYTES = len(MAGIC) + OPENSSL_SALT_BYTES
BLOCK_BYTES = 16
KEY_BYTES = 32


class EncryptingWriter:
    """Encrypts what is written into `sink` and collects the MACs of the encrypted file."""

    def __init__(
        self, sink: Callable[[bytes], object], key: Secret, random_bytes: Callable[[int], bytes] = os.urandom
    ) -> None:
        salt = random_bytes(OPENSSL_SALT_BYTES)
        cipher_key, iv = split_key(derive(key, salt, "sha256", ITERATIONS))
        self._cipher = Cipher(algorithms.AES256(cipher_key), modes.CBC(iv)).encryptor()
        self._macs = PieceMacs(key, random_bytes(SALT_BYTES))
        self._sink = sink
        self._plain_bytes = 0
        self._emit(MAGIC + salt)

    def write(self, data: bytes) -> None:
        """Encrypt `data`."""
        self._plain_bytes += len(data)
        self._emit(self._cipher.update(data))

    def finish(self) -> bytes:
        """Write the last block; return the text of the `.hmac` file."""
        padding = BLOCK_BYTES - self._plain_bytes % BLOCK_BYTES
        self._emit(self._cipher.update(bytes([padding]) * padding) + self._cipher.finalize())
        return self._macs.render()

    def _emit(self, data: bytes) -> None:
        self._macs.update(data)
        self._sink(data)


class DecryptingReader:
    """Decrypts an encrypted archive; a piece's bytes are handed out only after its MAC was right.

    Raises HostileArchiveError for a file that was changed, cut, extended or put together anew.
    """

    def __init__(self, source: ByteSource, key: Secret, macs: MacFile, what: str) -> None:
        self._source = source
        self._macs = macs
        self._what = what
        self._number = 0
        self._left = macs.length
        self._ready = b""
        first = self._next_piece()
        if not first.startswith(MAGIC) or len(first) < HEADER_BYTES + BLOCK_BYTES:
            raise HostileArchiveError(f"{what}: not an encrypted archive")
        cipher_key, iv = split_key(derive(key, first[len(MAGIC) : HEADER_BYTES], "sha256", ITERATIONS))
        self._cipher = Cipher(algorithms.AES256(cipher_key), modes.CBC(iv)).decryptor()
        self._ready = self._decrypt(first[HEADER_BYTES:])

    def read(self, size: int, /) -> bytes:
        """Return up to `size` decrypted bytes; b"" at the end."""
        while not self._ready and self._left:
            self._ready = self._decrypt(self._next_piece())
        data, self._ready = self._ready[:size], self._ready[size:]
        return data

    def _next_piece(self) -> bytes:
        expected = min(PIECE_BYTES, self._left)
        piece = read_exactly(self._source, expected)
        if len(piece) != expected or not expected:
            raise HostileArchiveError(f"{self._what}: truncated, {self._left - len(piece)} bytes are missing")
        check_piece(self._macs, self._number, piece, self._what)
        self._number += 1
        self._left -= expected
        if not self._left and self._source.read(1):
            raise HostileArchiveError(f"{self._what}: longer than it was when it was written")
        return piece

    def _decrypt(self, piece: bytes) -> bytes:
        if len(piece) % BLOCK_BYTES:
            raise HostileArchiveError(f"{self._what}: not a whole number of cipher blocks")
        plain = self._cipher.update(piece)
        return plain if self._left else strip_padding(plain, self._what)


def derive(key: Secret, salt: bytes, digest: str, iterations: int) -> bytes:
    """Return key and IV as `openssl enc -pbkdf2` derives them."""
    password = key.reveal().encode("utf-8", "surrogateescape")
    return hashlib.pbkdf2_hmac(digest, password, salt, iterations, KEY_BYTES + BLOCK_BYTES)


def split_key(material: bytes) -> tuple[bytes, bytes]:
    """Split derived bytes into the cipher's key and its IV."""
    return material[:KEY_BYTES], material[KEY_BYTES:]


def strip_padding(plain: bytes, what: str) -> bytes:
    """Remove PKCS#7 padding. Raises HostileArchiveError where there is none."""
    count = plain[-1] if plain else 0
    if not 1 <= count <= BLOCK_BYTES or not plain.endswith(bytes([count]) * count):
        raise HostileArchiveError(f"{what}: wrong padding at its end")
    return plain[:-count]
