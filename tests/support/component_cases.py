"""What the one contract suite of the component seam needs to know about each implementation.

A case owns one live thing (a directory, a server) and can change it, describe it and spoil what
was staged. Add a component by writing a context manager that yields a `ComponentCase`, and by
naming it in tests/contract/test_component.py, which does the rest.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Protocol

from sheetanchor.clock import SystemClock
from sheetanchor.components.base import Component, Context
from sheetanchor.events import SilentListener
from sheetanchor.process import ProcessRunner


class ComponentCase(Protocol):
    """One live thing under test, filled with data worth protecting."""

    def component(self) -> Component:
        """Return a new component object for the live thing; nothing is shared with earlier ones."""
        ...

    def change(self) -> None:
        """Change the live thing in every way that matters: add, alter, remove."""
        ...

    def describe(self) -> object:
        """Return a comparable description of the whole live state, read afresh."""
        ...

    def leftovers(self) -> list[str]:
        """Name what restores have left beside the live thing; empty when all is discarded."""
        ...

    def tamper(self, token: str) -> None:
        """Change the staged (not yet live) state of `token`, so that verify has to fail."""
        ...


CaseFactory = Callable[[Path], AbstractContextManager[ComponentCase]]
"""Makes a case with all its files below the given empty directory; cleans up on leaving."""


def context(directory: Path) -> Context:
    """Return what components are given, with real processes and the real clock."""
    work = directory / "work"
    work.mkdir(exist_ok=True)
    return Context(
        processes=ProcessRunner(), clock=SystemClock(), listener=SilentListener(), work_directory=work
    )
