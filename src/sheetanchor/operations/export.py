"""Writes a backup as a portable archive: restorable with psql, redis-server, tar and openssl."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, cast

from sheetanchor.archive import layout
from sheetanchor.archive.layout import ArchiveForms
from sheetanchor.archive.writer import ArchiveWriter
from sheetanchor.components.base import Component, Entry, EntryType, PortableComponent
from sheetanchor.errors import PlanRefusedError
from sheetanchor.operations.catalog import Catalog
from sheetanchor.operations.environment import Environment
from sheetanchor.operations.manifest import Manifest, ManifestComponent
from sheetanchor.operations.portable import (
    ArchivedComponent,
    ArchivedEntry,
    ArchiveManifest,
    archived_entry,
    config_members,
)
from sheetanchor.operations.store import RepositorySource
from sheetanchor.secret import Secret

Opener = Callable[[], AbstractContextManager[BinaryIO]]


@dataclass(frozen=True)
class ExportRequest:
    """Which backup goes where, in which forms."""

    backup: str
    directory: Path
    forms: ArchiveForms
    key: Secret | None
    spool_directory: Path


@dataclass(frozen=True)
class Exported:
    """What was written."""

    manifest: Manifest
    files: tuple[tuple[Path, int, str], ...]
    """Path, size in bytes, SHA-256."""
    members: int
    content_bytes: int
    """Of all members before compression, volumes unpacked."""
    duration_s: float


def execute(environment: Environment, catalog: Catalog, request: ExportRequest) -> Exported:
    """Write the archive. Raises ArchiveError, NoSpaceError; a failure leaves no half archive."""
    begin = environment.clock.monotonic()
    record = catalog.find(request.backup)
    manifest = catalog.manifest(record)
    with ArchiveWriter(
        request.directory,
        manifest.backup,
        request.forms,
        request.key,
        environment.clock,
        environment.listener,
        request.spool_directory,
    ) as writer:
        archived = []
        for entry in manifest.saved():
            component = _component(environment, entry)
            tree = record.components[entry.name].snapshot.tree
            source = RepositorySource(catalog.reader, tree, entry.root)
            environment.listener.started(f"export {entry.name}", entry.bytes_read)
            archived.append(_write(writer, component, entry, source, _alone(manifest, entry)))
            environment.listener.finished(f"export {entry.name}")
        _write_lists(writer, manifest, archived)
        described = ArchiveManifest(manifest=manifest, components=tuple(archived))
        writer.add_bytes(layout.MANIFEST, described.encode())
        written = writer.finish()
    return Exported(
        manifest=manifest,
        files=tuple((file.path, file.size, file.sha256) for file in written.files),
        members=len(written.members),
        content_bytes=sum(
            member.tree.num_bytes if member.tree else member.size for member in written.members
        ),
        duration_s=environment.clock.monotonic() - begin,
    )


def _component(environment: Environment, entry: ManifestComponent) -> Component:
    component = environment.components.get(entry.name)
    if component is None or component.kind != entry.type:
        raise PlanRefusedError(
            f"{entry.name} ({entry.type}) is in the backup, but not in this configuration",
            hint="export with the configuration of the stack that the backup is of",
        )
    return component


def _alone(manifest: Manifest, entry: ManifestComponent) -> bool:
    """Say whether the component is the only one of its type: it then has the runbook's own name."""
    return sum(other.type == entry.type for other in manifest.saved()) == 1


def _write(
    writer: ArchiveWriter,
    component: Component,
    entry: ManifestComponent,
    source: RepositorySource,
    alone: bool,
) -> ArchivedComponent:
    if entry.type == "volume":
        member = layout.volume_member(entry.name)
        writer.add_volume(entry.name, _with_openers(source))
        return ArchivedComponent(name=entry.name, type=entry.type, member=member)
    if entry.type == "configs":
        return ArchivedComponent(
            name=entry.name, type=entry.type, entries=tuple(_write_configs(writer, source))
        )
    name = None if alone else entry.name
    member = layout.postgres_member(name) if entry.type == "postgres" else layout.redis_member(name)
    with cast("PortableComponent", component).export_stream(source) as stream:
        writer.add_stream(member, stream)
    return ArchivedComponent(name=entry.name, type=entry.type, member=member)


def _with_openers(source: RepositorySource) -> Iterator[tuple[Entry, Opener | None]]:
    for entry in source.walk():
        opener = _opener(source, entry.path) if entry.type is EntryType.FILE else None
        yield entry, opener


def _opener(source: RepositorySource, path: bytes) -> Opener:
    return lambda: source.open(path)


def _write_configs(writer: ArchiveWriter, source: RepositorySource) -> Iterator[ArchivedEntry]:
    entries = [entry for entry in source.walk() if entry.path]
    for entry, member in config_members(entries):
        if member is not None:
            with source.open(entry.path) as stream:
                writer.add_stream(member, stream)
        yield archived_entry(entry, member)


def _write_lists(writer: ArchiveWriter, manifest: Manifest, archived: list[ArchivedComponent]) -> None:
    """Write the runbook's two lists; on one machine there are no Swarm secrets to list."""
    lines = [
        f"/{entry.path}  {entry.size} bytes  {entry.member}"
        for component in archived
        for entry in component.entries
        if entry.member is not None
    ]
    configs = "\n".join([f"# configuration files of stack {manifest.stack}", *lines]) + "\n"
    secrets = f"# stack {manifest.stack} runs without Docker Swarm: it has no Swarm secrets\n"
    writer.add_bytes(layout.CONFIGS + "configs_list.txt", configs.encode())
    writer.add_bytes(layout.CONFIGS + "secrets_list.txt", secrets.encode())
