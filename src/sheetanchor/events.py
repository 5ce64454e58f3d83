"""What long work tells whoever is watching: progress and warnings, never results."""

from __future__ import annotations

from typing import Protocol


class Listener(Protocol):
    """Receives progress; called from several threads, must return quickly and never raise."""

    def started(self, task: str, total_bytes: int | None = None) -> None:
        """Say that `task` begins; `total_bytes` when it is known."""
        ...

    def advanced(self, task: str, num_bytes: int, items: int = 0) -> None:
        """Say that `num_bytes` and `items` more of `task` are done."""
        ...

    def finished(self, task: str) -> None:
        """Say that `task` ended (well or badly: the caller raises for badly)."""
        ...

    def warning(self, task: str, message: str) -> None:
        """Report something that the user has to see and that does not stop the work."""
        ...


class SilentListener:
    """Drops everything."""

    def started(self, task: str, total_bytes: int | None = None) -> None:
        """Drop it."""

    def advanced(self, task: str, num_bytes: int, items: int = 0) -> None:
        """Drop it."""

    def finished(self, task: str) -> None:
        """Drop it."""

    def warning(self, task: str, message: str) -> None:
        """Drop it."""
