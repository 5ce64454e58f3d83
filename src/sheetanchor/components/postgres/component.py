"""The PostgreSQL component: one server with its roles and all its databases."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import BinaryIO, ClassVar

from sheetanchor.components.base import (
    Capabilities,
    Context,
    Proof,
    Sink,
    Source,
    StageEstimate,
)
from sheetanchor.components.postgres.dump import Capture
from sheetanchor.components.postgres.estimate import estimate
from sheetanchor.components.postgres.journal import FALLBACK_DATABASES
from sheetanchor.components.postgres.names import hub_name
from sheetanchor.components.postgres.proof import PostgresProof
from sheetanchor.components.postgres.scratch import sweep_servers
from sheetanchor.components.postgres.server import (
    Server,
    read_password,
    rows,
    version_number,
    version_text,
)
from sheetanchor.components.postgres.stage import Staging
from sheetanchor.components.postgres.staged import PostgresStaged
from sheetanchor.components.postgres.tools import Tools, find_tools
from sheetanchor.config.models import PostgresConfig
from sheetanchor.errors import PlanRefusedError


class PostgresComponent:
    """Backs up by pg_dump under counted snapshots, restores beside the live databases."""

    kind: ClassVar[str] = "postgres"
    capabilities: ClassVar[Capabilities] = Capabilities(
        stages_beside=True, interrupts_service=True, selects_files=False, portable=True
    )
    proof_model: ClassVar[type[Proof]] = PostgresProof

    def __init__(self, config: PostgresConfig, context: Context) -> None:
        self._config = config
        self._context = context
        self._server = Server(config.url, read_password(config.password_file))

    @property
    def name(self) -> str:
        """The name from the configuration."""
        return self._config.name

    def check(self) -> tuple[str, ...]:
        """Connect, find the programs of the server's version, and say what is there.

        Raises UnreachableError or ToolError.
        """
        with self._server.session(self._server.database, *FALLBACK_DATABASES) as connection:
            version = version_number(connection)
            ((databases, size),) = rows(
                connection,
                "SELECT count(*), sum(pg_database_size(oid))::bigint FROM pg_database"
                " WHERE datname <> 'template0' AND datallowconn",
            )
        tools = self._tools(version // 10000)
        return (
            f"PostgreSQL {version_text(version)}",
            f"{databases} databases, {size / 1e6:,.1f} MB",
            f"programs in {tools.directory}",
        )

    def capture(self, sink: Sink, previous: Proof | None = None, *, lenient: bool = False) -> PostgresProof:
        """Put roles and all databases into `sink`.

        Raises UnreachableError, ToolError, ComponentError or ProcessError.
        """
        return Capture(self._server, self._live_tools(), self._context, sink).run()

    def estimate(self, source: Source, proof: Proof, *, in_place: bool) -> StageEstimate:
        """Say what a restore will need and whom it will disturb."""
        assert isinstance(proof, PostgresProof)
        with self._server.session(self._server.database, *FALLBACK_DATABASES) as connection:
            return estimate(
                self._server, connection, proof, self._config.data_dir, self._context, in_place=in_place
            )

    def stage(
        self,
        source: Source,
        proof: Proof,
        token: str,
        *,
        include: Sequence[str] = (),
        in_place: bool = False,
    ) -> PostgresStaged:
        """Restore every database of the backup beside the live ones.

        `in_place` drops each live database first, to save its space. Raises PlanRefusedError for
        `include`, and what Staging.run raises.
        """
        assert isinstance(proof, PostgresProof)
        if include:
            raise PlanRefusedError(
                f"{self.name}: single files cannot be chosen from a PostgreSQL backup",
                hint="restore with --target and use pg_restore --table on the dump",
            )
        tools = self._live_tools(token)
        staging = Staging(self._server, tools, self._context, self._config.jobs, token)
        staging.run(source, proof, in_place=in_place)
        return self.resume(token)

    def resume(self, token: str, source: Source | None = None) -> PostgresStaged:
        """Find a restore again; the server itself knows how far it is."""
        return PostgresStaged(self._server, self._context, token)

    def sweep(self) -> None:
        """Stop and remove the sandbox servers that killed imports left."""
        sweep_servers(self._context.work_directory)

    @contextmanager
    def export_stream(self, source: Source) -> Iterator[BinaryIO]:
        """Yield SQL that `psql -f` turns into the whole cluster on an empty server."""
        from sheetanchor.components.postgres.portable import exported

        with exported(source, self._context, self._config.bin_dir) as stream:
            yield stream

    def import_stream(self, stream: BinaryIO, sink: Sink) -> PostgresProof:
        """Capture from SQL, which is loaded in a scratch server; see portable.py."""
        from sheetanchor.components.postgres.sandbox import import_sql

        return import_sql(stream, sink, self._context, self._config.bin_dir)

    def _live_tools(self, token: str | None = None) -> Tools:
        hub = (hub_name(token),) if token else ()
        with self._server.session(self._server.database, *FALLBACK_DATABASES, *hub) as connection:
            major = version_number(connection) // 10000
        return self._tools(major)

    def _tools(self, major: int) -> Tools:
        return find_tools(major, self._config.bin_dir, self._context.processes)
