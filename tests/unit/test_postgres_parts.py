"""The small parts of the PostgreSQL component: quoting, names, roles, the head of a dump."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sheetanchor.components.postgres.archive_header import server_version_of
from sheetanchor.components.postgres.names import (
    IDENTIFIER_BYTES,
    dump_path,
    hub_name,
    is_ours,
    replaced_name,
    staged_name,
)
from sheetanchor.components.postgres.proof import Membership, Role
from sheetanchor.components.postgres.quoting import assignment, identifier, split_list
from sheetanchor.components.postgres.roles import (
    Roles,
    adapt,
    alter_statements,
    create_statements,
    membership_statements,
    read_passwords,
    role_statements,
)
from sheetanchor.errors import ArchiveError

NAMES = st.text(st.characters(codec="utf-8", exclude_characters="\x00"), min_size=1, max_size=63).filter(
    lambda name: len(name.encode()) <= IDENTIFIER_BYTES
)


@given(st.lists(NAMES, min_size=1, max_size=4))
def test_stored_lists_are_split_as_the_server_quotes_them(elements: list[str]) -> None:
    """A list setting comes apart into the elements that were quoted into it."""
    assert split_list(", ".join(identifier(element) for element in elements)) == elements


@pytest.mark.parametrize(
    ("stored", "sql"),
    [
        ('search_path="$user", public', "\"search_path\" TO '$user', 'public'"),
        ('search_path=""', "\"search_path\" TO ''"),
        ("work_mem=7MB", "\"work_mem\" TO '7MB'"),
        ("app.it=a'b\\c", "\"app\".\"it\" TO  E'a''b\\\\c'"),
        ("x=a=b", "\"x\" TO 'a=b'"),
    ],
)
def test_settings_are_set_to_what_was_stored(stored: str, sql: str) -> None:
    """Lists element by element, everything else as one literal."""
    assert assignment(stored) == sql


@given(NAMES, NAMES)
def test_dumps_have_paths_of_their_own(one: str, two: str) -> None:
    """Every database name gives a path without "/" that no other name gives."""
    assert "/" not in dump_path(one)
    assert not dump_path(one).startswith(".")
    assert (dump_path(one) == dump_path(two)) == (one == two)


@given(NAMES, st.integers(0, 500))
def test_made_up_names_fit_and_are_recognised(database: str, number: int) -> None:
    """Names of a restore are at most 63 bytes, valid, ours, and differ between old and new."""
    names = {hub_name("t"), staged_name("t", number, database), replaced_name("t", number, database)}
    assert len(names) == 3
    for name in names:
        assert len(name.encode()) <= IDENTIFIER_BYTES
        assert is_ours(name)
    assert not is_ours("sheetanchor")
    assert not is_ours("sheetanchor_demo")


def test_passwords_are_read_from_globals() -> None:
    """Hashes are found for plain and quoted names; roles without one, and comments, give none."""
    text = (
        "ALTER ROLE app WITH NOSUPERUSER INHERIT LOGIN CONNECTION LIMIT 17 PASSWORD 'SCRAM-SHA-256$x'"
        " VALID UNTIL 'infinity';\n"
        'ALTER ROLE "a""b c" WITH LOGIN PASSWORD \'md5abc\';\n'
        "ALTER ROLE none WITH NOLOGIN;\n"
        "COMMENT ON ROLE app IS 'ALTER ROLE fake WITH LOGIN PASSWORD ''x''';\n"
    )
    assert read_passwords(text) == {"app": "SCRAM-SHA-256$x", 'a"b c': "md5abc"}


def role(name: str, **changes: object) -> Role:
    """Return a plain role with changes."""
    plain = Role(
        name=name,
        superuser=False,
        inherit=True,
        create_role=False,
        create_database=False,
        login=True,
        replication=False,
        bypass_rls=False,
        connection_limit=-1,
        valid_until=None,
        comment=None,
        settings=(),
    )
    return plain.model_copy(update=changes)


def member(group: str, who: str, grantor: str = "postgres", **changes: object) -> Membership:
    """Return a membership of PostgreSQL 16 or later."""
    plain = Membership(role=group, member=who, grantor=grantor, admin=False, inherit=True, set=True)
    return plain.model_copy(update=changes)


def test_equal_roles_need_no_statement() -> None:
    """What is as it should be is not touched."""
    same = Roles((role("a", settings=("x=1",)),), (member("a", "b"),), "postgres")
    assert role_statements(same, same) == []


def test_only_what_differs_is_changed_and_passwords_never() -> None:
    """Attributes, limits, validity, comment and settings follow the backup."""
    now = role("a", superuser=True, settings=("x=1", "y=2"), valid_until="2020-01-01")
    then = role("a", comment="c", settings=("y=3",), connection_limit=5)
    assert list(alter_statements(now, then)) == [
        "ALTER ROLE \"a\" WITH NOSUPERUSER CONNECTION LIMIT 5 VALID UNTIL 'infinity'",
        "COMMENT ON ROLE \"a\" IS 'c'",
        'ALTER ROLE "a" RESET "x"',
        'ALTER ROLE "a" SET "y" TO \'3\'',
    ]
    assert not any("PASSWORD" in text for text in alter_statements(now, then))
    assert "ALTER ROLE \"a\" PASSWORD 'hash'" in list(create_statements(then, "hash"))


def test_memberships_are_granted_grantors_first_and_strangers_left_alone() -> None:
    """Who grants a role has it with ADMIN before; roles the backup does not know keep theirs."""
    wanted = [member("g", "b", "a"), member("g", "a", admin=True)]
    known = frozenset({"a", "b", "g", "postgres"})
    statements = list(membership_statements([member("g", "b"), member("g", "stranger")], wanted, known))
    assert [text.split(" WITH")[0].split(" GRANTED")[0] for text in statements] == [
        'REVOKE "g" FROM "b"',
        'GRANT "g" TO "a"',
        'GRANT "g" TO "b"',
    ]


def test_roles_of_another_server_are_fitted_to_this_one() -> None:
    """Old memberships get the defaults of 16, the bootstrap role is ours, we stay superuser."""
    old = Roles(
        (role("postgres", superuser=False, login=False),),
        (member("g", "a", "boss", inherit=None, set=None),),
        "boss",
    )
    fitted = adapt(old, Roles((), (), "postgres"), 180000, "postgres")
    assert fitted.memberships == (member("g", "a", "postgres"),)
    assert fitted.roles[0].superuser
    assert fitted.roles[0].login
    back = adapt(Roles((), (member("g", "a"),), "postgres"), Roles((), (), "x"), 150000, "x")
    assert back.memberships == (member("g", "a", "x", inherit=None, set=None),)


def head(version: tuple[int, int], server: bytes) -> bytes:
    """Build the head of a custom-format dump."""

    def integer(value: int) -> bytes:
        return bytes([value < 0]) + abs(value).to_bytes(4, "little")

    compression = b"\x00" if version >= (1, 15) else integer(0)
    times = b"".join(integer(number) for number in range(7))
    text = b"".join(integer(len(part)) + part for part in (b"shop", server, b"18.1"))
    return b"PGDMP" + bytes([*version, 0, 4, 8, 1]) + compression + times + text


@pytest.mark.parametrize("version", [(1, 14), (1, 15), (1, 16)])
def test_head_of_a_dump_names_the_server(version: tuple[int, int]) -> None:
    """The version is found in every layout that PostgreSQL 13 and later write."""
    assert server_version_of(head(version, b"15.20 (Debian 15.20-0+deb12u1)")) == 150020


@given(st.binary(max_size=80))
def test_what_is_no_dump_is_refused(data: bytes) -> None:
    """Random bytes, and dumps cut off in their head, are one clear error."""
    with pytest.raises(ArchiveError):
        server_version_of(data)
    whole = head((1, 16), b"18.1")
    with pytest.raises(ArchiveError):
        server_version_of(whole[: len(data) % 60])
