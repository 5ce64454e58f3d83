"""What stands on disk while an archive is written, after it, and after a failure."""

from __future__ import annotations

import io
import os
import signal
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from sheetanchor.archive.layout import ArchiveForms
from sheetanchor.archive.reader import open_archive
from sheetanchor.archive.writer import ArchiveWriter
from sheetanchor.clock import SystemClock
from sheetanchor.errors import ArchiveError, NoSpaceError, SheetanchorError, UsageError
from sheetanchor.events import SilentListener
from sheetanchor.secret import Secret
from support.archive_cases import ALL_FORMS, KEY, NAME, SQL, file_entry, small_tree, write_archive
from support.programs import require_root

ENC = ArchiveForms(folder=False, tar=False, enc=True)
TAR = ArchiveForms(folder=False, tar=True, enc=False)
FOLDER = ArchiveForms(folder=True, tar=False, enc=False)
MIB = 1 << 20


def writer(directory: Path, forms: ArchiveForms = ALL_FORMS, key: Secret | None = KEY) -> ArchiveWriter:
    """Return a writer as the operations make it."""
    return ArchiveWriter(directory, NAME, forms, key, SystemClock(), SilentListener(), directory)


def names(directory: Path) -> list[str]:
    """List a directory, hidden things included."""
    return sorted(path.name for path in directory.iterdir())


def test_all_forms_stand_under_their_names(tmp_path: Path) -> None:
    """Exactly the runbook's files, nothing hidden beside them."""
    written = write_archive(tmp_path, ALL_FORMS)
    tar = f"{NAME}.tar.gz"
    assert names(tmp_path) == [NAME, f"{NAME}.sha256", tar, f"{tar}.enc", f"{tar}.enc.hmac"]
    by_name = {file.path.name: file for file in written.files}
    assert by_name[tar].size == (tmp_path / tar).stat().st_size
    assert [member.member for member in written.members][-1] == "SHA256SUMS"
    assert sorted(str(path.relative_to(tmp_path / NAME)) for path in (tmp_path / NAME).rglob("*")) == [
        "SHA256SUMS",
        "configs",
        "configs/docker-compose.prod.yml",
        "manifest.json",
        "postgres_dump.sql",
        "redis_dump.rdb",
        "volumes",
        "volumes/uploads.tar.gz",
    ]


def test_the_encrypted_form_alone_leaves_no_plain_file(tmp_path: Path) -> None:
    """With encryption only, nothing but the encrypted file, its HMAC and its checksum stays."""
    write_archive(tmp_path, ENC)
    assert names(tmp_path) == [f"{NAME}.sha256", f"{NAME}.tar.gz.enc", f"{NAME}.tar.gz.enc.hmac"]


class _SpyingStream(io.BytesIO):
    """A source that looks, after each of its reads, at every file this process has open for writing."""

    def __init__(self, data: bytes, marker: bytes, directory: Path) -> None:
        super().__init__(data)
        self.marker = marker
        self.directory = os.fsencode(directory)
        self.found: set[str] = set()
        self.looked = 0

    def read(self, size: int | None = -1, /) -> bytes:
        for descriptor in os.listdir("/proc/self/fd"):
            path = f"/proc/self/fd/{descriptor}"
            try:
                target = os.readlink(path)
            except OSError:
                continue
            if os.fsencode(target).startswith(self.directory) and os.path.isfile(path):
                self.looked += 1
                if self.marker in Path(path).read_bytes():
                    self.found.add(target)
        return super().read(size)


@pytest.mark.parametrize(("forms", "plain"), [(ENC, False), (FOLDER, True)], ids=["encrypted", "folder"])
def test_what_waits_on_disk_is_encrypted_too(tmp_path: Path, forms: ArchiveForms, plain: bool) -> None:
    """While a member waits for its size, its bytes are on disk encrypted (and plain in a folder)."""
    marker = os.urandom(64)
    # What does not compress keeps the marker whole; a name in .gz is kept as it is.
    source = _SpyingStream(marker + os.urandom(4 * MIB), marker, tmp_path)
    with writer(tmp_path, forms) as archive:
        archive.add_stream("configs/blob.gz", source)
    assert source.looked > 0
    assert bool(source.found) is plain


def test_a_failure_leaves_nothing(tmp_path: Path) -> None:
    """A source that dies in the middle, in any form, leaves the directory as it was."""

    class Dying(io.BytesIO):
        def read(self, size: int | None = -1, /) -> bytes:
            data = super().read(size)
            if not data:
                raise ArchiveError("the dump died")
            return data

    def dying_tree() -> Iterator[tuple[object, object]]:
        yield from small_tree()
        raise ArchiveError("the walk died")

    for forms in (FOLDER, TAR, ENC, ALL_FORMS):
        with pytest.raises(ArchiveError, match="dump died"), writer(tmp_path, forms) as archive:
            archive.add_stream("postgres_dump.sql", Dying(SQL))
        with pytest.raises(ArchiveError, match="walk died"), writer(tmp_path, forms) as archive:
            archive.add_volume("uploads", dying_tree())  # type: ignore[arg-type]
        with writer(tmp_path, forms) as archive:
            archive.add_bytes("postgres_dump.sql", SQL)
        assert names(tmp_path) == []


def test_a_killed_run_is_cleared_by_the_next(tmp_path: Path) -> None:
    """SIGKILL in the middle leaves only a hidden directory, which the next run removes."""
    script = textwrap.dedent(
        """
        import io, os, signal, sys
        from pathlib import Path
        from support.archive_cases import *
        folder = Path(sys.argv[1])
        with ArchiveWriter(folder, NAME, ALL_FORMS, KEY, SystemClock(), SilentListener()) as archive:
            archive.add_stream("postgres_dump.sql", io.BytesIO(SQL))
            os.kill(os.getpid(), signal.SIGKILL)
        """
    )
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[1])}
    done = subprocess.run([sys.executable, "-c", script, tmp_path], env=environment, check=False)
    assert done.returncode == -signal.SIGKILL
    left = names(tmp_path)
    assert len(left) == 1
    assert left[0].startswith(f".{NAME}.partial-")
    write_archive(tmp_path, TAR)
    assert names(tmp_path) == [f"{NAME}.sha256", f"{NAME}.tar.gz"]


def test_a_run_at_work_is_left_alone(tmp_path: Path) -> None:
    """Two runs into one directory do not take each other's files for leavings."""
    with writer(tmp_path, TAR) as archive:
        archive.add_bytes("postgres_dump.sql", SQL)
        write_archive(tmp_path, TAR, name="backup_20240102_020000")
        archive.add_bytes("manifest.json", b"{}")
        archive.finish()
    for name in (NAME, "backup_20240102_020000"):
        with open_archive(tmp_path / name, key=None, trust=False) as reader:
            assert reader.proven


def test_an_archive_that_exists_is_not_replaced(tmp_path: Path) -> None:
    """Refused before the first byte is read, whichever form exists."""
    write_archive(tmp_path, TAR)
    with pytest.raises(ArchiveError, match="exists already"), writer(tmp_path, ALL_FORMS):
        pytest.fail("began to write")
    assert names(tmp_path) == [f"{NAME}.sha256", f"{NAME}.tar.gz"]


def test_another_form_later_keeps_the_checksums_of_the_first(tmp_path: Path) -> None:
    """`.sha256` is about all single files there are, in `sha256sum -c`'s form."""
    write_archive(tmp_path, TAR)
    write_archive(tmp_path, ENC)
    done = subprocess.run(
        ["sha256sum", "-c", f"{NAME}.sha256"], cwd=tmp_path, capture_output=True, check=True
    )
    assert done.stdout.count(b": OK") == 3


@pytest.mark.parametrize("member", ["/etc/passwd", "../x", "notes.txt", "volumes/x"])
def test_members_outside_of_the_layout_are_not_written(tmp_path: Path, member: str) -> None:
    """The writer holds itself to what the reader accepts."""
    with writer(tmp_path, FOLDER) as archive, pytest.raises(ArchiveError):
        archive.add_bytes(member, b"x")


def test_wrong_use_is_told_before_anything_is_done(tmp_path: Path) -> None:
    """No form, no key, an empty key, a member twice, no manifest: one clear error each."""
    with pytest.raises(UsageError, match="no form"):
        writer(tmp_path, ArchiveForms(False, False, False))
    for key in (None, Secret("")):
        with pytest.raises(UsageError, match="needs a key"):
            writer(tmp_path, ENC, key)
    with writer(tmp_path, FOLDER) as archive:
        archive.add_bytes("redis_dump.rdb", b"x")
        with pytest.raises(ArchiveError, match="two members"):
            archive.add_bytes("redis_dump.rdb", b"x")
        with pytest.raises(ArchiveError, match=r"no manifest\.json"):
            archive.finish()
    assert names(tmp_path) == []


def test_content_of_another_size_than_its_entry_is_refused(tmp_path: Path) -> None:
    """A file that is shorter or longer than it was said to be never becomes a wrong tar."""
    for said in (1, 9):
        one, opened = file_entry(b"f", b"12345")
        with pytest.raises(ArchiveError, match="not"), writer(tmp_path, TAR) as archive:
            archive.add_volume("v", iter([(replace(one, size=said), opened)]))


@pytest.fixture
def tiny_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of two mebibytes."""
    require_root()
    place = tmp_path / "tiny"
    place.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", place], check=True)
    yield place
    subprocess.run(["umount", place], check=True)


@pytest.mark.parametrize("forms", [FOLDER, TAR, ENC, ALL_FORMS], ids=["folder", "tar", "enc", "all"])
def test_a_full_disk_is_told_and_left_clean(tiny_disk: Path, forms: ArchiveForms) -> None:
    """No space in the middle: one clear error, and the space is free again."""
    with pytest.raises(NoSpaceError, match="no space left"), writer(tiny_disk, forms) as archive:
        archive.add_stream("postgres_dump.sql", io.BytesIO(os.urandom(4 * MIB)))
    assert names(tiny_disk) == []


def test_a_directory_that_cannot_be_written_is_told(tmp_path: Path) -> None:
    """A path below a file is an error of ours, not a traceback."""
    (tmp_path / "file").write_text("")
    with pytest.raises(SheetanchorError, match="Not a directory"), writer(tmp_path / "file" / "x", TAR):
        pytest.fail("began to write")


@pytest.mark.slow
def test_memory_does_not_grow_with_the_archive(tmp_path: Path) -> None:
    """600 MiB go in and out, encrypted, with less than 200 MiB resident at any time."""
    script = textwrap.dedent(
        """
        import sys
        from pathlib import Path
        from support.archive_cases import *
        block = SQL * 18
        class Dump:
            left = 600
            def read(self, size=-1):
                self.left -= 1
                return block if self.left >= 0 else b""
        folder, path = Path(sys.argv[1]), Path(sys.argv[1]) / NAME
        forms = ArchiveForms(False, False, True)
        with ArchiveWriter(folder, NAME, forms, KEY, SystemClock(), SilentListener()) as archive:
            archive.add_stream("postgres_dump.sql", Dump())
            archive.add_bytes("manifest.json", b"{}")
            archive.finish()
        with open_archive(path, key=KEY, trust=False) as reader:
            for name, stream in reader.members():
                total = sum(len(data) for data in iter(lambda: stream.read(1 << 20), b""))
        # Not ru_maxrss: a child starts with its parent's (getrusage(2) counts what was before exec).
        status = Path("/proc/self/status").read_text().splitlines()
        print(total, next(int(line.split()[1]) // 1024 for line in status if line.startswith("VmHWM:")))
        """
    )
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[1])}
    done = subprocess.run(
        [sys.executable, "-c", script, tmp_path], env=environment, check=True, capture_output=True
    )
    total, resident = map(int, done.stdout.split())
    assert total == 600 * 18 * len(SQL)
    assert resident < 200
