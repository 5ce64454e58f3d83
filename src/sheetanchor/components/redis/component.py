"""The component: what the rest of the program sees of Redis and Valkey."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import BinaryIO, ClassVar

from sheetanchor.components.base import Capabilities, Context, Proof, Sink, Source, StageEstimate
from sheetanchor.components.redis.address import address_of
from sheetanchor.components.redis.estimate import estimate
from sheetanchor.components.redis.programs import find_program
from sheetanchor.components.redis.proof import RedisProof
from sheetanchor.components.redis.rdb import RdbFile, describe, fetch_rdb, writer
from sheetanchor.components.redis.scratch import ScratchServer
from sheetanchor.components.redis.server import ServerFacts, Version, usable_facts
from sheetanchor.components.redis.staged import PROOF, STAGED, RedisStaged, prove
from sheetanchor.components.redis.wire import Wire
from sheetanchor.components.workspace import publish, sweep, workspace
from sheetanchor.config.models import RedisConfig
from sheetanchor.errors import ComponentError, ProofMismatchError, UsageError

DUMP = "dump.rdb"
PIECE_BYTES = 1 << 20


class RedisComponent:
    """One Redis or Valkey server. Implements `components.base.Component` and `PortableComponent`.

    Captured over the replication protocol: no access to the server's files, no change of its
    settings, one moment in time. Restored the same way round; see `exchange`.
    """

    kind: ClassVar[str] = "redis"
    capabilities: ClassVar[Capabilities] = Capabilities(
        stages_beside=True, interrupts_service=True, selects_files=False, portable=True
    )
    proof_model: ClassVar[type[Proof]] = RedisProof

    def __init__(self, config: RedisConfig, context: Context) -> None:
        self._config = config
        self._context = context

    @property
    def name(self) -> str:
        """The name from the configuration."""
        return self._config.name

    def check(self) -> tuple[str, ...]:
        """Reach the server and find a program for scratch servers.

        Raises UnreachableError, ToolError.
        """
        with Wire(address_of(self._config)) as wire:
            told = usable_facts(wire)
        program = self._program(told.version)
        role = f"replica of {told.master}" if told.role != "master" else f"{told.replicas} replicas"
        persistence = "append-only file" if told.appendonly else "no append-only file"
        return (str(told.version), role, persistence, f"scratch servers run {program}")

    def capture(self, sink: Sink, previous: Proof | None = None, *, lenient: bool = False) -> RedisProof:
        """Store the server's RDB as dump.rdb, proven by loading it in a scratch server."""
        task = f"redis {self.name}: capture"
        self._context.listener.started(task)
        try:
            with self._workspace("capture") as directory, Wire(address_of(self._config)) as wire:
                told = usable_facts(wire)
                program = self._program(told.version)
                rdb = fetch_rdb(wire, directory / DUMP, self._context.clock, self._advance(task))
                proof = self._prove(program, rdb, told.version, directory)
                _save(sink, rdb)
        finally:
            self._context.listener.finished(task)
        return proof.model_copy(update={"warnings": _warnings(told)})

    def estimate(self, source: Source, proof: Proof, *, in_place: bool) -> StageEstimate:
        """Say what a restore needs and what forbids it; `in_place` makes no difference here."""
        assert isinstance(proof, RedisProof)
        return estimate(self._config, self._context, proof)

    def stage(
        self,
        source: Source,
        proof: Proof,
        token: str,
        *,
        include: Sequence[str] = (),
        in_place: bool = False,
    ) -> RedisStaged:
        """Put the RDB and its proof beside the live server. Raises UsageError for `include`."""
        assert isinstance(proof, RedisProof)
        if include:
            raise UsageError(f"{self.name}: single keys cannot be chosen", hint="leave out --include")
        directory = self._directory(token)
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        if not _is_file_of(proof, directory / STAGED):
            self._fetch(source, proof, directory)
        return self.resume(token, source)

    def resume(self, token: str, source: Source | None = None) -> RedisStaged:
        """Return the staged state of `token`, at whatever step it is."""
        return RedisStaged(
            address_of(self._config), self._config.server_program, self._directory(token), self._context
        )

    def sweep(self) -> None:
        """Remove what killed captures and imports left; scratch servers end with their run."""
        for purpose in ("capture", "import"):
            sweep(self._context.work_directory, f"redis-{self.name}-{purpose}")

    def export_stream(self, source: Source) -> AbstractContextManager[BinaryIO]:
        """Yield the RDB file."""
        return source.open(DUMP)

    def import_stream(self, stream: BinaryIO, sink: Sink) -> RedisProof:
        """Store an RDB file that is not trusted, after a scratch server has loaded it.

        Raises ComponentError when it does not load.
        """
        with self._workspace("import") as directory:
            temporary = directory / DUMP
            _copy(stream, temporary)
            rdb = describe(temporary)
            version = writer(temporary)
            proof = self._prove(self._program(version), rdb, version, directory)
            _save(sink, rdb)
        return proof

    def _fetch(self, source: Source, proof: RedisProof, directory: Path) -> None:
        temporary = directory / (STAGED + ".part")
        with source.open(DUMP) as stream:
            _copy(stream, temporary)
        if not _is_file_of(proof, temporary):
            raise ProofMismatchError(f"{DUMP}: its bytes are not those that were backed up")
        publish(temporary, directory / STAGED)
        temporary = directory / (PROOF + ".part")
        temporary.write_text(proof.model_dump_json(), encoding="utf-8")
        publish(temporary, directory / PROOF)

    def _prove(self, program: Path, rdb: RdbFile, version: Version, directory: Path) -> RedisProof:
        with ScratchServer(program, rdb.path, directory, self._context.clock) as scratch:
            return prove(scratch, rdb, version)

    def _program(self, version: Version) -> Path:
        return find_program(version, self._config.server_program, self._context.processes)[0]

    def _workspace(self, purpose: str) -> AbstractContextManager[Path]:
        return workspace(self._context.work_directory, f"redis-{self.name}-{purpose}")

    def _directory(self, token: str) -> Path:
        return self._context.work_directory / f"redis-{self.name}-restore-{token}"

    def _advance(self, task: str) -> Callable[[int], None]:
        return lambda size: self._context.listener.advanced(task, size)


def _warnings(told: ServerFacts) -> tuple[str, ...]:
    if told.role == "master":
        return ()
    return (f"was read from a replica of {told.master}, which may lag behind it",)


def _is_file_of(proof: RedisProof, path: Path) -> bool:
    try:
        found = describe(path)
    except (FileNotFoundError, ComponentError):
        return False
    return (found.size, found.sha256) == (proof.rdb_bytes, proof.rdb_sha256)


def _save(sink: Sink, rdb: RdbFile) -> None:
    with rdb.path.open("rb") as file:
        saved = sink.write_stream(DUMP, file)
    if (saved.size, saved.sha256) != (rdb.size, rdb.sha256):
        raise ComponentError(f"{DUMP}: changed between its check and its storing")


def _copy(stream: BinaryIO, target: Path) -> None:
    descriptor = os.open(target, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        shutil.copyfileobj(stream, file, PIECE_BYTES)
