"""Plans and makes the moves of a swap or an undo, entries that are excluded from backups included.

An excluded entry was never saved, so a restore must not take it away: it is moved from the old
tree to the same place in the new one, and back again by an undo.
"""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

from sheetanchor.components.base import Source
from sheetanchor.components.disk import shown, sync_directory
from sheetanchor.components.exchange import Exchange
from sheetanchor.components.volume.journal import (
    INSIDE_PREFIX,
    Phase,
    VolumeFolder,
    VolumeJournal,
    apply_attributes,
)
from sheetanchor.components.volume.selection import excluded_entries, plan_selected, refuse_blocked
from sheetanchor.components.volume.staging import refuse_mounts_below
from sheetanchor.components.volume.swap import EntrySwap, move_carried
from sheetanchor.patterns import Patterns


def plan_swap(folder: VolumeFolder, journal: VolumeJournal, exclude: Patterns) -> VolumeJournal:
    """Return the journal with every move of the swap written down, none of them made.

    Raises ComponentError for a mount inside the volume, or an excluded entry without a place.
    """
    live, new = Path(journal.live), folder.new
    if selects_entries(journal):
        outgoing, incoming = plan_selected(new, live)
        times: list[tuple[str, int, int | None]]
        times = [(path, _mtime(live / path), None) for path in _above(incoming)]
        return replace(
            journal, phase=Phase.SWAPPING, outgoing=outgoing, incoming=incoming, times=tuple(times)
        )
    refuse_mounts_below(live, ())
    carried: tuple[str, ...] = ()
    if os.path.lexists(live):
        carried = excluded_entries(live, exclude, lambda path: is_ours(path) or os.path.lexists(new / path))
    refuse_blocked(carried, new)
    times = [(path, _mtime(live / path), _mtime_if(new / path)) for path in _above(carried)]
    journal = replace(journal, phase=Phase.SWAPPING, carried=carried, times=tuple(times))
    if journal.whole:
        return journal
    return replace(
        journal,
        outgoing=tuple(name for name in sorted(os.listdir(live)) if not is_ours(name)),
        incoming=tuple(sorted(os.listdir(new))),
    )


def plan_undo(journal: VolumeJournal) -> VolumeJournal:
    """Return the journal with the undo planned, for a swap that is finished or half done.

    What is in a mount point's directory and is neither of the old tree nor excluded (made since
    the swap, or by it) leaves together with the new tree.
    """
    if journal.phase is Phase.SWAPPING:
        return replace(journal, phase=Phase.UNDOING)
    if journal.whole or journal.include:
        return replace(journal, phase=Phase.UNCARRYING)
    known = {*journal.incoming, *journal.carried}
    appeared = [name for name in sorted(os.listdir(journal.live)) if name not in known and not is_ours(name)]
    return replace(journal, phase=Phase.UNCARRYING, incoming=(*journal.incoming, *appeared))


def move_forward(folder: VolumeFolder, journal: VolumeJournal) -> None:
    """Make the new tree, or the new entries, live."""
    _renames(folder, journal).forward()


def carry_forward(folder: VolumeFolder, journal: VolumeJournal) -> None:
    """Move excluded entries into the new tree, which is live, and set what the moves disturbed."""
    live = Path(journal.live)
    move_carried(journal.carried, folder.old, live)
    if selects_entries(journal):
        return
    _set_times(journal, old=folder.old, new=live)
    if not journal.whole and journal.new_root is not None:
        apply_attributes(live, journal.new_root)
    sync_directory(live)


def carry_back(folder: VolumeFolder, journal: VolumeJournal) -> None:
    """Move excluded entries into the old tree, while the new one is still live."""
    move_carried(journal.carried, Path(journal.live), folder.old)


def move_back(folder: VolumeFolder, journal: VolumeJournal) -> None:
    """Make the old tree, or the old entries, live again."""
    live = Path(journal.live)
    _renames(folder, journal).back()
    _set_times(journal, old=live, new=folder.new)
    if not live.is_dir():
        return
    if not journal.whole and not journal.include and journal.old_root is not None:
        apply_attributes(live, journal.old_root)
    sync_directory(live)


def not_in_backup(folder: VolumeFolder, journal: VolumeJournal, source: Source) -> tuple[str, ...]:
    """Return what is live after a swap without being restored: excluded entries, the work folder."""
    above = [path for path in _above(journal.carried) if path and not source.exists(path)]
    return tuple(shown(path) for path in (*journal.carried, *above, folder.path.name))


def selects_entries(journal: VolumeJournal) -> bool:
    """Say whether only selected entries of a live directory are replaced."""
    return bool(journal.include) and not journal.whole


def is_ours(path: str) -> bool:
    """Say whether a path inside a volume is a work folder of ours."""
    return path.startswith(INSIDE_PREFIX)


def _renames(folder: VolumeFolder, journal: VolumeJournal) -> Exchange | EntrySwap:
    if not journal.whole:
        return EntrySwap(folder, journal)
    live = Path(journal.live)
    return Exchange(live, folder, had_live=journal.had_live, identity=journal.new_identity)


def _set_times(journal: VolumeJournal, *, old: Path, new: Path) -> None:
    for path, old_time, new_time in reversed(journal.times):
        for place, time in ((old / path, old_time), (new / path, new_time or old_time)):
            if place.is_dir() and not place.is_symlink():
                os.utime(place, ns=(time, time))


def _above(paths: tuple[str, ...]) -> list[str]:
    """Return every directory above the paths, the root as "", parents before children."""
    found = {str(parent) for path in paths for parent in Path(path).parents}
    return sorted("" if parent == "." else parent for parent in found)


def _mtime(directory: Path) -> int:
    return os.lstat(directory).st_mtime_ns


def _mtime_if(directory: Path) -> int | None:
    return _mtime(directory) if os.path.lexists(directory) else None
