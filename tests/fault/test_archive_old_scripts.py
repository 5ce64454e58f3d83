"""Archives of the scripts that came before: no manifest, no checksums, no HMAC."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from sheetanchor.archive.reader import open_archive
from sheetanchor.errors import ArchiveError, HostileArchiveError, WrongKeyError
from sheetanchor.secret import Secret
from support.archive_cases import KEY, NAME, RDB, SQL, read_all
from support.programs import require_program, require_root

OPENSSL_OPTIONS = {
    "as the runbook's": [],
    "with -pbkdf2": ["-pbkdf2"],
    "with ours": ["-pbkdf2", "-iter", "600000"],
    "with -iter 100000": ["-pbkdf2", "-iter", "100000"],
    "of openssl 1.0": ["-md", "md5"],
}


@pytest.fixture
def old(tmp_path: Path) -> Path:
    """An archive as a shell script with tar makes it, as folder and as `.tar.gz`."""
    folder = tmp_path / NAME
    (folder / "volumes").mkdir(parents=True)
    (folder / "configs").mkdir()
    (folder / "postgres_dump.sql").write_bytes(SQL)
    (folder / "redis_dump.rdb").write_bytes(RDB)
    (folder / "configs" / "secrets_list.txt").write_text("ID NAME\n")
    data = tmp_path / "data"
    data.mkdir()
    (data / "hello").write_bytes(b"hello")
    subprocess.run(["tar", "-czf", folder / "volumes" / "uploads.tar.gz", "-C", data, "."], check=True)
    subprocess.run(["tar", "-czf", f"{NAME}.tar.gz", NAME], cwd=tmp_path, check=True)
    return tmp_path


def encrypt(directory: Path, options: list[str]) -> Path:
    """Encrypt the `.tar.gz` as such a script does."""
    require_program("openssl")
    source, target = directory / f"{NAME}.tar.gz", directory / f"{NAME}.tar.gz.enc"
    argv = [
        "openssl",
        "enc",
        "-aes-256-cbc",
        "-salt",
        *options,
        "-pass",
        "env:K",
        "-in",
        source,
        "-out",
        target,
    ]
    environment = {**os.environ, "K": KEY.reveal()}
    subprocess.run(argv, env=environment, check=True, capture_output=True)
    return target


@pytest.mark.parametrize("suffix", ["", ".tar.gz"])
def test_old_archives_are_read_on_the_operators_word_only(old: Path, suffix: str) -> None:
    """Without trust they are refused with the way out; with it they are read, and not proven."""
    with pytest.raises(ArchiveError, match=r"no manifest\.json") as caught:
        read_all(old / f"{NAME}{suffix}")
    assert "--trust-archive" in (caught.value.hint or "")
    with open_archive(old / f"{NAME}{suffix}", key=None, trust=True) as archive:
        assert not archive.proven
        assert archive.manifest is None
        members = {}
        for name, stream in archive.members():
            if name == "volumes/uploads.tar.gz":
                members[name] = b"".join(content.read() for _, content in archive.volume(stream) if content)
            else:
                members[name] = stream.read()
    assert members["postgres_dump.sql"] == SQL
    assert members["redis_dump.rdb"] == RDB
    assert members["volumes/uploads.tar.gz"] == b"hello"


@pytest.mark.parametrize("how", OPENSSL_OPTIONS)
def test_old_encryption_is_recognised(old: Path, how: str) -> None:
    """Whichever way openssl derived the key, the archive opens with it, on the operator's word."""
    path = encrypt(old, OPENSSL_OPTIONS[how])
    with pytest.raises(ArchiveError, match="not beside it"):
        read_all(path)
    assert read_all(path, trust=True)["postgres_dump.sql"] == SQL
    with pytest.raises(WrongKeyError), open_archive(path, key=Secret("wrong"), trust=True):
        pytest.fail("opened with a wrong key")


def test_damage_of_an_old_encrypted_archive_is_found_where_it_can_be(old: Path) -> None:
    """No HMAC, but gzip's checksums: a flipped byte or a cut does not get through to the members."""
    path = encrypt(old, ["-pbkdf2"])
    whole = path.read_bytes()
    half = len(whole) // 2
    flipped = whole[:half] + bytes([whole[half] ^ 1]) + whole[half + 1 :]
    for data in (whole[:-1], whole[:-16], whole[: half - half % 16], flipped, whole[:20], b""):
        path.write_bytes(data)
        with pytest.raises(ArchiveError), open_archive(path, key=KEY, trust=True):
            pytest.fail("a member could have been read")


def test_a_device_is_not_taken_from_an_unproven_archive(old: Path) -> None:
    """A block device in a volume is content of a proven backup only."""
    require_root()
    data = old / "data"
    os.mknod(data / "disk", 0o660 | 0o060000, os.makedev(8, 0))
    volume = old / NAME / "volumes" / "uploads.tar.gz"
    subprocess.run(["tar", "-czf", volume, "-C", data, "."], check=True)
    with pytest.raises(HostileArchiveError, match="device"):
        read_all(old / NAME, trust=True)
