"""Snapshots whose files are gone, made again: the trees are still there, and manifests name them."""

from __future__ import annotations

import getpass
from datetime import datetime

from sheetanchor.clock import Clock
from sheetanchor.errors import DamagedRepositoryError
from sheetanchor.operations.manifest import MANIFEST_PATH, Manifest, decode_manifest
from sheetanchor.operations.naming import Tags
from sheetanchor.operations.results import Result
from sheetanchor.repository.ids import Id
from sheetanchor.repository.repository import Reader, Repository
from sheetanchor.repository.snapshot import Snapshot

UNKNOWN = ("status=recovered",)
"""Tags of a snapshot of which nothing but the tree is known."""


class RecoveredSnapshot(Result):
    """One snapshot that was made again."""

    tree: str
    backup: str | None
    component: str | None
    """"manifest" for a manifest; None, with `backup`, where nothing but the tree is known."""


def recover(repository: Repository, clock: Clock, *, dry_run: bool) -> tuple[RecoveredSnapshot, ...]:
    """Make snapshots of all trees that nothing refers to; call it under an exclusive lock.

    A tree that a manifest names becomes that backup's snapshot again, with its tags and the time of
    the backup; what was in a snapshot besides (user, summary) is gone. Others get tags of their own.
    """
    trees = {stored.snapshot.tree for stored in repository.snapshots()}
    orphans = set(repository.repairs().orphans(trees).roots)
    reader = repository.reader()
    drafts: dict[Id, Snapshot] = {}
    for tree in sorted(trees | orphans):
        manifest = _manifest(reader, tree)
        if manifest is None:
            continue
        if tree in orphans:
            drafts[tree] = _draft(manifest, tree, (f"/{MANIFEST_PATH}",), manifest.finished_at, None)
        for entry in manifest.saved():
            component = Id(bytes.fromhex(entry.tree or ""))
            if component in orphans:
                drafts[component] = _draft(
                    manifest, component, (entry.root,), manifest.started_at, entry.name
                )
    for tree in orphans - drafts.keys():
        drafts[tree] = Snapshot(_nanoseconds(clock.now()), tree, ("/",), tags=UNKNOWN)
    if not dry_run:
        for tree in sorted(drafts):
            repository.save_snapshot(drafts[tree])
    return tuple(_told(drafts[tree]) for tree in sorted(drafts))


def _manifest(reader: Reader, tree: Id) -> Manifest | None:
    """Return the manifest in a tree, None when there is none that can be read."""
    try:
        node = reader.node(tree, MANIFEST_PATH)
        if node is None:
            return None
        with reader.open(node) as stream:
            return decode_manifest(stream.read())
    except DamagedRepositoryError:
        return None


def _draft(
    manifest: Manifest, tree: Id, paths: tuple[str, ...], time: datetime, component: str | None
) -> Snapshot:
    entry = manifest.component(component) if component else None
    tags = Tags(
        stack=manifest.stack,
        backup=manifest.backup,
        tier=manifest.tier,
        component=component,
        type=entry.type if entry else None,
        manifest=None if component else manifest.status,
        others=() if component or manifest.proven else ("unproven",),
    )
    return Snapshot(
        _nanoseconds(time),
        tree,
        paths,
        hostname=manifest.stack,
        username=getpass.getuser(),
        tags=tags.encode(),
    )


def _told(draft: Snapshot) -> RecoveredSnapshot:
    if draft.tags == UNKNOWN:
        return RecoveredSnapshot(tree=draft.tree.hex(), backup=None, component=None)
    named = dict(tag.split("=", 1) for tag in draft.tags if "=" in tag)
    return RecoveredSnapshot(
        tree=draft.tree.hex(), backup=named["backup"], component=named.get("component", "manifest")
    )


def _nanoseconds(moment: datetime) -> int:
    return int(moment.timestamp()) * 1_000_000_000 + moment.microsecond * 1000
