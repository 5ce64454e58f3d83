"""What a restored PostgreSQL server must equal: plain models, stored in the manifest as JSON."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, ConfigDict

from sheetanchor.components.base import Proof


class Record(BaseModel):
    """Base of the parts of the proof."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class Role(Record):
    """One role without its password (that is in globals.sql only)."""

    name: str
    superuser: bool
    inherit: bool
    create_role: bool
    create_database: bool
    login: bool
    replication: bool
    bypass_rls: bool
    connection_limit: int
    valid_until: str | None
    comment: str | None
    settings: tuple[str, ...]
    """Cluster-wide `ALTER ROLE … SET`, each `name=value`."""


class Membership(Record):
    """`member` is in `role`; the options exist since PostgreSQL 16 and are None before."""

    role: str
    member: str
    grantor: str
    admin: bool
    inherit: bool | None
    set: bool | None


class Grant(Record):
    """One privilege on a database; grantee "" is PUBLIC."""

    grantor: str
    grantee: str
    privilege: str
    grantable: bool


class ParameterGrant(Record):
    """One privilege on a configuration parameter; grantee "" is PUBLIC."""

    parameter: str
    grantee: str
    privilege: str
    """"SET" or "ALTER SYSTEM"."""
    grantable: bool


class ServerWide(Record):
    """What belongs to the whole server besides roles."""

    settings: tuple[str, ...] = ()
    """`ALTER ROLE ALL SET`, each `name=value`."""
    grants: tuple[ParameterGrant, ...] = ()


class RoleSettings(Record):
    """`ALTER ROLE … IN DATABASE … SET`, each `name=value`."""

    role: str
    settings: tuple[str, ...]


class DatabaseProperties(Record):
    """What belongs to a database and is lost when a dump is restored under another name."""

    name: str
    owner: str
    encoding: str
    locale_provider: str
    """"libc", "icu" or "builtin"."""
    collate: str
    ctype: str
    locale: str | None
    """Of the icu and builtin providers."""
    icu_rules: str | None
    tablespace: str
    connection_limit: int
    is_template: bool
    comment: str | None
    settings: tuple[str, ...]
    role_settings: tuple[RoleSettings, ...]
    grants: tuple[Grant, ...] | None
    """None: the default privileges."""


class Table(Record):
    """Exact number of rows of one table or partition, in the snapshot of the dump."""

    schema_name: str
    name: str
    rows: int


class Extension(Record):
    """One installed extension."""

    name: str
    version: str


class DatabaseProof(Record):
    """One database."""

    properties: DatabaseProperties
    path: str
    """Of the dump, relative to the component's root."""
    dump_bytes: int
    dump_sha256: str
    disk_bytes: int
    """pg_database_size when it was captured."""
    tables: tuple[Table, ...]
    large_objects: int
    large_object_bytes: int
    extensions: tuple[Extension, ...]
    schemas: tuple[str, ...]
    tablespaces: tuple[str, ...]
    """Tablespaces other than the default one that its tables and indexes use."""

    @property
    def name(self) -> str:
        """The database's name."""
        return self.properties.name

    def content(self) -> dict[str, Any]:
        """Return what is equal for any two captures of the same data, SQL in between included.

        SQL made by pg_dump does not say that the schema public or plpgsql were dropped.
        """
        properties = self.properties.model_dump(mode="json")
        properties["grants"] = properties["grants"] and sorted(properties["grants"], key=str)
        return {
            "properties": properties,
            "tables": {f"{table.schema_name}.{table.name}": table.rows for table in self.tables},
            "large_objects": [self.large_objects, self.large_object_bytes],
            "extensions": [one.name for one in self.extensions if one.name != "plpgsql"],
            "schemas": [name for name in self.schemas if name != "public"],
            "tablespaces": list(self.tablespaces),
        }

    @property
    def rows(self) -> int:
        """Rows of all tables."""
        return sum(table.rows for table in self.tables)


class PostgresProof(Proof):
    """The whole server."""

    server_version: int
    """As `SHOW server_version_num`: 150020 is 15.20."""
    globals_bytes: int
    globals_sha256: str
    role_passwords: bool
    """False: the passwords could not be read, and are not in the backup."""
    bootstrap_role: str
    roles: tuple[Role, ...]
    memberships: tuple[Membership, ...]
    server_wide: ServerWide = ServerWide()
    databases: tuple[DatabaseProof, ...]

    @property
    def major(self) -> int:
        """Major version of the server."""
        return self.server_version // 10000

    @property
    def empty(self) -> bool:
        """Whether no database holds a row or a large object."""
        return not any(one.rows or one.large_objects for one in self.databases)

    def content(self) -> dict[str, Any]:
        """Return roles, properties and numbers by name, without what every dump or server makes new."""
        return {
            "roles": {role.name: role.model_dump(mode="json") for role in self.roles},
            "memberships": sorted(entry.model_dump_json() for entry in self.memberships),
            "databases": {database.name: database.content() for database in self.databases},
        }

    def summary(self) -> str:
        """Return "3 databases, 41,200 rows, 12 large objects, 4 roles"."""
        objects = sum(database.large_objects for database in self.databases)
        parts = [
            _count(len(self.databases), "database"),
            _count(sum(database.rows for database in self.databases), "row"),
            *([_count(objects, "large object")] if objects else []),
            _count(len(self.roles), "role"),
        ]
        return ", ".join(parts)


def _count(number: int, word: str) -> str:
    return f"{number:,} {word}{'' if number == 1 else 's'}"
