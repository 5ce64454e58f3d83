"""A restore: check, save the present state, stage beside it, verify, swap, check health, discard.

Nothing live is replaced before everything that replaces it stands proven beside it. Every step
is journalled before and after, so a crash at any point is answered by `--resume` or `rollback`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial

from sheetanchor.components.base import Staged
from sheetanchor.errors import (
    ComponentError,
    InterruptedByUserError,
    OldStateKeptError,
    PlanRefusedError,
    ReadOnlyBackendError,
    SheetanchorError,
)
from sheetanchor.operations import backup
from sheetanchor.operations.catalog import Catalog
from sheetanchor.operations.environment import Environment, Selection
from sheetanchor.operations.journal import Journal, JournalStore
from sheetanchor.operations.naming import SAFETY_TIER
from sheetanchor.operations.restore_plan import PreparedRestore, Target
from sheetanchor.operations.results import ComponentRestored, RestoreSummary
from sheetanchor.operations.run_lock import only_run
from sheetanchor.operations.verify import verify_tree

HEALTH_ATTEMPTS = 30
"""One a second: a restarted database may need that long to accept connections."""


CLEAR_UP = "the restored data is live; `sheetanchor restore --resume` finishes clearing up"


class RestoreRun:
    """One restore on its way; also used to go on with one after a crash."""

    def __init__(
        self, environment: Environment, catalog: Catalog, prepared: PreparedRestore, journal: Journal
    ) -> None:
        self._environment = environment
        self._catalog = catalog
        self._prepared = prepared
        self._journal = journal
        self._staged: dict[str, Staged] = {}
        self._compared: dict[str, tuple[str, ...]] = {}
        self._durations: dict[str, float] = {}
        self._token = prepared.plan.token

    def execute(self) -> RestoreSummary:
        """Carry out all steps that are not done yet.

        A failure before the first swap leaves the live data untouched and removes what was
        staged; a failure after it puts the old state back. Either way the error is raised.
        """
        begin = self._environment.clock.monotonic()
        for step in self._prepared.plan.steps:
            if self._journal.is_done(step):
                continue
            try:
                with self._journal.step(step):
                    self._perform(step)
            except SheetanchorError as error:
                if step.startswith("discard:"):
                    raise _kept(error) from error
                note = self._take_back(step)
                error.hint = f"{error.hint}; {note}" if error.hint else note
                raise
            except KeyboardInterrupt as error:
                raise InterruptedByUserError("interrupted", hint=self._take_back(step)) from error
        self._journal.end("restored")
        return RestoreSummary(
            backup=self._prepared.plan.backup,
            status="restored",
            duration_s=self._environment.clock.monotonic() - begin,
            safety_backup=self._journal.state.safety_backup,
            components=tuple(self._result(target) for target in self._prepared.targets),
            warnings=(*self._prepared.plan.warnings, *self._notes()),
        )

    def _perform(self, step: str) -> None:
        phase, _, name = step.partition(":")
        if not name:
            {"check": self._check, "safety": self._save_present}[phase]()
            return
        target = next(one for one in self._prepared.targets if one.component.name == name)
        actions: dict[str, Callable[[Target], None]] = {
            "stage": self._stage,
            "verify": self._verify,
            "stop": self._stop,
            "swap": lambda one: self._of(one).swap(),
            "start": lambda one: self._environment.stack.start(one.component.name),
            "health": self._health,
            "discard": lambda one: self._of(one).discard(),
        }
        begin = self._environment.clock.monotonic()
        task = f"{phase} {name}"
        with self._shown(task, self._expected_bytes(phase, target)):
            target.source.progress = partial(self._environment.listener.advanced, task)
            actions[phase](target)
        spent = self._environment.clock.monotonic() - begin
        self._durations[name] = self._durations.get(name, 0.0) + spent

    def _check(self) -> None:
        """Prove the backup whole; with `in_place` every byte is read, since nothing stands beside."""
        reader = self._catalog.reader
        for target in self._prepared.targets:
            with self._shown(f"check {target.component.name}"):
                tree = self._prepared.record.components[target.component.name].snapshot.tree
                checked = verify_tree(reader, tree, read_data=self._prepared.plan.in_place, listener=None)
                if checked.errors:
                    raise ComponentError(
                        f"{self._prepared.plan.backup} is damaged: {checked.errors[0]}",
                        hint="nothing was touched; `sheetanchor verify --read-data` shows all of it",
                    )

    def _save_present(self) -> None:
        names = tuple(target.component.name for target in self._prepared.targets)
        planned = backup.plan(
            self._environment,
            self._catalog,
            Selection(only=names),
            tier=SAFETY_TIER,
            lenient=True,
            origin=self._token,
        )
        with self._environment.repository.lock():
            done = backup.execute_locked(self._environment, self._catalog, planned)
        failed = [entry for entry in done.components if entry.status == "failed"]
        if failed:
            raise ComponentError(
                f"the present state of {failed[0].name} cannot be saved: {failed[0].error}",
                hint="nothing was touched; to restore without a way back, add --no-safety-backup",
            )
        self._journal.safety(done.backup)

    def _stage(self, target: Target) -> None:
        request = self._prepared.request
        self._staged[target.component.name] = target.component.stage(
            target.source,
            target.proof,
            self._token,
            include=request.include,
            in_place=request.in_place,
        )

    def _verify(self, target: Target) -> None:
        self._compared[target.component.name] = self._of(target).verify(target.proof)

    def _stop(self, target: Target) -> None:
        if target.component.capabilities.swaps_stopped:
            self._environment.stack.stop(target.component.name)

    def _health(self, target: Target) -> None:
        """Wait until the component answers; its last error is the reason if it never does."""
        for attempt in range(HEALTH_ATTEMPTS):
            try:
                target.component.check()
                return
            except ComponentError:
                if attempt == HEALTH_ATTEMPTS - 1:
                    raise
                self._environment.clock.sleep(1.0)

    def _of(self, target: Target) -> Staged:
        name = target.component.name
        if name not in self._staged:
            self._staged[name] = target.component.resume(self._token, target.source)
        return self._staged[name]

    def _take_back(self, step: str) -> str:
        """Undo what was done; return what that means for the live data, for the hint."""
        if step.startswith("discard:"):
            return CLEAR_UP
        steps = [*self._journal.state.done, step]
        if self._prepared.plan.in_place and any(one.startswith("stage:") for one in steps):
            return "live data was being replaced in place: `sheetanchor rollback` brings it back"
        take_back(self._environment, self._prepared.request.components, self._journal, self._staged)
        self._journal.end("undone")
        return "the live data is as it was before"

    def _notes(self) -> list[str]:
        """Return what the plan said of each component and still holds after the restore."""
        targets = self._prepared.targets
        return [f"{target.component.name}: {note}" for target in targets for note in target.estimate.remains]

    def _result(self, target: Target) -> ComponentRestored:
        name = target.component.name
        return ComponentRestored(
            name=name,
            type=target.component.kind,
            status="restored",
            compared=self._compared.get(name, ()),
            duration_s=self._durations.get(name, 0.0),
        )

    def _expected_bytes(self, phase: str, target: Target) -> int | None:
        """Return how much a phase will move, where it moves all of a component's files."""
        whole = target.component.capabilities.selects_files and not self._prepared.request.include
        return target.entry.bytes_read or None if whole and phase in {"stage", "verify"} else None

    @contextmanager
    def _shown(self, task: str, total_bytes: int | None = None) -> Iterator[None]:
        self._environment.listener.started(task, total_bytes)
        try:
            yield
        finally:
            self._environment.listener.finished(task)


def _kept(error: SheetanchorError) -> OldStateKeptError:
    return OldStateKeptError(
        f"the restore is done, the old state is still there: {error.message}",
        hint=f"{error.hint}; {CLEAR_UP}" if error.hint else CLEAR_UP,
    )


def take_back(
    environment: Environment,
    components: tuple[str, ...],
    journal: Journal,
    staged: dict[str, Staged],
) -> None:
    """Undo what a restore did so far, last step first, and remove what it staged."""
    steps = list(journal.state.started)
    for name in reversed(components):
        if f"stage:{name}" not in steps or journal.is_done(f"clear:{name}"):
            continue
        handle = staged.get(name) or environment.components[name].resume(journal.state.token)
        if f"swap:{name}" in steps and not journal.is_done(f"undo:{name}"):
            with journal.step(f"undo:{name}"):
                handle.undo()
        with journal.step(f"clear:{name}"):
            handle.discard()
    for name in components:
        if f"stop:{name}" in steps:
            environment.stack.start(name)


def execute(
    environment: Environment, catalog: Catalog, prepared: PreparedRestore, journals: JournalStore
) -> RestoreSummary:
    """Carry out a planned restore under the stack's run lock and a shared repository lock.

    Raises PlanRefusedError while an earlier restore is unfinished.
    """
    with only_run(environment, f"restore of {prepared.plan.backup}"):
        refuse_unfinished(journals)
        journal = journals.begin(prepared.plan.token, prepared.request)
        with reading_lock(environment):
            return RestoreRun(environment, catalog, prepared, journal).execute()


def refuse_unfinished(journals: JournalStore) -> None:
    """Raise PlanRefusedError while a restore is neither finished nor undone."""
    unfinished = journals.unfinished()
    if unfinished is not None:
        raise PlanRefusedError(
            f"a restore of {unfinished.request.backup} was interrupted at"
            f" {unfinished.begun or 'its beginning'}",
            hint="go on with `sheetanchor restore --resume`, or take it back with `sheetanchor rollback`",
        )


@contextmanager
def reading_lock(environment: Environment) -> Iterator[None]:
    """Hold a shared repository lock, or none where the repository is read-only."""
    lock = environment.repository.lock()
    try:
        lock.__enter__()
    except ReadOnlyBackendError:
        environment.listener.warning("restore", "the repository is read-only: no lock is held")
        yield
        return
    try:
        yield
    finally:
        lock.__exit__(None, None, None)
