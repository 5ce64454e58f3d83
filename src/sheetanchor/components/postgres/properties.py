"""Database properties: what `pg_dump -Fc` loses when its dump is restored under another name.

`ALTER DATABASE … SET`, `ALTER ROLE … IN DATABASE … SET`, privileges on the database, its comment,
connection limit and template flag are in the dump only as statements for the original name, and
not in `pg_dumpall --globals-only` at all. They are read from the catalogs and put back here.
"""

from __future__ import annotations

from collections.abc import Iterator

from sheetanchor.components.postgres.proof import DatabaseProperties, Grant, RoleSettings
from sheetanchor.components.postgres.quoting import assignment, identifier, literal
from sheetanchor.components.postgres.server import Connection, rows, version_number

PROVIDERS = {"c": "libc", "i": "icu", "b": "builtin"}


def read_properties(connection: Connection, name: str) -> DatabaseProperties:
    """Read all properties of one database; works from a session in any database."""
    version = version_number(connection)
    (found,) = rows(
        connection,
        f"""
        SELECT r.rolname, pg_encoding_to_char(d.encoding), {_provider(version)}, d.datcollate, d.datctype,
               {_locale(version)}, {_rules(version)}, t.spcname, d.datconnlimit, d.datistemplate,
               shobj_description(d.oid, 'pg_database'), d.datacl IS NULL
        FROM pg_database d JOIN pg_roles r ON r.oid = d.datdba JOIN pg_tablespace t ON t.oid = d.dattablespace
        WHERE d.datname = %s
        """,  # noqa: S608
        [name],
    )
    own, by_role = _read_settings(connection, name)
    return DatabaseProperties(
        name=name,
        owner=found[0],
        encoding=found[1],
        locale_provider=PROVIDERS[found[2]],
        collate=found[3],
        ctype=found[4],
        locale=found[5],
        icu_rules=found[6],
        tablespace=found[7],
        connection_limit=found[8],
        is_template=found[9],
        comment=found[10],
        settings=own,
        role_settings=by_role,
        grants=None if found[11] else _read_grants(connection, name),
    )


def create_statement(properties: DatabaseProperties, name: str, *, tablespace: str | None) -> str:
    """Return CREATE DATABASE for `name` with the recorded encoding, locale and owner."""
    parts = [
        f"CREATE DATABASE {identifier(name)} TEMPLATE template0 OWNER {identifier(properties.owner)}",
        f"ENCODING {literal(properties.encoding)}",
        f"LC_COLLATE {literal(properties.collate)} LC_CTYPE {literal(properties.ctype)}",
    ]
    if properties.locale_provider == "icu":
        parts.append(f"LOCALE_PROVIDER icu ICU_LOCALE {literal(properties.locale or 'und')}")
        if properties.icu_rules:
            parts.append(f"ICU_RULES {literal(properties.icu_rules)}")
    elif properties.locale_provider == "builtin":
        parts.append(f"LOCALE_PROVIDER builtin BUILTIN_LOCALE {literal(properties.locale or 'C')}")
    if tablespace:
        parts.append(f"TABLESPACE {identifier(tablespace)}")
    return " ".join(parts)


def property_statements(properties: DatabaseProperties, name: str) -> Iterator[str]:
    """Yield what gives a fresh database `name` the recorded properties, privileges apart."""
    target = identifier(name)
    if properties.comment is not None:
        yield f"COMMENT ON DATABASE {target} IS {literal(properties.comment)}"
    if properties.connection_limit != -1:
        yield f"ALTER DATABASE {target} CONNECTION LIMIT {properties.connection_limit}"
    for setting in properties.settings:
        yield f"ALTER DATABASE {target} SET {assignment(setting)}"
    for entry in properties.role_settings:
        for setting in entry.settings:
            yield f"ALTER ROLE {identifier(entry.role)} IN DATABASE {target} SET {assignment(setting)}"
    if properties.is_template:
        yield f"ALTER DATABASE {target} IS_TEMPLATE true"


def grant_statements(properties: DatabaseProperties, name: str) -> Iterator[str]:
    """Yield what gives a fresh database `name` the recorded privileges, grantor by grantor."""
    if properties.grants is None:
        return
    target = identifier(name)
    yield f"REVOKE ALL ON DATABASE {target} FROM PUBLIC"
    yield f"REVOKE ALL ON DATABASE {target} FROM {identifier(properties.owner)}"
    for grant in sorted(properties.grants, key=lambda grant: grant.grantor != properties.owner):
        grantee = identifier(grant.grantee) if grant.grantee else "PUBLIC"
        option = " WITH GRANT OPTION" if grant.grantable else ""
        statement = f"GRANT {grant.privilege} ON DATABASE {target} TO {grantee}{option}"
        if grant.grantor == properties.owner:
            yield statement
        else:
            yield f"SET SESSION AUTHORIZATION {identifier(grant.grantor)}"
            yield statement
            yield "RESET SESSION AUTHORIZATION"


def _provider(version: int) -> str:
    return "d.datlocprovider::text" if version >= 150000 else "'c'"


def _locale(version: int) -> str:
    if version >= 170000:
        return "d.datlocale"
    return "d.daticulocale" if version >= 150000 else "NULL"


def _rules(version: int) -> str:
    return "d.daticurules" if version >= 160000 else "NULL"


def _read_settings(connection: Connection, name: str) -> tuple[tuple[str, ...], tuple[RoleSettings, ...]]:
    found = rows(
        connection,
        """
        SELECT r.rolname, s.setconfig FROM pg_db_role_setting s
        JOIN pg_database d ON d.oid = s.setdatabase LEFT JOIN pg_roles r ON r.oid = s.setrole
        WHERE d.datname = %s ORDER BY r.rolname
        """,
        [name],
    )
    own = next((tuple(settings) for role, settings in found if role is None), ())
    by_role = tuple(
        RoleSettings(role=role, settings=tuple(settings)) for role, settings in found if role is not None
    )
    return own, by_role


def _read_grants(connection: Connection, name: str) -> tuple[Grant, ...]:
    found = rows(
        connection,
        """
        SELECT grantor.rolname, coalesce(grantee.rolname, ''), a.privilege_type, a.is_grantable
        FROM pg_database d CROSS JOIN LATERAL aclexplode(d.datacl) WITH ORDINALITY AS
             a(grantor, grantee, privilege_type, is_grantable, position)
        JOIN pg_roles grantor ON grantor.oid = a.grantor LEFT JOIN pg_roles grantee ON grantee.oid = a.grantee
        WHERE d.datname = %s ORDER BY a.position
        """,
        [name],
    )
    return tuple(Grant(grantor=g[0], grantee=g[1], privilege=g[2], grantable=g[3]) for g in found)
