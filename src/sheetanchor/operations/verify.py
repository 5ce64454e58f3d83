"""Proves that one backup is whole: every tree, every blob, and with `read_data` every byte."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

from sheetanchor.errors import SheetanchorError
from sheetanchor.events import Listener
from sheetanchor.operations.catalog import Catalog
from sheetanchor.operations.environment import Environment
from sheetanchor.operations.results import VerifySummary
from sheetanchor.repository.ids import Id
from sheetanchor.repository.node import NodeType
from sheetanchor.repository.repository import Reader

READ_BYTES = 1 << 20


@dataclass(frozen=True)
class CheckedTree:
    """What was looked at, and what is wrong."""

    files: int
    num_bytes: int
    errors: tuple[str, ...]


def verify_tree(
    reader: Reader, tree: Id, *, read_data: bool, listener: Listener | None, task: str = ""
) -> CheckedTree:
    """Walk a snapshot: every tree decodes, every blob is in the index and its pack has room for it.

    With `read_data` every file is read, each blob checked against its MAC and SHA-256.
    """
    files = num_bytes = 0
    errors: list[str] = []
    try:
        for path, node in reader.walk(tree, b""):
            if node.type is not NodeType.FILE:
                continue
            files += 1
            shown = path.decode("utf-8", "backslashreplace")
            try:
                reader.locate(node)
                if read_data:
                    with reader.open(node) as stream:
                        while chunk := stream.read(READ_BYTES):
                            num_bytes += len(chunk)
                            if listener is not None:
                                listener.advanced(task, len(chunk))
            except SheetanchorError as error:
                errors.append(f"/{shown}: {error.message}")
    except SheetanchorError as error:
        errors.append(error.message)
    return CheckedTree(files, num_bytes, tuple(errors))


def execute(
    environment: Environment,
    catalog: Catalog,
    name: str,
    *,
    read_data: bool,
    components: Collection[str] = (),
) -> VerifySummary:
    """Verify the backup `name`: its manifest, its snapshots against the manifest, their contents."""
    begin = environment.clock.monotonic()
    record = catalog.find(name)
    manifest = catalog.manifest(record)
    files = num_bytes = 0
    errors: list[str] = []
    for entry in manifest.saved():
        if components and entry.name not in components:
            continue
        task = f"verify {entry.name}"
        environment.listener.started(task, entry.bytes_read if read_data else None)
        tree = record.components[entry.name].snapshot.tree
        checked = verify_tree(
            catalog.reader, tree, read_data=read_data, listener=environment.listener, task=task
        )
        environment.listener.finished(task)
        files += checked.files
        num_bytes += checked.num_bytes
        errors += [f"{entry.name}: {error}" for error in checked.errors]
    return VerifySummary(
        backup=record.name,
        status="damaged" if errors else "whole",
        duration_s=environment.clock.monotonic() - begin,
        read_data=read_data,
        files=files,
        bytes_checked=num_bytes,
        errors=tuple(errors),
    )
