"""Capture under fire: other sessions truncate, alter and die while a database is dumped."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import BinaryIO

import psycopg
import pytest

from sheetanchor.components.base import Context, StreamSaved
from sheetanchor.components.postgres.component import PostgresComponent
from sheetanchor.components.postgres.dump import Capture
from sheetanchor.components.postgres.proof import PostgresProof
from sheetanchor.components.postgres.scratch import ScratchServer
from sheetanchor.components.postgres.server import Server
from sheetanchor.components.postgres.snapshot import frozen_database
from sheetanchor.config.models import PostgresConfig
from sheetanchor.errors import ComponentError, SheetanchorError, ToolError, UnreachableError
from sheetanchor.events import SilentListener
from sheetanchor.process import Completed, ProcessRunner
from support.component_cases import context
from support.directory_store import DirectorySink, DirectorySource
from support.postgres import VERSIONS, connect, postgres_tools, run_sql, running_server

ROWS = 20_000


@pytest.fixture
def server() -> Iterator[ScratchServer]:
    """Run PostgreSQL 18 with one table of two megabytes."""
    with running_server(18, settings={"idle_in_transaction_session_timeout": "1s"}) as running:
        run_sql(
            running,
            "postgres",
            "CREATE TABLE big (n int, filler text);"
            "INSERT INTO big SELECT n, md5(n::text) || repeat('x', 60) FROM generate_series(1, 20000) n;",
        )
        yield running


def configured(server: ScratchServer, directory: Path, **settings: object) -> PostgresComponent:
    """Return a component for the server's socket, or for other settings."""
    options = {"url": server.url(), "bin_dir": server.tools.directory, **settings}
    config = PostgresConfig.model_validate({"name": "postgres", "type": "postgres", **options})
    return PostgresComponent(config, context(directory))


def rows_of(proof: PostgresProof) -> int:
    """Return the rows of database postgres."""
    (database,) = [one for one in proof.databases if one.name == "postgres"]
    return database.rows


class MeddlingSink(DirectorySink):
    """Does something in the middle of the dump of database postgres."""

    def __init__(self, directory: Path, meddle: threading.Thread) -> None:
        super().__init__(directory)
        self.meddle = meddle

    def write_stream(self, path: str, source: BinaryIO, *, mode: int = 0o600) -> StreamSaved:
        """Start the meddling before anything is read, and give it time."""
        if path == "postgres.dump":
            self.meddle.start()
            time.sleep(0.5)
        return super().write_stream(path, source, mode=mode)


def test_truncate_during_a_dump_waits_for_it(server: ScratchServer, tmp_path: Path) -> None:
    """TRUNCATE by another session while dumping loses no row of the dump, nor of the count."""

    def truncate() -> None:
        with connect(server) as connection:
            connection.execute("TRUNCATE big")

    sink = MeddlingSink(tmp_path / "store", threading.Thread(target=truncate))
    postgres = configured(server, tmp_path)
    proof = postgres.capture(sink)
    sink.meddle.join(30)
    with connect(server) as connection:
        assert connection.execute("SELECT count(*) FROM big").fetchone() == (0,)
    assert rows_of(proof) == ROWS
    staged = postgres.stage(DirectorySource(tmp_path / "store"), proof, "t")
    assert any(f"{ROWS:,} rows" in line for line in staged.verify(proof))
    staged.discard()


def test_tables_are_locked_and_the_session_has_no_time_out(server: ScratchServer) -> None:
    """A frozen database cannot be truncated, and idles longer than the server allows others."""
    with frozen_database(Server(server.url(), None), "postgres") as frozen:
        with connect(server) as other:
            other.execute("SET lock_timeout = '100ms'")
            with pytest.raises(psycopg.errors.LockNotAvailable):
                other.execute("TRUNCATE big")
        time.sleep(1.5)
        assert frozen.connection.execute("SELECT count(*) FROM public.big").fetchone() == (ROWS,)


class QueueingRunner(ProcessRunner):
    """Lets an ALTER TABLE queue up between our lock and that of the first pg_dump."""

    def __init__(self, server: ScratchServer) -> None:
        self.server = server
        self.attempts = 0
        self.alteration = threading.Thread(target=self._alter)

    def _alter(self) -> None:
        with connect(self.server) as connection:
            connection.execute("ALTER TABLE big ADD COLUMN late int DEFAULT 7")

    def reading(  # type: ignore[override]
        self, argv: Sequence[str], **options: object
    ) -> AbstractContextManager[BinaryIO]:
        """Start the ALTER before the first dump and wait until it queues."""
        if argv[0].endswith("pg_dump") and "dbname=postgres" in argv[-1]:
            self.attempts += 1
            if self.attempts == 1:
                self.alteration.start()
                with connect(self.server) as connection:
                    while not connection.execute("SELECT 1 FROM pg_locks WHERE NOT granted").fetchone():
                        time.sleep(0.05)
        return super().reading(argv, **options)  # type: ignore[arg-type]


def test_change_that_waits_between_two_locks_is_no_deadlock(server: ScratchServer, tmp_path: Path) -> None:
    """An ALTER TABLE that waits for us, and for which pg_dump waits, goes first; the dump has it."""
    runner = QueueingRunner(server)
    base = context(tmp_path)
    work = Context(runner, base.clock, SilentListener(), base.work_directory)
    sink = DirectorySink(tmp_path / "store")
    proof = Capture(Server(server.url(), None), server.tools, work, sink, lock_wait="1s").run()
    runner.alteration.join(10)
    assert runner.attempts == 2
    assert rows_of(proof) == ROWS
    dump = (tmp_path / "store" / "postgres.dump").read_bytes()
    assert b"late integer" in dump


def test_server_that_dies_in_the_middle_is_an_error(server: ScratchServer, tmp_path: Path) -> None:
    """A server stopped while dumping fails the capture: no short dump is taken for a whole one."""
    stop = threading.Thread(target=server.stop)
    with pytest.raises(SheetanchorError):
        configured(server, tmp_path).capture(MeddlingSink(tmp_path / "store", stop))
    stop.join(30)
    with pytest.raises(UnreachableError):
        configured(server, tmp_path).check()


def test_tables_that_come_and_go_do_not_fail_a_capture(server: ScratchServer, tmp_path: Path) -> None:
    """Tables created and dropped all the time: the capture ends well, and restores as counted."""
    stop = threading.Event()

    def churn() -> None:
        with connect(server) as connection:
            number = 3
            while not stop.is_set():
                number += 1
                connection.execute(f"CREATE TABLE churn_{number} AS SELECT 1 AS one".encode())
                connection.execute(f"DROP TABLE IF EXISTS churn_{number - 3}".encode())
                time.sleep(0.03)

    thread = threading.Thread(target=churn)
    thread.start()
    try:
        postgres = configured(server, tmp_path)
        proof = postgres.capture(DirectorySink(tmp_path / "store"))
    finally:
        stop.set()
        thread.join()
    staged = postgres.stage(DirectorySource(tmp_path / "store"), proof, "t")
    staged.verify(proof)
    staged.discard()


@pytest.mark.parametrize("wrong", [(15, 18), (18, 15)], ids=["pg_dump 18 for 15", "pg_dump 15 for 18"])
def test_programs_of_another_major_are_refused(wrong: tuple[int, int], tmp_path: Path) -> None:
    """Dumps are made by the server's own major version or not at all, and the hint says what to do."""
    live, programs = wrong
    with running_server(live) as server:
        component = configured(server, tmp_path, bin_dir=postgres_tools(programs).directory)
        with pytest.raises(ToolError) as refused:
            component.capture(DirectorySink(tmp_path / "store"))
    assert f"PostgreSQL {live}" in refused.value.message
    assert "bin_dir" in (refused.value.hint or "")


def test_databases_that_cannot_be_saved_are_named(server: ScratchServer, tmp_path: Path) -> None:
    """A database that accepts no connections is not saved, and the proof says so."""
    run_sql(server, "postgres", "CREATE DATABASE shut ALLOW_CONNECTIONS false;")
    proof = configured(server, tmp_path).capture(DirectorySink(tmp_path / "store"))
    assert any("database shut is NOT SAVED" in line for line in proof.warnings)
    assert "shut" not in {database.name for database in proof.databases}


def test_row_security_that_hides_rows_is_refused(server: ScratchServer, tmp_path: Path) -> None:
    """A user from whom row security would hide rows cannot make a backup with rows missing."""
    run_sql(
        server,
        "postgres",
        "CREATE ROLE half LOGIN; GRANT pg_read_all_data TO half; ALTER TABLE big ENABLE ROW LEVEL SECURITY;",
    )
    url = server.url().replace("postgres@", "half@")
    with pytest.raises(ComponentError, match="row security would hide rows"):
        configured(server, tmp_path, url=url).capture(DirectorySink(tmp_path / "store"))


class WatchingRunner(ProcessRunner):
    """Remembers every argv."""

    def __init__(self) -> None:
        self.seen: list[str] = []

    def run(self, argv: Sequence[str], **options: object) -> Completed:  # type: ignore[override]
        """Note the argv, and run it."""
        self.seen.extend(argv)
        return super().run(argv, **options)  # type: ignore[arg-type]

    def reading(self, argv: Sequence[str], **options: object) -> AbstractContextManager[BinaryIO]:  # type: ignore[override]
        """Note the argv, and read from it."""
        self.seen.extend(argv)
        return super().reading(argv, **options)  # type: ignore[arg-type]


@pytest.mark.parametrize("major", VERSIONS)
def test_password_comes_from_its_file_and_is_in_no_argv(major: int, tmp_path: Path) -> None:
    """With password authentication the file's password works for sessions and programs; a wrong one fails."""
    with running_server(major) as server:
        run_sql(server, "postgres", "ALTER ROLE postgres PASSWORD 'very-secret-word'")
        hba = server.data_directory / "pg_hba.conf"
        hba.write_text("local all all trust\nhost all all 127.0.0.1/32 scram-sha-256\n")
        run_sql(server, "postgres", "SELECT pg_reload_conf()")
        right, wrong = tmp_path / "right", tmp_path / "wrong"
        right.write_text("very-secret-word\n")
        wrong.write_text("another-secret\n")
        settings = {
            "name": "p",
            "type": "postgres",
            "url": server.tcp_url(),
            "bin_dir": server.tools.directory,
        }
        config = PostgresConfig.model_validate({**settings, "password_file": right})
        base, runner = context(tmp_path), WatchingRunner()
        work = Context(runner, base.clock, base.listener, base.work_directory)
        postgres = PostgresComponent(config, work)
        proof = postgres.capture(DirectorySink(tmp_path / "store"))
        staged = postgres.stage(DirectorySource(tmp_path / "store"), proof, "t")
        staged.verify(proof)
        staged.discard()
        assert not any("very-secret-word" in part for part in runner.seen)
        refused = PostgresComponent(config.model_copy(update={"password_file": wrong}), work)
        with pytest.raises(UnreachableError) as error:
            refused.check()
        assert "another-secret" not in error.value.message + (error.value.hint or "")
