"""The third seam, place: where a stack runs, and how work reaches the data.

`local` runs work in a thread of this process; `swarm` will run the same work as a Swarm job on
the node that holds the data.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol, TypeVar

from sheetanchor.errors import SheetanchorError

Result = TypeVar("Result")


@dataclass(frozen=True)
class Discovered:
    """One component that a driver found by itself."""

    name: str
    type: str
    place: str
    """The node that holds the data; "local" here."""
    facts: tuple[str, ...] = ()
    settings: tuple[tuple[str, str | tuple[str, ...]], ...] = ()
    """What the configuration of this component would say."""


@dataclass(frozen=True)
class Inventory:
    """What a stack consists of, as seen now."""

    components: tuple[Discovered, ...]


@dataclass(frozen=True)
class Health:
    """One health check's outcome."""

    component: str
    healthy: bool
    detail: str


@dataclass(frozen=True)
class Work:
    """One piece of work on one component, as plain data that can cross to another node."""

    action: str
    component: str
    run: str
    """The run's token."""


class Stack(Protocol):
    """Where a stack runs."""

    def discover(self) -> Inventory:
        """Look at what is there."""
        ...

    def run(
        self,
        works: Sequence[Work],
        execute: Callable[[Work], Result],
        *,
        stop: Callable[[], None] = lambda: None,
    ) -> list[Result | SheetanchorError]:
        """Carry out independent pieces of work where their data is, at once where that helps.

        Returns in the order of `works`; an expected failure takes the place of its result. An
        interrupted run calls `stop`, which makes the works that are going on end soon.
        """
        ...

    def stop(self, component: str) -> None:
        """Stop the service of `component`; already stopped is no error."""
        ...

    def start(self, component: str) -> None:
        """Start the service of `component`; already running is no error."""
        ...

    def health(self) -> list[Health]:
        """Check every component's service."""
        ...
