"""What belongs to the whole server besides roles: settings for all roles, privileges on parameters.

`ALTER ROLE ALL SET` is in no dump of PostgreSQL's own programs. Privileges on parameters exist since
PostgreSQL 15. What the backup does not know of is left alone.
"""

from __future__ import annotations

from collections.abc import Iterator

from sheetanchor.components.postgres.proof import ParameterGrant, ServerWide
from sheetanchor.components.postgres.quoting import assignment, identifier, setting_name
from sheetanchor.components.postgres.server import Connection, rows, scalar, version_number


def read_server_wide(connection: Connection) -> ServerWide:
    """Read both from the catalogs."""
    settings = scalar(
        connection, "SELECT setconfig FROM pg_db_role_setting WHERE setrole = 0 AND setdatabase = 0"
    )
    return ServerWide(settings=tuple(settings or ()), grants=tuple(_read_grants(connection)))


def server_wide_statements(current: ServerWide, wanted: ServerWide) -> Iterator[str]:
    """Yield what adds to `current` whatever `wanted` has besides."""
    for setting in wanted.settings:
        if setting not in current.settings:
            yield f"ALTER ROLE ALL SET {assignment(setting)}"
    for grant in wanted.grants:
        if grant not in current.grants:
            option = " WITH GRANT OPTION" if grant.grantable else ""
            yield f"GRANT {_privilege(grant)} TO {_grantee(grant)}{option}"


def reverse_statements(current: ServerWide, wanted: ServerWide) -> Iterator[str]:
    """Yield what takes back the effect of `server_wide_statements(current, wanted)`."""
    before = {setting_name(setting): setting for setting in current.settings}
    for setting in wanted.settings:
        if setting not in current.settings:
            earlier = before.get(setting_name(setting))
            yield (
                f"ALTER ROLE ALL SET {assignment(earlier)}"
                if earlier
                else f"ALTER ROLE ALL RESET {setting_name(setting)}"
            )
    had = {(grant.parameter, grant.grantee, grant.privilege) for grant in current.grants}
    for grant in wanted.grants:
        if grant in current.grants:
            continue
        only_option = (grant.parameter, grant.grantee, grant.privilege) in had
        prefix = "GRANT OPTION FOR " if only_option else ""
        yield f"REVOKE {prefix}{_privilege(grant)} FROM {_grantee(grant)}"


def _privilege(grant: ParameterGrant) -> str:
    name = ".".join(identifier(part) for part in grant.parameter.split("."))
    return f"{grant.privilege} ON PARAMETER {name}"


def _grantee(grant: ParameterGrant) -> str:
    return identifier(grant.grantee) if grant.grantee else "PUBLIC"


def _read_grants(connection: Connection) -> Iterator[ParameterGrant]:
    if version_number(connection) < 150000:
        return
    found = rows(
        connection,
        """
        SELECT p.parname, coalesce(grantee.rolname, ''), a.privilege_type, a.is_grantable
        FROM pg_parameter_acl p CROSS JOIN LATERAL aclexplode(p.paracl) a
        LEFT JOIN pg_roles grantee ON grantee.oid = a.grantee
        WHERE a.grantee <> 10 ORDER BY 1, 2, 3
        """,
    )
    for row in found:
        yield ParameterGrant(parameter=row[0], grantee=row[1], privilege=row[2], grantable=row[3])
