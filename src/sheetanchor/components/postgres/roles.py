"""Cluster-wide roles: read, compared, and turned into the statements that lead from one to another.

A role that is missing is made with its password. One that exists is brought to its recorded
attributes, settings and memberships, but keeps its password. Roles that the backup does not
know are left alone. The statements work both ways, so an undo is the same comparison reversed.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from sheetanchor.components.postgres.proof import Membership, Role
from sheetanchor.components.postgres.quoting import assignment, identifier, literal, setting_name
from sheetanchor.components.postgres.server import Connection, rows, scalar, version_number

_PASSWORD = re.compile(
    r"^ALTER ROLE (?P<role>\"(?:[^\"]|\"\")+\"|[^\s\"]+) WITH [A-Z0-9 -]*PASSWORD '(?P<hash>[^']*)'",
    re.MULTILINE,
)
_ATTRIBUTES = (
    ("superuser", "SUPERUSER"),
    ("inherit", "INHERIT"),
    ("create_role", "CREATEROLE"),
    ("create_database", "CREATEDB"),
    ("login", "LOGIN"),
    ("replication", "REPLICATION"),
    ("bypass_rls", "BYPASSRLS"),
)


@dataclass(frozen=True)
class Roles:
    """All roles of a server but the predefined ones, and who is a member of what."""

    roles: tuple[Role, ...]
    memberships: tuple[Membership, ...]
    bootstrap: str
    """The role that initdb made; since PostgreSQL 16 most memberships are granted by it."""

    @property
    def by_name(self) -> dict[str, Role]:
        """The roles by name."""
        return {role.name: role for role in self.roles}


def read_roles(connection: Connection) -> Roles:
    """Read the live roles; needs no right to see passwords."""
    found = rows(
        connection,
        """
        SELECT r.rolname, rolsuper, rolinherit, rolcreaterole, rolcreatedb, rolcanlogin, rolreplication,
               rolbypassrls, rolconnlimit, rolvaliduntil::text, shobj_description(r.oid, 'pg_authid'),
               rolconfig
        FROM pg_roles r WHERE r.rolname !~ '^pg_' ORDER BY r.rolname
        """,
    )
    return Roles(
        tuple(
            Role(
                name=row[0],
                superuser=row[1],
                inherit=row[2],
                create_role=row[3],
                create_database=row[4],
                login=row[5],
                replication=row[6],
                bypass_rls=row[7],
                connection_limit=row[8],
                valid_until=row[9],
                comment=row[10],
                settings=tuple(row[11] or ()),
            )
            for row in found
        ),
        _read_memberships(connection),
        str(scalar(connection, "SELECT rolname FROM pg_roles WHERE oid = 10")),
    )


def adapt(wanted: Roles, current: Roles, version: int, user: str) -> Roles:
    """Fit recorded roles to a live server.

    What the bootstrap role granted is granted by this server's one; memberships recorded before
    PostgreSQL 16 get 16's defaults there; `user`, who restores, stays a superuser that can log in.
    """
    modern = version >= 160000
    memberships = []
    for entry in wanted.memberships:
        if entry.grantor == wanted.bootstrap or (modern and entry.inherit is None):
            entry = entry.model_copy(update={"grantor": current.bootstrap})
        if modern and entry.inherit is None:
            entry = entry.model_copy(update={"inherit": True, "set": True})
        if not modern:
            entry = entry.model_copy(update={"inherit": None, "set": None})
        memberships.append(entry)
    roles = tuple(
        role.model_copy(update={"superuser": True, "login": True}) if role.name == user else role
        for role in wanted.roles
    )
    return Roles(roles, tuple(memberships), current.bootstrap)


def read_passwords(globals_sql: str) -> dict[str, str]:
    """Return the stored password hash of every role that has one in `pg_dumpall` output."""
    return {_unquote(match["role"]): match["hash"] for match in _PASSWORD.finditer(globals_sql)}


def create_statements(role: Role, password: str | None) -> Iterator[str]:
    """Yield what makes a missing role."""
    name = identifier(role.name)
    yield f"CREATE ROLE {name}"
    yield from alter_statements(_blank(role.name), role)
    if password is not None:
        yield f"ALTER ROLE {name} PASSWORD {literal(password)}"


def alter_statements(current: Role, wanted: Role) -> Iterator[str]:
    """Yield what brings an existing role from `current` to `wanted`; the password stays."""
    name = identifier(wanted.name)
    words = [
        word if getattr(wanted, field) else f"NO{word}"
        for field, word in _ATTRIBUTES
        if getattr(current, field) != getattr(wanted, field)
    ]
    if current.connection_limit != wanted.connection_limit:
        words.append(f"CONNECTION LIMIT {wanted.connection_limit}")
    if current.valid_until != wanted.valid_until:
        words.append(f"VALID UNTIL {literal(wanted.valid_until or 'infinity')}")
    if words:
        yield f"ALTER ROLE {name} WITH {' '.join(words)}"
    if current.comment != wanted.comment:
        text = "NULL" if wanted.comment is None else literal(wanted.comment)
        yield f"COMMENT ON ROLE {name} IS {text}"
    for setting in current.settings:
        if setting_name(setting) not in {setting_name(kept) for kept in wanted.settings}:
            yield f"ALTER ROLE {name} RESET {setting_name(setting)}"
    for setting in wanted.settings:
        if setting not in current.settings:
            yield f"ALTER ROLE {name} SET {assignment(setting)}"


def membership_statements(
    current: Iterable[Membership], wanted: Iterable[Membership], known: frozenset[str]
) -> Iterator[str]:
    """Yield revokes and grants between roles that both are in `known` or predefined."""
    before = [entry for entry in current if _between(entry, known)]
    after = [entry for entry in wanted if _between(entry, known)]
    for entry in before:
        if entry not in after:
            yield (
                f"REVOKE {identifier(entry.role)} FROM {identifier(entry.member)}{_granted_by(entry)} CASCADE"
            )
    for entry in _grantors_first(entry for entry in after if entry not in before):
        yield _grant(entry)


def changed(current: Roles, wanted: Roles) -> Iterator[tuple[Role, Role]]:
    """Yield (current, wanted) of each role that is in both and differs."""
    existing = current.by_name
    for role in wanted.roles:
        if role.name in existing and existing[role.name] != role:
            yield existing[role.name], role


def role_statements(current: Roles, wanted: Roles) -> list[str]:
    """Return what brings roles that exist on both sides, and their memberships, to `wanted`."""
    known = frozenset(current.by_name) & frozenset(wanted.by_name)
    statements = [text for pair in changed(current, wanted) for text in alter_statements(*pair)]
    statements += membership_statements(current.memberships, wanted.memberships, known)
    return statements


def _grant(entry: Membership) -> str:
    text = f"GRANT {identifier(entry.role)} TO {identifier(entry.member)}"
    if entry.inherit is None:
        text += " WITH ADMIN OPTION" if entry.admin else ""
    else:
        options = (("ADMIN", entry.admin), ("INHERIT", entry.inherit), ("SET", bool(entry.set)))
        text += " WITH " + ", ".join(f"{word} {'TRUE' if value else 'FALSE'}" for word, value in options)
    return text + _granted_by(entry)


def _granted_by(entry: Membership) -> str:
    return f" GRANTED BY {identifier(entry.grantor)}" if entry.grantor else ""


def _grantors_first(entries: Iterable[Membership]) -> Iterator[Membership]:
    """Order grants so that whoever grants a role has been given it with ADMIN before."""
    pending = list(entries)
    while pending:
        waiting = {(entry.role, entry.member) for entry in pending if entry.admin}
        ready = [entry for entry in pending if (entry.role, entry.grantor) not in waiting] or pending
        yield from ready
        pending = [entry for entry in pending if entry not in ready]


def _between(entry: Membership, known: frozenset[str]) -> bool:
    return all(name in known or name.startswith("pg_") for name in (entry.role, entry.member)) and (
        not entry.grantor or entry.grantor in known
    )


def _read_memberships(connection: Connection) -> tuple[Membership, ...]:
    options = "m.inherit_option, m.set_option" if version_number(connection) >= 160000 else "NULL, NULL"
    found = rows(
        connection,
        f"""
        SELECT role.rolname, member.rolname, coalesce(grantor.rolname, ''), m.admin_option, {options}
        FROM pg_auth_members m JOIN pg_roles role ON role.oid = m.roleid
        JOIN pg_roles member ON member.oid = m.member LEFT JOIN pg_roles grantor ON grantor.oid = m.grantor
        WHERE member.rolname !~ '^pg_' ORDER BY 1, 2, 3
        """,  # noqa: S608
    )
    return tuple(
        Membership(role=row[0], member=row[1], grantor=row[2], admin=row[3], inherit=row[4], set=row[5])
        for row in found
    )


def _blank(name: str) -> Role:
    """What CREATE ROLE without options makes."""
    return Role(
        name=name,
        superuser=False,
        inherit=True,
        create_role=False,
        create_database=False,
        login=False,
        replication=False,
        bypass_rls=False,
        connection_limit=-1,
        valid_until=None,
        comment=None,
        settings=(),
    )


def _unquote(name: str) -> str:
    return name[1:-1].replace('""', '"') if name.startswith('"') else name
