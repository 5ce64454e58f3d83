"""A restored Redis or Valkey beside the live one: an RDB file, proven, and the way in and back.

The directory of a token holds all there is to know, so that a crash at any point loses nothing:

    staged.rdb, proof.json   the state to be restored, and what it must hold
    old.rdb                  the live state before the exchange; written before anything changes
    progress.json            which exchange was begun, and which settings it borrowed
"""

from __future__ import annotations

import secrets
import shutil
from enum import StrEnum
from pathlib import Path

from pydantic import BaseModel, ConfigDict

from sheetanchor.components.base import Context, Proof
from sheetanchor.components.redis import bgsave, exchange
from sheetanchor.components.redis.address import Address
from sheetanchor.components.redis.digest import contents
from sheetanchor.components.redis.exchange import Borrowed
from sheetanchor.components.redis.pause import WritesPaused
from sheetanchor.components.redis.programs import can_read, find_program
from sheetanchor.components.redis.proof import RedisProof, compare, make_proof
from sheetanchor.components.redis.rdb import RdbFile, describe, fetch_rdb
from sheetanchor.components.redis.scratch import ScratchServer
from sheetanchor.components.redis.server import ServerFacts, Version, facts, key_counts, usable_facts
from sheetanchor.components.redis.wire import Wire
from sheetanchor.components.workspace import publish
from sheetanchor.errors import ComponentError, PlanRefusedError, ProofMismatchError

STAGED, OLD, PROOF, PROGRESS = "staged.rdb", "old.rdb", "proof.json", "progress.json"
REPLICATION_ID_BYTES = 20


class Step(StrEnum):
    """How far the exchange has come."""

    STAGED = "staged"
    SWAPPING = "swapping"
    SWAPPED = "swapped"
    UNDOING = "undoing"


class Progress(BaseModel):
    """What the journal of one staged state says."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    step: Step = Step.STAGED
    replication_id: str = ""
    """Marks the data of the exchange that was begun last."""
    run_id: str = ""
    """Which start of the live server the exchange was begun with."""
    borrowed_password: bool = False
    borrowed_encryption: bool = False

    @property
    def borrowed(self) -> Borrowed:
        """The settings that the exchange may have changed."""
        return Borrowed(self.borrowed_password, self.borrowed_encryption)

    def may_be_in_place(self, told: ServerFacts) -> bool:
        """Say whether the exchange that was begun may have replaced the data of the server.

        It has when the data bears its mark. A server that was started again since has lost
        the mark, and may hold the old data, the new, or nothing.
        """
        if self.step is Step.STAGED:
            return False
        return self.run_id != told.run_id or exchange.holds(told, self.replication_id)


class RedisStaged:
    """Implements `components.base.Staged`."""

    def __init__(self, address: Address, program: Path | None, directory: Path, context: Context) -> None:
        self._address = address
        self._program = program
        self._directory = directory
        self._context = context

    def verify(self, proof: Proof) -> tuple[str, ...]:
        """Load the staged file in a scratch server and compare all that it holds."""
        assert isinstance(proof, RedisProof)
        self._check_file(proof)
        version = Version(proof.product, proof.version)
        with self._scratch(self._directory / STAGED, version) as scratch, scratch.connect() as wire:
            found = contents(wire, reference_ms=proof.reference_ms)
        return compare(proof, found, keeps_expired=True)

    def swap(self) -> None:
        """Keep the live data as old.rdb, then make the live server hold the staged file."""
        progress = self._progress()
        if progress.step is Step.SWAPPED:
            return
        if progress.step is Step.UNDOING:
            raise ComponentError(
                f"{self._address}: is being brought back to its old data", hint="finish that with rollback"
            )
        proof = self._proof()
        self._check_file(proof)
        with Wire(self._address) as wire:
            told = self._settle(wire, progress)
            _require_readable(told, proof)
            with WritesPaused(self._address) as pause:
                # After a crash of the server itself, old.rdb is all that is left of the old data.
                if not progress.may_be_in_place(told):
                    self._keep_old(told)
                    pause.require()
                if progress.step is Step.STAGED or not self._live_equals(wire, proof):
                    self._exchange(wire, Step.SWAPPING, self._directory / STAGED, told)
                    pause.require()
                    self._compare_live(wire, proof)
            self._persist(wire)
        self._write(Progress(step=Step.SWAPPED))

    def undo(self) -> None:
        """Make the live server hold old.rdb again; nothing to do when it was never replaced."""
        progress = self._progress()
        if progress.step is Step.STAGED:
            return
        with Wire(self._address) as wire:
            told = self._settle(wire, progress)
            if progress.step is not Step.SWAPPING or progress.may_be_in_place(told):
                proof = self._prove(describe(self._directory / OLD), told)
                with WritesPaused(self._address) as pause:
                    self._exchange(wire, Step.UNDOING, self._directory / OLD, told)
                    pause.require()
                    self._compare_live(wire, proof)
                self._persist(wire)
        self._write(Progress(step=Step.STAGED))

    def discard(self) -> None:
        """Remove the staged file, the old data and the journal."""
        if self._directory.exists():
            progress = self._progress()
            if progress.step in {Step.SWAPPING, Step.UNDOING}:
                raise ComponentError(
                    f"{self._directory}: holds the only copy of the old data of an unfinished restore",
                    hint="finish it with restore --resume, or take it back with rollback",
                )
            shutil.rmtree(self._directory)

    def _settle(self, wire: Wire, progress: Progress) -> ServerFacts:
        """Put right what a broken exchange left; return the facts of a server that is a master."""
        if progress.step in {Step.SWAPPING, Step.UNDOING}:
            exchange.give_back(wire, progress.borrowed)
            if usable_facts(wire).master.startswith("127.0.0.1:"):
                exchange.release(wire)
        told = usable_facts(wire)
        if told.role != "master":
            raise PlanRefusedError(
                f"{self._address}: is a replica of {told.master}",
                hint="restore to its master; replicas follow",
            )
        return told

    def _keep_old(self, told: ServerFacts) -> None:
        """Save the live data and prove that the file loads and holds as many keys."""
        temporary = self._directory / (OLD + ".part")
        with Wire(self._address) as wire:
            fetch_rdb(wire, temporary, self._context.clock, lambda _size: None)
        with (
            self._scratch(temporary, told.version) as scratch,
            scratch.connect() as kept,
            Wire(self._address) as live,
        ):
            _require_equal_counts(key_counts(kept), key_counts(live))
        publish(temporary, self._directory / OLD)

    def _exchange(self, wire: Wire, step: Step, rdb: Path, told: ServerFacts) -> None:
        replication_id = secrets.token_hex(REPLICATION_ID_BYTES)
        borrowed = exchange.settings_to_borrow(wire)
        self._write(
            Progress(
                step=step,
                replication_id=replication_id,
                run_id=told.run_id,
                borrowed_password=borrowed.password,
                borrowed_encryption=borrowed.encryption,
            )
        )
        context = self._context
        exchange.exchange(wire, rdb, replication_id, borrowed, context.clock, context.listener)

    def _live_equals(self, wire: Wire, proof: RedisProof) -> bool:
        try:
            self._compare_live(wire, proof)
        except ProofMismatchError:
            return False
        return True

    def _compare_live(self, wire: Wire, proof: RedisProof) -> None:
        """Compare the live server with the proof; a table that shrinks may need a second look."""
        try:
            compare(proof, contents(wire, reference_ms=proof.reference_ms), keeps_expired=False)
        except ProofMismatchError:
            compare(proof, contents(wire, reference_ms=proof.reference_ms), keeps_expired=False)

    def _persist(self, wire: Wire) -> None:
        bgsave.settle_append_only_file(wire, self._context.clock)
        bgsave.save_in_background(wire, self._context.clock)

    def _check_file(self, proof: RedisProof) -> None:
        try:
            found = describe(self._directory / STAGED)
        except FileNotFoundError as error:
            raise ComponentError(
                f"{self._address}: nothing is staged", hint="start the restore again"
            ) from error
        if (found.size, found.sha256) != (proof.rdb_bytes, proof.rdb_sha256):
            raise ProofMismatchError("dump.rdb: its bytes are not those that were backed up")

    def _prove(self, rdb: RdbFile, told: ServerFacts) -> RedisProof:
        with self._scratch(rdb.path, told.version) as scratch:
            return prove(scratch, rdb, told.version)

    def _scratch(self, rdb: Path, version: Version) -> ScratchServer:
        program = find_program(version, self._program, self._context.processes)[0]
        return ScratchServer(program, rdb, self._directory, self._context.clock)

    def _proof(self) -> RedisProof:
        try:
            return RedisProof.model_validate_json((self._directory / PROOF).read_bytes())
        except FileNotFoundError as error:
            raise ComponentError(
                f"{self._address}: nothing is staged", hint="start the restore again"
            ) from error

    def _progress(self) -> Progress:
        try:
            return Progress.model_validate_json((self._directory / PROGRESS).read_bytes())
        except FileNotFoundError:
            return Progress()

    def _write(self, progress: Progress) -> None:
        temporary = self._directory / (PROGRESS + ".part")
        temporary.write_text(progress.model_dump_json(), encoding="utf-8")
        publish(temporary, self._directory / PROGRESS)


def prove(scratch: ScratchServer, rdb: RdbFile, version: Version) -> RedisProof:
    """Read all that a scratch server holds that has loaded `rdb`; `version` wrote the file."""
    with scratch.connect() as wire:
        found = contents(wire)
        return make_proof(
            found,
            product=version.product,
            version=version.text,
            rdb_bytes=rdb.size,
            rdb_sha256=rdb.sha256,
            memory_bytes=facts(wire).memory_bytes,
        )


def _require_readable(told: ServerFacts, proof: RedisProof) -> None:
    """Refuse a file that is newer than the server: it empties itself before it finds out."""
    written_by = Version(proof.product, proof.version)
    if not can_read(told.version, written_by):
        raise PlanRefusedError(
            f"{told.version} cannot read the data of {written_by}",
            hint="restore to a server that is not older than the one that was backed up",
        )


def _require_equal_counts(kept: dict[int, tuple[int, int]], live: dict[int, tuple[int, int]]) -> None:
    if kept != live:
        raise ComponentError(
            "the copy of the live data does not hold as many keys as the live server",
            hint="nothing was changed; try again",
        )
