"""The contract of the component seam: every component passes the same suite, on its real thing."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest

from sheetanchor.components.base import Proof, Source, Staged, TreeRestored, proof_from_json
from sheetanchor.errors import ComponentError, ProofMismatchError
from support.component_cases import CaseFactory, ComponentCase
from support.configs_cases import configs_case
from support.directory_store import DirectorySink, DirectorySource
from support.postgres_cases import postgres_case
from support.redis_cases import redis_case, valkey_case
from support.volume_cases import mounted_volume_case, volume_case

CASES: dict[str, CaseFactory] = {
    "volume": volume_case,
    "mounted volume": mounted_volume_case,
    "configs": configs_case,
    "postgres": postgres_case,
    "redis": redis_case,
    "valkey": valkey_case,
}
SERVERS = ("postgres", "redis", "valkey")
TOKEN = "20240102T030405"


@dataclass
class Saved:
    """A live thing that was captured, then changed, with what it looked like at both times."""

    case: ComponentCase
    source: DirectorySource
    proof: Proof
    before: object
    changed: object

    def stage(self) -> Staged:
        """Stage the backup through a new component object."""
        return self.case.component().stage(self.source, self.proof, TOKEN)

    def resume(self) -> Staged:
        """Find the staged state again, as a process does that was started after a crash."""
        return self.case.component().resume(TOKEN, self.source)


@pytest.fixture(
    params=[pytest.param(name, marks=pytest.mark.slow if name in SERVERS else ()) for name in CASES]
)
def saved(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Saved]:
    """Capture a live thing and change it after that."""
    with CASES[request.param](tmp_path) as case:
        before = case.describe()
        component = case.component()
        store = tmp_path / "store"
        captured = component.capture(DirectorySink(store))
        proof = proof_from_json(component.proof_model, captured.model_dump(mode="json"))
        assert case.describe() == before, "a capture must not change what it captures"
        case.change()
        changed = case.describe()
        assert changed != before
        yield Saved(case, DirectorySource(store), proof, before, changed)


def test_restore_brings_back_what_was_captured(saved: Saved) -> None:
    """Stage touches nothing live; swap makes it equal the capture; discard leaves nothing behind."""
    staged = saved.stage()
    assert saved.case.describe() == saved.changed
    assert all(staged.verify(saved.proof)), "verify says what it compared"
    staged.swap()
    assert saved.case.describe() == saved.before
    staged.discard()
    assert saved.case.describe() == saved.before
    assert saved.case.leftovers() == []
    assert all(saved.case.component().check()), "check reaches what was restored"


def test_undo_brings_back_the_state_before_the_restore(saved: Saved) -> None:
    """After swap and undo the live thing is what it was, every change since the capture included."""
    staged = saved.stage()
    staged.verify(saved.proof)
    staged.swap()
    staged.undo()
    assert saved.case.describe() == saved.changed
    staged.discard()
    assert saved.case.describe() == saved.changed
    assert saved.case.leftovers() == []


def test_every_step_can_be_run_twice(saved: Saved) -> None:
    """A step that is repeated, because nobody knows whether it ended, does no harm."""
    saved.stage()
    staged = saved.stage()
    assert staged.verify(saved.proof) == staged.verify(saved.proof)
    staged.undo()
    assert saved.case.describe() == saved.changed
    staged.swap()
    staged.swap()
    assert saved.case.describe() == saved.before
    staged.undo()
    staged.undo()
    assert saved.case.describe() == saved.changed
    staged.swap()
    assert saved.case.describe() == saved.before
    staged.discard()
    staged.discard()
    assert saved.case.describe() == saved.before
    assert saved.case.leftovers() == []


def test_every_step_can_be_done_by_a_new_process(saved: Saved) -> None:
    """`resume` finds the staged state at whatever step the run was cut off."""
    saved.stage()
    saved.resume().verify(saved.proof)
    saved.resume().swap()
    assert saved.case.describe() == saved.before
    saved.resume().swap()
    saved.resume().undo()
    assert saved.case.describe() == saved.changed
    saved.resume().undo()
    saved.resume().swap()
    assert saved.case.describe() == saved.before
    saved.resume().discard()
    saved.resume().discard()
    assert saved.case.describe() == saved.before
    assert saved.case.leftovers() == []


def test_discard_without_swap_leaves_the_live_state(saved: Saved) -> None:
    """A restore that is given up before the swap leaves no trace."""
    saved.stage().discard()
    assert saved.case.describe() == saved.changed
    assert saved.case.leftovers() == []


def test_verify_refuses_a_spoilt_stage(saved: Saved) -> None:
    """A staged state that was changed by anything is not taken for what was saved."""
    staged = saved.stage()
    staged.verify(saved.proof)
    saved.case.tamper(TOKEN)
    with pytest.raises(ProofMismatchError):
        staged.verify(saved.proof)
    with pytest.raises(ProofMismatchError):
        saved.resume().verify(saved.proof)
    saved.stage().verify(saved.proof)


class BreakingSource(DirectorySource):
    """A source whose storage fails after it has delivered a part."""

    def __init__(self, directory: Path, working: DirectorySource) -> None:
        super().__init__(directory)
        self._working = working

    def restore_tree(self, path: str, directory: Path, *, include: Sequence[str] = ()) -> TreeRestored:
        """Restore everything, then fail as if something were missing."""
        self._working.restore_tree(path, directory, include=include)
        raise ComponentError("the storage went away")

    def open(self, path: str | bytes) -> Iterator[object]:  # type: ignore[override]
        """Fail: streams break at once."""
        raise ComponentError("the storage went away")


def test_stage_that_failed_half_way_is_redone(saved: Saved) -> None:
    """After a failed stage the live state is untouched, and a second stage is as good as the first."""
    broken: Source = BreakingSource(saved.source.directory, saved.source)
    with pytest.raises(ComponentError, match="the storage went away"):
        saved.case.component().stage(broken, saved.proof, TOKEN)
    assert saved.case.describe() == saved.changed
    with pytest.raises(ComponentError):
        saved.resume().swap()
    assert saved.case.describe() == saved.changed
    staged = saved.stage()
    staged.verify(saved.proof)
    staged.swap()
    staged.discard()
    assert saved.case.describe() == saved.before
    assert saved.case.leftovers() == []


def test_failed_stage_can_be_given_up(saved: Saved) -> None:
    """Undo and discard after a failed stage leave the live state and no trace."""
    broken: Source = BreakingSource(saved.source.directory, saved.source)
    with pytest.raises(ComponentError):
        saved.case.component().stage(broken, saved.proof, TOKEN)
    saved.resume().discard()
    assert saved.case.describe() == saved.changed
    assert saved.case.leftovers() == []


def test_estimate_touches_nothing(saved: Saved) -> None:
    """The plan is made from facts, and making it changes nothing."""
    component = saved.case.component()
    estimate = component.estimate(saved.source, saved.proof, in_place=False)
    assert estimate.refusals == ()
    assert estimate.needed_bytes >= 0
    assert saved.proof.summary()
    assert saved.case.describe() == saved.changed
    assert saved.case.leftovers() == []
