"""The directory backend's own promises: modes, atomic publishing, full and read-only disks."""

from __future__ import annotations

import errno
import os
import stat
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from sheetanchor.errors import (
    FinalBackendError,
    NoSpaceError,
    ObjectAbsentError,
    ObjectExistsError,
    ReadOnlyBackendError,
)
from sheetanchor.repository.backend.base import CONFIG_NAME, Kind
from sheetanchor.repository.backend.local import LocalBackend
from support.programs import require_root

NAME = "ab" * 32


@pytest.fixture
def backend(tmp_path: Path) -> LocalBackend:
    """A repository's place with a config file, as after `init`."""
    place = LocalBackend(tmp_path / "repository")
    place.create()
    place.put(Kind.CONFIG, CONFIG_NAME, b"config")
    return place


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 1 MiB."""
    require_root()
    mounted = tmp_path / "disk"
    mounted.mkdir()
    options = ["-t", "tmpfs", "-o", "size=1m,mode=700", "tmpfs"]
    done = subprocess.run(["mount", *options, str(mounted)], capture_output=True, text=True, check=False)
    if done.returncode != 0:
        pytest.skip(f"needs to mount a tmpfs: {done.stderr.strip()}")
    yield mounted
    subprocess.run(["umount", "-l", str(mounted)], check=True)


def test_files_and_directories_are_for_their_owner_only(backend: LocalBackend) -> None:
    """Files are 0400, directories 0700, whatever the umask, laid out as restic does."""
    backend.put(Kind.DATA, NAME, b"x")
    root = Path(backend.location)
    file = root / "data" / "ab" / NAME
    assert stat.S_IMODE(file.stat().st_mode) == 0o400
    for directory in (root, root / "keys", file.parent):
        assert stat.S_IMODE(directory.stat().st_mode) == 0o700
    assert len(list((root / "data").iterdir())) == 256
    assert sorted(path.name for path in root.iterdir()) == [
        *("config", "data", "index", "keys", "locks", "objects", "snapshots")
    ]


def test_leftovers_and_foreign_files_are_not_listed(backend: LocalBackend) -> None:
    """Temporary files of a killed run, and names that are no ids, are passed over."""
    backend.put(Kind.LOCKS, NAME, b"x")
    folder = Path(backend.location) / "locks"
    for name in (f"{NAME}-tmp-0123", ".DS_Store", NAME.upper(), NAME[:-1]):
        (folder / name).write_bytes(b"junk")
    assert [found.name for found in backend.list(Kind.LOCKS)] == [NAME]


def test_a_failed_put_leaves_nothing(backend: LocalBackend) -> None:
    """What must not be replaced stays, and the temporary file is gone."""
    backend.put(Kind.LOCKS, NAME, b"first")
    with pytest.raises(ObjectExistsError):
        backend.put(Kind.LOCKS, NAME, b"second", if_absent=True)
    assert [path.name for path in (Path(backend.location) / "locks").iterdir()] == [NAME]


def test_missing_directories_are_empty_and_come_back(backend: LocalBackend) -> None:
    """A copied repository without empty directories lists nothing, and can be written to."""
    root = Path(backend.location)
    (root / "locks").rmdir()
    (root / "data" / "ab").rmdir()
    assert list(backend.list(Kind.LOCKS)) == []
    assert list(backend.list(Kind.DATA)) == []
    backend.put(Kind.DATA, NAME, b"x")
    backend.put(Kind.LOCKS, NAME, b"x")
    assert backend.get(Kind.DATA, NAME) == b"x"


def test_nothing_is_written_where_the_repository_was_mounted(tmp_path: Path) -> None:
    """With the disk gone its mount point stays empty: the backup does not land on the root disk."""
    (tmp_path / "mountpoint").mkdir()
    backend = LocalBackend(tmp_path / "mountpoint")
    with pytest.raises(FinalBackendError, match="gone") as caught:
        backend.put(Kind.DATA, NAME, b"x")
    assert caught.value.hint == "is its disk still mounted?"
    assert list((tmp_path / "mountpoint").iterdir()) == []


def test_a_full_disk_is_told_and_leaves_nothing(small_disk: Path) -> None:
    """ENOSPC becomes NoSpaceError, the half object is gone, and a smaller one still fits."""
    backend = LocalBackend(small_disk / "repository")
    backend.create()
    backend.put(Kind.CONFIG, CONFIG_NAME, b"config")
    with pytest.raises(NoSpaceError) as caught:
        backend.put(Kind.DATA, NAME, os.urandom(2 << 20))
    assert caught.value.hint
    assert list(backend.list(Kind.DATA)) == []
    assert list((small_disk / "repository" / "data" / "ab").iterdir()) == []
    backend.put(Kind.DATA, NAME, b"small")
    assert backend.get(Kind.DATA, NAME) == b"small"


def test_a_read_only_disk_is_told_and_can_be_read(small_disk: Path) -> None:
    """EROFS becomes ReadOnlyBackendError for puts and deletes; reading goes on."""
    backend = LocalBackend(small_disk / "repository")
    backend.create()
    backend.put(Kind.DATA, NAME, b"stored")
    subprocess.run(["mount", "-o", "remount,ro", str(small_disk)], check=True)
    with pytest.raises(ReadOnlyBackendError):
        backend.put(Kind.DATA, "cd" * 32, b"x")
    with pytest.raises(ReadOnlyBackendError):
        backend.delete(Kind.DATA, NAME)
    assert backend.get(Kind.DATA, NAME) == b"stored"
    assert [found.name for found in backend.list(Kind.DATA)] == [NAME]


def test_a_disk_without_hard_links_will_do(backend: LocalBackend, monkeypatch: pytest.MonkeyPatch) -> None:
    """On FAT and some shares, where link() fails, a conditional put stores, and still replaces nothing."""

    def no_links(source: str, target: str) -> None:
        raise PermissionError(errno.EPERM, "Operation not permitted", source)

    monkeypatch.setattr(os, "link", no_links)
    backend.put(Kind.LOCKS, NAME, b"first", if_absent=True)
    with pytest.raises(ObjectExistsError):
        backend.put(Kind.LOCKS, NAME, b"second", if_absent=True)
    assert backend.get(Kind.LOCKS, NAME) == b"first"
    assert [path.name for path in (Path(backend.location) / "locks").iterdir()] == [NAME]


@pytest.mark.parametrize("name", ["", "config", "../../etc/passwd", "ab/../" + "c" * 58, "AB" * 32])
def test_names_that_are_no_ids_reach_no_file(backend: LocalBackend, name: str) -> None:
    """A name is a hex id or nothing: no path leads out of the repository."""
    with pytest.raises(FinalBackendError):
        backend.get(Kind.KEYS, name)
    with pytest.raises(FinalBackendError):
        backend.put(Kind.KEYS, name, b"x")
    with pytest.raises(FinalBackendError):
        backend.delete(Kind.KEYS, name)


def test_a_place_that_does_not_exist_is_absent(tmp_path: Path) -> None:
    """Looking into nowhere says absent and makes no directory."""
    backend = LocalBackend(tmp_path / "nowhere")
    with pytest.raises(ObjectAbsentError):
        backend.get(Kind.CONFIG, CONFIG_NAME)
    assert list(backend.list(Kind.KEYS)) == []
    assert not (tmp_path / "nowhere").exists()
