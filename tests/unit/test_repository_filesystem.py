"""Reading live directories: exclusions, changes while reading, what cannot be read, what is no file."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from sheetanchor.errors import RepositoryError
from sheetanchor.repository.backend.memory import MemoryBackend
from sheetanchor.repository.reader import Reader
from support import nasty_tree
from support.programs import require_root
from support.repositories import back_up, create


def _paths(reader: Reader, tree: bytes) -> set[bytes]:
    return {path for path, _ in reader.walk(tree, "volumes/data")}  # type: ignore[arg-type]


def test_exclusions_leave_out_names_paths_and_directories(tmp_path: Path) -> None:
    """Patterns by name, from the root, and for directories only; the counts leave them out too."""
    for name in ("a.tmp", "keep.txt", "cache/x", "cache/deep/y", "sub/a.tmp", "sub/cache", "top", "sub/top"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(name)
    repository = create(MemoryBackend())
    snapshot, saved = back_up(repository, tmp_path, exclude=["*.tmp", "cache/", "/top"])
    assert _paths(repository.reader(), snapshot.snapshot.tree) == {
        b"",
        b"keep.txt",
        b"sub",
        b"sub/cache",
        b"sub/top",
    }
    assert (saved.files, saved.directories) == (3, 2)
    assert saved.num_bytes == len("keep.txt") + len("sub/cache") + len("sub/top")


def test_sockets_are_counted_and_pipes_never_opened(tmp_path: Path) -> None:
    """A socket is skipped with a count; a FIFO that nobody writes to does not hang the backup."""
    os.mkfifo(tmp_path / "pipe")
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(tmp_path / "socket"))
        repository = create(MemoryBackend())
        snapshot, saved = back_up(repository, tmp_path)
    assert saved.skipped_sockets == 1
    assert saved.others == 1
    assert _paths(repository.reader(), snapshot.snapshot.tree) == {b"", b"pipe"}


def test_a_file_that_grows_all_the_time_is_a_warning(tmp_path: Path) -> None:
    """It is read again, then kept as read: size and content agree, and the warning names it."""
    path = tmp_path / "growing.log"
    path.write_bytes(b"line\n" * 12_000_000)  # long enough to read that the writer gets its turn meanwhile
    grow = "file = open(__import__('sys').argv[1], 'ab', 0)\nwhile True: file.write(b'more\\n')"
    with subprocess.Popen([sys.executable, "-c", grow, path]) as writer:
        try:
            while path.stat().st_size == 60_000_000:
                time.sleep(0.01)
            repository = create(MemoryBackend())
            snapshot, saved = back_up(repository, tmp_path)
        finally:
            writer.kill()
    assert saved.warnings == ("growing.log: changed while it was read",)
    assert saved.failures == ()
    node = repository.reader().node(snapshot.snapshot.tree, "volumes/data/growing.log")
    assert node is not None
    assert node.size == repository.reader().locate(node) > 60_000_000
    with repository.reader().open(node) as stream:
        assert stream.read() == path.read_bytes()[: node.size]


def test_a_small_file_that_changed_once_is_read_again(tmp_path: Path) -> None:
    """A change between the listing and the reading is no warning: the file is read as it is then."""
    (tmp_path / "a").write_text("before")
    repository = create(MemoryBackend())
    first, _ = back_up(repository, tmp_path)
    (tmp_path / "a").write_text("after, and longer")
    second, saved = back_up(repository, tmp_path, parent=first.snapshot.tree)
    assert (saved.warnings, saved.unmodified) == ((), 0)
    node = repository.reader().node(second.snapshot.tree, "volumes/data/a")
    assert node is not None
    with repository.reader().open(node) as stream:
        assert stream.read() == b"after, and longer"


def test_same_size_and_time_with_new_content_is_seen(tmp_path: Path) -> None:
    """Content changed under an unchanged size and mtime is noticed by its change time."""
    (tmp_path / "a").write_bytes(b"old")
    times = (tmp_path / "a").stat()
    repository = create(MemoryBackend())
    first, _ = back_up(repository, tmp_path)
    (tmp_path / "a").write_bytes(b"new")
    os.utime(tmp_path / "a", ns=(times.st_atime_ns, times.st_mtime_ns))
    second, saved = back_up(repository, tmp_path, parent=first.snapshot.tree)
    assert saved.unmodified == 0
    node = repository.reader().node(second.snapshot.tree, "volumes/data/a")
    assert node is not None
    with repository.reader().open(node) as stream:
        assert stream.read() == b"new"


def test_what_cannot_be_read_is_a_failure_by_name() -> None:
    """Kernel files that refuse reading, even to root, are listed; the others are stored."""
    place = Path("/proc/sys/vm")
    if os.access(place / "compact_memory", os.R_OK) and os.geteuid() != 0:
        pytest.skip("this system lets everything be read")
    repository = create(MemoryBackend())
    _, saved = back_up(repository, place)
    assert any(line.startswith("compact_memory: ") for line in saved.failures)
    assert saved.files > 5


def test_an_unreadable_directory_is_a_failure_not_an_empty_one(tmp_path: Path) -> None:
    """Without root, a closed directory is reported and left out of the tree."""
    require_root()
    source = tmp_path / "source"
    (source / "closed").mkdir(parents=True)
    (source / "closed" / "file").touch()
    (source / "closed").chmod(0o700)
    (source / "open").touch()
    for path in (tmp_path, *tmp_path.parents):
        if not path.stat().st_mode & 0o001:
            path.chmod(0o711)
    repository = create(MemoryBackend())
    previous = os.geteuid()
    os.seteuid(65534)
    try:
        snapshot, saved = back_up(repository, source)
    finally:
        os.seteuid(previous)
    assert saved.failures == ("closed: Permission denied",)
    assert _paths(repository.reader(), snapshot.snapshot.tree) == {b"", b"open"}


def test_a_missing_directory_is_an_error(tmp_path: Path) -> None:
    """A volume that is not there fails: it is never an empty one."""
    with pytest.raises(RepositoryError, match="No such file"):
        back_up(create(MemoryBackend()), tmp_path / "nothing")


def test_hard_links_are_read_once(tmp_path: Path) -> None:
    """Ten names of one file cost one reading, and each name counts as a file."""
    (tmp_path / "0").write_bytes(os.urandom(100_000))
    for number in range(1, 10):
        os.link(tmp_path / "0", tmp_path / str(number))
    repository = create(MemoryBackend())
    with repository.writer() as session:
        saved = session.tree("/x").write_directory("", tmp_path)
        session.flush()
        assert session.statistics.bytes_read == 100_000
    assert (saved.files, saved.num_bytes) == (10, 1_000_000)


def test_a_tree_without_a_root_name(tmp_path: Path) -> None:
    """A directory written at "/" is the snapshot's root itself."""
    nasty_tree.make(tmp_path / "source")
    repository = create(MemoryBackend())
    with repository.writer() as session:
        writer = session.tree("/")
        saved = writer.write_directory("", tmp_path / "source")
        tree = writer.finish()
        session.flush()
    assert tree == saved.tree
    repository.reader().restore_tree(tree, "", tmp_path / "out")
    before, after = nasty_tree.describe(tmp_path / "source"), nasty_tree.describe(tmp_path / "out")
    del before[b""], after[b""]
    assert before == after
