"""The runbook's archive layout: which members there are, and which files one archive makes.

A backup named `backup_20240101_020000` is a folder of that name, the same as `.tar.gz`, the same
encrypted as `.tar.gz.enc` with its `.tar.gz.enc.hmac`, and one `.sha256` for the single files.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from sheetanchor.errors import ArchiveError, HostileArchiveError

MANIFEST = "manifest.json"
CHECKSUMS = "SHA256SUMS"
POSTGRES_DUMP = "postgres_dump.sql"
REDIS_DUMP = "redis_dump.rdb"
VOLUMES = "volumes/"
CONFIGS = "configs/"
TAR_SUFFIX = ".tar.gz"
ENCRYPTED_SUFFIX = ".tar.gz.enc"
MAC_SUFFIX = ".hmac"
CHECKSUM_SUFFIX = ".sha256"

MAX_MEMBER_NAME_BYTES = 1024
_PART = re.compile(r"[^/\\\x00-\x1f\x7f]{1,255}")
_ARCHIVE_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,127}")
_VOLUME = re.compile(r"volumes/[A-Za-z0-9][A-Za-z0-9_.-]*\.tar\.gz")
_DUMP = re.compile(
    r"postgres_dump(\.[A-Za-z0-9][A-Za-z0-9_.-]*)?\.sql|redis_dump(\.[A-Za-z0-9][A-Za-z0-9_.-]*)?\.rdb"
)


@dataclass(frozen=True)
class ArchiveForms:
    """In which forms an archive is written."""

    folder: bool
    tar: bool
    enc: bool


@dataclass(frozen=True)
class ArchivePaths:
    """Every file that an archive called `name` can consist of, below `directory`."""

    directory: Path
    name: str

    @property
    def folder(self) -> Path:
        """The plain folder."""
        return self.directory / self.name

    @property
    def tar(self) -> Path:
        """The compressed file."""
        return self.directory / (self.name + TAR_SUFFIX)

    @property
    def encrypted(self) -> Path:
        """The encrypted file."""
        return self.directory / (self.name + ENCRYPTED_SUFFIX)

    @property
    def mac(self) -> Path:
        """What authenticates the encrypted file."""
        return self.directory / (self.name + ENCRYPTED_SUFFIX + MAC_SUFFIX)

    @property
    def checksum(self) -> Path:
        """SHA-256 of the single files, as `sha256sum` writes it."""
        return self.directory / (self.name + CHECKSUM_SUFFIX)


def archive_paths(path: Path) -> ArchivePaths:
    """Split `path` (with or without one of the suffixes) into directory and archive name."""
    name = path.name
    for suffix in (ENCRYPTED_SUFFIX + MAC_SUFFIX, ENCRYPTED_SUFFIX, TAR_SUFFIX, CHECKSUM_SUFFIX):
        if name.endswith(suffix):
            name = name.removesuffix(suffix)
            break
    return ArchivePaths(path.parent, name)


def check_archive_name(name: str) -> str:
    """Return `name`. Raises ArchiveError for a name that is no plain file name."""
    if not _ARCHIVE_NAME.fullmatch(name):
        raise ArchiveError(
            f"{name[:80]!r} cannot be the name of an archive", hint="use letters, digits, _ . -"
        )
    return name


def postgres_member(component: str | None = None) -> str:
    """Name a database component's dump; with several such components each carries its own name."""
    return POSTGRES_DUMP if component is None else f"postgres_dump.{component}.sql"


def redis_member(component: str | None = None) -> str:
    """Name a Redis component's dump; with several such components each carries its own name."""
    return REDIS_DUMP if component is None else f"redis_dump.{component}.rdb"


def volume_member(volume: str) -> str:
    """Name the member of a volume."""
    return f"{VOLUMES}{volume}{TAR_SUFFIX}"


def volume_name(member: str) -> str | None:
    """Return the volume that `member` holds, None where it holds none."""
    if not _VOLUME.fullmatch(member):
        return None
    return member.removeprefix(VOLUMES).removesuffix(TAR_SUFFIX)


def check_member(member: str) -> str:
    """Return `member` when it is a name that the layout knows.

    Raises HostileArchiveError for absolute paths, `..`, control characters and unknown names.
    """
    parts = member.split("/")
    if len(member.encode("utf-8", "surrogateescape")) > MAX_MEMBER_NAME_BYTES or any(
        part in (".", "..") or not _PART.fullmatch(part) for part in parts
    ):
        raise HostileArchiveError(f"archive member {member[:120]!r}: not a safe name")
    known = member in (MANIFEST, CHECKSUMS) or _DUMP.fullmatch(member) or _VOLUME.fullmatch(member)
    if not known and not (member.startswith(CONFIGS) and len(parts) > 1):
        raise HostileArchiveError(
            f"archive member {member[:120]!r}: not part of a backup's layout",
            hint="if it is harmless: unpack the archive, remove that file, and restore from the folder",
        )
    return member
