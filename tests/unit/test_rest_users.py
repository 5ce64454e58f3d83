"""The server's file of users: written whole, read strictly, and checked in the same time for everybody."""

from __future__ import annotations

import http.client
from base64 import b64encode
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path

import pytest

from sheetanchor.errors import ConfigError
from sheetanchor.repository.server.passwords import hash_password, matches
from sheetanchor.repository.server.rights import Right
from sheetanchor.repository.server.users import User, UserFile, change_users, parse_user, read_users
from sheetanchor.secret import Secret
from support.rest_server import PASSWORD, Served, served

# Of PASSWORD; fixed, since it stands in the names of tests.
HASH = "scrypt$16384$8$1$AAECAwQFBgcICQoLDA0ODw==$ChEWurR7Ji67usJGsmABOGbxPTpb9yJ3y/PXly3LCwk="


def _status(server: Served, user: str, password: str) -> int:
    connection = http.client.HTTPConnection(*server.address, timeout=20)
    credentials = b64encode(f"{user}:{password}".encode()).decode()
    connection.request("HEAD", "/config", headers={"Authorization": f"Basic {credentials}"})
    status = connection.getresponse().status
    connection.close()
    return status


def test_a_hash_fits_its_password_only() -> None:
    """Two hashes of one password differ, both fit it, and neither fits another one."""
    other = hash_password(Secret(PASSWORD))
    assert other != HASH
    for hashed in (HASH, other):
        assert matches(Secret(PASSWORD), hashed)
        assert not matches(Secret(PASSWORD + " "), hashed)
        assert not matches(Secret(""), hashed)
        assert PASSWORD not in hashed


def test_what_is_written_is_read(tmp_path: Path) -> None:
    """Rights and expiries survive; a plain name:hash line is a full user for ever."""
    file = tmp_path / "users"
    expires = datetime(2030, 1, 31, 12, tzinfo=UTC)
    change_users(file, add=User("one", HASH, Right.RUN, expires))
    change_users(file, add=User("two", HASH, Right.READ_ONLY))
    file.write_text(f"# by hand\n\n{file.read_text()}three:{HASH}\n")
    found = read_users(file)
    assert found == {
        "one": User("one", HASH, Right.RUN, expires),
        "two": User("two", HASH, Right.READ_ONLY),
        "three": User("three", HASH, Right.FULL),
    }
    assert HASH not in repr(found)


@pytest.mark.parametrize(
    "line",
    [
        "name",
        "name:",
        "na me:" + HASH,
        "name:$2y$05$abcdefghijklmnopqrstuv",
        f"name:{HASH}:god",
        f"name:{HASH}:run:tomorrow",
        f"name:{HASH}:run:-:more",
        "name:" + HASH.replace("$16384$", "$1048576$"),
        "name:" + HASH.replace("$16384$", "$16383$"),
        "name:" + HASH.replace("$8$1$", "$99$99$"),
        "name:" + HASH[:-1],
    ],
)
def test_lines_that_are_wrong_are_named_by_number(tmp_path: Path, line: str) -> None:
    """The error says where and what to do, and nothing of a hash; costs that would hurt are refused."""
    file = tmp_path / "users"
    file.write_text(f"good:{HASH}\n{line}\n")
    with pytest.raises(ConfigError, match="line 2") as caught:
        read_users(file)
    assert caught.value.hint
    assert HASH[-20:] not in caught.value.message
    with pytest.raises(ConfigError):
        parse_user(line)


def test_many_changes_at_once_lose_nothing(tmp_path: Path) -> None:
    """Eight writers add a user each; all eight are there."""
    file = tmp_path / "users"
    names = [f"user{number}" for number in range(8)]
    with ThreadPoolExecutor(8) as threads:
        list(threads.map(lambda name: change_users(file, add=User(name, HASH, Right.FULL)), names))
    assert sorted(read_users(file)) == names


def test_a_password_that_changed_counts_at_once(tmp_path: Path) -> None:
    """The old one, proven before, is refused as soon as the file says so; a broken file lets nobody in."""
    file = tmp_path / "users"
    change_users(file, add=User("one", HASH, Right.FULL))
    with served(tmp_path / "served", UserFile(file)) as server:
        assert _status(server, "one", PASSWORD) == 404
        change_users(file, add=User("one", hash_password(Secret("another")), Right.FULL))
        assert _status(server, "one", PASSWORD) == 401
        assert _status(server, "one", "another") == 404
        file.write_text("broken\n")
        assert _status(server, "one", "another") == 503
        file.unlink()
        assert _status(server, "one", "another") == 503
