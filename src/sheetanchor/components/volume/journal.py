"""The small file that says how far the restore of one volume is, so that any process goes on."""

from __future__ import annotations

import os
from dataclasses import asdict, dataclass, fields
from enum import StrEnum
from pathlib import Path
from typing import Any

from sheetanchor.components.work_folder import WorkFolder, work_folder_beside

INSIDE_PREFIX = ".sheetanchor-"
"""Names in the root of a mounted volume that begin so are ours, and never captured."""


class Phase(StrEnum):
    """How far a volume's restore is; written before the first step of each phase."""

    STAGING = "staging"
    STAGED = "staged"
    SWAPPING = "swapping"
    CARRYING = "carrying"
    SWAPPED = "swapped"
    UNCARRYING = "uncarrying"
    UNDOING = "undoing"
    DISCARDING = "discarding"


@dataclass(frozen=True)
class RootAttributes:
    """What a mount point's own directory entry carries; it cannot be renamed, so it is set."""

    mode: int
    uid: int
    gid: int
    mtime_ns: int
    xattrs: tuple[tuple[str, str], ...]
    """Name and value in hex."""


@dataclass(frozen=True)
class VolumeJournal:
    """Everything that a fresh process needs to go on, or to go back.

    Paths are relative to the volume, as Python's surrogateescape strings.
    """

    live: str
    """The resolved path of the volume."""
    whole: bool
    """The directory itself is renamed; otherwise single entries of it are."""
    had_live: bool
    in_place: bool = False
    """Nothing stands beside: the live tree is emptied before the new one is written."""
    cleared: bool = False
    """In place: the live tree is (being) emptied, there is no way back but the safety backup."""
    include: tuple[str, ...] = ()
    made_parents: tuple[str, ...] = ()
    """Directories above the volume that staging had to make, deepest last."""
    phase: Phase = Phase.STAGING
    new_identity: tuple[int, int] | None = None
    """Device and inode of the staged directory: tells new from old after an exchange of names."""
    outgoing: tuple[str, ...] = ()
    """Live entries that go to `old`."""
    incoming: tuple[str, ...] = ()
    """Staged entries that go to the live directory."""
    carried: tuple[str, ...] = ()
    """Excluded entries that stay: moved from the old tree into the new one."""
    times: tuple[tuple[str, int, int | None], ...] = ()
    """Directories whose mtime the moves disturb: path, mtime in the old tree and in the new."""
    old_root: RootAttributes | None = None
    new_root: RootAttributes | None = None


class VolumeFolder(WorkFolder):
    """The work folder of one volume: a hidden sibling, or inside it where it is a mount point."""

    def load(self) -> VolumeJournal | None:
        """Return the journal, None where there is none. Raises ComponentError for a broken one."""
        fields = self.read()
        try:
            return None if fields is None else _decode(fields)
        except (ValueError, TypeError, KeyError) as error:
            raise self.broken() from error

    def save(self, journal: VolumeJournal) -> None:
        """Replace the journal, durably."""
        self.write(asdict(journal))


def work_folders(live: Path, token: str) -> tuple[Path, Path]:
    """Return where the work folder of `token` can be: beside the volume, and inside it."""
    return work_folder_beside(live, token), live / f"{INSIDE_PREFIX}{token}"


def read_attributes(directory: Path) -> RootAttributes:
    """Read what `apply_attributes` puts back."""
    found = os.lstat(directory)
    names = sorted(os.listxattr(directory, follow_symlinks=False))
    return RootAttributes(
        mode=found.st_mode & 0o7777,
        uid=found.st_uid,
        gid=found.st_gid,
        mtime_ns=found.st_mtime_ns,
        xattrs=tuple((name, os.getxattr(directory, name, follow_symlinks=False).hex()) for name in names),
    )


def apply_attributes(directory: Path, wanted: RootAttributes) -> None:
    """Give a directory the owner, mode, xattrs and mtime of another; only what differs is set."""
    present = read_attributes(directory)
    if (present.uid, present.gid) != (wanted.uid, wanted.gid):
        os.chown(directory, wanted.uid, wanted.gid, follow_symlinks=False)
    keep = dict(wanted.xattrs)
    for name, _ in present.xattrs:
        if name not in keep:
            os.removexattr(directory, name, follow_symlinks=False)
    for name, value in wanted.xattrs:
        if (name, value) not in present.xattrs:
            os.setxattr(directory, name, bytes.fromhex(value), follow_symlinks=False)
    os.chmod(directory, wanted.mode)
    os.utime(directory, ns=(wanted.mtime_ns, wanted.mtime_ns))


def _decode(value: dict[str, Any]) -> VolumeJournal:
    if set(value) != {field.name for field in fields(VolumeJournal)}:
        raise ValueError("other fields")
    for name in ("include", "made_parents", "outgoing", "incoming", "carried"):
        value[name] = tuple(value[name])
    value["times"] = tuple((path, old, new) for path, old, new in value["times"])
    value["phase"] = Phase(value["phase"])
    if value["new_identity"] is not None:
        value["new_identity"] = tuple(value["new_identity"])
    for name in ("old_root", "new_root"):
        if value[name] is not None:
            xattrs = tuple((key, text) for key, text in value[name]["xattrs"])
            value[name] = RootAttributes(**{**value[name], "xattrs": xattrs})
    return VolumeJournal(**value)
