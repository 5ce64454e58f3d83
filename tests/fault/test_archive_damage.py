"""Archives that were ours and are damaged, cut or changed: refused before a member is handed out."""

from __future__ import annotations

import os
import random
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from sheetanchor.archive.authentication import open_mac_file
from sheetanchor.archive.layout import ArchiveForms
from sheetanchor.archive.reader import open_archive
from sheetanchor.errors import ArchiveError, HostileArchiveError, WrongKeyError
from sheetanchor.secret import Secret
from support.archive_cases import KEY, NAME, RDB, SQL, assert_refused_unopened, read_all, write_archive

ENCRYPTED = f"{NAME}.tar.gz.enc"
TAR = f"{NAME}.tar.gz"
MIB = 1 << 20


@pytest.fixture(scope="module")
def pristine(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An archive in all forms; its encrypted file is of several pieces."""
    directory = tmp_path_factory.mktemp("pristine")
    noise = random.Random(7).randbytes(3 * MIB)
    write_archive(directory, sql=SQL + noise)
    assert (directory / ENCRYPTED).stat().st_size > 3 * MIB
    return directory


@pytest.fixture
def copy(pristine: Path, tmp_path: Path) -> Path:
    """A copy to spoil, without the `.sha256` that would tell first."""
    directory = tmp_path / "copy"
    shutil.copytree(pristine, directory)
    (directory / f"{NAME}.sha256").unlink()
    return directory


def flip(path: Path, offset: int, bit: int = 0) -> None:
    """Change one bit."""
    with path.open("r+b") as file:
        file.seek(offset)
        byte = file.read(1)[0]
        file.seek(offset)
        file.write(bytes([byte ^ (1 << bit)]))


def test_untouched_archives_are_read_in_every_form(pristine: Path) -> None:
    """The ground for all that follows: without damage every form gives the same members."""
    forms = [read_all(pristine / name) for name in (NAME, TAR, ENCRYPTED)]
    assert forms[0] == forms[1] == forms[2]
    assert forms[0]["redis_dump.rdb"] == RDB
    with open_archive(pristine / ENCRYPTED, key=KEY, trust=False) as archive:
        assert archive.proven
        assert archive.authenticated
        assert archive.manifest == b'{"format": 1}\n'


def test_a_wrong_key_is_told_at_once(copy: Path) -> None:
    """A number of wrong keys, each told as such: stock openssl would accept one in about 300."""
    macs = (copy / f"{ENCRYPTED}.hmac").read_bytes()
    for number in range(6):
        with pytest.raises(WrongKeyError):
            open_mac_file(macs, Secret(f"wrong {number}"), "test")
    assert_refused_unopened(copy / ENCRYPTED, WrongKeyError, "not the one", Secret("wrong"))


@pytest.mark.parametrize("seed", range(12))
def test_any_flipped_bit_of_an_encrypted_archive_is_found(copy: Path, seed: int) -> None:
    """Salt, first block, middle, padding: a flip anywhere stops the archive before its first member."""
    path = copy / ENCRYPTED
    size = path.stat().st_size
    chosen = random.Random(seed)
    offset = [0, 8, 16, MIB - 1, MIB, size - 1, size - 17][seed] if seed < 7 else chosen.randrange(size)
    flip(path, offset, chosen.randrange(8))
    assert_refused_unopened(path, HostileArchiveError, "changed since it was written")


def test_a_cut_encrypted_archive_is_found(copy: Path) -> None:
    """Whether cut in a piece or between pieces."""
    path = copy / ENCRYPTED
    whole = path.read_bytes()
    for size in (len(whole) - 1, len(whole) - 16, 2 * MIB, MIB, 16, 0):
        path.write_bytes(whole[:size])
        assert_refused_unopened(path, HostileArchiveError, "truncated")


def test_an_extended_encrypted_archive_is_found(copy: Path) -> None:
    """What follows the end was not written by us."""
    with (copy / ENCRYPTED).open("ab") as file:
        file.write(os.urandom(16))
    assert_refused_unopened(copy / ENCRYPTED, HostileArchiveError, "longer than it was")


def test_pieces_in_another_order_are_found(copy: Path) -> None:
    """Two whole pieces exchanged keep every byte, and are found by their numbers."""
    path = copy / ENCRYPTED
    whole = path.read_bytes()
    path.write_bytes(whole[:MIB] + whole[2 * MIB : 3 * MIB] + whole[MIB : 2 * MIB] + whole[3 * MIB :])
    assert_refused_unopened(path, HostileArchiveError, "at MiB 1")


def test_pieces_in_another_order_with_their_macs_are_found(copy: Path) -> None:
    """Exchanging the lines of the `.hmac` as well does not help: it has a MAC of its own."""
    path, mac_path = copy / ENCRYPTED, copy / f"{ENCRYPTED}.hmac"
    whole = path.read_bytes()
    path.write_bytes(whole[:MIB] + whole[2 * MIB : 3 * MIB] + whole[MIB : 2 * MIB] + whole[3 * MIB :])
    lines = mac_path.read_bytes().splitlines(keepends=True)
    lines[8], lines[9] = lines[9], lines[8]
    mac_path.write_bytes(b"".join(lines))
    assert_refused_unopened(path, HostileArchiveError, "hmac: changed since it was written")


@pytest.mark.parametrize("seed", range(10))
def test_any_change_of_the_hmac_file_is_found(copy: Path, seed: int) -> None:
    """A flipped bit anywhere in the `.hmac` refuses the archive."""
    path = copy / f"{ENCRYPTED}.hmac"
    flip(path, random.Random(seed).randrange(path.stat().st_size), seed % 7)
    with pytest.raises((HostileArchiveError, WrongKeyError)):
        read_all(copy / ENCRYPTED)


def test_a_forged_iteration_count_is_not_obeyed(copy: Path) -> None:
    """A `.hmac` cannot make the reader spend hours on deriving a key."""
    path = copy / f"{ENCRYPTED}.hmac"
    path.write_bytes(path.read_bytes().replace(b"iterations 600000", b"iterations 999999999999"))
    assert_refused_unopened(copy / ENCRYPTED, HostileArchiveError, "not an HMAC file")


def test_without_its_hmac_an_encrypted_archive_is_refused(copy: Path) -> None:
    """A changed byte would go unseen; the hint says what to do."""
    (copy / f"{ENCRYPTED}.hmac").unlink()
    with pytest.raises(ArchiveError, match="not beside it") as caught:
        read_all(copy / ENCRYPTED)
    assert caught.value.hint is not None
    assert "--trust-archive" in caught.value.hint


def test_without_a_key_an_encrypted_archive_is_refused(copy: Path) -> None:
    """No key is not an empty key."""
    for key in (None, Secret("")):
        with pytest.raises(WrongKeyError, match="no key"):
            read_all(copy / ENCRYPTED, key=key)


@pytest.mark.parametrize("seed", range(12))
def test_any_flipped_bit_of_a_plain_tar_is_found(copy: Path, seed: int) -> None:
    """gzip's and the archive's own checksums find it without the `.sha256` beside.

    (The time and system fields of gzip's header, which no reader uses, are what they do not cover.)
    """
    path = copy / TAR
    chosen = random.Random(seed)
    flip(path, chosen.randrange(10, path.stat().st_size), chosen.randrange(8))
    assert_refused_unopened(path, HostileArchiveError)


def test_a_cut_or_extended_plain_tar_is_found(copy: Path) -> None:
    """Cut anywhere, between two gzip members too, or with something behind it."""
    path = copy / TAR
    whole = path.read_bytes()
    last_member = whole.rindex(b"\x1f\x8b\x08\0\0\0\0\0\0")
    for data in (whole[:-1], whole[: len(whole) // 2], whole[:last_member], whole[:5], b"", whole + b"x"):
        path.write_bytes(data)
        assert_refused_unopened(path, HostileArchiveError)


def test_the_checksum_beside_an_archive_counts(pristine: Path, tmp_path: Path) -> None:
    """A whole and valid archive that is not the one its `.sha256` was made for is refused."""
    shutil.copy(pristine / TAR, tmp_path)
    (tmp_path / f"{NAME}.sha256").write_text(f"{'0' * 64}  {TAR}\n")
    assert_refused_unopened(tmp_path / TAR, HostileArchiveError, "does not match")


def spoil_dump(folder: Path) -> None:
    """Change one byte of the dump."""
    flip(folder / "postgres_dump.sql", 100)


def add_member(folder: Path) -> None:
    """Add a config file that the checksums do not list."""
    (folder / "configs" / "extra.yml").write_text("x")


def drop_member(folder: Path) -> None:
    """Remove a file that the checksums list."""
    (folder / "redis_dump.rdb").unlink()


def add_stranger(folder: Path) -> None:
    """Add a file that no backup has."""
    (folder / "run_me.sh").write_text("#!/bin/sh\n")


def link_out(folder: Path) -> None:
    """Replace a member by a symbolic link to a file of this machine."""
    (folder / "redis_dump.rdb").unlink()
    (folder / "redis_dump.rdb").symlink_to("/etc/hostname")


def link_directory_out(folder: Path) -> None:
    """Replace a directory by a symbolic link."""
    shutil.move(folder / "configs", folder.parent / "elsewhere")
    (folder / "configs").symlink_to(folder.parent / "elsewhere")


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (spoil_dump, "postgres_dump.sql does not match SHA256SUMS"),
        (add_member, "extra.yml is not listed in"),
        (drop_member, "redis_dump.rdb is listed in SHA256SUMS but missing"),
        (add_stranger, "not part of a backup"),
        (link_out, "neither a file nor a directory"),
        (link_directory_out, "neither a file nor a directory"),
    ],
)
def test_a_changed_folder_is_refused(copy: Path, spoil: Callable[[Path], None], words: str) -> None:
    """Each change of the plain folder is named; --trust-archive does not let it pass."""
    spoil(copy / NAME)
    for trust in (False, True):
        with pytest.raises(HostileArchiveError, match=words):
            read_all(copy / NAME, trust=trust)


def test_a_member_changed_after_the_check_is_found_while_reading(copy: Path) -> None:
    """The second pass compares with the first: an archive swapped in between does not get through."""
    with open_archive(copy / NAME, key=None, trust=False) as archive:
        flip(copy / NAME / "postgres_dump.sql", 100)
        with pytest.raises(HostileArchiveError, match="changed while it was read"):
            [stream.read() for _, stream in archive.members()]


def test_no_archive_at_all(tmp_path: Path) -> None:
    """A name that nothing carries, a FIFO and a directory that is no backup are each told."""
    with pytest.raises(ArchiveError, match="no archive of that name"):
        read_all(tmp_path / NAME)
    os.mkfifo(tmp_path / TAR)
    with pytest.raises(ArchiveError, match="not a regular file"):
        read_all(tmp_path / TAR)
    (tmp_path / "empty").mkdir()
    for trust in (False, True):
        with pytest.raises(ArchiveError):
            read_all(tmp_path / "empty", trust=trust)


def test_forms_are_found_by_the_bare_name(pristine: Path, tmp_path: Path) -> None:
    """`backup_<ts>` finds the folder, else the `.tar.gz`, else the `.tar.gz.enc`."""
    for file in (ENCRYPTED, f"{ENCRYPTED}.hmac"):
        shutil.copy(pristine / file, tmp_path)
    with open_archive(tmp_path / NAME, key=KEY, trust=False) as archive:
        assert archive.authenticated
    shutil.copy(pristine / TAR, tmp_path)
    with open_archive(tmp_path / NAME, key=None, trust=False) as archive:
        assert not archive.authenticated
        assert archive.name == NAME


def test_a_single_form_reads_alike(tmp_path: Path) -> None:
    """Written alone, each form holds what it holds when written with the others."""
    for forms in (
        ArchiveForms(True, False, False),
        ArchiveForms(False, True, False),
        ArchiveForms(False, False, True),
    ):
        directory = tmp_path / str(hash(forms))
        write_archive(directory, forms)
        members = read_all(directory / NAME)
        assert members["postgres_dump.sql"] == SQL
        assert sorted(members) == [
            "configs/docker-compose.prod.yml",
            "postgres_dump.sql",
            "redis_dump.rdb",
            "volumes/uploads.tar.gz",
        ]
