"""Volumes for tests: trees with everything that a file system can hold, and their cases."""

from __future__ import annotations

import ctypes
import os
import shutil
import socket
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from sheetanchor.components.base import Component, Entry, EntryType
from sheetanchor.components.volume import VolumeComponent
from sheetanchor.config.models import VolumeConfig
from support.component_cases import ComponentCase, context
from support.directory_store import DirectorySink, DirectorySource
from support.programs import require_root

CLONE_NEWNS = 0x00020000
A_TIME = 1_600_000_000_123_456_789


def fill(root: Path) -> None:
    """Make a small tree with every kind of entry, below a directory that exists."""
    (root / "photos" / "2024").mkdir(parents=True)
    (root / "photos" / "2024" / "a.jpg").write_bytes(os.urandom(5000))
    (root / "photos" / "2024" / "b.jpg").write_bytes(os.urandom(100))
    (root / "empty").mkdir()
    (root / "empty.txt").touch()
    (root / "readme.txt").write_text("one\n")
    os.link(root / "readme.txt", root / "photos" / "second name.txt")
    os.symlink("readme.txt", root / "link")
    os.symlink("/nowhere/at all", root / "dangling")
    os.mkfifo(root / "pipe", 0o640)
    with open(os.fsencode(root) + b"/na\xefve\nname", "wb") as file:
        file.write(b"not UTF-8")
    os.setxattr(root / "readme.txt", "user.comment", b"\x00\xff")
    (root / "photos" / "2024" / "a.jpg").chmod(0o640)
    if os.geteuid() == 0:
        os.chown(root / "photos" / "2024" / "a.jpg", 1234, 4321)
        os.mknod(root / "device", 0o20600, os.makedev(1, 3))
        (root / "photos").chmod(0o2750)
    for directory in (root / "photos" / "2024", root / "photos", root / "empty", root):
        os.utime(directory, ns=(A_TIME, A_TIME + len(directory.name)))


def describe(root: Path) -> list[tuple[Entry, bytes, bytes]] | str:
    """Return every entry with its metadata and content, but for work folders of a restore.

    Instead of inode numbers there is the first name of each file.
    """
    if not root.exists():
        return "nothing there"
    first_names: dict[tuple[int, int], bytes] = {}
    out: list[tuple[Entry, bytes, bytes]] = []
    for entry in DirectorySource(root).walk():
        if entry.path.startswith(b".sheetanchor-"):
            continue
        first = entry.path
        if entry.hardlink_key is not None:
            first = first_names.setdefault(entry.hardlink_key, entry.path)
        content = b""
        if entry.type is EntryType.FILE:
            with open(os.path.join(os.fsencode(root), entry.path), "rb") as file:
                content = file.read()
        links = 0 if entry.type is EntryType.DIRECTORY else entry.links
        out.append((replace(entry, hardlink_key=None, links=links), content, first))
    return out


@dataclass
class VolumeCase:
    """One live directory; `hidden` is where work folders of restores may appear."""

    directory: Path
    live: Path
    exclude: tuple[str, ...] = ()

    def component(self) -> Component:
        """Return a new component object."""
        config = VolumeConfig(name="uploads", type="volume", path=self.live, exclude=self.exclude)
        return VolumeComponent(config, context(self.directory))

    def change(self) -> None:
        """Add, alter, remove, and change the type of entries."""
        (self.live / "new.txt").write_text("made later")
        (self.live / "readme.txt").write_text("two\n")
        shutil.rmtree(self.live / "photos" / "2024")
        (self.live / "photos" / "2024").write_text("a file now")
        shutil.rmtree(self.live / "empty")
        (self.live / "link").unlink()
        (self.live / "link").mkdir()
        (self.live / "link" / "inner").write_text("x")
        os.setxattr(self.live, "user.root", b"changed")
        self.live.chmod(0o700)
        os.utime(self.live, ns=(A_TIME, A_TIME * 11 // 10))

    def describe(self) -> object:
        """Return all entries with metadata and content."""
        return describe(self.live)

    def leftovers(self) -> list[str]:
        """Name hidden work folders beside and inside the volume."""
        places = [self.live.parent, *([self.live] if self.live.exists() else [])]
        return [name for place in places for name in os.listdir(place) if "sheetanchor-" in name]

    def tamper(self, token: str) -> None:
        """Flip one byte of a staged file and put its time back."""
        (staged,) = [
            path
            for place in (self.live.parent, self.live)
            if place.exists()
            for path in place.glob(f".*sheetanchor-{token}/new/readme.txt")
        ]
        before = staged.stat()
        with staged.open("r+b") as file:
            file.write(b"X")
        os.utime(staged, ns=(before.st_mtime_ns, before.st_mtime_ns))


class StoredVolume:
    """A filled volume that was captured into a directory and then changed."""

    def __init__(self, directory: Path, *exclude: str) -> None:
        self.live = directory / "srv" / "uploads"
        self.live.mkdir(parents=True, exist_ok=True)
        fill(self.live)
        config = VolumeConfig(name="uploads", type="volume", path=self.live, exclude=exclude)
        self.volume = VolumeComponent(config, context(directory))
        self.before = describe(self.live)
        self.proof = self.volume.capture(DirectorySink(directory / "store"))
        self.source = DirectorySource(directory / "store")
        case = VolumeCase(directory, self.live, exclude)
        self.leftovers = case.leftovers
        case.change()
        self.changed = describe(self.live)


class ExcludingVolumeCase(VolumeCase):
    """A volume whose excluded entries appear after the capture and have to survive everything."""

    def change(self) -> None:
        """Change as ever, and make excluded entries in old, new and lost directories."""
        super().change()
        for path in ("top.tmp", "photos/deep.tmp", "later/below/x.tmp", "cache/a/b"):
            file = self.live / path
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(f"excluded: {path}")
        self._excluded = self._read_excluded()
        os.utime(self.live / "photos", ns=(A_TIME, A_TIME + 99))
        os.utime(self.live, ns=(A_TIME, A_TIME * 11 // 10))

    def describe(self) -> object:
        """Return what is not excluded; the excluded entries must be there unchanged since `change`."""
        if hasattr(self, "_excluded"):
            assert self._read_excluded() == self._excluded
        found = describe(self.live)
        assert not isinstance(found, str)
        made_for_excluded = (b"cache", b"later")
        return [
            (entry, content, first)
            for entry, content, first in found
            if not entry.path.endswith(b".tmp") and not entry.path.startswith(made_for_excluded)
        ]

    def _read_excluded(self) -> dict[str, tuple[str, int]]:
        files = [*self.live.rglob("*.tmp"), *self.live.rglob("cache/a/b")]
        return {
            os.fspath(file.relative_to(self.live)): (file.read_text(), file.stat().st_mtime_ns)
            for file in files
            if "sheetanchor-" not in os.fspath(file.relative_to(self.live))
        }


@contextmanager
def volume_case(directory: Path) -> Iterator[ComponentCase]:
    """A plain directory, restored by exchange of names."""
    live = directory / "srv" / "uploads"
    live.mkdir(parents=True)
    fill(live)
    yield VolumeCase(directory, live)


@contextmanager
def excluding_volume_case(directory: Path) -> Iterator[ComponentCase]:
    """A directory with excluded entries, which are no part of what a restore brings back."""
    live = directory / "srv" / "uploads"
    live.mkdir(parents=True)
    fill(live)
    yield ExcludingVolumeCase(directory, live, exclude=("*.tmp", "/cache/"))


@contextmanager
def mounted_volume_case(directory: Path) -> Iterator[ComponentCase]:
    """A mount point (a tmpfs), restored entry by entry."""
    live = directory / "srv" / "uploads"
    live.mkdir(parents=True)
    with mounted(["-t", "tmpfs", "-o", "size=16m", "tmpfs", os.fspath(live)], live):
        fill(live)
        yield VolumeCase(directory, live)


@contextmanager
def mounted(arguments: Sequence[str], point: Path) -> Iterator[None]:
    """Mount something at `point` for the time of the `with` block, seen by this process only.

    Skips the test where mounting is impossible.
    """
    require_root()
    library = ctypes.CDLL(None, use_errno=True)
    if library.unshare(CLONE_NEWNS) != 0:
        pytest.skip(f"needs a mount namespace of its own: {os.strerror(ctypes.get_errno())}")
    # Fails in a chroot, whose root is no mount point: there the mount is seen outside until it ends.
    subprocess.run(["mount", "--make-rprivate", "/"], check=False, capture_output=True)
    subprocess.run(["mount", *arguments], check=True, capture_output=True)
    try:
        yield
    finally:
        subprocess.run(["umount", "-l", os.fspath(point)], check=True, capture_output=True)


def make_socket(path: Path) -> None:
    """Leave a Unix socket at `path`."""
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(os.fspath(path))
