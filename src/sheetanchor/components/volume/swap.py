"""Moves of entries below a directory that itself stays: in, out, and back again."""

from __future__ import annotations

import os
from pathlib import Path

from sheetanchor.components.disk import rename_new, shown, sync_file_system
from sheetanchor.components.volume.journal import VolumeFolder, VolumeJournal
from sheetanchor.errors import ComponentError


class EntrySwap:
    """Changes single entries below a directory that stays: all old ones out, then all new ones in.

    In between the directory is not whole, so its service has to be down. Either way can be cut
    off between any two renames and run again, in either direction.
    """

    def __init__(self, folder: VolumeFolder, journal: VolumeJournal) -> None:
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
