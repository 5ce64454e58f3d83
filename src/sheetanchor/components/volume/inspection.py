"""Looks at a live volume without touching it: room, mounts, leftovers, databases."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

from sheetanchor.components.base import StageEstimate
from sheetanchor.components.disk import shown
from sheetanchor.components.mounts import is_mount_point, mounts_below
from sheetanchor.components.volume.journal import INSIDE_PREFIX
from sheetanchor.components.volume.proof import VolumeProof, human_bytes
from sheetanchor.components.work_folder import sibling_prefix
from sheetanchor.errors import ComponentError

BYTES_PER_ENTRY = 4096
"""What a file costs besides its content: its last block, its inode, its name."""
_DATABASE_DEPTH = 2
"""The stock images keep a cluster at the volume's root, in `pgdata`, or in `18/docker`."""
_DATABASE_DIRECTORIES = 200


def free_bytes(directory: Path) -> int:
    """Return how much an unprivileged writer may still put on the directory's file system."""
    found = os.statvfs(_nearest(directory))
    return found.f_bavail * found.f_frsize


def estimate_stage(
    live: Path, proof: VolumeProof, exclude: tuple[str, ...], *, in_place: bool
) -> StageEstimate:
    """Say what staging `proof` beside (or in) `live` needs and what stands in its way."""
    entries = proof.files + proof.directories + proof.others
    needed = proof.num_bytes + entries * BYTES_PER_ENTRY
    free = free_bytes(live)
    if in_place and live.is_dir():
        free += _used_bytes(live)
    refusals = [
        f"{shown(point)} is another file system mounted inside {shown(live)}: unmount it first"
        for point in mounts_below(live)
    ]
    if needed > free:
        advice = "" if in_place else "; free space, or use --in-place"
        refusals.append(f"{shown(live)} needs {human_bytes(needed)}, {human_bytes(free)} are free{advice}")
    if _free_inodes(live) < entries:
        refusals.append(f"{shown(live)} needs {entries:,} inodes, {_free_inodes(live):,} are free")
    return StageEstimate(
        needed_bytes=needed,
        free_bytes=free,
        notes=tuple(_notes(live, proof, in_place=in_place)),
        remains=tuple(_remains(live, exclude, in_place=in_place)),
        refusals=tuple(refusals),
    )


def _notes(live: Path, proof: VolumeProof, *, in_place: bool) -> Iterator[str]:
    if proof.mount_point and not is_mount_point(live):
        yield f"{shown(live)} was a mount point and is none now: is its disk mounted?"
    if not os.path.lexists(live):
        yield f"{shown(live)} does not exist and will be made"
        return
    if in_place:
        yield f"{shown(live)} is emptied before it is written: the safety backup is the only way back"
    elif is_mount_point(live):
        yield f"{shown(live)} is a mount point: its entries are swapped one by one, with its service down"


def _remains(live: Path, exclude: tuple[str, ...], *, in_place: bool) -> Iterator[str]:
    if not os.path.lexists(live):
        return
    if not in_place and not is_mount_point(live):
        yield f"what has {shown(live)} open or bind-mounted sees the old files until it is restarted"
    if exclude:
        yield f"files that match {', '.join(exclude)} are not in the backup and stay as they are"
    for leftover in _leftovers(live):
        yield f"{shown(leftover)} was left by an earlier restore"


def _leftovers(live: Path) -> Iterator[Path]:
    prefixes = ((live.parent, sibling_prefix(live)), (live, INSIDE_PREFIX))
    for directory, prefix in prefixes:
        if directory.is_dir():
            names = sorted(name for name in os.listdir(directory) if name.startswith(prefix))
            yield from (directory / name for name in names)


def _free_inodes(directory: Path) -> float:
    """Return the free inodes; without limit on file systems that make them as needed."""
    found = os.statvfs(_nearest(directory))
    return found.f_favail if found.f_files else float("inf")


def _nearest(directory: Path) -> Path:
    while not directory.exists():
        directory = directory.parent
    return directory


def _used_bytes(directory: Path) -> int:
    total = 0
    with os.scandir(directory) as entries:
        for entry in entries:
            if entry.is_dir(follow_symlinks=False):
                total += _used_bytes(Path(entry.path))
            else:
                found = entry.stat(follow_symlinks=False)
                total += found.st_blocks * 512 // max(found.st_nlink, 1)
    return total


def refuse_running_database(name: str, directory: Path) -> None:
    """Raise ComponentError when a PostgreSQL server runs on files in `directory`.

    Its files change under the reader's hands: a copy of them is no backup. `postmaster.pid` is
    there while the server runs, in whichever container, and after a crash.
    """
    for place in _directories(directory):
        cluster = (place / "PG_VERSION").is_file() and (place / "global" / "pg_control").is_file()
        if cluster and (place / "postmaster.pid").exists():
            raise ComponentError(
                f"{name}: {shown(place)} holds the files of a running PostgreSQL server",
                hint="use a component of type postgres; if the server is stopped, remove postmaster.pid",
            )


def _directories(root: Path) -> Iterator[Path]:
    """Yield `root` and some hundred directories below it, the upper ones first."""
    level = [root]
    budget = _DATABASE_DIRECTORIES
    for depth in range(_DATABASE_DEPTH + 1):
        yield from level
        if depth == _DATABASE_DEPTH:
            return
        level = [below for place in level for below in _subdirectories(place)][:budget]
        budget -= len(level)


def _subdirectories(place: Path) -> list[Path]:
    try:
        with os.scandir(place) as entries:
            return sorted(Path(entry.path) for entry in entries if entry.is_dir(follow_symlinks=False))
    except PermissionError:  # reported by the capture itself
        return []
