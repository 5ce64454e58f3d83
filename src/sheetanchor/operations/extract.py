"""`restore --target`: writes a backup's files below a directory and touches nothing live."""

from __future__ import annotations

from functools import partial
from pathlib import Path

from sheetanchor.errors import SheetanchorError, UnknownBackupError
from sheetanchor.operations.catalog import BackupRecord, Catalog
from sheetanchor.operations.environment import Environment, Selection
from sheetanchor.operations.manifest import MANIFEST_PATH
from sheetanchor.operations.naming import component_root
from sheetanchor.operations.results import ComponentRestored, RestoreSummary
from sheetanchor.repository.ids import Id
from sheetanchor.repository.model import TreeRestored


def execute(
    environment: Environment,
    catalog: Catalog,
    name: str,
    selection: Selection,
    directory: Path,
    *,
    include: tuple[str, ...] = (),
) -> RestoreSummary:
    """Write the files of the backup, or of any restic snapshot, called `name` below `directory`.

    Raises SheetanchorError when the directory exists and is not empty.
    """
    begin = environment.clock.monotonic()
    _refuse_full(directory)
    directory.mkdir(parents=True, exist_ok=True)
    try:
        record = catalog.find(name)
    except UnknownBackupError as unknown:
        return _foreign(environment, catalog, name, directory, include, begin, unknown)
    kinds = _kinds(catalog, record)
    restored: list[ComponentRestored] = []
    warnings: list[str] = []
    for component in selection.apply(kinds):
        root = component_root(kinds[component], component)
        tree = record.components[component].snapshot.tree
        done = _write(environment, catalog, tree, root, directory, include, component)
        warnings += [f"{component}: {warning}" for warning in done.warnings]
        restored.append(ComponentRestored(name=component, type=kinds[component], status="restored"))
    if record.manifest is not None:
        _write_manifest(catalog, record.manifest.snapshot.tree, directory)
    return RestoreSummary(
        backup=record.name,
        status="extracted",
        duration_s=environment.clock.monotonic() - begin,
        safety_backup=None,
        components=tuple(restored),
        warnings=tuple(warnings),
    )


def _kinds(catalog: Catalog, record: BackupRecord) -> dict[str, str]:
    """Return component types by the manifest, or by the snapshots' roots for an incomplete backup."""
    if record.manifest is not None:
        return {entry.name: entry.type for entry in catalog.manifest(record).saved()}
    singular = {"volumes": "volume", "buckets": "bucket"}
    roots = {name: stored.snapshot.paths[0].split("/")[1] for name, stored in record.components.items()}
    return {name: singular.get(root, root) for name, root in roots.items()}


def _foreign(
    environment: Environment,
    catalog: Catalog,
    name: str,
    directory: Path,
    include: tuple[str, ...],
    begin: float,
    unknown: UnknownBackupError,
) -> RestoreSummary:
    try:
        stored = environment.repository.find_snapshot(name)
    except UnknownBackupError:
        raise unknown from None
    done = _write(environment, catalog, stored.snapshot.tree, "", directory, include, name)
    return RestoreSummary(
        backup=stored.id.hex(),
        status="extracted",
        duration_s=environment.clock.monotonic() - begin,
        safety_backup=None,
        components=(),
        warnings=done.warnings,
    )


def _write(
    environment: Environment,
    catalog: Catalog,
    tree: Id,
    root: str,
    directory: Path,
    include: tuple[str, ...],
    task: str,
) -> TreeRestored:
    destination = directory / root.strip("/")
    destination.parent.mkdir(parents=True, exist_ok=True)
    environment.listener.started(task)
    try:
        return catalog.reader.restore_tree(
            tree,
            root.strip("/"),
            destination,
            include=include,
            progress=partial(environment.listener.advanced, task),
        )
    finally:
        environment.listener.finished(task)


def _write_manifest(catalog: Catalog, tree: Id, directory: Path) -> None:
    reader = catalog.reader
    node = reader.node(tree, MANIFEST_PATH)
    if node is not None:
        with reader.open(node) as stream:
            (directory / MANIFEST_PATH).write_bytes(stream.read())


def _refuse_full(directory: Path) -> None:
    if directory.is_dir() and any(directory.iterdir()):
        raise SheetanchorError(
            f"{directory} is not empty", hint="give --target a directory that is empty or not there"
        )
    if directory.exists() and not directory.is_dir():
        raise SheetanchorError(f"{directory} is not a directory")
