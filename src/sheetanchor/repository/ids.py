"""Names of things in a repository: SHA-256 digests, kept as 32 raw bytes."""

from __future__ import annotations

import hashlib
import re
from enum import StrEnum
from typing import NewType

Id = NewType("Id", bytes)
"""A raw SHA-256 (32 bytes): of a file as stored, or of a blob's plaintext."""

_HEX = re.compile(r"[0-9a-f]{64}")


class BlobType(StrEnum):
    """What a blob holds; part of its identity (restic's design, "Pack Format")."""

    DATA = "data"
    TREE = "tree"


def digest(data: bytes | bytearray | memoryview) -> Id:
    """Return the id of `data`."""
    return Id(hashlib.sha256(data).digest())


def is_hex_id(text: str) -> bool:
    """Say whether `text` is a full lower-case hex id."""
    return _HEX.fullmatch(text) is not None


def parse_id(text: str) -> Id:
    """Read a 64 digit hex id. Raises ValueError for anything else."""
    if not is_hex_id(text):
        raise ValueError(f"not an id: {text[:80]!r}")
    return Id(bytes.fromhex(text))
