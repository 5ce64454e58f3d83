"""The swap: sessions, slots, subscriptions, roles, and a kill between any two statements."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psycopg
import pytest

from sheetanchor.clock import SystemClock
from sheetanchor.components.postgres.component import PostgresComponent
from sheetanchor.components.postgres.names import hub_name
from sheetanchor.components.postgres.proof import PostgresProof
from sheetanchor.components.postgres.scratch import ScratchServer
from sheetanchor.components.postgres.server import Server
from sheetanchor.components.postgres.stage import Staging, staged_dump
from sheetanchor.components.postgres.staged import PostgresStaged
from sheetanchor.config.models import PostgresConfig
from sheetanchor.errors import ComponentError, PlanRefusedError
from support.component_cases import context
from support.directory_store import DirectorySink, DirectorySource
from support.postgres import connect, run_sql, running_server

TOKEN = "20260102T030405"


@dataclass
class Saved:
    """A server that was captured when shop.goods held 'old', and that holds 'live' since."""

    server: ScratchServer
    postgres: PostgresComponent
    source: DirectorySource
    proof: PostgresProof
    directory: Path

    def stage(self, **options: bool) -> PostgresStaged:
        """Stage the backup."""
        return self.postgres.stage(self.source, self.proof, TOKEN, **options)

    def goods(self) -> str:
        """Read the one row of the live database."""
        with connect(self.server, "shop") as connection:
            row = connection.execute("SELECT name FROM goods").fetchone()
            assert row is not None
            return str(row[0])

    def databases(self) -> set[str]:
        """Return the names of all databases."""
        with connect(self.server) as connection:
            return {row[0] for row in connection.execute("SELECT datname FROM pg_database")}


BEFORE = {"postgres", "template0", "template1", "shop"}


@pytest.fixture
def saved(tmp_path: Path) -> Iterator[Saved]:
    """Run PostgreSQL 18, capture it and change it."""
    settings = {"wal_level": "logical", "max_prepared_transactions": "2"}
    with running_server(18, settings=settings) as server:
        run_sql(
            server,
            "postgres",
            "CREATE ROLE app LOGIN PASSWORD 'p'; CREATE ROLE leaver LOGIN PASSWORD 'q'; CREATE DATABASE shop;"
            "\\connect shop\nCREATE TABLE goods AS SELECT 'old' AS name; ALTER TABLE goods OWNER TO app;",
        )
        config = PostgresConfig(
            name="postgres", type="postgres", url=server.url(), bin_dir=server.tools.directory
        )
        postgres = PostgresComponent(config, context(tmp_path))
        proof = postgres.capture(DirectorySink(tmp_path / "store"))
        run_sql(server, "shop", "UPDATE goods SET name = 'live'; DROP ROLE leaver; ALTER ROLE app CREATEDB;")
        yield Saved(server, postgres, DirectorySource(tmp_path / "store"), proof, tmp_path)


def test_open_sessions_are_announced_and_closed(saved: Saved) -> None:
    """Sessions are in the plan; the swap ends them, and clients that reconnect see the restored data."""
    stop = threading.Event()
    seen: set[str] = set()

    def client() -> None:
        while not stop.is_set():
            try:
                with connect(saved.server, "shop") as connection:
                    while not stop.is_set():
                        row = connection.execute("SELECT name FROM goods").fetchone()
                        seen.add(str(row[0]) if row else "nothing")
                        time.sleep(0.01)
            except psycopg.OperationalError:
                time.sleep(0.01)

    clients = [threading.Thread(target=client) for _ in range(4)]
    for thread in clients:
        thread.start()
    try:
        while not seen:
            time.sleep(0.01)
        notes = saved.postgres.estimate(saved.source, saved.proof, in_place=False).all_notes
        assert any("of database shop will be closed" in note for note in notes)
        staged = saved.stage()
        staged.verify(saved.proof)
        staged.swap()
        deadline = time.monotonic() + 10
        while "old" not in seen and time.monotonic() < deadline:
            time.sleep(0.05)
    finally:
        stop.set()
        for thread in clients:
            thread.join()
    assert seen == {"live", "old"}
    staged.discard()
    assert saved.databases() == BEFORE


def test_missing_roles_come_back_and_cannot_log_in_before_the_swap(saved: Saved) -> None:
    """A restored role waits without login; undo and discard take it away again; changed roles follow."""

    def role(name: str, column: str) -> object:
        with connect(saved.server) as connection:
            row = connection.execute(
                f"SELECT {column} FROM pg_authid WHERE rolname = %s".encode(),  # noqa: S608
                [name],
            ).fetchone()
            return row[0] if row else None

    notes = saved.postgres.estimate(saved.source, saved.proof, in_place=False).all_notes
    assert "roles will be created: leaver" in notes
    assert "roles will be changed (passwords stay): app" in notes
    staged = saved.stage()
    assert role("leaver", "rolcanlogin") is False
    assert role("app", "rolcreatedb") is True
    staged.swap()
    assert role("leaver", "rolcanlogin") is True
    assert str(role("leaver", "rolpassword")).startswith("SCRAM-SHA-256$")
    assert role("app", "rolcreatedb") is False
    staged.undo()
    assert role("leaver", "rolcanlogin") is False
    assert role("app", "rolcreatedb") is True
    staged.discard()
    assert role("leaver", "rolname") is None
    assert saved.databases() == BEFORE


def test_what_the_backup_does_not_know_is_left_alone(saved: Saved) -> None:
    """Databases and roles younger than the backup are named in the plan and survive the restore."""
    run_sql(saved.server, "postgres", "CREATE DATABASE younger; CREATE ROLE younger_role;")
    notes = saved.postgres.estimate(saved.source, saved.proof, in_place=False).all_notes
    assert "database younger is not in the backup and is left alone" in notes
    assert "roles not in the backup, left alone: younger_role" in notes
    staged = saved.stage()
    staged.swap()
    staged.discard()
    assert saved.databases() == BEFORE | {"younger"}
    assert saved.goods() == "old"


def test_logical_slot_is_never_dropped_silently(saved: Saved) -> None:
    """A slot is in the plan, survives the swap, and keeps its database until someone drops the slot."""
    run_sql(saved.server, "shop", "SELECT pg_create_logical_replication_slot('feed', 'pgoutput')")
    notes = saved.postgres.estimate(saved.source, saved.proof, in_place=False).all_notes
    assert any("logical slot feed" in note for note in notes)
    staged = saved.stage()
    staged.swap()
    with pytest.raises(ComponentError, match="slot feed and is not dropped"):
        staged.discard()
    with connect(saved.server) as connection:
        assert connection.execute("SELECT count(*) FROM pg_replication_slots").fetchone() == (1,)
    staged.undo()
    assert saved.goods() == "live"
    staged.swap()
    run_sql(saved.server, "postgres", "SELECT pg_drop_replication_slot('feed')")
    staged.discard()
    assert saved.databases() == BEFORE


def test_slot_forbids_a_restore_in_place(saved: Saved) -> None:
    """In place would drop the database with its slot: refused, and the live database stays."""
    run_sql(saved.server, "shop", "SELECT pg_create_logical_replication_slot('feed', 'pgoutput')")
    refusals = saved.postgres.estimate(saved.source, saved.proof, in_place=True).refusals
    assert refusals == ("database shop has the logical slot feed: not in place",)
    with pytest.raises(ComponentError, match="slot feed"):
        saved.stage(in_place=True)
    assert saved.goods() == "live"
    saved.postgres.resume(TOKEN).discard()
    assert "shop" in saved.databases()


def test_subscriptions_of_staged_databases_go_with_them(saved: Saved) -> None:
    """A restored subscription is not connected; giving the restore up leaves the live one as it was."""
    run_sql(
        saved.server,
        "shop",
        "CREATE SUBSCRIPTION feed CONNECTION 'host=/nonexistent dbname=x' PUBLICATION p"
        " WITH (connect = false)",
    )
    proof = saved.postgres.capture(DirectorySink(saved.directory / "again"))
    source = DirectorySource(saved.directory / "again")
    notes = saved.postgres.estimate(source, proof, in_place=False).all_notes
    assert any("subscription feed" in note for note in notes)
    staged = saved.postgres.stage(source, proof, TOKEN)
    saved.postgres.stage(source, proof, TOKEN)
    staged.discard()
    assert saved.databases() == BEFORE
    staged = saved.postgres.stage(source, proof, TOKEN)
    staged.swap()
    with pytest.raises(ComponentError, match="subscription feed and is not dropped"):
        staged.discard()
    with connect(saved.server) as connection:
        assert connection.execute("SELECT count(*) FROM pg_subscription").fetchone() == (2,)


def test_prepared_transaction_is_refused_and_nothing_stays_shut(saved: Saved) -> None:
    """A prepared transaction is a refusal in the plan; the swap fails with live databases open."""
    run_sql(saved.server, "shop", "BEGIN; INSERT INTO goods VALUES ('x'); PREPARE TRANSACTION 'pending';")
    refusals = saved.postgres.estimate(saved.source, saved.proof, in_place=False).refusals
    assert any("prepared transaction pending" in refusal for refusal in refusals)
    staged = saved.stage()
    with pytest.raises(ComponentError, match="prepared transaction pending"):
        staged.swap()
    assert saved.goods() == "live"
    run_sql(saved.server, "shop", "ROLLBACK PREPARED 'pending'")
    staged.swap()
    assert saved.goods() == "old"
    staged.discard()


def test_interrupted_swap_leaves_the_live_databases_open(
    saved: Saved, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ctrl-C while sessions are being closed: the doors are open again, and the swap can be repeated."""
    staged = saved.stage()

    def interrupted(*_arguments: object) -> None:
        raise KeyboardInterrupt

    with connect(saved.server, "shop"):
        with monkeypatch.context() as patch:
            patch.setattr(SystemClock, "sleep", interrupted)
            with pytest.raises(KeyboardInterrupt):
                staged.swap()
        assert saved.goods() == "live"
    staged.swap()
    assert saved.goods() == "old"
    staged.discard()


def test_work_file_of_a_killed_stage_is_removed(saved: Saved) -> None:
    """A dump left in the work directory by a killed run is taken away by the next stage, or discard."""
    work = context(saved.directory)
    left = staged_dump(work, TOKEN)
    left.write_bytes(b"half a dump")
    staged = saved.stage()
    assert not left.exists()
    left.write_bytes(b"half a dump")
    staged.discard()
    assert not left.exists()


def test_in_place_needs_no_second_copy_and_cannot_be_undone(saved: Saved) -> None:
    """In place the live databases are gone before the swap; undo says where to go instead."""
    staged = saved.stage(in_place=True)
    with connect(saved.server, hub_name(TOKEN)) as connection:
        names = [row[0] for row in connection.execute("SELECT datname FROM pg_database")]
    assert not {"shop", "postgres", "template1"} & set(names)
    staged.verify(saved.proof)
    staged.swap()
    assert saved.goods() == "old"
    with pytest.raises(PlanRefusedError, match="in place"):
        staged.undo()
    staged.discard()
    assert saved.databases() == BEFORE


def test_without_room_the_dump_is_streamed(saved: Saved, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the work directory has no room for the dump, pg_restore reads it from a pipe."""
    monkeypatch.setattr(Staging, "_has_room", lambda _self, _size: False)
    staged = saved.stage()
    staged.verify(saved.proof)
    staged.swap()
    assert saved.goods() == "old"
    staged.discard()


class KilledError(BaseException):
    """The process ends here, as by kill -9: no handler of ours may do anything any more."""


class Killer:
    """Breaks every connection at the chosen statement, and refuses all after it."""

    def __init__(self, at: int) -> None:
        self.left = at

    def connect(self, *arguments: Any, **options: Any) -> psycopg.Connection:
        """Open a connection that dies with the process."""
        killer = self

        class Mortal(psycopg.Connection[tuple[Any, ...]]):
            def execute(self, *call: Any, **how: Any) -> Any:  # type: ignore[override]
                killer.left -= 1
                if killer.left <= 0:
                    self.pgconn.finish()
                    raise KilledError
                return super().execute(*call, **how)

        if self.left <= 0:
            raise KilledError
        return Mortal.connect(*arguments, **options)


@pytest.mark.slow
def test_kill_between_any_two_statements_is_recoverable(saved: Saved) -> None:
    """Killed at any statement of swap, undo and discard: resumed forward or back, nothing is lost."""
    saved.stage()
    for action in ("swap", "undo"):
        for at in range(1, 200, 1 if action == "swap" else 2):
            if action == "undo":
                saved.postgres.resume(TOKEN).swap()
            survived = killed_at(saved, action, at)
            resumed = saved.postgres.resume(TOKEN)
            if at % 4 == 1:
                resumed.swap()
                assert saved.goods() == "old"
            resumed.undo()
            assert saved.goods() == "live"
            if survived:
                assert at > 20
                break
        else:
            pytest.fail("the step has no end")
    killed_discards(saved)
    assert saved.databases() == BEFORE


def killed_at(saved: Saved, action: str, at: int) -> bool:
    """Run a step that dies at a statement; return whether it ended before that."""
    server = Server(saved.server.url(), None, connect=Killer(at).connect)
    try:
        getattr(PostgresStaged(server, context(saved.directory), TOKEN), action)()
    except KilledError:
        return False
    return True


def killed_discards(saved: Saved) -> None:
    """Discard the old databases after a swap, dying at every statement in turn."""
    saved.postgres.resume(TOKEN).swap()
    for at in range(1, 200, 2):
        if killed_at(saved, "discard", at):
            break
        assert saved.goods() == "old"
    assert saved.goods() == "old"
