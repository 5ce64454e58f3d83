"""A whole cluster is captured, destroyed and brought back, on PostgreSQL 15 and 18."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from sheetanchor.clock import SystemClock
from sheetanchor.components.base import Context, proof_from_json
from sheetanchor.components.postgres.component import PostgresComponent
from sheetanchor.components.postgres.proof import PostgresProof
from sheetanchor.components.postgres.scratch import ScratchServer
from sheetanchor.config.models import PostgresConfig
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
        "REVOKE admin_group FROM app_owner;",
    )
    assert sorted(dump_all(server).splitlines()) != before
    source = DirectorySource(tmp_path / "store")
    estimate = postgres.estimate(source, stored, in_place=False)
    assert not estimate.refusals
    staged = postgres.stage(source, stored, "run-1")
    compared = staged.verify(stored)
    assert any("database app: 1,518 rows" in line for line in compared), compared
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
