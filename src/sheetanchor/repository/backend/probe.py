"""Whether a storage honours conditional puts: tried out, since servers of one protocol differ."""

from __future__ import annotations

import secrets
from contextlib import suppress
from typing import Protocol, runtime_checkable

from sheetanchor.errors import ObjectExistsError
from sheetanchor.repository.backend.base import Backend, Kind

_FOLDER = "probe"


@runtime_checkable
class LooksFirst(Protocol):
    """A backend whose conditional put looks before it writes, because its storage may not refuse."""

    def put_on_condition(self, kind: Kind, name: str, data: bytes) -> None:
        """Store an object on the storage's own condition alone.

        Raises ObjectExistsError when the storage refused; an ignored condition replaces the object.
        """
        ...


def honours_if_absent(backend: Backend) -> bool:
    """Write one trial object twice and say whether the storage itself refused the second.

    The trial object has a random name under `objects/probe/` and is removed. Raises what the
    backend raises.
    """
    name = f"{_FOLDER}/{secrets.token_hex(16)}"
    try:
        for data in (b"first", b"second"):
            # The first can be refused too: when its answer was lost, and it was sent again.
            with suppress(ObjectExistsError):
                if isinstance(backend, LooksFirst):
                    backend.put_on_condition(Kind.OBJECTS, name, data)
                else:
                    backend.put(Kind.OBJECTS, name, data, if_absent=True)
        return backend.get(Kind.OBJECTS, name) == b"first"
    finally:
        backend.delete(Kind.OBJECTS, name)
