"""Archives opened with nothing but tar, gzip, openssl and sha256sum, and tars made by stock tar."""

from __future__ import annotations

import io
import os
import subprocess
import tarfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

import pytest

from sheetanchor.archive.gzip_stream import GzipWriter
from sheetanchor.archive.limits import ExpansionLimit
from sheetanchor.archive.tar_writer import TarWriter
from sheetanchor.archive.volume_reader import read_volume, scan_volume
from sheetanchor.components.base import EntryType
from support.archive_cases import ALL_FORMS, KEY, NAME, SQL, describe, entry, file_entry, walk, write_archive
from support.programs import require_program, require_root

MIB = 1 << 20
EXTRACT = ["tar", "--xattrs", "--xattrs-include=*", "--acls", "--numeric-owner", "-xpzf"]


def run(*argv: str | Path, cwd: Path | None = None) -> str:
    """Run a stock program with the key in its environment; it must succeed."""
    environment = {**os.environ, "ENCRYPTION_KEY": KEY.reveal(), "LC_ALL": "C.UTF-8", "TZ": "UTC"}
    done = subprocess.run([*argv], cwd=cwd, env=environment, capture_output=True, check=False)
    assert done.returncode == 0, done.stderr.decode("utf-8", "replace")
    return done.stdout.decode("utf-8", "backslashreplace")


@pytest.fixture
def rich_tree(tmp_path: Path) -> Path:
    """A directory with everything that a volume can hold."""
    require_root()
    for program in ("tar", "setfacl"):
        require_program(program)
    root = tmp_path / "source"
    (root / "sub" / ("d" * 200)).mkdir(parents=True)
    (root / "empty").write_bytes(b"")
    (root / "plain.txt").write_bytes(b"text\n" * 1000)
    (root / "sub" / ("d" * 200) / ("f" * 250)).write_bytes(b"deep")
    with (root / "sparse.img").open("wb") as file:
        file.write(b"head")
        file.seek(5 * MIB)
        file.write(os.urandom(100_000))
        file.truncate(9 * MIB)
    with open(os.fsencode(root) + b"/caf\xe9 \xff\n", "wb") as file:
        file.write(b"not UTF-8")
    (root / "link").symlink_to("/dev/stdout")
    (root / "dangling").symlink_to("x" * 180)
    os.link(root / "plain.txt", root / "sub" / "second name")
    os.mkfifo(root / "fifo", 0o620)
    os.mknod(root / "null", 0o666 | 0o020000, os.makedev(1, 3))
    os.mknod(root / "loop", 0o660 | 0o060000, os.makedev(7, 300))
    os.setxattr(root / "plain.txt", "user.note=100%", b"\x00binary\nvalue\xff")
    os.setxattr(root / "sub", "trusted.overlay.opaque", b"y")
    run("setfacl", "-m", "u:12345:rw,g:54321:r", root / "plain.txt")
    run("setfacl", "-d", "-m", "u:12345:rwx", root / "sub")
    for number, path in enumerate(sorted(root.rglob("*"), key=lambda one: -len(one.parts))):
        os.lchown(path, 70_000 + number, 3_000_000 + number)
        os.utime(path, ns=(0, 1_600_000_000_000_000_001 + number), follow_symlinks=False)
    os.chmod(root / "empty", 0o4751)  # noqa: S103 - setuid is to come back
    os.chmod(root, 0o1777)  # noqa: S103 - sticky is to come back
    os.utime(root, ns=(0, -1_500_000_000))
    return root


def write_tar(root: Path, target: Path) -> None:
    """Write the tree at `root` as our own `.tar.gz`."""
    with target.open("wb") as file, GzipWriter(file.write) as compressed:
        TarWriter(compressed.write).add_all(walk(root))


def test_stock_tar_restores_a_volume_whole(rich_tree: Path, tmp_path: Path) -> None:
    """Owners, modes, ns times, xattrs, ACLs, links, devices, FIFOs, odd names: equal after tar -x."""
    archive, restored = tmp_path / "volume.tar.gz", tmp_path / "restored"
    write_tar(rich_tree, archive)
    restored.mkdir()
    run(*EXTRACT, archive, "-C", restored)
    assert describe(restored) == describe(rich_tree)


def test_stock_tar_restores_holes(rich_tree: Path, tmp_path: Path) -> None:
    """A sparse file takes no more room after `tar -x` than the data in it."""
    archive, restored = tmp_path / "volume.tar.gz", tmp_path / "restored"
    write_tar(rich_tree, archive)
    assert archive.stat().st_size < MIB
    restored.mkdir()
    run("tar", "-xzf", archive, "-C", restored)
    status = (restored / "sparse.img").stat()
    assert status.st_size == 9 * MIB
    assert status.st_blocks * 512 < MIB


def test_owners_are_numbers_to_stock_tar(tmp_path: Path) -> None:
    """Even without --numeric-owner no name of this machine can stand in for a number."""
    archive = tmp_path / "volume.tar.gz"
    with archive.open("wb") as file, GzipWriter(file.write) as compressed:
        TarWriter(compressed.write).add_all(iter([file_entry(b"one", b"1", uid=999, gid=998, user="root")]))
    assert " 999/998 " in run("tar", "-tvzf", archive)


@pytest.mark.parametrize(
    "options",
    [
        ["--format=posix", "--xattrs", "--xattrs-include=*", "--acls", "--sparse"],
        ["--format=posix", "--xattrs", "--xattrs-include=*", "--acls"],
        ["--format=posix", "--acls", "--numeric-owner"],
        ["--format=gnu"],
        ["--format=gnu", "--numeric-owner"],
    ],
    ids=["sparse", "posix", "acls", "gnu", "gnu-numeric"],
)
def test_tars_of_stock_tar_are_read(rich_tree: Path, tmp_path: Path, options: list[str]) -> None:
    """What GNU tar writes, in its own format and in POSIX's, comes back as the entries it holds."""
    archive = tmp_path / "stock.tar.gz"
    run("tar", *options, "-czf", archive, "-C", rich_tree, ".")
    expected = describe(rich_tree)
    with archive.open("rb") as file:
        links, device = scan_volume(file, "test", ExpansionLimit(archive.stat().st_size, "test"))
        file.seek(0)
        found = {}
        for one, stream in read_volume(file, "test", links=links):
            content = stream.read() if stream else None
            found[one.path] = (one, content)
    assert device is not None
    assert found.keys() == expected.keys()
    exact_time = "--format=posix" in options
    for path, (one, content) in found.items():
        kind, mode, uid, gid, mtime_ns, device, xattrs, data, link, _ = expected[path]
        assert (one.type, one.mode, one.uid, one.gid, one.device) == (kind, mode, uid, gid, device), path
        assert isinstance(mtime_ns, int)
        assert one.mtime_ns == (mtime_ns if exact_time else mtime_ns // 10**9 * 10**9), path
        assert content in (data, None)
        assert one.type is not EntryType.SYMLINK or one.link_target == link
        assert "--xattrs" not in options or one.xattrs == xattrs, path
    names = [found[b"plain.txt"], found[b"sub/second name"]]
    assert [content is None for _, content in names].count(True) == 1
    assert names[0][0].hardlink_key == names[1][0].hardlink_key is not None
    assert {(one.links, one.link_target) for one, _ in names} == {(2, b"")}


def test_all_forms_open_with_stock_tools(tmp_path: Path) -> None:
    """sha256sum, gzip, tar and the documented openssl line open what was written."""
    require_program("openssl")
    write_archive(tmp_path, ALL_FORMS)
    assert run("sha256sum", "-c", f"{NAME}.sha256", cwd=tmp_path).count(": OK") == 3
    assert "postgres_dump.sql: OK" in run("sha256sum", "-c", "SHA256SUMS", cwd=tmp_path / NAME)
    run("gzip", "-t", tmp_path / f"{NAME}.tar.gz")
    opened = tmp_path / "opened"
    opened.mkdir()
    plain = tmp_path / "plain.tar.gz"
    openssl = ["openssl", "enc", "-d", "-aes-256-cbc", "-pbkdf2", "-iter", "600000", "-md", "sha256"]
    run(*openssl, "-pass", "env:ENCRYPTION_KEY", "-in", tmp_path / f"{NAME}.tar.gz.enc", "-out", plain)
    assert plain.read_bytes() == (tmp_path / f"{NAME}.tar.gz").read_bytes()
    run("tar", "-xzf", plain, "-C", opened)
    run("sha256sum", "-c", "SHA256SUMS", cwd=opened / NAME)
    run("diff", "-r", opened / NAME, tmp_path / NAME)
    assert (opened / NAME / "postgres_dump.sql").read_bytes() == SQL


def test_the_whole_archive_is_private(tmp_path: Path) -> None:
    """A backup holds every password hash of the stack: only its owner may read it."""
    write_archive(tmp_path, ALL_FORMS)
    secret = [tmp_path / NAME, tmp_path / f"{NAME}.tar.gz", *(tmp_path / NAME).rglob("*")]
    assert all(path.stat().st_mode & 0o077 == 0 for path in secret)


class _Zeros:
    """A stream of zeros with one byte at its end, of any size, that takes no memory."""

    def __init__(self, size: int) -> None:
        self.left = size

    def read(self, size: int = -1, /) -> bytes:
        count = min(size, self.left)
        self.left -= count
        return bytes(count) if self.left or not count else bytes(count - 1) + b"!"


@pytest.mark.slow
def test_a_file_beyond_eight_gib_is_restored_by_stock_tar(tmp_path: Path) -> None:
    """A sparse file of 9 GiB comes back with its size, its last byte and its holes."""
    size = 9 << 30

    @contextmanager
    def open_zeros() -> Iterator[BinaryIO]:
        yield _Zeros(size)  # type: ignore[misc]

    archive = tmp_path / "volume.tar.gz"
    with archive.open("wb") as file, GzipWriter(file.write) as compressed:
        TarWriter(compressed.write).add_all(iter([(entry(b"huge.img", size=size), open_zeros)]))
    run("tar", "-xzf", archive, "-C", tmp_path)
    status = (tmp_path / "huge.img").stat()
    assert status.st_size == size
    assert status.st_blocks * 512 < MIB
    with (tmp_path / "huge.img").open("rb") as restored:
        restored.seek(size - 1)
        assert restored.read() == b"!"


def test_a_dense_file_beyond_eight_gib_has_a_header_that_tars_read() -> None:
    """Without holes the size goes into a pax record; Python's tarfile and GNU tar list it."""
    from sheetanchor.archive import tar_format

    size = 9 << 30
    data = tar_format.encode(tar_format.Header(b"./huge", 0o644, 1, 2, size, 5, tar_format.REGULAR), {})
    with tarfile.open(fileobj=io.BytesIO(data), mode="r|") as other:
        found = other.next()
    assert found is not None
    assert found.size == size
    listed = subprocess.run(["tar", "-tvf", "-"], input=data, capture_output=True, check=False)
    assert f" {size} ".encode() in listed.stdout
