"""The backups in a repository, put together from the tags of its snapshots."""

from __future__ import annotations

import difflib
from collections.abc import Collection, Iterable
from dataclasses import dataclass, field
from datetime import datetime

from sheetanchor.clock import moment
from sheetanchor.errors import DamagedRepositoryError, UnknownBackupError
from sheetanchor.operations.manifest import MANIFEST_PATH, Manifest, decode_manifest
from sheetanchor.operations.naming import SAFETY_TIER, Tags, backup_time, read_tags
from sheetanchor.operations.results import BackupInfo, BackupStatus
from sheetanchor.repository.repository import Reader, Repository
from sheetanchor.repository.snapshot import StoredSnapshot

LATEST = "latest"


@dataclass(frozen=True)
class BackupRecord:
    """All snapshots of one backup."""

    name: str
    stack: str
    tier: str
    manifest: StoredSnapshot | None
    manifest_tags: Tags | None
    components: dict[str, StoredSnapshot] = field(default_factory=dict)

    @property
    def status(self) -> BackupStatus:
        """Say how far the backup got: without a manifest it is incomplete."""
        if self.manifest_tags is None or self.manifest_tags.manifest is None:
            return BackupStatus.INCOMPLETE
        return BackupStatus(self.manifest_tags.manifest)

    @property
    def time(self) -> datetime:
        """Return when the backup was taken, by its name or else by its snapshots."""
        named = backup_time(self.name)
        if named is not None:
            return named
        snapshots = [*self.components.values(), *([self.manifest] if self.manifest else [])]
        newest = max(stored.snapshot.time_ns for stored in snapshots)
        return moment(newest)

    def info(self) -> BackupInfo:
        """Return what a listing shows."""
        summary = self.manifest.snapshot.summary if self.manifest else None
        others = self.manifest_tags.others if self.manifest_tags else ()
        duration = None
        if summary is not None:
            duration = (summary.backup_end_ns - summary.backup_start_ns) / 1e9
        return BackupInfo(
            backup=self.name,
            stack=self.stack,
            status=self.status,
            tier=self.tier,
            time=self.time,
            components=tuple(sorted(self.components)),
            tags=others,
            bytes_read=summary.total_bytes_processed if summary else None,
            bytes_added=summary.data_added_packed if summary else None,
            duration_s=duration,
            unproven="unproven" in others,
        )


class Catalog:
    """A view of the repository as it was when the catalog was made."""

    def __init__(self, repository: Repository, stack: str) -> None:
        self._repository = repository
        self._stack = stack
        self.records = _group(repository.snapshots())

    @property
    def reader(self) -> Reader:
        """Return a reader that knows all snapshots of this catalog."""
        return self._repository.reader()

    def of_stack(self) -> list[BackupRecord]:
        """Return the stack's own backups, oldest first."""
        return [record for record in self.records if record.stack == self._stack]

    def find(self, name: str, *, components: Collection[str] = ()) -> BackupRecord:
        """Return the backup called `name`, or the one that `latest` means for `components`.

        Raises UnknownBackupError with the nearest names.
        """
        if name == LATEST:
            return self._latest(components)
        found = [record for record in self.records if record.name == name]
        own = [record for record in found if record.stack == self._stack]
        if found:
            return (own or found)[0]
        names = [record.name for record in self.records] + [LATEST]
        near = difflib.get_close_matches(name, names, n=3, cutoff=0.6)
        hint = f"nearest: {', '.join(near)}" if near else "`sheetanchor list` shows what there is"
        raise UnknownBackupError(f"no backup is named {name!r}", hint=hint)

    def newest_complete(self, components: Collection[str] = ()) -> BackupRecord | None:
        """Return the newest complete backup that holds all of `components`; never a safety backup."""
        for record in sorted(self.of_stack(), key=lambda record: record.time, reverse=True):
            if record.status is not BackupStatus.COMPLETE or record.tier == SAFETY_TIER:
                continue
            if record.manifest_tags and "unproven" in record.manifest_tags.others:
                continue
            if set(components) <= set(record.components):
                return record
        return None

    def newest_holding(self, component: str) -> BackupRecord | None:
        """Return the newest committed backup that holds `component` whole.

        Safety backups do not count: they are taken of what is damaged.
        """
        holding = [
            record
            for record in self.of_stack()
            if component in record.components
            and record.status is not BackupStatus.INCOMPLETE
            and record.tier != SAFETY_TIER
        ]
        return max(holding, key=lambda record: record.time, default=None)

    def manifest(self, record: BackupRecord) -> Manifest:
        """Read a backup's manifest and check that it speaks of that backup.

        Raises UnknownBackupError for a backup that was never finished.
        """
        if record.manifest is None:
            raise UnknownBackupError(
                f"{record.name} is incomplete: its run was cut off before the manifest was written",
                hint="choose a complete backup; `sheetanchor list` shows their status",
            )
        reader = self.reader
        node = reader.node(record.manifest.snapshot.tree, MANIFEST_PATH)
        if node is None:
            raise DamagedRepositoryError(f"{record.name}: the manifest's snapshot holds no {MANIFEST_PATH}")
        with reader.open(node) as stream:
            manifest = decode_manifest(stream.read())
        if (manifest.backup, manifest.stack) != (record.name, record.stack):
            raise DamagedRepositoryError(
                f"{record.name}: its manifest is that of {manifest.stack}/{manifest.backup}"
            )
        self._match(record, manifest)
        return manifest

    def _match(self, record: BackupRecord, manifest: Manifest) -> None:
        for entry in manifest.saved():
            stored = record.components.get(entry.name)
            if stored is None:
                raise DamagedRepositoryError(
                    f"{record.name}: the snapshot of {entry.name} is missing from the repository"
                )
            if stored.snapshot.tree.hex() != entry.tree:
                raise DamagedRepositoryError(
                    f"{record.name}: the snapshot of {entry.name} is not the one in the manifest"
                )

    def _latest(self, components: Collection[str]) -> BackupRecord:
        record = self.newest_complete(components)
        if record is None:
            what = f" that holds {', '.join(sorted(components))}" if components else ""
            raise UnknownBackupError(
                f"stack {self._stack} has no complete backup{what}",
                hint="`sheetanchor list` shows what there is; `sheetanchor backup` makes one",
            )
        return record


def _group(snapshots: Iterable[StoredSnapshot]) -> list[BackupRecord]:
    manifests: dict[tuple[str, str], tuple[StoredSnapshot, Tags]] = {}
    components: dict[tuple[str, str], dict[str, StoredSnapshot]] = {}
    tiers: dict[tuple[str, str], str] = {}
    for stored in snapshots:
        tags = read_tags(stored.snapshot.tags)
        if tags is None:
            continue
        key = (tags.stack, tags.backup)
        tiers.setdefault(key, tags.tier)
        if tags.manifest is not None:
            manifests[key] = (stored, tags)
        elif tags.component is not None and tags.status is None:
            components.setdefault(key, {})[tags.component] = stored
    records = [
        BackupRecord(
            name=key[1],
            stack=key[0],
            tier=tier,
            manifest=manifests[key][0] if key in manifests else None,
            manifest_tags=manifests[key][1] if key in manifests else None,
            components=components.get(key, {}),
        )
        for key, tier in tiers.items()
    ]
    return sorted(records, key=lambda record: record.time)
