"""A whole cluster is captured, destroyed and brought back, on PostgreSQL 15 and 18."""

from __future__ import annotations

import io
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from sheetanchor.clock import SystemClock
from sheetanchor.components.base import Context, proof_from_json
from sheetanchor.components.postgres.component import PostgresComponent
from sheetanchor.components.postgres.proof import PostgresProof
from sheetanchor.components.postgres.scratch import ScratchServer
from sheetanchor.config.models import PostgresConfig
from sheetanchor.errors import ArchiveError
from sheetanchor.events import SilentListener
from sheetanchor.process import ProcessRunner
from support.directory_store import DirectorySink, DirectorySource
from support.postgres import VERSIONS, connect, dump_all, run_sql, running_server
from support.postgres_cluster import ODD_DATABASE, fill

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module", params=VERSIONS)
def server(request: pytest.FixtureRequest) -> Iterator[ScratchServer]:
    """Run a server of each version."""
    with running_server(request.param) as running:
        fill(running)
        yield running


def for_all_roles(server: ScratchServer) -> object:
    """Return the settings of ALTER ROLE ALL, which no dump shows."""
    with connect(server) as connection:
        row = connection.execute(
            "SELECT setconfig FROM pg_db_role_setting WHERE setrole = 0 AND setdatabase = 0"
        ).fetchone()
        return row[0] if row else None


def component(server: ScratchServer, work: Path) -> PostgresComponent:
    """Return the component for a server."""
    work.mkdir(exist_ok=True)
    context = Context(
        processes=ProcessRunner(), clock=SystemClock(), listener=SilentListener(), work_directory=work
    )
    config = PostgresConfig(
        name="postgres", type="postgres", url=server.url(), bin_dir=server.tools.directory, jobs=2
    )
    return PostgresComponent(config, context)


def test_cluster_comes_back_equal_by_pg_dumpall(server: ScratchServer, tmp_path: Path) -> None:
    """Everything pg_dumpall knows of is the same after destruction, restore and swap, roles included."""
    before = sorted(dump_all(server).splitlines())
    postgres = component(server, tmp_path / "work")
    proof = postgres.capture(DirectorySink(tmp_path / "store"))
    stored = proof_from_json(PostgresProof, proof.model_dump(mode="json"))
    run_sql(server, "app", 'DROP SCHEMA "Schéma öne" CASCADE; DROP EXTENSION hstore;')
    run_sql(
        server,
        "postgres",
        "DROP DATABASE latin; ALTER DATABASE app RESET ALL; DROP TABLE kept_in_postgres;"
        "ALTER ROLE reporting CREATEROLE CONNECTION LIMIT 3; ALTER ROLE reporting RESET ALL;"
        "REVOKE admin_group FROM app_owner; ALTER ROLE ALL RESET lock_timeout;"
        "REVOKE SET ON PARAMETER log_min_duration_statement FROM reporting;",
    )
    changed = sorted(dump_all(server).splitlines())
    assert changed != before
    source = DirectorySource(tmp_path / "store")
    estimate = postgres.estimate(source, stored, in_place=False)
    assert not estimate.refusals
    staged = postgres.stage(source, stored, "run-1")
    compared = staged.verify(stored)
    assert any("database app: 1,518 rows" in line for line in compared), compared
    staged.swap()
    assert for_all_roles(server) == ["lock_timeout=77s"]
    staged.undo()
    assert sorted(dump_all(server, "--exclude-database=sheetanchor*").splitlines()) != before
    assert for_all_roles(server) is None
    staged.swap()
    postgres.resume("run-1").discard()
    after = sorted(dump_all(server).splitlines())
    assert after == before
    with connect(server) as connection:
        names = {row[0] for row in connection.execute("SELECT datname FROM pg_database")}
    assert names == {"app", "collated", "latin", "postgres", "template0", "template1", ODD_DATABASE}


def test_portable_sql_rebuilds_an_empty_server(server: ScratchServer, tmp_path: Path) -> None:
    """`psql -f` of the portable form makes an equal cluster out of an empty one of the same version."""
    postgres = component(server, tmp_path / "work")
    postgres.capture(DirectorySink(tmp_path / "store"))
    with postgres.export_stream(DirectorySource(tmp_path / "store")) as stream:
        script = stream.read()
    with running_server(server.tools.major) as empty:
        argv = [server.tools.path("psql"), "-X", "-q", "-o", "/dev/null", f"--dbname={empty.url()}"]
        done = ProcessRunner().run(argv, stdin=script)
        complaints = [line for line in done.stderr.decode().splitlines() if "ERROR" in line]
        assert len(complaints) == 1, complaints
        assert 'role "postgres" already exists' in complaints[0]
        assert sorted(dump_all(empty).splitlines()) == sorted(dump_all(server).splitlines())


def test_portable_sql_is_imported_equal(server: ScratchServer, tmp_path: Path) -> None:
    """Import of an export captures the same contents, and leaves no sandbox behind."""
    postgres = component(server, tmp_path / "work")
    proof = postgres.capture(DirectorySink(tmp_path / "store"))
    with postgres.export_stream(DirectorySource(tmp_path / "store")) as stream:
        imported = postgres.import_stream(stream, DirectorySink(tmp_path / "again"))
    assert proof.differences(imported) == []
    assert list((tmp_path / "work").iterdir()) == []


def test_backup_of_15_comes_back_on_18_and_not_the_other_way(tmp_path: Path) -> None:
    """A newer server takes the backup of an older one, memberships included; an older one refuses."""
    with running_server(15) as old, running_server(18) as new:
        run_sql(
            old,
            "postgres",
            "CREATE ROLE boss; CREATE ROLE app IN ROLE boss; CREATE DATABASE shop OWNER app;"
            "\\connect shop\nCREATE TABLE goods AS SELECT generate_series(1, 10) AS n;",
        )
        proof = component(old, tmp_path / "work").capture(DirectorySink(tmp_path / "store"))
        source = DirectorySource(tmp_path / "store")
        postgres = component(new, tmp_path / "work")
        assert not postgres.estimate(source, proof, in_place=False).refusals
        staged = postgres.stage(source, proof, "t")
        staged.verify(proof)
        staged.swap()
        staged.verify(proof)
        staged.discard()
        again = postgres.capture(DirectorySink(tmp_path / "again"))
        assert [entry.member for entry in again.memberships] == ["app"]
        refusals = component(old, tmp_path / "work").estimate(source, again, in_place=False).refusals
        assert any("this server is older" in refusal for refusal in refusals)


def test_tablespaces_are_used_where_they_are_and_missed_aloud(server: ScratchServer, tmp_path: Path) -> None:
    """A database goes back to its tablespace; where that is gone, the plan says so; it comes back."""
    place = server.directory / "fast"
    place.mkdir()
    assert server.run_as
    os.chown(place, server.run_as.uid, server.run_as.gid)
    run_sql(server, "postgres", f"CREATE TABLESPACE fast LOCATION '{place}';")
    run_sql(server, "postgres", "CREATE DATABASE quick TABLESPACE fast;")
    run_sql(server, "quick", "CREATE TABLE t TABLESPACE pg_default AS SELECT 1 AS one;")
    run_sql(server, "app", "CREATE TABLE in_fast (n int) TABLESPACE fast;")
    postgres = component(server, tmp_path / "work")
    proof = postgres.capture(DirectorySink(tmp_path / "store"))
    source = DirectorySource(tmp_path / "store")
    staged = postgres.stage(source, proof, "there")
    staged.verify(proof)
    staged.swap()
    staged.discard()
    with connect(server, "quick") as connection:
        used = "SELECT spcname FROM pg_database d JOIN pg_tablespace t ON t.oid = dattablespace"
        assert connection.execute(f"{used} WHERE datname = 'quick'").fetchone() == ("fast",)
    run_sql(server, "postgres", "DROP DATABASE quick;")
    run_sql(server, "app", "DROP TABLE in_fast; DROP TABLESPACE fast;")
    notes = postgres.estimate(source, proof, in_place=False).all_notes
    assert any(note.startswith("tablespace fast of database app is missing") for note in notes)
    staged = postgres.stage(source, proof, "gone")
    staged.verify(proof)
    staged.swap()
    staged.discard()
    run_sql(server, "postgres", "DROP DATABASE quick;")


@pytest.mark.parametrize(
    ("script", "message"),
    [
        ("SET a.b = 1;\n\\! touch {marker}\n", "line 2 of the SQL: the meta-command"),
        ("SET a.b = 1;\nCOPY t FROM PROGRAM 'touch {marker}';\n", "line 2 of the SQL: a program"),
        ("CREATE TABLE t (a int);\nINSERT INTO t VALUES (1);\n", "cut off"),
        ("ALTER TABLE missing OWNER TO nobody;\n--\n-- PostgreSQL database dump complete\n", "does not load"),
    ],
    ids=["shell", "program", "cut off", "fails"],
)
def test_sql_that_must_not_run_is_refused(script: str, message: str, tmp_path: Path) -> None:
    """Hostile, cut off or failing SQL is one clear error; nothing ran, nothing is captured."""
    marker = tmp_path / "marker"
    tmp_path.chmod(0o777)
    with running_server(18) as live:
        postgres = component(live, tmp_path / "work")
        stream = io.BytesIO(script.replace("{marker}", str(marker)).encode())
        with pytest.raises(ArchiveError, match=message):
            postgres.import_stream(stream, DirectorySink(tmp_path / "store"))
    assert not marker.exists()
    assert list((tmp_path / "store").iterdir()) == []
