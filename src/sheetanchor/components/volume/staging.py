"""Writes the tree of a backup into the work folder of a run, on the volume's own file system."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from sheetanchor.components.base import Source
from sheetanchor.components.disk import remove_tree, shown, sync_directory, sync_file_system
from sheetanchor.components.mounts import is_mount_point, mounts_below
from sheetanchor.components.volume.journal import (
    INSIDE_PREFIX,
    Phase,
    RootAttributes,
    VolumeFolder,
    VolumeJournal,
    read_attributes,
    work_folders,
)
from sheetanchor.errors import ComponentError, NothingThereError


def find_work_folder(live: Path, token: str) -> VolumeFolder:
    """Return the work folder of `token`: where it is, or else where it has to be."""
    beside, inside = work_folders(live, token)
    if beside.exists():
        return VolumeFolder(beside)
    if inside.exists() or (live.exists() and is_mount_point(live)):
        return VolumeFolder(inside)
    return VolumeFolder(beside)


def begin(live: Path, folder: VolumeFolder, include: Sequence[str], *, in_place: bool) -> VolumeJournal:
    """Make the work folder, or empty that of a half stage, and return a fresh journal.

    Raises ComponentError when the token's tree is live already, or a mount stands in the way.
    """
    refuse_mounts_below(live, include)
    earlier = folder.load()
    if earlier is not None and (earlier.phase not in (Phase.STAGING, Phase.STAGED) or earlier.cleared):
        raise ComponentError(
            f"{shown(live)}: this restore was interrupted when files were already being replaced",
            hint="go on with `restore --resume`, or take it back with `rollback`",
        )
    if earlier is None:
        return _create(live, folder, tuple(include), in_place=in_place)
    for leftover in (folder.new, folder.old):
        remove_tree(leftover)
    fresh = replace(earlier, phase=Phase.STAGING, include=tuple(include), in_place=in_place)
    folder.save(fresh)
    _hide(live, folder, fresh.old_root)
    return fresh


def refuse_mounts_below(live: Path, include: Sequence[str]) -> None:
    """Raise ComponentError where a rename of the volume would take another file system along."""
    mounts = () if include else mounts_below(live)
    if mounts:
        raise ComponentError(
            f"{shown(live)}: another file system is mounted inside, at {shown(mounts[0])}",
            hint="unmount it for the restore, and make it a component of its own if it is to be saved",
        )


def _create(live: Path, folder: VolumeFolder, include: tuple[str, ...], *, in_place: bool) -> VolumeJournal:
    had_live = os.path.lexists(live)
    if had_live and not live.is_dir():
        raise ComponentError(f"{shown(live)} is in the way: it is not a directory")
    inside = folder.path.parent == live
    root = read_attributes(live) if had_live else None
    journal = VolumeJournal(
        live=os.fspath(live),
        whole=not inside and not (include and had_live),
        had_live=had_live,
        in_place=in_place and had_live and not include,
        include=include,
        made_parents=tuple(_make_directories(live.parent)),
        old_root=root,
    )
    try:
        folder.make()
        folder.save(journal)
    except OSError:
        remove_tree(folder.path)
        raise
    finally:
        _hide(live, folder, root)
    return journal


def _hide(live: Path, folder: VolumeFolder, root: RootAttributes | None) -> None:
    """Set back the time of a volume in which the work folder came or went: nothing of it changed."""
    if root is not None and folder.path.parent == live:
        os.utime(live, ns=(root.mtime_ns, root.mtime_ns))


def _make_directories(directory: Path) -> list[str]:
    """Make a directory and what is missing above it; return those made, deepest last."""
    missing = []
    while not directory.is_dir():
        missing.append(directory)
        directory = directory.parent
    for path in reversed(missing):
        path.mkdir()
        sync_directory(path.parent)
    return [os.fspath(path) for path in reversed(missing)]


def write_tree(source: Source, folder: VolumeFolder, journal: VolumeJournal) -> VolumeJournal:
    """Write the (selected) tree to `folder.new`, durably; return the journal as staged.

    Raises NothingThereError when the backup has nothing that matches the selection.
    """
    source.restore_tree("", folder.new, include=journal.include)
    if journal.include and (not folder.new.is_dir() or not os.listdir(folder.new)):
        raise NothingThereError(
            f"nothing in the backup of {shown(journal.live)} matches {', '.join(journal.include)}",
            hint="`sheetanchor ls NAME PATH` shows what there is",
        )
    sync_file_system(folder.path)
    found = os.lstat(folder.new)
    return replace(
        journal,
        phase=Phase.STAGED,
        new_identity=(found.st_dev, found.st_ino),
        new_root=read_attributes(folder.new),
    )


def clear_directory(directory: Path, below: str, kept: frozenset[str]) -> None:
    """Remove all below `directory` but the paths `kept`, what is above them, and work folders."""
    holders = {os.fspath(parent) for path in kept for parent in Path(path).parents}
    with os.scandir(directory / below) as entries:
        names = [(entry.name, entry.is_dir(follow_symlinks=False)) for entry in entries]
    for name, is_directory in names:
        path = f"{below}/{name}" if below else name
        if path in kept or (not below and name.startswith(INSIDE_PREFIX)):
            continue
        if is_directory and path in holders:
            clear_directory(directory, path, kept)
        else:
            remove_tree(directory / path)
