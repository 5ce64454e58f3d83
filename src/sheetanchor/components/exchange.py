"""Puts a staged file or directory in the place of the live one, and takes that back."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

from sheetanchor.components.disk import exchange, rename_new, sync_directory
from sheetanchor.components.work_folder import WorkFolder


class Exchange:
    """Changes a file or directory for another: one atomic exchange where the kernel can do it.

    Elsewhere two renames; a crash between them leaves nothing live, and both in the work folder.
    Either way can be cut off between any two renames and run again, in either direction: what
    is done already is seen from what lies where, never from a counter.
    """

    def __init__(
        self,
        live: Path,
        folder: WorkFolder,
        *,
        had_live: bool,
        identity: tuple[int, int] | None,
        exchange_names: Callable[[Path, Path], bool] = exchange,
    ) -> None:
        self._live = live
        self._new = folder.new
        self._old = folder.old
        self._had_live = had_live
        self._identity = identity
        self._exchange = exchange_names

    def forward(self) -> None:
        """Make the new one live and keep the old one."""
        self._finish_back()
        if not self._is_new(self._live):
            if not os.path.lexists(self._live):
                rename_new(self._new, self._live)
            elif not self._exchange(self._live, self._new):
                rename_new(self._live, self._old)
                rename_new(self._new, self._live)
        self._finish_forward()
        self._sync()

    def back(self) -> None:
        """Make the old one live and keep the new one."""
        if self._is_new(self._live):
            self._finish_forward()
            if not self._had_live:
                rename_new(self._live, self._new)
            elif not self._exchange(self._live, self._old):
                rename_new(self._live, self._new)
                rename_new(self._old, self._live)
        elif self._had_live and not os.path.lexists(self._live):
            rename_new(self._old, self._live)
        self._finish_back()
        self._sync()

    def _finish_forward(self) -> None:
        """After an exchange the old one still has the name of the new one."""
        if os.path.lexists(self._new) and not self._is_new(self._new):
            rename_new(self._new, self._old)

    def _finish_back(self) -> None:
        """After an exchange back the new one still has the name of the old one."""
        if self._is_new(self._old):
            rename_new(self._old, self._new)

    def _is_new(self, path: Path) -> bool:
        try:
            found = os.lstat(path)
        except FileNotFoundError:
            return False
        return (found.st_dev, found.st_ino) == self._identity

    def _sync(self) -> None:
        sync_directory(self._new.parent)
        sync_directory(self._live.parent)
