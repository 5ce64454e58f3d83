"""One path on its way back: staged beside the live one, exchanged, kept or taken back.

Each path has a work folder beside it, with a journal of its own that also names the run's other
paths: a fresh process sees from any of them whether all are staged.
"""

from __future__ import annotations

import os
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from enum import StrEnum
from pathlib import Path

from sheetanchor.components.disk import remove_tree, shown, sync_directory, sync_file_system
from sheetanchor.components.exchange import Exchange
from sheetanchor.components.mounts import is_mount_point, mounts_below
from sheetanchor.components.work_folder import WorkFolder, work_folder_beside
from sheetanchor.errors import ComponentError


class Phase(StrEnum):
    """How far one path is; written before the first step of each phase."""

    STAGING = "staging"
    STAGED = "staged"
    SWAPPING = "swapping"
    SWAPPED = "swapped"
    UNDOING = "undoing"
    DISCARDING = "discarding"


@dataclass(frozen=True)
class ItemJournal:
    """What a fresh process needs to go on with one path, or to go back."""

    stored: str
    """Where the backup has it, below the component's root."""
    live: str
    """The path that is replaced, symbolic links resolved."""
    members: tuple[str, ...]
    """The resolved paths of the whole run."""
    had_live: bool
    made_parents: tuple[str, ...] = ()
    phase: Phase = Phase.STAGING
    identity: tuple[int, int] | None = None
    """Device and inode of what is staged."""


class Item:
    """One path of one run."""

    def __init__(self, live: Path, token: str) -> None:
        self.live = live
        self._folder = WorkFolder(work_folder_beside(live, token))

    @property
    def staged(self) -> Path:
        """Where the staged file or directory is before the swap."""
        return self._folder.new

    def load(self) -> ItemJournal | None:
        """Return the journal, None where nothing is staged. Raises ComponentError."""
        fields = self._folder.read()
        if fields is None:
            return None
        try:
            identity = fields.pop("identity")
            fields["phase"] = Phase(fields["phase"])
            for name in ("members", "made_parents"):
                fields[name] = tuple(fields[name])
            return ItemJournal(**fields, identity=tuple(identity) if identity else None)
        except (ValueError, TypeError, KeyError) as error:
            raise self._folder.broken() from error

    def begin(self, stored: str, members: tuple[str, ...]) -> None:
        """Make the work folder; what a half stage left in it is removed.

        Raises ComponentError for a mount point, and when an earlier swap of the same run is not
        taken back.
        """
        if self.live.exists() and is_mount_point(self.live):
            raise ComponentError(
                f"{shown(self.live)} is a mount point and cannot be replaced",
                hint="restore where the file itself is, or make the directory a volume component",
            )
        refuse_mounts_below(self.live)
        earlier = self.load()
        if earlier is not None and earlier.phase not in (Phase.STAGING, Phase.STAGED):
            raise ComponentError(
                f"{shown(self.live)} is half restored already",
                hint="go on with `restore --resume`, or take it back with `rollback`",
            )
        made = earlier.made_parents if earlier is not None else _make_directories(self.live.parent)
        self._folder.make()
        for leftover in (self._folder.new, self._folder.old):
            remove_tree(leftover)
        self._save(
            ItemJournal(
                stored=stored,
                live=os.fspath(self.live),
                members=members,
                had_live=os.path.lexists(self.live),
                made_parents=made,
            )
        )

    def finish_stage(self) -> None:
        """Note that everything is in `staged`, durably."""
        sync_file_system(self._folder.path)
        found = os.lstat(self._folder.new)
        self._save(replace(self._loaded(), phase=Phase.STAGED, identity=(found.st_dev, found.st_ino)))

    def swap(self) -> None:
        """Put the staged one in place."""
        journal = self._loaded()
        if journal.phase in (Phase.STAGED, Phase.UNDOING):
            journal = self._to(journal, Phase.SWAPPING)
        if journal.phase is Phase.SWAPPING:
            self._exchange(journal).forward()
            self._to(journal, Phase.SWAPPED)

    def undo(self) -> None:
        """Put the old one back in place."""
        journal = self._loaded()
        if journal.phase in (Phase.SWAPPING, Phase.SWAPPED):
            journal = self._to(journal, Phase.UNDOING)
        if journal.phase is Phase.UNDOING:
            self._exchange(journal).back()
            self._to(journal, Phase.STAGED)

    def mark_discarding(self) -> None:
        """Note that what is not live is about to go."""
        journal = self.load()
        if journal is not None and journal.phase is not Phase.DISCARDING:
            self._to(journal, Phase.DISCARDING)

    def discard(self) -> None:
        """Remove the work folder, and directories made for it that hold nothing."""
        journal = self.load()
        remove_tree(self._folder.old)
        remove_tree(self._folder.new)
        remove_tree(self._folder.path)
        for path in reversed(journal.made_parents if journal is not None else ()):
            with suppress(OSError):  # not empty: it holds what was restored
                os.rmdir(path)

    def _exchange(self, journal: ItemJournal) -> Exchange:
        refuse_mounts_below(self.live)
        return Exchange(self.live, self._folder, had_live=journal.had_live, identity=journal.identity)

    def _loaded(self) -> ItemJournal:
        journal = self.load()
        if journal is None:
            raise ComponentError(f"nothing is staged for {shown(self.live)}", hint="run the restore again")
        return journal

    def _save(self, journal: ItemJournal) -> None:
        self._folder.write(asdict(journal))

    def _to(self, journal: ItemJournal, phase: Phase) -> ItemJournal:
        changed = replace(journal, phase=phase)
        self._save(changed)
        return changed


def refuse_mounts_below(live: Path) -> None:
    """Raise ComponentError where a rename of a directory would take another file system along."""
    mounts = mounts_below(live)
    if mounts:
        raise ComponentError(
            f"{shown(live)}: another file system is mounted inside, at {shown(mounts[0])}",
            hint="unmount it for the restore",
        )


def _make_directories(directory: Path) -> tuple[str, ...]:
    """Make a directory and what is missing above it; return those made, deepest last."""
    missing: list[Path] = []
    while not directory.is_dir():
        missing.insert(0, directory)
        directory = directory.parent
    for path in missing:
        path.mkdir()
        sync_directory(path.parent)
    return tuple(os.fspath(path) for path in missing)
