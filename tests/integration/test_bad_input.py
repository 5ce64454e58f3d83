"""Whatever is wrong, the program says so in one line, and nothing is lost."""

from __future__ import annotations

import os
import shutil
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from support.files_stack import FilesStack, make_files_stack
from support.programs import require_program, require_root
from support.redis import free_port, live_server, programs
from support.stack import PASSWORD, PROGRAM


@pytest.fixture
def stack(tmp_path: Path) -> FilesStack:
    """Return a stack of two volumes."""
    return make_files_stack(tmp_path)


def _contents(directory: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(directory)): path.read_bytes() for path in directory.rglob("*") if path.is_file()
    }


def test_wrong_password(stack: FilesStack) -> None:
    """Exit code 12, as restic's; the password itself is not repeated."""
    done = stack.run("list", SHEETANCHOR_PASSWORD="not the one")
    assert done.status == 12
    assert done.error["code"] == "wrong_password"
    assert "not the one" not in str(done)


def test_no_repository(stack: FilesStack) -> None:
    """Exit code 10, naming the place, and a hint at `init`."""
    shutil.rmtree(stack.repository)
    done = stack.run("backup")
    assert done.status == 10
    assert str(stack.repository) in done.error["message"]
    assert "init" in done.error["hint"]
    assert not stack.repository.exists()


def test_half_created_repository(stack: FilesStack) -> None:
    """A repository without its config is not taken for a new one, nor overwritten."""
    (stack.repository / "config").unlink()
    before = _contents(stack.repository)
    for command in (["backup"], ["init"]):
        done = stack.run(*command)
        assert done.status in {1, 10}, command
        assert "config" in done.error["message"]
    assert _contents(stack.repository) == before


def test_read_only_repository_still_restores(stack: FilesStack, tmp_path: Path) -> None:
    """A repository on a medium that cannot be written lists, verifies and restores; backup says why not."""
    require_root()
    before = _contents(stack.volume())
    name = stack.backup()
    point = str(stack.repository)
    subprocess.run(["mount", "--bind", point, point], check=True)
    try:
        subprocess.run(["mount", "-o", "remount,ro,bind", point], check=True)
        assert name in stack.listed()
        assert stack.run("verify", name, "--read-data").status == 0
        (stack.volume() / "file 1.txt").unlink()
        refused = stack.run("backup")
        assert refused.status == 1
        assert refused.error["code"] == "read_only", refused.error
        done = stack.run("restore", name, "--no-confirm", "--no-safety-backup")
        assert done.status == 0, (done.messages[-2:], done.stderr)
        assert _contents(stack.volume()) == before
    finally:
        subprocess.run(["umount", point], check=True)


def test_version_1_repository_is_read(tmp_path: Path) -> None:
    """What old restic wrote is listed and its files come back, by id."""
    restic = require_program("restic")
    stack = make_files_stack(tmp_path)
    shutil.rmtree(stack.repository)
    environment = {**os.environ, "RESTIC_PASSWORD": PASSWORD}
    repository = ["-r", str(stack.repository), "--no-cache"]
    subprocess.run(
        [restic, *repository, "init", "--repository-version", "1"],
        check=True,
        env=environment,
        capture_output=True,
    )
    subprocess.run(
        [restic, *repository, "backup", stack.volume()], check=True, env=environment, capture_output=True
    )
    listed = subprocess.run(
        [restic, *repository, "snapshots", "--json"], check=True, env=environment, capture_output=True
    )
    snapshot = listed.stdout.decode().split('"id":"')[1][:12]
    target = tmp_path / "out"
    done = stack.run("restore", snapshot, "--target", str(target))
    assert done.status == 0, (done.messages, done.stderr)
    assert _contents(target / stack.volume().relative_to("/")) == _contents(stack.volume())
    assert stack.run("repository", "check", "--read-data").status == 0


def test_unknown_backup_names_the_nearest(stack: FilesStack) -> None:
    """A typing mistake is answered with what was probably meant."""
    name = stack.backup()
    done = stack.run("restore", name[:-1] + "x", "--no-confirm")
    assert done.status == 1
    assert name in done.error["hint"]


def test_damaged_old_backup_does_not_keep_a_new_one_from_being_made(stack: FilesStack) -> None:
    """Half of the last backup gone from the repository: said as a warning, and tonight's run succeeds."""
    name = stack.backup()
    listed = subprocess.run(
        ["restic", "-r", stack.repository, "--no-cache", "snapshots", "--json", "--tag", "component=media"],
        check=True,
        capture_output=True,
        env={**os.environ, "RESTIC_PASSWORD": PASSWORD},
    )
    (stack.repository / "snapshots" / listed.stdout.decode().split('"id":"')[1][:64]).unlink()
    refused = stack.run("restore", name, "--no-confirm")
    assert refused.status == 1
    assert refused.error["code"] == "damaged"
    done = stack.run("backup")
    assert done.status == 0, (done.messages, done.stderr)
    warnings = [one["message"] for one in done.messages if one["message_type"] == "warning"]
    assert any(name in warning for warning in warnings), done.messages


def test_incomplete_backup_is_no_restore_point(stack: FilesStack) -> None:
    """Without its manifest a backup is shown as incomplete, and neither restored nor `latest`."""
    first = stack.backup()
    time.sleep(1.1)
    second = stack.backup()
    manifest = subprocess.run(
        [
            "restic",
            "-r",
            stack.repository,
            "--no-cache",
            "snapshots",
            "--json",
            "--tag",
            f"backup={second},manifest=complete",
        ],
        check=True,
        capture_output=True,
        env={**os.environ, "RESTIC_PASSWORD": PASSWORD},
    )
    snapshot = manifest.stdout.decode().split('"id":"')[1][:64]
    (stack.repository / "snapshots" / snapshot).unlink()
    assert stack.listed()[second]["status"] == "incomplete"
    refused = stack.run("restore", second, "--no-confirm")
    assert refused.status == 1
    assert "incomplete" in refused.error["message"]
    assert stack.run("restore", "latest", "--no-confirm").summary["backup"] == first


@pytest.fixture
def partial_stack(stack: FilesStack) -> Iterator[tuple[FilesStack, str, str]]:
    """Yield a stack with a complete backup, and a partial one after its database went away."""
    directory = stack.directory / "cache"
    with live_server(programs()["valkey"], directory) as server:
        with server.client() as client:
            client.set("key", "value")
        program = str(programs()["valkey"])
        url = f"redis://127.0.0.1:{server.port}/0"
        stack.write_config({"name": "redis", "type": "redis", "url": url, "server_program": program})
        complete = stack.backup()
        server.kill()
        time.sleep(1.1)
        done = stack.run("backup")
        assert done.status == 3, done
        assert done.summary["status"] == "partial"
        yield stack, complete, str(done.summary["backup"])


def test_partial_backup_exits_with_3_and_is_never_latest(partial_stack: tuple[FilesStack, str, str]) -> None:
    """A server that is down costs its component only; the older complete backup stays `latest`."""
    stack, complete, partial = partial_stack
    listed = stack.listed()
    assert (listed[complete]["status"], listed[partial]["status"]) == ("complete", "partial")
    failed = [one for one in stack.run("show", partial).summary["components"] if one["status"] == "failed"]
    assert [one["name"] for one in failed] == ["redis"]
    assert failed[0]["error"]
    planned = stack.run("restore", "latest", "--dry-run", "--skip", "redis")
    assert planned.status == 0, planned
    assert planned.summary["backup"] == complete


def test_partial_backup_gives_what_it_holds_only_by_name(partial_stack: tuple[FilesStack, str, str]) -> None:
    """Restoring all of a partial backup is refused; a component that it holds comes back with --only."""
    stack, _, partial = partial_stack
    refused = stack.run("restore", partial, "--no-confirm")
    assert refused.status == 1
    assert "partial" in refused.error["message"]
    assert stack.run("restore", partial, "--only", "uploads", "--no-confirm").status == 0


def test_nothing_to_save_at_all_is_a_failure(stack: FilesStack) -> None:
    """When every component fails, no backup is written: exit 1, and the first cause is named."""
    port = free_port()
    stack.write_config(
        components=[{"name": "redis", "type": "redis", "url": f"redis://127.0.0.1:{port}/0"}],
    )
    done = stack.run("backup")
    assert done.status == 1, done
    assert "redis" in done.error["message"]
    assert stack.listed() == {}


def test_vanished_volume_fails_its_component(stack: FilesStack) -> None:
    """A volume that is not there is a failure, not an empty volume; nothing makes it anew."""
    stack.backup()
    shutil.rmtree(stack.volume())
    done = stack.run("backup")
    assert done.status == 3
    failed = {one["name"]: one["error"] for one in done.summary["components"] if one["status"] == "failed"}
    assert list(failed) == ["uploads"]
    assert str(stack.volume()) in failed["uploads"]
    assert not stack.volume().exists()


def test_suddenly_empty_volume_fails_until_it_is_accepted(stack: FilesStack) -> None:
    """An empty volume that was full before is a failure; --accept-empty says that it is meant so."""
    stack.backup()
    for path in stack.volume().iterdir():
        path.unlink()
    done = stack.run("backup")
    assert done.status == 3
    again = stack.run("backup")
    assert again.status == 3, "the failed backup must not become what the next one is compared with"
    assert stack.run("backup", "--accept-empty").status == 0
    assert stack.run("backup").status == 0


def test_suddenly_empty_cache_fails_until_it_is_accepted(stack: FilesStack) -> None:
    """The same holds for a server that lost all its keys, however often the backup is tried."""
    program = programs()["valkey"]
    with live_server(program, stack.directory / "cache") as server:
        with server.client() as client:
            client.set("key", "value")
        url = f"redis://127.0.0.1:{server.port}/0"
        stack.write_config({"name": "redis", "type": "redis", "url": url, "server_program": str(program)})
        stack.backup()
        with server.client() as client:
            client.flushall()
        for _ in range(2):
            done = stack.run("backup")
            assert done.status == 3
            (failed,) = [one for one in done.summary["components"] if one["status"] == "failed"]
            assert "is empty; the last backup held 1 key in 1 database" in failed["error"]
        assert stack.run("backup", "--accept-empty").status == 0


def test_two_backups_at_once(stack: FilesStack) -> None:
    """The second run ends with exit code 11 naming the first, which goes on unharmed."""
    stack.write_config(
        components=[
            {"name": "uploads", "type": "volume", "path": str(stack.volume()), "pre": [["sleep", "4"]]},
        ]
    )
    first = subprocess.Popen(
        [PROGRAM, "--config", stack.config, "backup"], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE
    )
    try:
        time.sleep(2.5)
        done = stack.run("backup")
        assert done.status == 11, done
        assert str(first.pid) in done.error["message"]
        assert first.wait(30) == 0
    finally:
        first.kill()
        first.communicate()


def test_another_stacks_backup_asks_for_into(stack: FilesStack) -> None:
    """A backup of a stack of another name is restored only when told into which one."""
    name = stack.backup()
    stack.write_config(stack={"name": "other", "driver": "local"})
    refused = stack.run("restore", name, "--no-confirm")
    assert refused.status == 1
    assert "--into other" in refused.error["hint"]
    assert stack.run("restore", name, "--no-confirm", "--into", "other").status == 0


def test_failing_pre_command_fails_the_component_and_post_still_runs(stack: FilesStack) -> None:
    """What was to hold a volume still did not: its copy may be torn, so it does not count."""
    marker = stack.directory / "post ran"
    stack.write_config(
        components=[
            {
                "name": "uploads",
                "type": "volume",
                "path": str(stack.volume()),
                "pre": [["false"]],
                "post": [["touch", str(marker)]],
            },
            {"name": "media", "type": "volume", "path": str(stack.volume("media"))},
        ]
    )
    done = stack.run("backup")
    assert done.status == 3
    assert marker.exists()


def test_repository_inside_a_protected_volume_is_refused(stack: FilesStack) -> None:
    """It would be part of its own backups, and be lost together with what it protects."""
    inside = stack.volume() / "backups"
    stack.write_config(repository={"url": str(inside), "password_file": str(stack.directory / "password")})
    done = stack.run("init")
    assert done.status == 1
    assert "inside the volume" in done.error["message"]
    assert not inside.exists()


def test_full_disk_in_the_middle(stack: FilesStack, tmp_path: Path) -> None:
    """ENOSPC ends the run with one line; the older backup stays whole, and room lets the next one succeed."""
    require_root()
    small = tmp_path / "small"
    small.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=30m", "tmpfs", small], check=True)
    try:
        repository = {"url": str(small / "repository"), "password_file": str(stack.directory / "password")}
        stack.write_config(repository=repository)
        assert stack.run("init").status == 0
        good = stack.backup()
        big = stack.volume() / "big"
        big.write_bytes(os.urandom(60_000_000))
        done = stack.run("backup")
        assert done.status == 1, done
        assert done.error["code"] == "no_space", done.error
        checked = subprocess.run(
            ["restic", "-r", small / "repository", "--no-cache", "check", "--read-data", "--no-lock"],
            env={**os.environ, "RESTIC_PASSWORD": PASSWORD},
            capture_output=True,
            check=False,
        )
        assert checked.returncode == 0, checked.stdout.decode() + checked.stderr.decode()
        big.write_bytes(b"small now")
        subprocess.run(["mount", "-o", "remount,size=200m", small], check=True)
        assert stack.run("backup").status == 0
        assert stack.run("verify", good, "--read-data").status == 0
    finally:
        subprocess.run(["umount", small], check=True)


def test_damaged_repository_replaces_nothing(stack: FilesStack) -> None:
    """One flipped bit in a pack is found before any live byte is touched."""
    name = stack.backup()
    (stack.volume() / "file 1.txt").write_text("newer")
    before = _contents(stack.volume())
    packs = sorted((stack.repository / "data").glob("*/*"), key=lambda path: path.stat().st_size)
    pack = packs[-1]
    content = bytearray(pack.read_bytes())
    content[len(content) // 3] ^= 4
    pack.chmod(0o600)
    pack.write_bytes(content)
    done = stack.run("restore", name, "--no-confirm", "--no-safety-backup")
    assert done.status == 1, done
    assert _contents(stack.volume()) == before
    assert stack.run("verify", name, "--read-data").status == 1
    assert stack.run("repository", "check", "--read-data").status == 1
