"""The first seam, bytes: what every place that can hold a repository offers.

Wrappers (retry, limits, fault injection) have this same shape. Which errors are "absent",
"passing" and "final" is decided inside each backend, by raising the classes of `errors`:
ObjectAbsentError, PassingBackendError, FinalBackendError and its children.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Protocol

from sheetanchor.repository.ids import is_hex_id


class Kind(StrEnum):
    """Sorts of files in a repository; the value is the directory's name (config: the file's)."""

    CONFIG = "config"
    KEYS = "keys"
    LOCKS = "locks"
    SNAPSHOTS = "snapshots"
    INDEX = "index"
    DATA = "data"
    OBJECTS = "objects"
    """Sealed objects (`objects.py`), which restic does not know and passes over."""


CONFIG_NAME = ""
"""`Kind.CONFIG` has one object, with this name."""

LONGEST_NAME = 800
"""Most characters of a sealed object's name; with a prefix it still fits into a key of S3."""
LONGEST_PART = 200
"""Most characters between two "/"; file systems allow 255 bytes, and writing beside needs some."""

_OBJECT_NAME = re.compile(rf"[A-Za-z0-9._-]{{1,{LONGEST_PART}}}(/[A-Za-z0-9._-]{{1,{LONGEST_PART}}})*")


def is_object_name(text: str) -> bool:
    """Say whether `text` can name a sealed object: parts of letters, digits, "._-", between "/".

    "." and ".." are no parts, since they would lead elsewhere in a directory or a URL.
    """
    if len(text) > LONGEST_NAME or _OBJECT_NAME.fullmatch(text) is None:
        return False
    return not {".", ".."} & set(text.split("/"))


def is_name(kind: Kind, text: str) -> bool:
    """Say whether `text` can name an object of `kind`, which is not CONFIG."""
    return is_object_name(text) if kind is Kind.OBJECTS else is_hex_id(text)


@dataclass(frozen=True, slots=True)
class StoredObject:
    """One entry of a listing; `received_at` is the storage's own time, None where it has none."""

    name: str
    size: int
    received_at: datetime | None


@dataclass(frozen=True)
class Features:
    """What a backend can promise, as data, so that a plan is refused before it starts."""

    conditional_put: bool
    """`if_absent` is honoured by the storage itself, also between concurrent writers."""
    concurrency: int
    """How many requests at once are useful."""


class Backend(Protocol):
    """Bytes by kind and name.

    Names are ids in hex, but for OBJECTS, whose names are those of `is_object_name`. Of these no
    name may be a folder of another ("a" beside "a/b"): a directory cannot hold both.
    """

    @property
    def location(self) -> str:
        """Where this is, for people; holds no credentials."""
        ...

    @property
    def features(self) -> Features:
        """What the storage promises."""
        ...

    def create(self) -> None:
        """Make the place ready for objects (directories, bucket prefix). Idempotent."""
        ...

    def put(
        self, kind: Kind, name: str, data: bytes | bytearray | memoryview, *, if_absent: bool = False
    ) -> None:
        """Store an object whole or not at all, durable on return.

        Raises ObjectExistsError with `if_absent` when it exists. The caller may reuse the
        buffer `data` after the call.
        """
        ...

    def get(self, kind: Kind, name: str, offset: int = 0, length: int | None = None) -> bytes:
        """Return the object's bytes, or `length` bytes from `offset`.

        Raises ObjectAbsentError; FinalBackendError when fewer than `length` bytes are there.
        """
        ...

    def size(self, kind: Kind, name: str) -> int:
        """Return the object's size in bytes. Raises ObjectAbsentError."""
        ...

    def list(self, kind: Kind) -> Iterator[StoredObject]:
        """Yield all objects of a kind, in any order; names that the kind cannot have are passed over."""
        ...

    def delete(self, kind: Kind, name: str) -> None:
        """Remove an object; one that is absent already is no error."""
        ...

    def close(self) -> None:
        """Free connections."""
        ...
