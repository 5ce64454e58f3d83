"""The main job: back up a live stack, destroy it, bring it back, prove it equal."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from support.postgres import connect
from support.stack import StackUnderTest, stack_under_test

VARIANTS = {"18-valkey": (18, "valkey"), "15-redis-aof": (15, "redis")}


@pytest.fixture(params=sorted(VARIANTS))
def stack(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[StackUnderTest]:
    """Yield a running stack, once with the newest versions, once with Debian's."""
    postgres, cache = VARIANTS[request.param]
    with stack_under_test(tmp_path, postgres=postgres, cache=cache) as running:
        yield running


def test_everything_lost_comes_back_equal(stack: StackUnderTest) -> None:
    """After total loss one command brings all components back; restic agrees with what we wrote."""
    before = stack.describe()
    name = stack.backup()
    stack.assert_clean_by_restic()
    stack.destroy()
    done = stack.restore(name)
    assert stack.describe() == before
    assert [one["status"] for one in done.summary["components"]] == ["restored"] * 4
    assert stack.leftovers() == []


def test_rollback_brings_back_what_the_restore_replaced(stack: StackUnderTest) -> None:
    """The state at the moment of the restore is in its safety backup, and comes back by `rollback`."""
    first = stack.describe()
    name = stack.backup()
    stack.change()
    second = stack.describe()
    done = stack.restore(name)
    assert stack.describe() == first
    assert done.summary["safety_backup"] != name
    undone = stack.run("rollback", "--no-confirm")
    assert undone.status == 0, (undone.messages, undone.stderr)
    # A database that the safety backup does not know is never dropped: the summary names it.
    assert any("doomed" in warning for warning in undone.summary["warnings"]), undone.summary
    with connect(stack.postgres.server) as connection:
        connection.execute("DROP DATABASE doomed")
    assert stack.describe() == second
    assert stack.leftovers() == []
    assert stack.run("rollback", "--no-confirm").status == 1


def test_one_component_comes_back_and_nothing_else_is_touched(tmp_path: Path) -> None:
    """`--only` restores just that component; the others keep their newer state."""
    parts = {"configs": "configs", "uploads": "volume", "redis": "redis", "postgres": "postgres"}
    with stack_under_test(tmp_path) as stack:
        before = stack.describe()
        name = stack.backup()
        stack.change()
        expected = stack.describe()
        for component, part in parts.items():
            stack.restore(name, "--only", component)
            expected[part] = before[part]
            assert stack.describe() == expected, component


def test_latest_is_never_a_safety_backup(tmp_path: Path) -> None:
    """After a restore `latest` still means the last backup that was asked for."""
    with stack_under_test(tmp_path) as stack:
        before = stack.describe()
        name = stack.backup()
        stack.change()
        stack.restore(name)
        stack.change()
        assert stack.restore("latest").summary["backup"] == name
        assert stack.describe() == before


def test_old_database_with_a_replication_slot_is_kept_until_someone_decides(tmp_path: Path) -> None:
    """The restore is done, exit code 3 says what the slot holds back, and `--resume` clears up later."""
    with stack_under_test(tmp_path, settings={"wal_level": "logical"}) as stack:
        name = stack.backup()
        with connect(stack.postgres.server, "shop") as connection:
            connection.execute("SELECT pg_create_logical_replication_slot('feed', 'test_decoding')")
        planned = stack.run("restore", name, "--only", "postgres", "--dry-run")
        assert "feed" in str(planned.summary)
        done = stack.run("restore", name, "--only", "postgres", "--no-confirm")
        assert done.status == 3, done.messages[-1]
        assert done.error["code"] == "old_state_kept"
        assert "feed" in done.error["message"]
        with connect(stack.postgres.server) as connection:
            assert connection.execute("SELECT count(*) FROM pg_replication_slots").fetchone() == (1,)
            connection.execute("SELECT pg_drop_replication_slot('feed')")
        assert stack.run("restore", "--resume", "--no-confirm").status == 0
        assert stack.leftovers() == []
