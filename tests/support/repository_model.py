"""A repository under random operations, with what it must hold kept beside it."""

from __future__ import annotations

import os
import random
import shutil
import signal
import traceback
import warnings
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from sheetanchor.clock import SystemClock
from sheetanchor.errors import PassingBackendError, SheetanchorError
from sheetanchor.repository.backend.local import LocalBackend
from sheetanchor.repository.ids import Id, parse_id
from sheetanchor.repository.options import Options
from sheetanchor.repository.repository import Repository
from sheetanchor.secret import Secret
from support import nasty_tree
from support.changing_tree import ChangingTree
from support.faulty import Fault, FaultyBackend
from support.repositories import PASSWORD, back_up, create, restic

ROOT = "/volumes/data"
MOST_SNAPSHOTS = 6
_LAST_CALL = 6
"""Work is cut off at one of its first so many calls of a kind; the work of a small tree has fewer."""
_NEVER_AGAIN = 1 << 30
Described = dict[bytes, tuple[object, ...]]
Work = Callable[[Repository], object]


class _Hasty(SystemClock):
    """Waits a tenth as long: nobody else wants the locks, whose waiting takes most of the time."""

    def sleep(self, seconds: float) -> None:
        """Wait a tenth."""
        super().sleep(seconds / 10)


class RepositoryModel:
    """One repository in a directory.

    All choices come from one seed. Keys, nonces and the turns of threads do not, so a seed repeats
    the operations, and nearly always the call at which each is cut off.
    """

    def __init__(self, directory: Path, seed: int) -> None:
        self._chance = random.Random(seed)
        self._place = directory / "repository"
        self._restored = directory / "restored"
        self._tree = ChangingTree(directory / "source", self._chance)
        create(self._place)
        self._aside = random.Random(seed)
        self._repository = self._open()
        self._kept: dict[Id, Described] = {}
        self._newest_tree: Id | None = None
        self.counts: Counter[str] = Counter()

    def step(self) -> None:
        """Do one random operation, then restore every snapshot that has to be there and compare."""
        operations = (
            self._back_up,
            self._forget,
            self._prune,
            self._repair_index,
            self._reopen,
            self._verify,
        )
        chosen = self._chance.choices(operations, weights=(8, 4, 4, 2, 2, 1))[0]
        if len(self._kept) >= MOST_SNAPSHOTS:
            chosen = self._forget
        chosen()
        self._compare()

    def finish(self) -> None:
        """Fail unless our own check and stock restic find every byte whole, and no live lock is left."""
        self._verify()
        self._open().unlock()
        assert list((self._place / "locks").iterdir()) == []
        restic(self._place, "check", "--read-data")

    def _back_up(self) -> None:
        self._tree.change()
        described = nasty_tree.describe(self._tree.root)
        parent = self._newest_tree if self._chance.randrange(2) else None

        def work(repository: Repository) -> None:
            with repository.lock():
                back_up(repository, self._tree.root, root=ROOT, parent=parent)

        whole = self._perform("backup", work)
        new = self._stored() - self._kept.keys()
        assert len(new) == 1 or (not whole and not new)
        for snapshot_id in new:
            self._kept[snapshot_id] = described
            self._newest_tree = self._repository.find_snapshot(snapshot_id.hex()).snapshot.tree

    def _forget(self) -> None:
        if not self._kept:
            return
        going = self._chance.sample(list(self._kept), self._chance.randint(1, min(2, len(self._kept))))

        def work(repository: Repository) -> None:
            with repository.lock(exclusive=True):
                for snapshot_id in going:
                    repository.delete_snapshot(snapshot_id)

        whole = self._perform("forget", work)
        gone = self._kept.keys() - self._stored()
        assert gone == set(going) if whole else gone <= set(going)
        for snapshot_id in gone:
            del self._kept[snapshot_id]

    def _prune(self) -> None:
        max_unused = self._chance.choice((0.0, 0.05, 0.5))

        def work(repository: Repository) -> None:
            with repository.lock(exclusive=True):
                pruner = repository.pruner()
                pruner.execute(pruner.prepare(max_unused))

        self._perform("prune", work)

    def _repair_index(self) -> None:
        """Repair the index, of which a file may be lost; a repair cut off is run again."""
        files = sorted((self._place / "index").iterdir())
        if files and self._chance.randrange(2):
            self._chance.choice(files).unlink()
            self.counts["index file lost"] += 1
        read_headers = bool(self._chance.randrange(2))

        def work(repository: Repository) -> None:
            with repository.lock(exclusive=True):
                repository.repairs().index(read_headers=read_headers)

        if not self._perform("repair index", work):
            work(self._open())

    def _reopen(self) -> None:
        self._repository = self._open()
        self.counts["reopen"] += 1

    def _verify(self) -> None:
        report = self._open().check(read_data=True)
        assert report.healthy, report.errors
        assert report.snapshots == len(self._kept)
        self.counts["verify"] += 1

    def _perform(self, name: str, work: Work) -> bool:
        """Do the work whole, on a failing storage, or in a process that is killed; say if it was done."""
        how = self._chance.choices(("whole", "failing", "killed"), weights=(5, 3, 3))[0]
        whole = True
        if how == "whole":
            work(self._repository if self._chance.randrange(2) else self._open())
        elif how == "failing":
            whole = self._on_failing_storage(work)
        else:
            whole = self._in_killed_process(work)
        self.counts[name if whole else f"{name} {how}"] += 1
        return whole

    def _on_failing_storage(self, work: Work) -> bool:
        """Let some or all calls fail from one on; the lock that may stay is removed as an operator does."""

        def fail() -> None:
            raise PassingBackendError("the storage does not answer")

        first = self._chance.randint(1, _LAST_CALL)
        last = self._chance.choice((first, first + 2, _NEVER_AGAIN))
        method = self._chance.choice(("put", "delete", "get", "list"))
        moment = "before" if self._chance.randrange(2) else "after"
        fault = Fault(method, first=first, last=last, **{moment: fail})  # type: ignore[arg-type]
        whole = False
        with suppress(SheetanchorError):
            work(self._open(fault))
            whole = True
        self._open().unlock(everything=True)
        return whole

    def _in_killed_process(self, work: Work) -> bool:
        """Kill the work, in a child, at a writing call; its lock stays and has to be cleared by the next."""
        method = self._chance.choices(("put", "delete"), weights=(3, 1))[0]
        at = self._chance.randint(1, _LAST_CALL)
        moment = "before" if self._chance.randrange(2) else "after"
        fault = Fault(method, first=at, last=at, **{moment: _kill})  # type: ignore[arg-type]
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)  # the child touches no lock of another thread
            child = os.fork()
        if child == 0:
            _run_and_exit(lambda: work(self._open(fault)))
        _, status = os.waitpid(child, 0)
        if os.WIFSIGNALED(status):
            assert os.WTERMSIG(status) == signal.SIGKILL
            return False
        assert os.waitstatus_to_exitcode(status) == 0, "the work failed before it was killed"
        return True

    def _open(self, *faults: Fault) -> Repository:
        backend = FaultyBackend(LocalBackend(self._place), *faults)
        options = Options(threads=self._aside.choice((1, 2)))
        return Repository.open(backend, Secret(PASSWORD), options=options, clock=_Hasty())

    def _stored(self) -> set[Id]:
        return {parse_id(path.name) for path in (self._place / "snapshots").iterdir() if len(path.name) == 64}

    def _compare(self) -> None:
        """Restore what has to be there, by a new process's or the old view of the repository."""
        repository = self._repository if self._chance.randrange(2) else self._open()
        assert {stored.id for stored in repository.snapshots(strict=True)} == self._kept.keys()
        reader = repository.reader()
        for snapshot_id, described in self._kept.items():
            tree = repository.find_snapshot(snapshot_id.hex()).snapshot.tree
            reader.restore_tree(tree, ROOT, self._restored)
            assert nasty_tree.describe(self._restored) == described
            shutil.rmtree(self._restored)
            self.counts["restores compared"] += 1


def _kill() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def _run_and_exit(action: Callable[[], object]) -> None:
    status = 1
    try:
        action()
        status = 0
    except SheetanchorError:
        traceback.print_exc()
    finally:
        os._exit(status)
