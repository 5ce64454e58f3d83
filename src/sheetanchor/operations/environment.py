"""What every operation is given: the stack, its components, its repository, and the world."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path

from sheetanchor.clock import Clock
from sheetanchor.components.base import Component
from sheetanchor.errors import UsageError
from sheetanchor.events import Listener
from sheetanchor.process import ProcessRunner
from sheetanchor.repository.repository import Repository
from sheetanchor.stacks.base import Stack


@dataclass(frozen=True)
class Hooks:
    """Commands around a component's capture."""

    pre: tuple[tuple[str, ...], ...] = ()
    post: tuple[tuple[str, ...], ...] = ()


@dataclass(frozen=True)
class Environment:
    """Handed from `app` to every operation."""

    stack_name: str
    repository: Repository
    components: Mapping[str, Component]
    stack: Stack
    hooks: Mapping[str, Hooks]
    processes: ProcessRunner
    clock: Clock
    listener: Listener
    state_directory: Path


@dataclass(frozen=True)
class Selection:
    """Which components a command is about: `--only`, `--skip` and `--skip-type`."""

    only: tuple[str, ...] = ()
    skip: tuple[str, ...] = ()
    skip_types: tuple[str, ...] = ()

    def apply(self, kinds: Mapping[str, str]) -> tuple[str, ...]:
        """Return the chosen names out of `kinds` (name to type), in its order.

        Raises UsageError for a name that is not there, and for a choice of nothing.
        """
        self._known(self.only, kinds.keys(), "component")
        self._known(self.skip, kinds.keys(), "component")
        chosen = tuple(
            name
            for name, kind in kinds.items()
            if (not self.only or name in self.only) and name not in self.skip and kind not in self.skip_types
        )
        if not chosen:
            raise UsageError("nothing is left to do: every component is skipped")
        return chosen

    @staticmethod
    def _known(names: tuple[str, ...], known: Collection[str], what: str) -> None:
        for name in names:
            if name not in known:
                raise UsageError(f"no {what} is named {name!r}", hint=f"there are: {', '.join(known)}")
