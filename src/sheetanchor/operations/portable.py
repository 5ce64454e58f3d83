"""What a portable archive's `manifest.json` says: the backup's manifest and where its parts are."""

from __future__ import annotations

import base64
from collections.abc import Iterator
from pathlib import PurePosixPath
from urllib.parse import quote

from pydantic import BaseModel, ConfigDict, ValidationError

from sheetanchor.archive import layout
from sheetanchor.components.base import Entry, EntryType
from sheetanchor.errors import ArchiveError, HostileArchiveError
from sheetanchor.operations.manifest import Manifest

RESERVED_CONFIGS = frozenset({"secrets_list.txt", "configs_list.txt", "files"})
FORMAT = 1


class ArchivedEntry(BaseModel):
    """One stored configuration entry: its metadata, and the member that holds its content."""

    model_config = ConfigDict(frozen=True)

    path: str
    """Below the component's root, percent-encoded where it is not plain text."""
    type: EntryType
    mode: int
    uid: int
    gid: int
    user: str
    group: str
    mtime_ns: int
    size: int
    link_target: str
    xattrs: tuple[tuple[str, str], ...]
    member: str | None = None


class ArchivedComponent(BaseModel):
    """Where one component is in the archive."""

    model_config = ConfigDict(frozen=True)

    name: str
    type: str
    member: str | None = None
    """The component's only member (SQL, RDB, volume)."""
    entries: tuple[ArchivedEntry, ...] = ()
    """Configuration files, one by one."""


class ArchiveManifest(BaseModel):
    """The whole of `manifest.json` in an archive."""

    model_config = ConfigDict(frozen=True)

    format: int = FORMAT
    manifest: Manifest
    components: tuple[ArchivedComponent, ...]

    def encode(self) -> bytes:
        """Return it as indented JSON."""
        return self.model_dump_json(indent=2).encode() + b"\n"


def decode_archive_manifest(data: bytes) -> ArchiveManifest:
    """Read an archive's manifest. Raises ArchiveError."""
    try:
        manifest = ArchiveManifest.model_validate_json(data)
    except ValidationError as error:
        raise ArchiveError(f"the archive's manifest cannot be read: {error.errors()[0]['msg']}") from error
    if manifest.format > FORMAT:
        raise ArchiveError(
            f"the archive is of format {manifest.format}, this program knows {FORMAT}",
            hint="use the version of sheetanchor that wrote it, or a newer one",
        )
    return manifest


def archived_entry(entry: Entry, member: str | None) -> ArchivedEntry:
    """Return a stored configuration entry as the archive's manifest keeps it."""
    return ArchivedEntry(
        path=quote(entry.path),
        type=entry.type,
        mode=entry.mode,
        uid=entry.uid,
        gid=entry.gid,
        user=entry.user,
        group=entry.group,
        mtime_ns=entry.mtime_ns,
        size=entry.size,
        link_target=quote(entry.link_target),
        xattrs=tuple((name, base64.b64encode(value).decode()) for name, value in entry.xattrs),
        member=member,
    )


def stored_entry(archived: ArchivedEntry) -> Entry:
    """Return what `archived_entry` was made from.

    Raises HostileArchiveError for a path that leaves the component's root.
    """
    from urllib.parse import unquote_to_bytes

    path = unquote_to_bytes(archived.path)
    if path.startswith(b"/") or any(part in (b"", b".", b"..") for part in path.split(b"/")):
        raise HostileArchiveError(f"configuration path {archived.path[:120]!r} leaves its root")
    return Entry(
        path=path,
        type=archived.type,
        mode=archived.mode,
        uid=archived.uid,
        gid=archived.gid,
        user=archived.user,
        group=archived.group,
        mtime_ns=archived.mtime_ns,
        size=archived.size,
        link_target=unquote_to_bytes(archived.link_target),
        device=0,
        links=1,
        hardlink_key=None,
        xattrs=tuple((name, base64.b64decode(value)) for name, value in archived.xattrs),
    )


def config_members(entries: list[Entry]) -> Iterator[tuple[Entry, str | None]]:
    """Give each configuration file its member name: the plain file name where that is unique."""
    files = [entry for entry in entries if entry.type is EntryType.FILE]
    names = [PurePosixPath(quote(entry.path)).name for entry in files]
    for entry in entries:
        if entry.type is not EntryType.FILE:
            yield entry, None
            continue
        full = quote(entry.path)
        name = PurePosixPath(full).name
        plain = names.count(name) == 1 and name not in RESERVED_CONFIGS
        yield entry, layout.CONFIGS + (name if plain else f"files/{full}")
