"""Decides what a restore will do, without touching anything; the plan can be printed."""

from __future__ import annotations

from dataclasses import dataclass

from sheetanchor.components.base import Component, Proof, StageEstimate, proof_from_json
from sheetanchor.errors import PlanRefusedError
from sheetanchor.operations.catalog import BackupRecord, Catalog
from sheetanchor.operations.environment import Environment, Selection
from sheetanchor.operations.journal import RestoreRequest
from sheetanchor.operations.manifest import Manifest, ManifestComponent
from sheetanchor.operations.results import ComponentPlan, RestorePlan
from sheetanchor.operations.store import RepositorySource

ORDER = ("postgres", "redis", "volume", "configs", "rabbitmq", "bucket")
"""R25: the databases first, what can be rebuilt last."""


@dataclass(frozen=True)
class Target:
    """One component of the restore with what it is restored from."""

    component: Component
    entry: ManifestComponent
    source: RepositorySource
    proof: Proof
    estimate: StageEstimate


@dataclass(frozen=True)
class PreparedRestore:
    """A plan together with everything that carrying it out needs."""

    plan: RestorePlan
    request: RestoreRequest
    targets: tuple[Target, ...]
    record: BackupRecord


@dataclass(frozen=True)
class Options:
    """How a restore is to be done."""

    include: tuple[str, ...] = ()
    in_place: bool = False
    safety_backup: bool = True
    into: str | None = None
    trust_unproven: bool = False


def choose(
    environment: Environment, catalog: Catalog, name: str, selection: Selection
) -> tuple[BackupRecord, Manifest, tuple[str, ...]]:
    """Find the backup that `name` means for the chosen components, and those components.

    Raises UnknownBackupError, UsageError, or PlanRefusedError for what the backup lacks.
    """
    kinds = {name: component.kind for name, component in environment.components.items()}
    record = catalog.find(name, components=selection.apply(kinds))
    manifest = catalog.manifest(record)
    held = {entry.name: entry.type for entry in manifest.saved()}
    chosen = selection.apply(kinds)
    if not selection.only:
        _refuse_partial(record, manifest, chosen)
        chosen = tuple(component for component in chosen if component in held)
    missing = [component for component in chosen if component not in held]
    if missing or not chosen:
        raise PlanRefusedError(
            f"{record.name} holds no {', '.join(missing) or 'component of this stack'}",
            hint=f"it holds: {', '.join(held) or 'nothing'}",
        )
    for component in chosen:
        if kinds[component] != held[component]:
            raise PlanRefusedError(
                f"{component} is of type {kinds[component]} here and {held[component]} in {record.name}"
            )
    return record, manifest, tuple(sorted(chosen, key=lambda one: ORDER.index(kinds[one])))


def plan(
    environment: Environment,
    catalog: Catalog,
    name: str,
    selection: Selection,
    options: Options,
    token: str,
    *,
    resumed: bool = False,
) -> PreparedRestore:
    """Plan a restore of `name`. Raises PlanRefusedError with every reason that stands against it.

    A `resumed` one was let start before, and may have swapped some of what is live: it is not
    estimated again.
    """
    record, manifest, chosen = choose(environment, catalog, name, selection)
    _refuse_foreign(environment, manifest, options)
    targets = tuple(
        _target(environment, catalog, record, manifest, component, options, resumed=resumed)
        for component in chosen
    )
    _refuse_by_estimates(record, targets)
    request = RestoreRequest(
        backup=record.name,
        components=chosen,
        include=options.include,
        in_place=options.in_place,
        safety_backup=options.safety_backup,
    )
    return PreparedRestore(
        plan=_describe(manifest, token, targets, options),
        request=request,
        targets=targets,
        record=record,
    )


def _target(
    environment: Environment,
    catalog: Catalog,
    record: BackupRecord,
    manifest: Manifest,
    name: str,
    options: Options,
    *,
    resumed: bool,
) -> Target:
    component = environment.components[name]
    entry = manifest.component(name)
    assert entry is not None
    if options.include and not component.capabilities.selects_files:
        raise PlanRefusedError(
            f"--include selects files; {name} is of type {component.kind}",
            hint="add --only with the volumes it is meant for",
        )
    if not options.in_place and not component.capabilities.stages_beside:
        raise PlanRefusedError(f"{name} can only be restored in place", hint="add --in-place")
    source = RepositorySource(catalog.reader, record.components[name].snapshot.tree, entry.root)
    proof = proof_from_json(component.proof_model, entry.proof or {})
    estimate = StageEstimate(needed_bytes=0, free_bytes=None)
    if not resumed:
        estimate = component.estimate(source, proof, in_place=options.in_place)
    return Target(component, entry, source, proof, estimate)


def _describe(manifest: Manifest, token: str, targets: tuple[Target, ...], options: Options) -> RestorePlan:
    warnings = [warning for target in targets for warning in target.entry.warnings]
    if not manifest.proven:
        warnings.append("unproven: the archive had no checksums of its own")
    return RestorePlan(
        backup=manifest.backup,
        stack=manifest.stack,
        token=token,
        taken_at=manifest.started_at,
        components=tuple(_component_plan(target) for target in targets),
        steps=steps([target.component.name for target in targets], options),
        in_place=options.in_place,
        safety_backup=options.safety_backup,
        include=options.include,
        warnings=tuple(warnings),
    )


def _component_plan(target: Target) -> ComponentPlan:
    return ComponentPlan(
        name=target.component.name,
        type=target.component.kind,
        contents=target.proof.summary(),
        needed_bytes=target.estimate.needed_bytes,
        free_bytes=target.estimate.free_bytes,
        interrupts_service=target.component.capabilities.interrupts_service,
        notes=target.estimate.all_notes,
    )


def steps(names: list[str], options: Options) -> tuple[str, ...]:
    """Return the steps of a restore in their order, as the journal calls them."""
    begin = ["check", *(["safety"] if options.safety_backup else [])]
    phases = ("stage", "verify", "stop", "swap", "start", "health", "discard")
    if options.in_place:
        phases = ("stop", "stage", "verify", "swap", "start", "health", "discard")
    return (*begin, *(f"{phase}:{name}" for phase in phases for name in names))


def _refuse_partial(record: BackupRecord, manifest: Manifest, chosen: tuple[str, ...]) -> None:
    failed = [
        entry.name for entry in manifest.components if entry.status == "failed" and entry.name in chosen
    ]
    if failed:
        raise PlanRefusedError(
            f"{record.name} is partial: {', '.join(failed)} could not be saved",
            hint="choose a complete backup, or name what you want with --only",
        )


def _refuse_foreign(environment: Environment, manifest: Manifest, options: Options) -> None:
    if manifest.stack != environment.stack_name and options.into != environment.stack_name:
        raise PlanRefusedError(
            f"{manifest.backup} is of stack {manifest.stack!r}, this configuration is of"
            f" {environment.stack_name!r}",
            hint=f"if that is what you want, add --into {environment.stack_name}",
        )
    if options.into is not None and options.into != environment.stack_name:
        raise PlanRefusedError(
            f"--into {options.into}: this configuration is of stack {environment.stack_name!r}",
            hint="restore with the configuration of the stack that is to receive the data",
        )
    if not manifest.proven and not options.trust_unproven:
        raise PlanRefusedError(
            f"{manifest.backup} is unproven: its archive had no manifest, checksums or HMAC",
            hint="if you know where it comes from, add --trust-archive",
        )


def _refuse_by_estimates(record: BackupRecord, targets: tuple[Target, ...]) -> None:
    reasons = [
        f"{target.component.name}: {reason}" for target in targets for reason in target.estimate.refusals
    ]
    if reasons:
        raise PlanRefusedError(
            f"{record.name} cannot be restored: {'; '.join(reasons)}", hint="nothing was touched"
        )
