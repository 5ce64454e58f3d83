"""Verify: what stands on the server is compared with the proof, number by number."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from sheetanchor.components.postgres.counts import Contents, read_contents
from sheetanchor.components.postgres.proof import DatabaseProof, PostgresProof
from sheetanchor.components.postgres.properties import read_properties
from sheetanchor.components.postgres.server import Server
from sheetanchor.errors import ProofMismatchError

SHOWN_DIFFERENCES = 5


def verify_databases(
    server: Server,
    proof: PostgresProof,
    actual_name: Callable[[DatabaseProof], str],
    *,
    properties_from: str,
) -> tuple[str, ...]:
    """Compare every database of `proof`, found under `actual_name`; return what was compared.

    `properties_from` is the database to read shared catalogs from: their names are in its encoding.
    Raises ProofMismatchError naming the first differences.
    """
    differences: list[str] = []
    compared: list[str] = []
    for database in proof.databases:
        with server.session(actual_name(database)) as connection:
            contents = read_contents(connection)
            properties = read_properties(connection, actual_name(database))
        differences += differences_in(database, contents)
        differences += _property_differences(
            database, properties.model_copy(update={"name": database.name}).model_dump()
        )
        compared.append(
            f"database {database.name}: {database.rows:,} rows in {len(database.tables):,} tables,"
            f" {database.large_objects:,} large objects, {len(database.extensions)} extensions, properties"
        )
        compared += _other_versions(database, contents)
    if differences:
        more = len(differences) - SHOWN_DIFFERENCES
        raise ProofMismatchError(
            "PostgreSQL is not what was backed up: "
            + "; ".join(differences[:SHOWN_DIFFERENCES])
            + (f"; and {more} more" if more > 0 else ""),
            hint="nothing was replaced; verify the backup, or restore an older one",
        )
    return tuple(compared)


def differences_in(database: DatabaseProof, contents: Contents) -> Iterator[str]:
    """Yield how the contents of a database differ from its proof."""
    expected = {(table.schema_name, table.name): table.rows for table in database.tables}
    found = {(table.schema_name, table.name): table.rows for table in contents.tables}
    for key in sorted(expected.keys() | found.keys()):
        if expected.get(key) != found.get(key):
            yield (
                f"{database.name}: table {'.'.join(key)} has {_number(found.get(key))},"
                f" the backup {_number(expected.get(key))}"
            )
    pairs = (
        ("large objects", database.large_objects, contents.large_objects),
        ("bytes in large objects", database.large_object_bytes, contents.large_object_bytes),
    )
    for what, wanted, actual in pairs:
        if wanted != actual:
            yield f"{database.name}: {actual:,} {what}, the backup has {wanted:,}"
    lists = (
        ("extensions", {e.name for e in database.extensions}, {e.name for e in contents.extensions}),
        ("schemas", set(database.schemas), set(contents.schemas)),
    )
    for what, wanted_names, actual_names in lists:
        if wanted_names != actual_names:
            odd = ", ".join(sorted(wanted_names ^ actual_names))
            yield f"{database.name}: the {what} differ: {odd}"


def _property_differences(database: DatabaseProof, actual: dict[str, object]) -> Iterator[str]:
    expected = database.properties.model_dump()
    for field, value in expected.items():
        # A tablespace that this server lacks is reported when staging, not a difference.
        if field != "tablespace" and _unordered(actual[field]) != _unordered(value):
            yield f"{database.name}: {field} is {actual[field]!r}, the backup has {value!r}"


def _unordered(value: object) -> object:
    """Put lists in one order; of grants leave out the grantor.

    What a superuser grants counts as granted by the owner, so the grantor changes where a role
    has become a superuser since the backup.
    """
    if not isinstance(value, list | tuple):
        return value
    plain = [
        {key: part for key, part in entry.items() if key != "grantor"} if isinstance(entry, dict) else entry
        for entry in value
    ]
    return sorted(plain, key=repr)


def _other_versions(database: DatabaseProof, contents: Contents) -> Iterator[str]:
    found = {extension.name: extension.version for extension in contents.extensions}
    for extension in database.extensions:
        version = found.get(extension.name)
        if version is not None and version != extension.version:
            yield f"database {database.name}: extension {extension.name} {version}, was {extension.version}"


def _number(rows: int | None) -> str:
    return "no such table" if rows is None else f"{rows:,} rows"
