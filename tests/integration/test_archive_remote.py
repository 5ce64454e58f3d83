"""Archives to and from S3 servers: multipart, checked, with what authenticates them."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from sheetanchor.archive import remote
from sheetanchor.archive.layout import ArchiveForms
from sheetanchor.archive.reader import open_archive
from sheetanchor.errors import (
    ArchiveError,
    FinalBackendError,
    HostileArchiveError,
    ObjectAbsentError,
    UsageError,
)
from sheetanchor.events import SilentListener
from support import s3_server
from support.archive_cases import KEY, NAME, write_archive

BUCKET = "company-backups"
PREFIX = f"s3://{BUCKET}/prodstack"


@pytest.fixture(scope="module")
def endpoint() -> Iterator[str]:
    """A server with one bucket."""
    with s3_server.moto_server() as found:
        s3_server.make_bucket(found, BUCKET)
        yield found


@pytest.fixture
def environment(endpoint: str) -> dict[str, str]:
    """The variables that an operator sets."""
    return {**s3_server.ENVIRONMENT, "AWS_ENDPOINT_URL": endpoint}


def send(directory: Path, prefix: str, environment: dict[str, str]) -> tuple[str, ...]:
    """Upload everything in a directory."""
    return remote.upload(sorted(directory.iterdir()), prefix, environment, SilentListener())


def test_every_form_comes_back_and_is_proven(tmp_path: Path, environment: dict[str, str]) -> None:
    """A large `.tar.gz` (several parts), an encrypted one with its HMAC, a folder: read after download."""
    for form in ("tar", "enc", "folder"):
        here, there, prefix = tmp_path / form, tmp_path / f"{form}-back", f"{PREFIX}/{form}"
        forms = ArchiveForms(folder=form == "folder", tar=form == "tar", enc=form == "enc")
        sql = os.urandom(40 << 20) if form == "tar" else b"SELECT 1;\n"
        write_archive(here, forms, sql=sql)
        addresses = send(here, prefix, environment)
        assert all(address.startswith(prefix) for address in addresses)
        path = remote.download(f"{prefix}/{NAME}", there, environment, SilentListener())
        with open_archive(path, key=KEY, trust=False) as archive:
            assert archive.proven
            members = {name: stream.read() for name, stream in archive.members()}
        assert members["postgres_dump.sql"] == sql
        assert sorted(file.name for file in there.rglob("*")) == sorted(file.name for file in here.rglob("*"))


def test_a_suffix_names_one_form(tmp_path: Path, environment: dict[str, str]) -> None:
    """With both forms there, the address decides; without one the plain form is taken."""
    write_archive(tmp_path / "here", ArchiveForms(folder=False, tar=True, enc=True))
    send(tmp_path / "here", f"{PREFIX}/both", environment)
    for suffix, expected in (("", ".tar.gz"), (".tar.gz", ".tar.gz"), (".tar.gz.enc", ".tar.gz.enc")):
        address = f"{PREFIX}/both/{NAME}{suffix}"
        path = remote.download(address, tmp_path / f"back{suffix}", environment, SilentListener())
        assert path.name == NAME + expected


def test_a_changed_object_is_found_after_download(tmp_path: Path, environment: dict[str, str]) -> None:
    """Somebody with write access to the bucket changes a byte: the archive is refused."""
    write_archive(tmp_path / "here", ArchiveForms(folder=False, tar=False, enc=True))
    path = tmp_path / "here" / f"{NAME}.tar.gz.enc"
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(bytes(data))
    send(tmp_path / "here", f"{PREFIX}/changed", environment)
    back = remote.download(f"{PREFIX}/changed/{NAME}", tmp_path / "back", environment, SilentListener())
    with pytest.raises(HostileArchiveError, match="changed"), open_archive(back, key=KEY, trust=False):
        pytest.fail("a member could have been read")


def test_a_folder_with_strange_names_is_not_fetched(tmp_path: Path, environment: dict[str, str]) -> None:
    """A listing is not trusted: a key that is no part of a backup is refused, nothing is written."""
    import obstore

    store = remote._connect(remote.parse_address(f"{PREFIX}/strange", environment))
    obstore.put(store, f"prodstack/strange/{NAME}/run_me.sh", b"x")
    with pytest.raises(HostileArchiveError):
        remote.download(f"{PREFIX}/strange/{NAME}", tmp_path / "back", environment, SilentListener())
    assert not (tmp_path / "back").exists()


def test_what_is_missing_is_named(tmp_path: Path, environment: dict[str, str]) -> None:
    """No such archive, no such bucket, no address: one line with a hint each."""
    for address, kind in (
        (f"{PREFIX}/{NAME}-absent", ObjectAbsentError),
        (f"s3://no-such-bucket/{NAME}", FinalBackendError),
        ("s3:///x", UsageError),
        ("http://bucket/x", UsageError),
        ("s3://", UsageError),
    ):
        with pytest.raises(kind) as caught:
            remote.download(address, tmp_path, environment, SilentListener())
        assert caught.value.hint
    (tmp_path / "file").write_bytes(b"x")
    with pytest.raises(FinalBackendError, match="NoSuchBucket"):
        remote.upload([tmp_path / "file"], "s3://no-such-bucket", environment, SilentListener())


def test_a_target_that_cannot_be_written_is_named(tmp_path: Path, environment: dict[str, str]) -> None:
    """The local directory is blamed, not the bucket."""
    write_archive(tmp_path / "here", ArchiveForms(folder=False, tar=True, enc=False))
    send(tmp_path / "here", f"{PREFIX}/cut", environment)
    (tmp_path / "back").write_bytes(b"a file, not a directory")
    with pytest.raises(ArchiveError, match=f"{tmp_path}/back"):
        remote.download(f"{PREFIX}/cut/{NAME}", tmp_path / "back", environment, SilentListener())


def test_credentials_are_never_shown(environment: dict[str, str]) -> None:
    """Neither the address's repr nor its text holds the secret key."""
    address = remote.parse_address(PREFIX, environment)
    assert s3_server.SECRET_KEY not in repr(address)
    assert s3_server.SECRET_KEY not in address.url_of("x")
