"""The composition root: the one place that knows concrete classes and puts them together."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import BinaryIO

from sheetanchor.archive.layout import ArchiveForms
from sheetanchor.assembly import (
    build_component,
    open_backend,
    refuse_repository_inside,
    state_directory,
)
from sheetanchor.clock import Clock, SystemClock
from sheetanchor.components.base import Component, Context
from sheetanchor.config.environment import repository_password
from sheetanchor.config.load import LoadedConfig, find_config, load_config
from sheetanchor.config.models import RepositoryConfig
from sheetanchor.errors import RepositoryNotFoundError
from sheetanchor.events import Listener
from sheetanchor.operations import (
    backup,
    browse,
    care,
    extract,
    forget,
    prune,
    rekey,
    restore,
    restore_plan,
    rollback,
    status,
    verify,
)
from sheetanchor.operations.catalog import Catalog
from sheetanchor.operations.environment import Environment, Hooks, Selection
from sheetanchor.operations.journal import JournalState, JournalStore, new_token
from sheetanchor.operations.manifest import Manifest
from sheetanchor.operations.rekey import RekeySummary
from sheetanchor.operations.results import (
    BackupInfo,
    BackupSummary,
    Change,
    CheckSummary,
    ExportSummary,
    ImportSummary,
    KeyInfo,
    ListedEntry,
    RestoreSummary,
    StatusSummary,
    VerifySummary,
)
from sheetanchor.policy.retention import Rules
from sheetanchor.process import ProcessRunner
from sheetanchor.repository.backend.base import Backend
from sheetanchor.repository.backend.limit import LimitedBackend
from sheetanchor.repository.repository import Compression, Options, Repository
from sheetanchor.secret import Secret
from sheetanchor.stacks.local import LocalStack, Service


@dataclass(frozen=True)
class World:
    """Everything outside the program, injected."""

    listener: Listener
    environment: Mapping[str, str] = field(default_factory=lambda: dict(os.environ))
    clock: Clock = field(default_factory=SystemClock)
    processes: ProcessRunner = field(default_factory=ProcessRunner)
    ask_password: Callable[[], Secret] | None = None


class Application:
    """What the command line (and later the web) can ask for. Opens the repository when it has to."""

    def __init__(self, loaded: LoadedConfig, world: World) -> None:
        self.loaded = loaded
        self.config = loaded.config
        self.world = world
        self.stack_name = loaded.config.stack.name
        self.state_directory = state_directory(loaded.config, world.environment)
        self.work_directory = self.config.work_directory or Path(tempfile.gettempdir())
        self.journals = JournalStore(self.state_directory, world.clock)
        refuse_repository_inside(loaded.config)
        for warning in loaded.warnings:
            world.listener.warning("configuration", warning)

    @classmethod
    def load(cls, config_path: Path | None, world: World) -> Application:
        """Read the configuration. Raises ConfigError."""
        return cls(load_config(find_config(config_path, world.environment)), world)

    def password(self) -> Secret:
        """Return the repository's password. Raises ConfigError when there is none."""
        return repository_password(
            self.config.repository.password_file,
            self.world.environment,
            warn=lambda message: self.world.listener.warning("password", message),
            ask=self.world.ask_password,
        )

    def repository_options(self) -> Options:
        """Return how the repository is used in this run."""
        chosen = self.config.repository
        compression = Compression(chosen.compression)
        if chosen.threads is None:
            return Options(compression=compression)
        return Options(compression=compression, threads=chosen.threads)

    def create_repository(self) -> str:
        """Make the repository; return its id. Raises RepositoryError when there is one."""
        with self._backend() as backend:
            made = Repository.create(
                backend, self.password(), options=self.repository_options(), clock=self.world.clock
            )
            return made.id

    def components(self) -> dict[str, Component]:
        """Return the configured components by name."""
        world = self.world
        context = Context(world.processes, world.clock, world.listener, self.work_directory)
        return {one.name: build_component(one, context) for one in self.config.components}

    @contextmanager
    def repository(self, limit: int | None = None) -> Iterator[Repository]:
        """Open the repository, with at most `limit` bytes a second each way.

        Raises RepositoryNotFoundError, WrongPasswordError, BackendError.
        """
        with self._backend() as backend:
            yield Repository.open(
                backend if limit is None else LimitedBackend(backend, self.world.clock, limit),
                self.password(),
                options=self.repository_options(),
                clock=self.world.clock,
                listener=self.world.listener,
            )

    @contextmanager
    def _backend(self, place: RepositoryConfig | None = None) -> Iterator[Backend]:
        backend = open_backend(
            place or self.config.repository,
            self.world.environment,
            self.world.clock,
            lambda message: self.world.listener.warning("repository", message),
        )
        try:
            yield backend
        finally:
            backend.close()

    @contextmanager
    def opened(self) -> Iterator[tuple[Environment, Catalog]]:
        """Open the repository and read its catalog, with all that operations need."""
        with self.repository() as repository:
            yield self._environment(repository), Catalog(repository, self.stack_name)

    def backup(
        self, selection: Selection, *, tags: tuple[str, ...] = (), accept_empty: bool = False
    ) -> BackupSummary:
        """Back up the chosen components; a failed one makes the summary's status partial."""
        self._refuse_half_swapped()
        with self.opened() as (environment, catalog):
            planned = backup.plan(environment, catalog, selection, tags=tags, accept_empty=accept_empty)
            return backup.execute(environment, catalog, planned)

    def backups(self) -> list[BackupInfo]:
        """Return all backups of the repository, oldest first."""
        with self.opened() as (_, catalog):
            return [record.info() for record in catalog.records]

    def show(self, name: str) -> Manifest:
        """Return a backup's manifest."""
        with self.opened() as (_, catalog):
            return catalog.manifest(catalog.find(name))

    def list_entries(self, name: str, path: str) -> Iterator[ListedEntry]:
        """Yield what a backup holds at and below `path`."""
        with self.opened() as (environment, catalog):
            yield from browse.entries(environment.repository, catalog, name, path)

    def compare(self, before: str, after: str) -> Iterator[Change]:
        """Yield what changed between two backups."""
        with self.opened() as (environment, catalog):
            yield from browse.compare(environment.repository, catalog, before, after)

    def dump(self, name: str, path: str, out: BinaryIO) -> int:
        """Write one stored file to `out`; return its size."""
        with self.opened() as (environment, catalog):
            return browse.dump(environment.repository, catalog, name, path, out)

    @contextmanager
    def planned_restore(
        self, name: str, selection: Selection, options: restore_plan.Options
    ) -> Iterator[tuple[restore_plan.PreparedRestore, Callable[[], RestoreSummary]]]:
        """Plan a restore; yield the plan and what carries it out, for a confirmation in between."""
        restore.refuse_unfinished(self.journals)
        with self.opened() as (environment, catalog):
            token = new_token(self.world.clock.now())
            prepared = restore_plan.plan(environment, catalog, name, selection, options, token)
            yield (
                prepared,
                lambda: restore.execute(environment, catalog, prepared, self.journals),
            )

    def resume(self) -> RestoreSummary:
        """Go on with an interrupted restore."""
        with self.opened() as (environment, catalog):
            return rollback.resume(environment, catalog, self.journals)

    def rollback(self) -> RestoreSummary:
        """Take the last restore back."""
        with self.opened() as (environment, catalog):
            return rollback.rollback(environment, catalog, self.journals)

    def extract(
        self, name: str, selection: Selection, directory: Path, include: tuple[str, ...] = ()
    ) -> RestoreSummary:
        """Write a backup's files below a directory; nothing live is touched."""
        with self.opened() as (environment, catalog):
            return extract.execute(environment, catalog, name, selection, directory, include=include)

    def verify(self, name: str, *, read_data: bool) -> VerifySummary:
        """Prove that a backup is whole."""
        with self.opened() as (environment, catalog):
            return verify.execute(environment, catalog, name, read_data=read_data)

    def status(self, *, warn: timedelta, alert: timedelta) -> StatusSummary:
        """Judge how fresh the backups are."""
        with self.opened() as (environment, catalog):
            return status.assess(
                catalog,
                self.stack_name,
                tuple(environment.components),
                self.world.clock.now(),
                warn=warn,
                alert=alert,
                unfinished=self._unfinished(),
            )

    def export(
        self,
        name: str,
        directory: Path,
        *,
        forms: ArchiveForms,
        key: Secret | None = None,
        upload: str | None = None,
    ) -> ExportSummary:
        """Write a backup as a portable archive with its report; put it to `upload` (s3://) too."""
        from sheetanchor.operations import publish

        with self.opened() as (environment, catalog):
            request = publish.PublishRequest(name, directory, forms, key, upload, self.world.environment)
            return publish.execute(environment, catalog, request)

    def import_archive(self, place: str, *, key: Secret | None, trust: bool = False) -> ImportSummary:
        """Take an archive (a path, or an s3:// address) into the repository."""
        from sheetanchor.operations import fetch

        with self.opened() as (environment, catalog):
            request = fetch.FetchRequest(place, key, trust, self.work_directory, self.world.environment)
            return fetch.execute(environment, catalog, request)

    def backup_of(self, name: str, *, key: Callable[[], Secret | None], trust: bool) -> str:
        """Return the backup that `name` means: itself, or that of an archive, imported first."""
        from sheetanchor.operations import fetch

        if not fetch.names_an_archive(name):
            return name
        return self.import_archive(name, key=key(), trust=trust).backup

    def check(self, *, read_data: bool | float = False) -> CheckSummary:
        """Check the whole repository, whoever wrote what is in it."""
        with self.repository() as repository:
            return care.check(repository, self.world.clock, self.world.listener, read_data=read_data)

    def unlock(self, *, everything: bool = False) -> int:
        """Remove locks that nobody holds any more, or all; return how many."""
        with self.repository() as repository:
            return repository.unlock(everything=everything)

    @contextmanager
    def planned_forget(
        self, rules: Rules
    ) -> Iterator[tuple[forget.ForgetPlan, Callable[[float], forget.ForgetSummary]]]:
        """Judge all backups; yield the plan and what carries it out after waiting so many seconds."""
        unfinished = self._unfinished()
        protected: dict[str, str] = {}
        if unfinished is not None:
            needed = {unfinished.request.backup, unfinished.safety_backup or ""}
            protected = dict.fromkeys(needed, "needed by a restore that is not finished")
        with self.repository() as repository:
            planned = forget.plan(repository, self.stack_name, rules, self.world.clock.now(), protected)
            yield (
                planned,
                lambda wait_s: forget.execute(
                    repository, self.world.clock, planned, rules, protected, wait_s=wait_s
                ),
            )

    def keep(self, name: str, *, keep: bool, wait_s: float = 0.0) -> forget.KeepSummary:
        """Mark a backup so that `forget` never removes it, or take the mark away."""
        with self.repository() as repository:
            return forget.mark(repository, self.stack_name, name, keep=keep, wait_s=wait_s)

    def prune(
        self,
        request: prune.PruneRequest,
        on_plan: Callable[[prune.PruneFigures], None],
        *,
        limit: int | None = None,
    ) -> prune.PruneSummary:
        """Free the space of what no backup needs; `limit` is in bytes a second, each way."""
        with self.repository(limit) as repository:
            return prune.execute(repository, self.world.clock, self.world.listener, request, on_plan)

    def rekey(self, url: str, password: Secret) -> RekeySummary:
        """Copy everything to a repository with another master key at `url`, made there if need be."""
        place = self.config.repository.model_copy(update={"url": url})
        refuse_repository_inside(self.config.model_copy(update={"repository": place}))
        with self.repository() as source, self._backend(place) as backend:
            options, clock = self.repository_options(), self.world.clock
            try:
                target = Repository.open(backend, password, options=options, clock=clock)
            except RepositoryNotFoundError:
                target = Repository.create(backend, password, options=options, clock=clock)
            return rekey.execute(source, target, clock)

    def keys(self) -> list[KeyInfo]:
        """Return all keys of the repository."""
        with self.repository() as repository:
            return care.keys(repository)

    def add_key(self, password: Secret) -> str:
        """Let one more password open the repository; return its key's id."""
        with self.repository() as repository:
            return repository.keyring.add(password).hex()

    def remove_key(self, prefix: str) -> str:
        """Shut a password out; return its key's id."""
        with self.repository() as repository:
            return repository.keyring.remove(prefix).hex()

    def change_password(self, password: Secret) -> str:
        """Replace the password in use; return the new key's id."""
        with self.repository() as repository:
            return repository.keyring.change(password).hex()

    def _unfinished(self) -> JournalState | None:
        return self.journals.unfinished()

    def _refuse_half_swapped(self) -> None:
        """A backup of a half restored stack would look like a good one: refuse it."""
        unfinished = self._unfinished()
        if unfinished is not None and unfinished.touched:
            restore.refuse_unfinished(self.journals)

    def _environment(self, repository: Repository) -> Environment:
        components = self.components()
        services = {one.name: Service(one.stop, one.start) for one in self.config.components}
        return Environment(
            stack_name=self.stack_name,
            repository=repository,
            components=components,
            stack=LocalStack(components, services, self.world.processes),
            hooks={one.name: Hooks(one.pre, one.post) for one in self.config.components},
            processes=self.world.processes,
            clock=self.world.clock,
            listener=self.world.listener,
            state_directory=self.state_directory,
        )
