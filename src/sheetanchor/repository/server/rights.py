"""What users may do, as a table: for each right, which action on which part of a repository."""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum

from sheetanchor.repository.backend.base import Kind


class Right(StrEnum):
    """The sorts of users."""

    FULL = "full"
    APPEND_ONLY = "append-only"
    """Adds and reads; removes locks only (restic's meaning)."""
    RUN = "run"
    """One worker of one backup run: adds packs and indexes, and cannot read what is stored."""
    READ_ONLY = "read-only"


class Action(StrEnum):
    """What a request does."""

    CREATE = "create"
    """Make a repository's directories."""
    LOOK = "look"
    """Ask whether an object is there, and how long it is."""
    READ = "read"
    LIST = "list"
    ADD = "add"
    REMOVE = "remove"
    REMOVE_OWN = "remove own"
    """Remove an object that this user added."""


_ALL = frozenset(Kind)
_NONE: frozenset[Kind] = frozenset()
_OPENING = frozenset({Kind.CONFIG, Kind.KEYS, Kind.INDEX, Kind.LOCKS})
_READING = {Action.LOOK: _ALL, Action.READ: _ALL, Action.LIST: _ALL}

RIGHTS: Mapping[Right, Mapping[Action, frozenset[Kind]]] = {
    Right.FULL: {**_READING, Action.ADD: _ALL, Action.REMOVE: _ALL, Action.CREATE: _ALL},
    Right.APPEND_ONLY: {
        **_READING,
        Action.ADD: _ALL,
        Action.REMOVE: frozenset({Kind.LOCKS}),
        Action.CREATE: _ALL,
    },
    # Indexes tell which packs there are anyhow; a writer lists them to see that none is missing.
    Right.RUN: {
        Action.LOOK: _OPENING | {Kind.DATA},
        Action.READ: _OPENING,
        Action.LIST: _OPENING | {Kind.DATA},
        Action.ADD: frozenset({Kind.DATA, Kind.INDEX, Kind.LOCKS}),
        Action.REMOVE_OWN: frozenset({Kind.LOCKS}),
    },
    Right.READ_ONLY: _READING,
}


def permits(right: Right, action: Action, kind: Kind | None) -> bool:
    """Say whether `right` allows `action` on `kind`; a repository as a whole has no kind."""
    kinds = RIGHTS[right].get(action, _NONE)
    return bool(kinds) if kind is None else kind in kinds
