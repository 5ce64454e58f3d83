"""`forget`, `keep` and `prune` as people run them: plans with reasons, marks, space that is freed."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from support.program import PASSWORD, Done, ShopStack
from support.restic import stock_restic


@pytest.fixture(scope="module")
def untouched(tmp_path_factory: pytest.TempPathFactory) -> ShopStack:
    """A stack for what is refused before anything happens."""
    return ShopStack.make(tmp_path_factory.mktemp("untouched"), repository=False)


@pytest.fixture
def stack(tmp_path: Path) -> ShopStack:
    """A stack with a volume and a configuration file."""
    return ShopStack.make(tmp_path)


def _backups(stack: ShopStack, count: int) -> list[str]:
    """Make complete backups, each with half a megabyte of its own."""
    names = []
    for _ in range(count):
        (stack.uploads / "changing").write_bytes(os.urandom(500_000))
        names.append(stack.backup())
    return names


def _judged(done: Done) -> dict[str, tuple[bool, list[str]]]:
    return {one["backup"]: (one["keep"], one["reasons"]) for one in done.summary["backups"]}


def _stored(stack: ShopStack) -> set[str]:
    return {one["backup"] for one in stack.call("list", "--json").messages[-1]}


def test_forget_removes_whole_backups_and_prune_frees_their_space(stack: ShopStack) -> None:
    """What the rules keep restores equal; the rest is gone from list, snapshots and disk."""
    names = _backups(stack, 4)
    wanted = (stack.uploads / "changing").read_bytes()
    done = stack.call("forget", "--keep-last", "2", "--no-confirm", "--json")
    assert done.status == 0, done.stderr
    assert done.summary["removed"] == names[:2]
    assert done.summary["kept"] == 2
    assert _stored(stack) == set(names[2:])
    restic = stock_restic(stack.directory, PASSWORD)
    assert len(restic.json("snapshots")) == 2 * 3
    planned = stack.call("prune", "--dry-run", "--max-unused", "0", "--json").summary
    assert planned["status"] == "planned"
    assert planned["plan"]["bytes_to_free"] > 900_000
    pruned = stack.call("prune", "--max-unused", "0", "--json").summary
    assert pruned["status"] == "pruned"
    assert pruned["plan"] == planned["plan"]
    assert pruned["bytes_freed"] > 900_000
    restic.run("check", "--read-data")
    (stack.uploads / "changing").write_bytes(b"lost")
    assert stack.call("restore", "latest", "--no-confirm", "--json").status == 0
    assert (stack.uploads / "changing").read_bytes() == wanted


def test_a_dry_run_shows_every_backup_with_its_reason_and_touches_nothing(stack: ShopStack) -> None:
    """People see a table, and both forms leave all backups in place."""
    names = _backups(stack, 3)
    done = stack.call("forget", "--keep-last", "1", "--dry-run")
    assert done.status == 0
    lines = done.stdout.splitlines()
    assert [line.split()[:2] for line in lines[1:4]] == [
        ["remove", names[0]],
        ["remove", names[1]],
        ["keep", names[2]],
    ]
    assert "no rule keeps it" in lines[1]
    assert "last 1" in lines[3]
    assert "newest complete backup" in lines[3]
    assert lines[-1] == "2 backups would go, 1 backup would stay"
    judged = _judged(stack.call("forget", "--keep-last", "1", "--dry-run", "--json"))
    assert [judged[name][0] for name in names] == [False, False, True]
    assert _stored(stack) == set(names)


def test_a_marked_backup_stays_until_the_mark_is_taken_away(stack: ShopStack) -> None:
    """`keep` survives rules that would remove the backup, which still verifies and restores."""
    names = _backups(stack, 3)
    assert stack.call("keep", names[0]).stdout == f"{names[0]} is kept whatever the rules say\n"
    assert stack.call("keep", names[0]).status == 0
    done = stack.call("forget", "--keep-last", "1", "--no-confirm", "--json")
    assert done.summary["removed"] == [names[1]]
    assert _judged(done)[names[0]] == (True, ["marked to be kept"])
    assert stack.call("prune", "--max-unused", "0", "--json").status == 0
    assert stack.call("verify", names[0], "--read-data", "--json").status == 0
    assert stack.call("keep", names[0], "--remove").status == 0
    done = stack.call("forget", "--keep-last", "1", "--no-confirm", "--json")
    assert done.summary["removed"] == [names[0]]
    restic = stock_restic(stack.directory, PASSWORD)
    restic.run("check", "--read-data")


def test_a_mark_names_the_snapshot_it_replaces(stack: ShopStack) -> None:
    """The manifest's snapshot keeps its time and tree, and names its original, as restic does."""
    (name,) = _backups(stack, 1)
    restic = stock_restic(stack.directory, PASSWORD)
    (before,) = [one for one in restic.json("snapshots") if "manifest=complete" in one["tags"]]
    assert stack.call("keep", name).status == 0
    (after,) = [one for one in restic.json("snapshots") if "manifest=complete" in one["tags"]]
    assert after["original"] == before["id"] != after["id"]
    assert (after["time"], after["tree"]) == (before["time"], before["tree"])
    assert after["tags"] == [*before["tags"], "keep"]


def test_backups_of_one_component_do_not_push_out_the_others(stack: ShopStack) -> None:
    """With frequent backups of one component, the last ones that hold the others stay."""
    full = _backups(stack, 2)
    only = [stack.backup("--only", "configs") for _ in range(3)]
    done = stack.call("forget", "--keep-last", "1", "--no-confirm", "--json")
    assert done.summary["removed"] == [full[0], *only[:2]]
    assert _stored(stack) == {full[1], only[2]}


def test_nothing_goes_without_a_rule_or_a_yes(stack: ShopStack) -> None:
    """No rule, no terminal to ask on, and a wrong answer each leave everything as it is."""
    names = _backups(stack, 2)
    assert stack.call("forget", "--no-confirm", "--json").status == 2
    assert stack.call("forget", "--keep-last", "1", "--json").status == 2
    refused = stack.on_a_terminal("forget", "--keep-last", "1", answer="shopp")
    assert refused.status == 1
    assert "nothing was touched" in refused.stdout
    assert _stored(stack) == set(names)
    done = stack.on_a_terminal("forget", "--keep-last", "1", answer="shop")
    assert done.status == 0, done.stdout
    assert _stored(stack) == {names[1]}


@pytest.mark.parametrize(
    "arguments",
    [
        ("prune", "--max-unused", "100%"),
        ("prune", "--max-unused", "five"),
        ("prune", "--limit", "fast"),
        ("prune", "--limit", "0"),
        ("prune", "--max-duration", "soon"),
        ("forget", "--keep-within", "long", "--no-confirm"),
        ("forget", "--keep-last", "-2", "--no-confirm"),
        ("keep", "backup_20200101_000000", "--wait", "x"),
    ],
)
def test_wrong_values_are_refused_by_name(untouched: ShopStack, arguments: tuple[str, ...]) -> None:
    """A value that makes no sense is wrong usage, and the message names the option."""
    done = untouched.call(*arguments)
    assert done.status == 2
    option = next(one for one in reversed(arguments) if one.startswith("--") and one != "--no-confirm")
    assert option in done.stderr


def test_a_backup_that_is_not_there_cannot_be_marked(stack: ShopStack) -> None:
    """The error says where to look."""
    done = stack.call("keep", "backup_20200101_000000")
    assert done.status == 1
    assert "no backup named" in done.stderr
    assert "sheetanchor list" in done.stderr


def test_a_lock_of_somebody_else_is_waited_for_or_reported(stack: ShopStack) -> None:
    """While another process uses the repository, forget and prune say who, with exit code 11."""
    _backups(stack, 2)
    from sheetanchor.clock import SystemClock
    from sheetanchor.repository.backend.local import LocalBackend
    from sheetanchor.repository.options import Options
    from sheetanchor.repository.repository import Repository
    from sheetanchor.secret import Secret

    other = Repository.open(
        LocalBackend(stack.repository), Secret(PASSWORD), options=Options(), clock=SystemClock()
    )
    with other.lock():
        for arguments in (("prune",), ("forget", "--keep-last", "1", "--no-confirm")):
            done = stack.call(*arguments)
            assert done.status == 11
            assert "is locked" in done.stderr
    assert stack.call("forget", "--keep-last", "1", "--no-confirm").status == 0
    assert stack.call("prune").status == 0
