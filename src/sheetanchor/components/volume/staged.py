"""The four steps on a staged volume. Each reads the journal afresh, so any process can do them."""

from __future__ import annotations

import os
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

from sheetanchor.components.base import Proof, Source
from sheetanchor.components.disk import explained, remove_tree, shown
from sheetanchor.components.volume import moves
from sheetanchor.components.volume.compare import compare_volume, raise_if_different
from sheetanchor.components.volume.journal import (
    Phase,
    VolumeFolder,
    VolumeJournal,
    read_attributes,
)
from sheetanchor.components.volume.proof import VolumeProof
from sheetanchor.components.volume.selection import excluded_entries
from sheetanchor.components.volume.staging import clear_directory, refuse_mounts_below, write_tree
from sheetanchor.errors import ComponentError
from sheetanchor.patterns import Patterns

_MID_SWAP = (Phase.SWAPPING, Phase.CARRYING, Phase.UNCARRYING, Phase.UNDOING)


class StagedVolume:
    """A tree in its work folder; see `Staged` in components/base.py for the contract."""

    def __init__(
        self, name: str, folder: VolumeFolder, exclude: tuple[str, ...], source: Source | None
    ) -> None:
        self._name = name
        self._folder = folder
        self._exclude = Patterns(exclude)
        self._source = source

    def verify(self, proof: Proof) -> tuple[str, ...]:
        """Read the staged tree back and compare it with the backup, and the backup with the proof.

        Raises ProofMismatchError naming the first differences, ComponentError when nothing is
        staged or the backup was not given to `resume`.
        """
        assert isinstance(proof, VolumeProof)
        with explained(f"{self._name}: the staged files cannot be read"):
            journal = self._load()
            if journal.in_place and not journal.cleared:
                return ("not written yet: in place, compared while it is written",)
            if journal.phase is Phase.STAGING:
                raise self._not_staged()
            live = journal.phase is Phase.SWAPPED
            place = Path(journal.live) if live else self._folder.new
            ignored = moves.not_in_backup(self._folder, journal, self._backup()) if live else ()
            return compare_volume(
                self._name, self._backup(), place, proof, include=journal.include, ignored=ignored
            )

    def swap(self) -> None:
        """Make the staged tree live; what is excluded from backups stays where it is."""
        with explained(f"{self._name}: the swap failed"):
            journal = self._load()
            if journal.phase is Phase.DISCARDING:
                raise ComponentError(f"{self._name}: this restore is already being cleared away")
            if journal.in_place and not (journal.cleared and journal.phase is not Phase.STAGING):
                journal = self._write_in_place(journal)
            if journal.phase is Phase.STAGING:
                raise self._not_staged()
            if journal.phase is Phase.STAGED:
                journal = self._save(moves.plan_swap(self._folder, journal, self._exclude))
            elif journal.phase is Phase.UNDOING:
                journal = self._to(journal, Phase.SWAPPING)
            if journal.phase is Phase.SWAPPING:
                moves.move_forward(self._folder, journal)
                journal = self._to(journal, Phase.CARRYING)
            if journal.phase in (Phase.CARRYING, Phase.UNCARRYING):
                moves.carry_forward(self._folder, journal)
                self._to(journal, Phase.SWAPPED)

    def undo(self) -> None:
        """Make the old tree live again; nothing to do before a swap.

        Raises ComponentError where the old tree no longer exists.
        """
        with explained(f"{self._name}: the old files cannot be put back"):
            journal = self._load()
            self._refuse_lost(journal)
            if journal.phase in (Phase.SWAPPING, Phase.CARRYING, Phase.SWAPPED):
                journal = self._save(moves.plan_undo(journal))
            if journal.phase is Phase.UNCARRYING:
                moves.carry_back(self._folder, journal)
                journal = self._to(journal, Phase.UNDOING)
            if journal.phase is Phase.UNDOING:
                moves.move_back(self._folder, journal)
                self._to(journal, Phase.STAGED)

    def discard(self) -> None:
        """Remove the work folder with whatever is in it. Raises ComponentError in mid-swap."""
        with explained(f"{self._name}: the files that are not live cannot be removed"):
            journal = self._folder.load()
            if journal is None:
                remove_tree(self._folder.path)
                return
            emptied = journal.cleared and journal.phase in (Phase.STAGING, Phase.STAGED)
            if emptied or journal.phase in _MID_SWAP:
                raise ComponentError(
                    f"{self._name}: neither the old nor the new files are whole in their place",
                    hint="go on with `restore --resume`, or take it back with `rollback`",
                )
            if journal.phase is not Phase.DISCARDING:
                journal = self._save(self._discarding(journal))
            self._clear_away(journal)

    def _refuse_lost(self, journal: VolumeJournal) -> None:
        if journal.cleared:
            raise ComponentError(
                f"{self._name}: it was restored in place, so its old files are gone",
                hint="go on with `restore --resume`, or restore the safety backup",
            )
        if journal.phase is Phase.DISCARDING:
            raise ComponentError(
                f"{self._name}: the files that are not live are already being removed",
                hint="restore the safety backup",
            )

    def _write_in_place(self, journal: VolumeJournal) -> VolumeJournal:
        """Empty the live tree but for what is excluded, then stage in the room that this makes."""
        source = self._backup()
        live = Path(journal.live)
        refuse_mounts_below(live, ())
        journal = self._save(replace(journal, phase=Phase.STAGING, cleared=True))
        kept = excluded_entries(live, self._exclude, moves.is_ours)
        clear_directory(live, "", frozenset(kept))
        remove_tree(self._folder.new)
        journal = write_tree(source, self._folder, journal)
        raise_if_different(self._name, source.compare_tree("", self._folder.new))
        return self._save(journal)

    def _discarding(self, journal: VolumeJournal) -> VolumeJournal:
        """Remember what the live root has to look like when the work folder inside it is gone."""
        root = journal.new_root if journal.phase is Phase.SWAPPED else journal.old_root
        if moves.selects_entries(journal) and journal.phase is Phase.SWAPPED:
            root = read_attributes(Path(journal.live))
        return replace(journal, phase=Phase.DISCARDING, old_root=root)

    def _clear_away(self, journal: VolumeJournal) -> None:
        live = Path(journal.live)
        remove_tree(self._folder.old)
        remove_tree(self._folder.new)
        remove_tree(self._folder.path)
        # The one thing a crash can cost: the mtime of a mount point, between these two steps.
        if self._folder.path.parent == live and journal.old_root is not None:
            os.utime(live, ns=(journal.old_root.mtime_ns,) * 2)
        for path in reversed(journal.made_parents):
            with suppress(OSError):  # not empty: it holds the volume
                os.rmdir(path)

    def _load(self) -> VolumeJournal:
        journal = self._folder.load()
        if journal is None:
            raise self._not_staged()
        return journal

    def _save(self, journal: VolumeJournal) -> VolumeJournal:
        self._folder.save(journal)
        return journal

    def _to(self, journal: VolumeJournal, phase: Phase) -> VolumeJournal:
        return self._save(replace(journal, phase=phase))

    def _backup(self) -> Source:
        if self._source is None:
            raise ComponentError(
                f"{self._name}: the backup is needed for this step, and was not opened",
                hint="go on with `restore --resume`",
            )
        return self._source

    def _not_staged(self) -> ComponentError:
        return ComponentError(
            f"{self._name}: there is no whole staged tree in {shown(self._folder.path)}",
            hint="run the restore again",
        )
