"""Names of an archive's files and members."""

from __future__ import annotations

from pathlib import Path

import pytest

from sheetanchor.archive import layout
from sheetanchor.errors import ArchiveError, HostileArchiveError


@pytest.mark.parametrize("suffix", ["", ".tar.gz", ".tar.gz.enc", ".tar.gz.enc.hmac", ".sha256"])
def test_every_form_of_a_name_leads_to_the_same_files(suffix: str) -> None:
    """What an operator types, with whatever suffix, names one archive."""
    paths = layout.archive_paths(Path(f"/backups/backup_20240101_020000{suffix}"))
    assert paths.folder == Path("/backups/backup_20240101_020000")
    assert paths.encrypted.name == "backup_20240101_020000.tar.gz.enc"
    assert paths.mac.name == "backup_20240101_020000.tar.gz.enc.hmac"
    assert paths.checksum.name == "backup_20240101_020000.sha256"


@pytest.mark.parametrize(
    "member",
    [
        "postgres_dump.sql",
        "postgres_dump.reports.sql",
        "redis_dump.rdb",
        "redis_dump.sessions.rdb",
        "volumes/uploads.tar.gz",
        "configs/secrets_list.txt",
        "configs/files/srv/%C3%A9.yml",
        "manifest.json",
        "SHA256SUMS",
    ],
)
def test_members_of_the_layout_are_known(member: str) -> None:
    """Each name of the runbook's layout, and those for several databases, is accepted."""
    assert layout.check_member(member) == member


@pytest.mark.parametrize(
    "member",
    [
        "",
        "/etc/passwd",
        "../postgres_dump.sql",
        "configs/../../etc/cron.d/x",
        "configs/./x",
        "configs//x",
        "configs/",
        "configs",
        "volumes/uploads.tar",
        "volumes/.hidden.tar.gz",
        "volumes/a/b.tar.gz",
        "configs/line\nbreak",
        "configs/back\\slash",
        "configs/" + "x" * 300,
        "notes.txt",
        "postgres_dump.sql.gz",
    ],
)
def test_other_members_are_refused(member: str) -> None:
    """Nothing that leads out, hides, or is not part of a backup is taken from an archive."""
    with pytest.raises(HostileArchiveError):
        layout.check_member(member)


@pytest.mark.parametrize("name", ["", "..", "a/b", "-rf", ".hidden", "a b", "x" * 200])
def test_names_of_archives_are_plain(name: str) -> None:
    """An archive's name can be neither a path nor an option."""
    with pytest.raises(ArchiveError):
        layout.check_archive_name(name)


def test_volume_names_come_back_from_members() -> None:
    """`volume_member` and `volume_name` are each other's inverse."""
    assert layout.volume_name(layout.volume_member("minio_data")) == "minio_data"
    assert layout.volume_name("configs/minio_data.tar.gz") is None
