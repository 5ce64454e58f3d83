"""SIGKILL in the middle of every step on files: what is live is the old or the new state, whole."""

from __future__ import annotations

import random
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from sheetanchor.components.base import Staged
from sheetanchor.errors import ComponentError
from support.component_cases import CaseFactory, ComponentCase
from support.configs_cases import configs_case
from support.directory_store import DirectorySink, DirectorySource
from support.killing import count_lines, killed_after
from support.volume_cases import excluding_volume_case, mounted_volume_case, volume_case

CASES: dict[str, CaseFactory] = {
    "volume": volume_case,
    "mounted volume": mounted_volume_case,
    "volume with exclusions": excluding_volume_case,
    "configs": configs_case,
}
TOKEN = "20240102T030405"
CODE = "/sheetanchor/components/"
SAMPLE = 8
"""Moments of one step that `./dev test` tries; `./dev torture` tries every line of it."""
EVERY = pytest.mark.parametrize(
    "every",
    [pytest.param(False, id="sample"), pytest.param(True, id="every line", marks=pytest.mark.torture)],
)


class Run:
    """One restore of one case, in a directory of its own."""

    def __init__(self, case: ComponentCase, directory: Path, *, in_place: bool = False) -> None:
        self.case = case
        self.old: object = None
        self.new: object = None
        self._directory = directory
        self._in_place = in_place
        component = case.component()
        self.new = case.describe()
        self.proof = component.capture(DirectorySink(directory / "store"))
        self.source = DirectorySource(directory / "store")
        case.change()
        self.old = case.describe()

    def stage(self) -> Staged:
        """Stage in this process."""
        return self.case.component().stage(self.source, self.proof, TOKEN, in_place=self._in_place)

    def resume(self) -> Staged:
        """Find it again, as a new process does."""
        return self.case.component().resume(TOKEN, self.source)

    def finish(self, expected: object, seen: Callable[[object], object] | None = None) -> None:
        """Clear away and compare what is seen of both states."""
        seen = seen or _all_of_it
        self.resume().discard()
        assert seen(self.case.describe()) == seen(expected)
        assert self.case.leftovers() == []


def _moments(total: int, every: bool) -> list[int]:
    if every:
        return list(range(total))
    return sorted(random.Random(total).sample(range(total), min(SAMPLE, total)))


def _campaign(
    factory: CaseFactory,
    directory: Path,
    every: bool,
    prepare: Callable[[Run], None],
    step: Callable[[Run], object],
    after: Callable[[Run, int], None],
    *,
    in_place: bool = False,
) -> None:
    """Count the lines of `step`, then kill it at each moment in a fresh run and judge the rest."""

    def fresh(name: str, body: Callable[[Run], None]) -> None:
        place = directory / name
        place.mkdir()
        with factory(place) as case:
            run = Run(case, place, in_place=in_place)
            prepare(run)
            body(run)
        shutil.rmtree(place)

    totals: list[int] = []
    fresh("count", lambda run: totals.append(count_lines(lambda: step(run), within=CODE)))
    assert totals[0] > 20, "the step does next to nothing"

    def kill(run: Run, moment: int) -> None:
        assert killed_after(moment, lambda: step(run), within=CODE), "it ended before it was killed"
        after(run, moment)

    for moment in _moments(totals[0], every):
        fresh(str(moment), lambda run, moment=moment: kill(run, moment))  # type: ignore[misc]


def _all_of_it(found: object) -> object:
    return found


def _without_root_time(found: object) -> object:
    assert isinstance(found, list)
    (entry, *rest), *below = found
    return [(replace(entry, mtime_ns=0), *rest), *below]


def _forward_or_back(run: Run, moment: int) -> None:
    """Half of the killed runs go on, half are taken back; nothing in between is left."""
    if moment % 2:
        run.resume().swap()
        assert run.case.describe() == run.new
        run.finish(run.new)
    else:
        run.resume().undo()
        assert run.case.describe() == run.old
        run.finish(run.old)


@pytest.mark.slow
@EVERY
@pytest.mark.parametrize("name", CASES)
def test_kill_in_the_middle_of_a_swap(name: str, tmp_path: Path, every: bool) -> None:
    """A swap cut off anywhere is completed by resume and swap, or taken back whole by undo."""
    _campaign(
        CASES[name],
        tmp_path,
        every,
        lambda run: run.stage() and None,
        lambda run: run.resume().swap(),
        _forward_or_back,
    )


@pytest.mark.slow
@EVERY
@pytest.mark.parametrize("name", CASES)
def test_kill_in_the_middle_of_an_undo(name: str, tmp_path: Path, every: bool) -> None:
    """An undo cut off anywhere is completed, or turned round by another swap."""
    _campaign(
        CASES[name],
        tmp_path,
        every,
        lambda run: run.stage().swap(),
        lambda run: run.resume().undo(),
        _forward_or_back,
    )


@pytest.mark.slow
@EVERY
@pytest.mark.parametrize("name", CASES)
def test_kill_in_the_middle_of_staging(name: str, tmp_path: Path, every: bool) -> None:
    """A stage cut off anywhere leaves the live state alone; it is redone, or given up without a trace.

    One thing is given up, as at the other end: a mount point's own mtime, when the kill falls
    between the making of the work folder inside it and the call that sets the time back.
    """
    seen = _without_root_time if name == "mounted volume" else _all_of_it

    def again(run: Run, moment: int) -> None:
        assert seen(run.case.describe()) == seen(run.old)
        if moment % 2:
            run.stage().verify(run.proof)
            run.resume().swap()
            run.finish(run.new)
        else:
            run.finish(run.old, seen)

    _campaign(
        CASES[name],
        tmp_path,
        every,
        lambda run: None,
        lambda run: run.stage(),
        again,
    )


@pytest.mark.slow
@EVERY
@pytest.mark.parametrize("name", CASES)
def test_kill_in_the_middle_of_discarding(name: str, tmp_path: Path, every: bool) -> None:
    """A discard cut off anywhere is completed by another; an undo is refused, never half done.

    One thing is given up: a mount point's own mtime, when the kill falls between the removal of
    the work folder inside it and the call that sets the time.
    """
    seen = _without_root_time if name == "mounted volume" else _all_of_it

    def again(run: Run, moment: int) -> None:
        assert seen(run.case.describe()) == seen(run.new)
        if moment % 2:
            try:
                run.resume().undo()
            except ComponentError:
                assert seen(run.case.describe()) == seen(run.new)
            else:
                assert run.case.describe() == run.old
                run.resume().swap()
        run.finish(run.new, seen)

    _campaign(
        CASES[name],
        tmp_path,
        every,
        lambda run: run.stage().swap(),
        lambda run: run.resume().discard(),
        again,
    )


@pytest.mark.slow
@EVERY
@pytest.mark.parametrize("name", ["volume", "mounted volume"])
def test_kill_in_the_middle_of_a_restore_in_place(name: str, tmp_path: Path, every: bool) -> None:
    """In place there is no way back but the backup: going on always ends in the whole new state."""

    def again(run: Run, _moment: int) -> None:
        run.resume().swap()
        assert run.case.describe() == run.new
        run.finish(run.new)

    _campaign(
        CASES[name],
        tmp_path,
        every,
        lambda run: run.stage() and None,
        lambda run: run.resume().swap(),
        again,
        in_place=True,
    )
