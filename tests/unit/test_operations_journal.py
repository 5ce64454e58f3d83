"""The journal of a restore: what a crash leaves behind is read back as it was."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from sheetanchor.errors import SheetanchorError
from sheetanchor.operations.journal import Journal, JournalStore, RestoreRequest, new_token


class SteppingClock:
    """Goes on by a second at each look."""

    def __init__(self) -> None:
        self._now = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)

    def now(self) -> datetime:
        """Return a moment a second later than the last."""
        self._now += timedelta(seconds=1)
        return self._now

    def monotonic(self) -> float:
        """Return the moment as seconds."""
        return self.now().timestamp()

    def sleep(self, seconds: float) -> None:
        """Go on by `seconds`."""
        self._now += timedelta(seconds=seconds)


REQUEST = RestoreRequest(backup="backup_20260102_030405", components=("db", "files"), include=("*.txt",))


@pytest.fixture
def store(tmp_path: Path) -> JournalStore:
    """Return an empty store."""
    return JournalStore(tmp_path / "state", SteppingClock())


def _begun(store: JournalStore, token: str = "20260102030405000") -> Journal:
    return store.begin(token, REQUEST)


def test_a_crash_inside_a_step_leaves_it_begun(store: JournalStore) -> None:
    """Steps that ended are done, the one that was cut is begun, the request is the same."""
    journal = _begun(store)
    with journal.step("check"):
        pass
    with pytest.raises(KeyError), journal.step("stage:db"):
        raise KeyError
    state = store.unfinished()
    assert state is not None
    assert (state.done, state.begun, state.request) == (["check"], "stage:db", REQUEST)
    assert not state.touched


@pytest.mark.parametrize("step", ["swap:db", "stop:db"])
def test_a_begun_swap_counts_as_touched(store: JournalStore, step: str) -> None:
    """From the first swap or stop on, live data may have changed: a backup must know."""
    journal = _begun(store)
    with pytest.raises(KeyError), journal.step(step):
        raise KeyError
    state = store.unfinished()
    assert state is not None
    assert state.touched


def test_a_failed_step_is_remembered_while_others_are_taken_back(store: JournalStore) -> None:
    """A crash during the taking back must not make a half done swap forgotten."""
    journal = _begun(store)
    with pytest.raises(KeyError), journal.step("swap:db"):
        raise KeyError
    with pytest.raises(KeyError), journal.step("undo:files"):
        raise KeyError
    state = store.unfinished()
    assert state is not None
    assert state.begun == "undo:files"
    assert state.started == ["swap:db", "undo:files"]
    assert state.touched


def test_a_line_cut_by_a_crash_does_not_swallow_the_next(store: JournalStore) -> None:
    """Half a last line is as if never written, and what is appended after it is read."""
    journal = _begun(store)
    with journal.step("check"):
        pass
    with journal.state.path.open("ab") as file:
        file.write(b'{"step": "safe')
    state = store.unfinished()
    assert state is not None
    assert state.done == ["check"]
    store.reopen(state).safety("backup_20260102_030406")
    again = store.unfinished()
    assert again is not None
    assert again.safety_backup == "backup_20260102_030406"


def test_only_the_end_finishes_a_restore(store: JournalStore) -> None:
    """A restore is unfinished until its outcome is on disk; then it can be rolled back once."""
    journal = _begun(store)
    assert store.last_finished() is None
    journal.end("restored")
    assert store.unfinished() is None
    last = store.last_finished()
    assert last is not None
    rollback = store.begin("20260102040000000", REQUEST.model_copy(update={"rolls_back": last.token}))
    rollback.end("restored")
    assert store.last_finished() is None


def test_an_undone_restore_is_not_offered_for_rollback(store: JournalStore) -> None:
    """What was taken back already has nothing to be taken back."""
    _begun(store).end("undone")
    assert store.last_finished() is None


def test_a_directory_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    """Without a journal no restore begins."""
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(SheetanchorError, match="journal"):
        _begun(JournalStore(tmp_path / "file", SteppingClock()))


def test_tokens_sort_by_time_and_fit_into_a_name() -> None:
    """Derived names stay below PostgreSQL's 63 bytes; the newest token is the last."""
    first = new_token(datetime(2026, 1, 2, 3, 4, 5, 999000, tzinfo=UTC))
    second = new_token(datetime(2026, 1, 2, 3, 4, 6, tzinfo=UTC))
    assert first < second
    assert first == "20260102030405999"
