"""The renames that put a staged tree in place, and those that take it back.

Both ways can be cut off between any two renames and run again, in either direction: what is
done already is seen from what lies where, never from a counter.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

from sheetanchor.components.disk import exchange, rename_new, shown, sync_directory, sync_file_system
from sheetanchor.components.volume.journal import VolumeJournal, WorkFolder
from sheetanchor.errors import ComponentError


class WholeSwap:
    """Changes the directory itself for another: one atomic exchange where the kernel can do it.

    Elsewhere two renames; a crash between them leaves no live directory, and both trees in the
    work folder.
    """

    def __init__(
        self,
        folder: WorkFolder,
        journal: VolumeJournal,
        exchange_names: Callable[[Path, Path], bool] = exchange,
    ) -> None:
        self._live = Path(journal.live)
        self._new = folder.new
        self._old = folder.old
        self._had_live = journal.had_live
        self._identity = journal.new_identity
        self._exchange = exchange_names

    def forward(self) -> None:
        """Make the new tree live and keep the old one."""
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
        """Make the old tree live and keep the new one."""
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
        """After an exchange the old tree still has the name of the new one."""
        if os.path.lexists(self._new) and not self._is_new(self._new):
            rename_new(self._new, self._old)

    def _finish_back(self) -> None:
        """After an exchange back the new tree still has the name of the old one."""
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


class EntrySwap:
    """Changes single entries below a directory that stays: all old ones out, then all new ones in.

    In between the directory is not whole, so its service has to be down.
    """

    def __init__(self, folder: WorkFolder, journal: VolumeJournal) -> None:
        self._live = Path(journal.live)
        self._new = folder.new
        self._old = folder.old
        self._outgoing = journal.outgoing
        self._incoming = journal.incoming

    def forward(self) -> None:
        """Move the old entries out and the new ones in."""
        self._old.mkdir(mode=0o700, exist_ok=True)
        arrived = {path for path in self._incoming if not os.path.lexists(self._new / path)}
        for path in self._outgoing:
            if path in arrived or os.path.lexists(self._old / path):
                continue
            self._move(self._live / path, self._old / path)
        for path in self._incoming:
            self._move(self._new / path, self._live / path)
        self._sync()

    def back(self) -> None:
        """Move the new entries out and the old ones in."""
        for path in reversed(self._incoming):
            if not os.path.lexists(self._new / path):
                self._move(self._live / path, self._new / path)
        for path in reversed(self._outgoing):
            self._move(self._old / path, self._live / path)
        self._sync()

    def _move(self, source: Path, target: Path) -> None:
        """Rename `source`; one that is not there (moved before, or removed by its owner) is passed over."""
        if not os.path.lexists(source):
            return
        target.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        try:
            rename_new(source, target)
        except FileExistsError as error:
            raise ComponentError(
                f"{shown(target)} appeared while the volume was being swapped",
                hint="stop what writes into the volume, move that entry away, then `restore --resume`",
            ) from error

    def _sync(self) -> None:
        sync_file_system(self._live)


def move_carried(paths: tuple[str, ...], source: Path, target: Path) -> None:
    """Move excluded entries from one tree to the same places in the other.

    Directories that `target` lacks are made with the owner and mode they have in `source`.
    """
    for path in paths:
        if not os.path.lexists(source / path) or os.path.lexists(target / path):
            continue
        _make_parents(Path(path), source, target)
        rename_new(source / path, target / path)


def _make_parents(path: Path, source: Path, target: Path) -> None:
    for parent in reversed(path.parents):
        place = target / parent
        if place.is_dir() and not place.is_symlink():
            continue
        place.mkdir(mode=0o700)
        found = os.lstat(source / parent)
        if (found.st_uid, found.st_gid) != (os.geteuid(), os.getegid()):
            os.chown(place, found.st_uid, found.st_gid)
        os.chmod(place, found.st_mode & 0o7777)
