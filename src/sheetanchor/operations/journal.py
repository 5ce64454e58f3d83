"""The record of a running restore: one JSON line a step, each on disk before the step goes on.

After a crash it tells `--resume` what is still to be done, and `rollback` what has to be undone.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict

from sheetanchor.clock import Clock
from sheetanchor.errors import SheetanchorError

Outcome = Literal["restored", "undone", "rolled_back", "abandoned"]


class RestoreRequest(BaseModel):
    """What was asked for; stored in the journal so that a resumed restore asks for the same."""

    model_config = ConfigDict(frozen=True)

    backup: str
    components: tuple[str, ...]
    include: tuple[str, ...] = ()
    in_place: bool = False
    safety_backup: bool = True
    rolls_back: str | None = None
    """The token of the restore that this one undoes."""


@dataclass
class JournalState:
    """What a journal says."""

    token: str
    path: Path
    request: RestoreRequest
    started: list[str] = field(default_factory=list)
    """Every step that was ever begun, also those that failed."""
    done: list[str] = field(default_factory=list)
    begun: str | None = None
    """The step that was begun last and is not done."""
    safety_backup: str | None = None
    outcome: Outcome | None = None

    @property
    def touched(self) -> bool:
        """Say whether live data may have been changed."""
        return any(step.startswith(("swap:", "stop:")) for step in self.started)

    @property
    def clearing_up(self) -> bool:
        """Say whether the old state may be partly removed: the restore can then only go on."""
        return any(step.startswith("discard:") for step in self.started)


class Journal:
    """Appends to one restore's journal."""

    def __init__(self, state: JournalState, clock: Clock) -> None:
        self.state = state
        self._clock = clock

    @contextmanager
    def step(self, name: str) -> Iterator[None]:
        """Record `name` before and after the work in the `with` block."""
        self._append({"step": name, "state": "begin"})
        self.state.begun = name
        self.state.started.append(name)
        yield
        self._append({"step": name, "state": "done"})
        self.state.done.append(name)
        self.state.begun = None

    def is_done(self, name: str) -> bool:
        """Say whether the step was finished before."""
        return name in self.state.done

    def safety(self, backup: str | None) -> None:
        """Record the name of the safety backup."""
        self._append({"safety_backup": backup})
        self.state.safety_backup = backup

    def end(self, outcome: Outcome) -> None:
        """Record how the restore ended; it is then no longer unfinished."""
        self._append({"outcome": outcome})
        self.state.outcome = outcome

    def _append(self, record: dict[str, Any]) -> None:
        _append_line(self.state.path, {"at": self._clock.now().isoformat(), **record})


class JournalStore:
    """All journals of one stack, in the state directory."""

    def __init__(self, directory: Path, clock: Clock) -> None:
        self._directory = directory
        self._clock = clock

    def begin(self, token: str, request: RestoreRequest) -> Journal:
        """Start a journal. Raises SheetanchorError when the directory cannot be written."""
        try:
            self._directory.mkdir(parents=True, exist_ok=True, mode=0o700)
            path = self._directory / f"restore-{token}.jsonl"
            _append_line(path, {"at": self._clock.now().isoformat(), "request": request.model_dump()})
            descriptor = os.open(self._directory, os.O_RDONLY | os.O_DIRECTORY)
            try:
                os.fsync(descriptor)
            finally:
                os.close(descriptor)
        except OSError as error:
            raise SheetanchorError(
                f"{self._directory}: the journal of the restore cannot be written: {error.strerror}",
                hint="set state_directory in the configuration to a directory on a disk with room",
            ) from error
        return Journal(JournalState(token, path, request), self._clock)

    def reopen(self, state: JournalState) -> Journal:
        """Go on with a journal; a line that a crash cut short is closed first."""
        if not state.path.read_bytes().endswith(b"\n"):
            with state.path.open("ab") as file:
                file.write(b"\n")
        return Journal(state, self._clock)

    def states(self) -> list[JournalState]:
        """Return what all journals say, oldest first."""
        if not self._directory.is_dir():
            return []
        paths = sorted(self._directory.glob("restore-*.jsonl"))
        return [state for path in paths if (state := _read(path)) is not None]

    def unfinished(self) -> JournalState | None:
        """Return the newest restore that neither ended nor was undone."""
        return next((state for state in reversed(self.states()) if state.outcome is None), None)

    def last_finished(self) -> JournalState | None:
        """Return the newest restore that went through and was not rolled back since."""
        states = self.states()
        rolled_back = {state.request.rolls_back for state in states if state.outcome == "restored"}
        for state in reversed(states):
            if state.outcome == "restored" and state.request.rolls_back is None:
                return None if state.token in rolled_back else state
        return None


def new_token(moment: datetime) -> str:
    """Return a restore's token: sorts by time and fits into a PostgreSQL name."""
    return f"{moment:%Y%m%d%H%M%S}{moment.microsecond // 1000:03d}"


def _append_line(path: Path, record: dict[str, Any]) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        os.write(descriptor, json.dumps(record).encode() + b"\n")
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _read(path: Path) -> JournalState | None:
    """Read a journal; a last line that was cut by a crash is as if never begun."""
    state: JournalState | None = None
    for line in path.read_bytes().splitlines():
        try:
            record = json.loads(line)
        except ValueError:
            continue
        if "request" in record:
            token = path.stem.removeprefix("restore-")
            state = JournalState(token, path, RestoreRequest.model_validate(record["request"]))
        elif state is not None:
            _apply(state, record)
    return state


def _apply(state: JournalState, record: dict[str, Any]) -> None:
    if "safety_backup" in record:
        state.safety_backup = record["safety_backup"]
    elif "outcome" in record:
        state.outcome = record["outcome"]
    elif record.get("state") == "begin":
        state.begun = record["step"]
        state.started.append(record["step"])
    elif record.get("state") == "done":
        state.done.append(record["step"])
        state.begun = None
