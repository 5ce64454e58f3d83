"""From a request's path to what it names: strict, so that no path ever leaves the served directory."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from http import HTTPStatus

from sheetanchor.repository.backend.base import Kind, is_name, is_object_name
from sheetanchor.repository.server.refused import RefusedError

_MOST_LEVELS = 2
"""Folders between the served directory and a repository, as the reference server allows."""
_REPOSITORY = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,199}")


@dataclass(frozen=True)
class Target:
    """What a path names: a repository (no kind), a listing (no name), or an object."""

    repository: tuple[str, ...]
    """The folders from the served directory to the repository."""
    kind: Kind | None = None
    name: str | None = None
    """The object; for the config the empty string."""
    prefix: str = ""
    """For a listing of sealed objects: only those in this folder, itself ending in a slash."""

    def file(self, root: str) -> str:
        """Return the object's path below the directory `root`."""
        assert self.kind is not None
        assert self.name is not None
        directory = os.path.join(root, *self.repository, self.kind)
        if self.kind is Kind.CONFIG:
            return directory
        if self.kind is Kind.DATA:
            return os.path.join(directory, self.name[:2], self.name)
        return os.path.join(directory, self.name)


def parse_target(path: str) -> Target:
    """Read the path of a request. Raises RefusedError (404) for what cannot exist."""
    parts = path.removeprefix("/").split("/")
    folders: list[str] = []
    kinds = {str(kind): kind for kind in Kind}
    for position, part in enumerate(parts):
        if part in kinds:
            return _in_kind(tuple(folders), kinds[part], parts[position + 1 :])
        if part == "" and position == len(parts) - 1:
            return Target(tuple(folders))
        if not _REPOSITORY.fullmatch(part) or len(folders) == _MOST_LEVELS:
            raise _nowhere()
        folders.append(part)
    return Target(tuple(folders))


def _in_kind(repository: tuple[str, ...], kind: Kind, rest: list[str]) -> Target:
    name = "/".join(rest)
    if kind is Kind.CONFIG:
        if rest:
            raise _nowhere()
        return Target(repository, kind, "")
    if name == "":
        return Target(repository, kind)
    if kind is Kind.OBJECTS and name.endswith("/") and is_object_name(name[:-1]):
        return Target(repository, kind, prefix=name)
    if is_name(kind, name):
        return Target(repository, kind, name)
    raise _nowhere()


def _nowhere() -> RefusedError:
    return RefusedError(HTTPStatus.NOT_FOUND, "no such path in a repository")
