"""Takes a portable archive into the repository, where it is a backup like any other.

Nothing in it is believed before it is checked: the reader proves the archive whole first, SQL
and RDB are loaded in sandboxes, and what comes out is compared with the archive's own manifest.
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import IO, BinaryIO, Literal, cast

from sheetanchor.archive import layout
from sheetanchor.archive.reader import ArchiveReader, open_archive
from sheetanchor.components.base import Component, Entry, EntryType, PortableComponent, PortableTree, Proof
from sheetanchor.errors import ArchiveError, PlanRefusedError, ProofMismatchError
from sheetanchor.operations import commit
from sheetanchor.operations.catalog import Catalog
from sheetanchor.operations.environment import Environment
from sheetanchor.operations.naming import IMPORTED_TIER, backup_time, component_root
from sheetanchor.operations.portable import (
    ArchivedComponent,
    ArchiveManifest,
    decode_archive_manifest,
    stored_entry,
)
from sheetanchor.operations.results import ComponentBackup, ImportSummary
from sheetanchor.operations.run_lock import only_run
from sheetanchor.operations.store import RepositorySink
from sheetanchor.repository.repository import WriteSession
from sheetanchor.secret import Secret


@dataclass(frozen=True)
class ImportRequest:
    """Which archive, and how far it is trusted."""

    path: Path
    key: Secret | None
    trust: bool = False


def execute(environment: Environment, catalog: Catalog, request: ImportRequest) -> ImportSummary:
    """Import the archive; one whose backup is in the repository already is not imported again.

    Raises ArchiveError and its children, ProofMismatchError, PlanRefusedError.
    """
    begin = environment.clock.monotonic()
    with open_archive(request.path, key=request.key, trust=request.trust) as reader:
        described = decode_archive_manifest(reader.manifest) if reader.manifest else None
        name = described.manifest.backup if described else reader.name
        if _present(catalog, name, described):
            return _summary(environment, name, "present", reader.proven, (), begin)
        with (
            ExitStack() as open_files,
            only_run(environment, f"import of {name}"),
            environment.repository.lock(),
            environment.repository.writer() as session,
        ):
            run = _Import(environment, reader, described, open_files)
            run.read_members(session)
            entries = run.commit(session, name)
    return _summary(environment, name, "imported", reader.proven, entries, begin)


class _Import:
    """One archive on its way into the repository."""

    def __init__(
        self,
        environment: Environment,
        reader: ArchiveReader,
        described: ArchiveManifest | None,
        open_files: ExitStack,
    ) -> None:
        self._environment = environment
        self._reader = reader
        self._described = described
        self._contents: dict[str, IO[bytes]] = {}
        """Configuration files, which come one by one and are stored together at the end."""
        self._open_files = open_files
        self._captured: list[commit.Captured] = []

    def read_members(self, session: WriteSession) -> None:
        """Store every member, in the archive's order."""
        for member, stream in self._reader.members():
            component = self._component_of(member)
            if component is None:
                self._keep_config(member, stream)
                continue
            self._environment.listener.started(f"import {member}")
            self._store(session, component, self._importer(component, member, stream))
            self._environment.listener.finished(f"import {member}")
        for archived in self._described.components if self._described else ():
            if archived.type == "configs":
                configs = cast("PortableTree", self._configured(archived))
                entries = list(self._config_entries(archived))
                self._store(
                    session,
                    self._configured(archived),
                    partial(configs.import_entries, entries),
                )

    def _component_of(self, member: str) -> Component | None:
        """Return the configured component that `member` belongs to, None for lists and the like."""
        if self._described is not None:
            for archived in self._described.components:
                if member == archived.member:
                    return self._configured(archived)
            return None
        return self._guess(member)

    def _configured(self, archived: ArchivedComponent) -> Component:
        component = self._environment.components.get(archived.name)
        if component is None or component.kind != archived.type:
            raise PlanRefusedError(
                f"{archived.name} ({archived.type}) is in the archive, but not in this configuration",
                hint="import with the configuration of the stack that the archive is of",
            )
        return component

    def _guess(self, member: str) -> Component | None:
        """Match a member of an old script's archive to a component by its type or volume name."""
        components = self._environment.components.values()
        volume = layout.volume_name(member)
        if volume is not None:
            found = [one for one in components if one.kind == "volume" and one.name == volume]
        else:
            kind = {layout.POSTGRES_DUMP: "postgres", layout.REDIS_DUMP: "redis"}.get(member)
            found = [one for one in components if one.kind == kind]
        return found[0] if len(found) == 1 else None

    def _importer(
        self, component: Component, member: str, stream: BinaryIO
    ) -> Callable[[RepositorySink], Proof]:
        if layout.volume_name(member) is None:
            return partial(cast("PortableComponent", component).import_stream, stream)
        return partial(cast("PortableTree", component).import_entries, self._reader.volume(stream))

    def _store(
        self,
        session: WriteSession,
        component: Component,
        capture: Callable[[RepositorySink], Proof],
    ) -> None:
        begin = self._environment.clock.monotonic()
        root = component_root(component.kind, component.name)
        writer = session.tree(root)
        sink = RepositorySink(writer, None)
        proof = capture(sink)
        self._compare(component.name, proof)
        self._captured.append(
            commit.Captured(
                name=component.name,
                kind=component.kind,
                root=root,
                tree=writer.finish(),
                proof=proof,
                bytes_read=sink.bytes_read,
                bytes_added=writer.bytes_added,
                duration_s=self._environment.clock.monotonic() - begin,
                previous=commit.Previous(),
            )
        )

    def _compare(self, name: str, proof: Proof) -> None:
        """Hold what came out of the sandbox against what the archive's manifest says went in."""
        entry = self._described.manifest.component(name) if self._described else None
        if entry is None or entry.proof is None:
            return
        said = type(proof).model_validate(entry.proof)
        differences = proof.differences(said)
        if differences:
            raise ProofMismatchError(
                f"{name}: the archive does not hold what its manifest says: {differences[0]}",
                hint="nothing was imported; use another archive, or the repository's own backup",
            )

    def _keep_config(self, member: str, stream: BinaryIO) -> None:
        if not member.startswith(layout.CONFIGS):
            return
        content = self._open_files.enter_context(tempfile.SpooledTemporaryFile(max_size=1 << 20))  # noqa: SIM115 - closed by the stack
        shutil.copyfileobj(stream, content)
        content.seek(0)
        self._contents[member] = cast("IO[bytes]", content)

    def _config_entries(self, archived: ArchivedComponent) -> Iterator[tuple[Entry, BinaryIO | None]]:
        for one in archived.entries:
            entry = stored_entry(one)
            if one.member is None:
                yield entry, None
                continue
            content = self._contents.get(one.member)
            if content is None or entry.type is not EntryType.FILE:
                raise ArchiveError(f"{self._reader.name}: {one.member} is missing from the archive")
            yield entry, cast("BinaryIO", content)

    def commit(self, session: WriteSession, name: str) -> tuple[ComponentBackup, ...]:
        """Write the snapshots and, last, the manifest."""
        if not self._captured:
            raise ArchiveError(f"{name}: nothing in the archive belongs to a component of this configuration")
        self._refuse_missing()
        moment = backup_time(name) or self._environment.clock.now()
        planned = commit.BackupPlan(
            name=name,
            tier=IMPORTED_TIER,
            started_at=moment,
            components=tuple(captured.name for captured in self._captured),
            tags=() if self._reader.proven else ("unproven",),
            origin=f"archive {self._reader.name}",
            proven=self._reader.proven,
        )
        return commit.commit(self._environment, session, planned, self._captured)

    def _refuse_missing(self) -> None:
        """An archive that lacks what its manifest lists is cut, whatever its checksums say."""
        if self._described is None:
            return
        stored = {captured.name for captured in self._captured}
        missing = [one.name for one in self._described.components if one.name not in stored]
        if missing:
            raise ArchiveError(f"{self._reader.name}: the archive lacks {', '.join(missing)}")


def _present(catalog: Catalog, name: str, described: ArchiveManifest | None) -> bool:
    """Say whether the archive's backup is in the repository already.

    Raises PlanRefusedError when another backup has its name.
    """
    found = [record for record in catalog.of_stack() if record.name == name]
    if not found or found[0].manifest is None:
        return False
    own = catalog.manifest(found[0])
    if described is not None and own.finished_at == described.manifest.finished_at:
        return True
    if own.origin == f"archive {name}":
        return True
    raise PlanRefusedError(
        f"the repository has another backup named {name}", hint="`sheetanchor show` tells what it holds"
    )


def _summary(
    environment: Environment,
    name: str,
    status: Literal["imported", "present"],
    proven: bool,
    components: tuple[ComponentBackup, ...],
    begin: float,
) -> ImportSummary:
    return ImportSummary(
        backup=name,
        status=status,
        proven=proven,
        components=components,
        duration_s=environment.clock.monotonic() - begin,
    )
