"""Takes the last restore back, or goes on with one that a crash cut short."""

from __future__ import annotations

from dataclasses import replace

from sheetanchor.errors import PlanRefusedError
from sheetanchor.operations import restore, restore_plan
from sheetanchor.operations.catalog import Catalog
from sheetanchor.operations.environment import Environment, Selection
from sheetanchor.operations.journal import JournalState, JournalStore, new_token
from sheetanchor.operations.results import RestoreSummary
from sheetanchor.operations.run_lock import only_run


def resume(environment: Environment, catalog: Catalog, journals: JournalStore) -> RestoreSummary:
    """Go on with the restore that was interrupted, from the step where it stopped.

    Raises PlanRefusedError when there is none.
    """
    with only_run(environment, "restore --resume"):
        state = journals.unfinished()
        if state is None:
            raise PlanRefusedError("there is no interrupted restore to go on with")
        prepared = _prepare_again(environment, catalog, state)
        with restore.reading_lock(environment):
            journal = journals.reopen(state)
            return restore.RestoreRun(environment, catalog, prepared, journal).execute()


def rollback(environment: Environment, catalog: Catalog, journals: JournalStore) -> RestoreSummary:
    """Undo an interrupted restore, or bring back the safety backup of the last finished one.

    Raises PlanRefusedError when there is nothing to take back.
    """
    state = journals.unfinished()
    if state is not None and state.clearing_up:
        # The restored data is live and the old is partly gone: only forward from here.
        resume(environment, catalog, journals)
        state = None
    if state is not None and not state.request.in_place:
        return _undo(environment, state, journals)
    state = state or journals.last_finished()
    if state is None:
        raise PlanRefusedError("there is no restore to take back")
    if state.safety_backup is None:
        if state.outcome is None:
            journals.reopen(state).end("abandoned")
        raise PlanRefusedError(
            f"the restore of {state.request.backup} made no safety backup",
            hint="`sheetanchor list` shows what else there is to restore",
        )
    return _restore_safety(environment, catalog, state, journals)


def _prepare_again(
    environment: Environment, catalog: Catalog, state: JournalState
) -> restore_plan.PreparedRestore:
    request = state.request
    options = restore_plan.Options(
        include=request.include,
        in_place=request.in_place,
        safety_backup=request.safety_backup,
        into=environment.stack_name,
        trust_unproven=True,
    )
    selection = Selection(only=request.components)
    return restore_plan.plan(
        environment, catalog, request.backup, selection, options, state.token, resumed=True
    )


def _undo(environment: Environment, state: JournalState, journals: JournalStore) -> RestoreSummary:
    with only_run(environment, "rollback"):
        begin = environment.clock.monotonic()
        journal = journals.reopen(state)
        restore.take_back(environment, state.request.components, journal, {})
        journal.end("undone")
        return RestoreSummary(
            backup=state.request.backup,
            status="undone",
            duration_s=environment.clock.monotonic() - begin,
            safety_backup=state.safety_backup,
            components=(),
        )


def _restore_safety(
    environment: Environment, catalog: Catalog, state: JournalState, journals: JournalStore
) -> RestoreSummary:
    assert state.safety_backup is not None
    record = catalog.find(state.safety_backup)
    held = catalog.manifest(record).saved()
    names = tuple(entry.name for entry in held if entry.name in state.request.components)
    if not names:
        raise PlanRefusedError(
            f"{record.name} is empty: there was nothing before the restore of {state.request.backup}"
        )
    if state.outcome is None:
        journals.reopen(state).end("abandoned")
    prepared = restore_plan.plan(
        environment,
        catalog,
        record.name,
        Selection(only=names),
        restore_plan.Options(in_place=state.request.in_place, into=environment.stack_name),
        new_token(environment.clock.now()),
    )
    request = prepared.request.model_copy(update={"rolls_back": state.token})
    prepared = replace(prepared, request=request)
    done = restore.execute(environment, catalog, prepared, journals)
    return done.model_copy(update={"status": "rolled_back"})
