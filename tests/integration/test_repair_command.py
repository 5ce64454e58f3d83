"""`repository repair` as an operator uses it: after damage, in the order that its help gives."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path

import pytest

from support.program import PASSWORD, ShopStack
from support.programs import require_program


@pytest.fixture
def stack(tmp_path: Path) -> ShopStack:
    """A stack of files with a repository."""
    return ShopStack.make(tmp_path)


def _restic(stack: ShopStack, *arguments: str) -> str:
    done = subprocess.run(
        [require_program("restic"), "--no-cache", "--repo", str(stack.repository), *arguments],
        env={**os.environ, "RESTIC_PASSWORD": PASSWORD},
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def _place_of(stack: ShopStack, path: str) -> tuple[Path, int]:
    """Return the pack of a stored file's first blob and a position in it, as stock restic finds it."""
    (found,) = json.loads(_restic(stack, "find", "--json", path))
    tree = json.loads(_restic(stack, "cat", "snapshot", found["snapshot"]))["tree"]
    blob = _blob(stack, tree, path)
    for file in (stack.repository / "index").iterdir():
        for pack in json.loads(_restic(stack, "cat", "index", file.name))["packs"]:
            for one in pack["blobs"]:
                if one["id"] == blob:
                    return stack.repository / "data" / pack["id"][:2] / pack["id"], one["offset"] + 20
    raise AssertionError(f"no pack holds {blob}")


def _blob(stack: ShopStack, tree: str, name: str) -> str:
    waiting = [tree]
    while waiting:
        for node in json.loads(_restic(stack, "cat", "blob", waiting.pop()))["nodes"]:
            if node["name"] == name:
                return str(node["content"][0])
            if node["type"] == "dir":
                waiting.append(node["subtree"])
    raise AssertionError(f"{name} is in no tree")


def _flip(file: Path, position: int) -> None:
    file.chmod(0o600)
    data = bytearray(file.read_bytes())
    data[position] ^= 1
    file.write_bytes(data)


def test_a_sound_repository_needs_nothing(stack: ShopStack) -> None:
    """Each repair says so, with exit code 0, and writes nothing."""
    stack.backup()
    before = {path: path.read_bytes() for path in stack.repository.rglob("*") if path.is_file()}
    for arguments in (("index",), ("index", "--read-headers"), ("packs", "--read-data"), ("snapshots",)):
        done = stack.call("repository", "repair", *arguments)
        assert done.status == 0, done.stderr
        assert done.stdout.startswith("nothing to repair: ")
    assert {path: path.read_bytes() for path in stack.repository.rglob("*") if path.is_file()} == before


def test_damage_is_named_healed_and_gone(stack: ShopStack) -> None:
    """A flipped bit: the file is named with its backup, the next backup stores it again, all is whole."""
    name = stack.backup()
    pack, position = _place_of(stack, "b.txt")
    _flip(pack, position)
    assert stack.call("repository", "check", "--read-data").status == 1
    planned = stack.call("repository", "repair", "packs", "--read-data", "--dry-run", "--json")
    assert planned.status == 1
    assert planned.summary["status"] == "planned"
    assert pack.exists()
    done = stack.call("repository", "repair", "packs", "--read-data")
    assert done.status == 1
    assert "1 lost" in done.stdout
    assert not pack.exists()
    told = stack.call("repository", "repair", "snapshots", "--dry-run", "--json")
    assert told.status == 1
    lost = [(one["backup"], one["component"], one["lost"]) for one in told.summary["damaged"]]
    assert lost == [(name, "uploads", ["/volumes/uploads/sub/b.txt"])]
    healing = stack.call("backup")
    assert healing.status == 0, healing.stderr
    assert stack.call("repository", "repair", "snapshots").status == 0
    assert stack.call("verify", name, "--read-data").status == 0
    _restic(stack, "check", "--read-data")


def test_what_cannot_be_healed_is_left_out_of_a_marked_copy(stack: ShopStack) -> None:
    """The source changed too: the copy restores everything else, and is never taken for the backup."""
    name = stack.backup()
    pack, position = _place_of(stack, "b.txt")
    _flip(pack, position)
    stack.call("repository", "repair", "packs", "--read-data")
    told = stack.call("repository", "repair", "snapshots", "--json")
    (damaged,) = told.summary["damaged"]
    assert damaged["copied"]
    snapshots = json.loads(_restic(stack, "snapshots", "--json"))
    (copy,) = [one for one in snapshots if "status=repaired" in one["tags"]]
    assert copy["original"] == damaged["snapshot"]
    target = stack.directory / "restored"
    done = stack.call("restore", copy["id"], "--target", str(target))
    assert done.status == 0, done.stderr
    restored = {path.name for path in target.rglob("*") if path.is_file()}
    assert restored == {"a.txt", "binary"}
    assert stack.call("verify", name).status == 1
    gone = stack.call("repository", "repair", "snapshots", "--forget")
    assert gone.status == 1
    left = json.loads(_restic(stack, "snapshots", "--json"))
    assert damaged["snapshot"] not in {one["id"] for one in left}
    _restic(stack, "check", "--read-data")


def test_a_lost_index_is_rebuilt(stack: ShopStack) -> None:
    """Without any index file the command takes all packs in, and the backup restores."""
    name = stack.backup()
    for file in (stack.repository / "index").iterdir():
        file.unlink()
    assert stack.call("verify", name).status == 1
    done = stack.call("repository", "repair", "index")
    assert done.status == 0, done.stderr
    assert "in no readable index" in done.stdout
    assert stack.call("verify", name, "--read-data").status == 0
    _restic(stack, "check", "--read-data")


def test_deleted_snapshots_come_back_as_what_they_were(stack: ShopStack) -> None:
    """With all snapshot files gone, manifests and components are recognised and the backup is complete."""
    name = stack.backup()
    before = json.loads(stack.call("list", "--json").stdout)
    for file in (stack.repository / "snapshots").iterdir():
        file.unlink()
    assert stack.call("repository", "repair", "snapshots").status == 0
    planned = stack.call("repository", "repair", "snapshots", "--recover", "--dry-run", "--json")
    assert list((stack.repository / "snapshots").iterdir()) == []
    done = stack.call("repository", "repair", "snapshots", "--recover", "--json")
    assert done.status == 0, done.stderr
    assert done.summary["recovered"] == planned.summary["recovered"]
    recovered = {(one["backup"], one["component"]) for one in done.summary["recovered"]}
    assert recovered == {(name, "uploads"), (name, "configs"), (name, "manifest")}
    after = json.loads(stack.call("list", "--json").stdout)
    keys = ("backup", "stack", "status", "tier", "components", "time")
    assert [{key: one[key] for key in keys} for one in after] == [
        {key: one[key] for key in keys} for one in before
    ]
    assert stack.call("verify", name, "--read-data").status == 0
    again = stack.call("repository", "repair", "snapshots", "--recover", "--json")
    assert again.summary["recovered"] == []
    _restic(stack, "check", "--read-data")


def test_verify_reads_another_share_each_time(stack: ShopStack) -> None:
    """Two halves are the whole: the second run says that all was read, and how long ago at most."""
    stack.backup()
    first = stack.call("verify", "--read-data=50%", "--json")
    assert first.status == 0, first.stderr
    assert first.summary["status"] == first.summary["repository"]["status"] == "whole"
    assert "have been read so far; 1 more such run" in first.summary["repository"]["notes"][0]
    second = stack.call("verify", "--read-data=50%")
    assert second.status == 0, second.stderr
    assert "was read within the last 2 runs" in second.stdout
    _restic(stack, "check", "--read-data")
