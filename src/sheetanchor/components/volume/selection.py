"""Which entries of a volume take part: excluded ones that stay, and `--include`d ones."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Iterator
from pathlib import Path

from sheetanchor.components.base import Difference, Entry, EntryType, Source
from sheetanchor.components.disk import shown
from sheetanchor.errors import ComponentError
from sheetanchor.patterns import Patterns

_PIECE = 1 << 20


def excluded_entries(live: Path, patterns: Patterns, spared: Callable[[str], bool]) -> tuple[str, ...]:
    """Return the topmost entries of `live` that match `patterns`, but for those `spared` names.

    Raises OSError for a directory that cannot be listed.
    """
    return tuple(path for path in _matches(live, "", patterns) if not spared(path)) if patterns else ()


def _matches(live: Path, below: str, patterns: Patterns) -> Iterator[str]:
    with os.scandir(live / below) as entries:
        found = sorted((entry.name, entry.is_dir(follow_symlinks=False)) for entry in entries)
    for name, is_directory in found:
        path = f"{below}/{name}" if below else name
        if patterns.match(os.fsencode(path), is_directory=is_directory):
            yield path
        elif is_directory:
            yield from _matches(live, path, patterns)


def refuse_blocked(carried: tuple[str, ...], new: Path) -> None:
    """Raise ComponentError if an excluded entry lies below what is no directory in the new tree."""
    for path in carried:
        for parent in Path(path).parents:
            place = new / parent
            if os.path.lexists(place) and not stat.S_ISDIR(os.lstat(place).st_mode):
                raise ComponentError(
                    f"the excluded {shown(path)} has no place: {shown(parent)} is no directory in the backup",
                    hint="move it out of the volume, then restore again",
                )


def plan_selected(new: Path, live: Path) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Return what has to leave `live` and what has to come in, to put selected entries there.

    A directory that is on both sides is not replaced, only entered; one that `live` lacks comes
    in whole. Symbolic links in `live` are never followed.
    """
    outgoing: list[str] = []
    incoming: list[str] = []
    pending = [""]
    while pending:
        below = pending.pop()
        with os.scandir(new / below) as entries:
            found = sorted((entry.name, entry.is_dir(follow_symlinks=False)) for entry in entries)
        for name, is_directory in found:
            path = f"{below}/{name}" if below else name
            mode = _mode(live / path)
            if is_directory and mode is not None and stat.S_ISDIR(mode):
                pending.append(path)
                continue
            incoming.append(path)
            if mode is not None:
                outgoing.append(path)
    return tuple(outgoing), tuple(incoming)


def _mode(path: Path) -> int | None:
    try:
        return os.lstat(path).st_mode
    except FileNotFoundError:
        return None


def selected(source: Source, include: Patterns) -> list[Entry]:
    """Return the stored entries that match `include`, themselves or by a directory above them."""
    return [
        entry
        for entry in source.walk()
        if entry.path and include.covers(entry.path, is_directory=entry.type is EntryType.DIRECTORY)
    ]


def compare_selected(source: Source, entries: list[Entry], staged: Path) -> list[Difference]:
    """Compare staged entries with the stored ones: type, metadata, link target and content."""
    out: list[Difference] = []
    for entry in entries:
        path = staged / os.fsdecode(entry.path)
        found = _mode(path)
        if found is None:
            out.append(Difference(shown(entry.path), "missing"))
            continue
        out += [Difference(shown(entry.path), what) for what in _unlike(entry, path)]
        if entry.type is EntryType.FILE and stat.S_ISREG(found) and not _same_content(source, entry, path):
            out.append(Difference(shown(entry.path), "content"))
    return out


def _unlike(entry: Entry, path: Path) -> list[str]:
    found = os.lstat(path)
    expected = {
        "mode": (entry.mode, stat.S_IMODE(found.st_mode)),
        "owner": ((entry.uid, entry.gid), (found.st_uid, found.st_gid)),
        "time": (entry.mtime_ns, found.st_mtime_ns),
    }
    if entry.type is EntryType.SYMLINK:
        del expected["mode"]
        target = os.fsencode(os.readlink(path)) if stat.S_ISLNK(found.st_mode) else b""
        if target != entry.link_target:
            return ["link target"]
    if _type(found.st_mode) is not entry.type:
        return ["type"]
    names = os.listxattr(path, follow_symlinks=False)
    xattrs = sorted((name, os.getxattr(path, name, follow_symlinks=False)) for name in names)
    differing = [what for what, (stored, present) in expected.items() if stored != present]
    return differing + (["xattrs"] if xattrs != sorted(entry.xattrs) else [])


def _type(mode: int) -> EntryType:
    types = {
        stat.S_IFREG: EntryType.FILE,
        stat.S_IFDIR: EntryType.DIRECTORY,
        stat.S_IFLNK: EntryType.SYMLINK,
        stat.S_IFBLK: EntryType.DEVICE,
        stat.S_IFCHR: EntryType.CHARACTER_DEVICE,
        stat.S_IFIFO: EntryType.FIFO,
        stat.S_IFSOCK: EntryType.SOCKET,
    }
    return types[stat.S_IFMT(mode)]


def _same_content(source: Source, entry: Entry, path: Path) -> bool:
    with source.open(entry.path) as stored, path.open("rb") as found:
        while True:
            left = _read_exactly(stored.read)
            if left != _read_exactly(found.read):
                return False
            if not left:
                return True


def _read_exactly(read: Callable[[int], bytes]) -> bytes:
    """Read a whole piece even from a stream that gives less at a time; short only at the end."""
    pieces: list[bytes] = []
    missing = _PIECE
    while missing and (piece := read(missing)):
        pieces.append(piece)
        missing -= len(piece)
    return b"".join(pieces)
