"""The `.hmac` file beside an encrypted archive: a MAC of every mebibyte and one of them all.

Stock `openssl enc -d` accepts a flipped byte and about one wrong key in 300; this file tells
them apart from the real thing before a byte is used. It is text:

    sheetanchor-hmac 1
    hash sha256
    iterations 600000
    salt <32 hex digits>
    piece 1048576
    length <bytes of the encrypted file>
    check <MAC of the words "key check">
    <MAC of piece 0>
    ...
    total <MAC of everything above>

The MAC key is PBKDF2-HMAC-SHA256 of the encryption key with this file's own salt and a label,
so it is independent of the cipher's key. A piece's MAC covers its number.
"""

from __future__ import annotations

import hashlib
import hmac
import re
from dataclasses import dataclass

from sheetanchor.errors import HostileArchiveError, WrongKeyError
from sheetanchor.secret import Secret

ITERATIONS = 600_000
PIECE_BYTES = 1 << 20
SALT_BYTES = 16
MAX_MAC_FILE_BYTES = 256 << 20
"""Enough for an archive of four tebibytes."""

_LABEL = b"sheetanchor archive hmac v1:"
_HEAD = re.compile(
    r"sheetanchor-hmac 1\nhash sha256\niterations 600000\nsalt (?P<salt>[0-9a-f]{32})\n"
    r"piece 1048576\nlength (?P<length>[0-9]{1,20})\ncheck (?P<check>[0-9a-f]{64})\n"
)
_MAC = re.compile(r"[0-9a-f]{64}\n")


@dataclass(frozen=True)
class MacFile:
    """An `.hmac` file whose own MAC was right."""

    mac_key: Secret
    length: int
    pieces: tuple[bytes, ...]


class PieceMacs:
    """Collects the MACs of an encrypted file while it is written."""

    def __init__(self, key: Secret, salt: bytes) -> None:
        self._salt = salt
        self._mac_key = _derive(key, salt)
        self._macs: list[bytes] = []
        self._piece = bytearray()
        self._length = 0

    def update(self, data: bytes) -> None:
        """Add the next bytes of the encrypted file."""
        self._length += len(data)
        self._piece += data
        while len(self._piece) >= PIECE_BYTES:
            self._finish_piece(bytes(self._piece[:PIECE_BYTES]))
            del self._piece[:PIECE_BYTES]

    def render(self) -> bytes:
        """Return the text of the `.hmac` file; the encrypted file has ended."""
        if self._piece:
            self._finish_piece(bytes(self._piece))
            self._piece.clear()
        head = (
            f"sheetanchor-hmac 1\nhash sha256\niterations {ITERATIONS}\nsalt {self._salt.hex()}\n"
            f"piece {PIECE_BYTES}\nlength {self._length}\ncheck {_key_check(self._mac_key).hex()}\n"
        )
        body = head + "".join(f"{mac.hex()}\n" for mac in self._macs)
        return (body + f"total {_total(self._mac_key, body).hex()}\n").encode("ascii")

    def _finish_piece(self, piece: bytes) -> None:
        self._macs.append(piece_mac(self._mac_key, len(self._macs), piece))


def open_mac_file(data: bytes, key: Secret, what: str) -> MacFile:
    """Read an `.hmac` file and check it.

    Raises WrongKeyError when the key does not fit, HostileArchiveError when the file is not what
    was written.
    """
    try:
        text = data.decode("ascii")
    except UnicodeDecodeError as error:
        raise HostileArchiveError(f"{what}: not an HMAC file of this version") from error
    head = _HEAD.match(text)
    body, _, total = text.rpartition("total ")
    if head is None or not _MAC.fullmatch(total) or len(body) < head.end():
        raise HostileArchiveError(f"{what}: not an HMAC file of this version")
    mac_key = _derive(key, bytes.fromhex(head["salt"]))
    if not hmac.compare_digest(_key_check(mac_key), bytes.fromhex(head["check"])):
        raise WrongKeyError(
            f"{what}: the encryption key is not the one this archive was made with",
            hint="set ENCRYPTION_KEY (or ENCRYPTION_KEY_FILE) to the key used for this backup",
        )
    if not hmac.compare_digest(_total(mac_key, body), bytes.fromhex(total.strip())):
        raise HostileArchiveError(f"{what}: changed since it was written")
    length = int(head["length"])
    macs = body[head.end() :].split()
    if len(macs) != -(-length // PIECE_BYTES):
        raise HostileArchiveError(f"{what}: changed since it was written")
    return MacFile(
        mac_key=Secret(mac_key.hex()), length=length, pieces=tuple(bytes.fromhex(mac) for mac in macs)
    )


def check_piece(macs: MacFile, number: int, piece: bytes, what: str) -> None:
    """Compare a piece with its MAC in constant time. Raises HostileArchiveError."""
    expected = macs.pieces[number]
    if not hmac.compare_digest(piece_mac(bytes.fromhex(macs.mac_key.reveal()), number, piece), expected):
        raise HostileArchiveError(
            f"{what}: changed since it was written, at MiB {number}",
            hint="fetch it again from where it is kept, or choose another backup",
        )


def piece_mac(mac_key: bytes, number: int, piece: bytes) -> bytes:
    """Return the MAC of piece `number` of the encrypted file."""
    return hmac.digest(mac_key, b"piece" + number.to_bytes(8, "big") + piece, "sha256")


def _derive(key: Secret, salt: bytes) -> bytes:
    password = key.reveal().encode("utf-8", "surrogateescape")
    return hashlib.pbkdf2_hmac("sha256", password, _LABEL + salt, ITERATIONS)


def _key_check(mac_key: bytes) -> bytes:
    return hmac.digest(mac_key, b"key check", "sha256")


def _total(mac_key: bytes, body: str) -> bytes:
    return hmac.digest(mac_key, b"total" + body.encode("ascii"), "sha256")
