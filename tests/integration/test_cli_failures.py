"""What goes wrong ends with one line, a hint and the promised exit code, and nothing lost."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from support.program import PASSWORD, PROGRAM, Done, ShopStack, run

pytestmark = pytest.mark.slow


@pytest.fixture
def stack(tmp_path: Path) -> ShopStack:
    """A stack with an empty repository, for one test."""
    return ShopStack.make(tmp_path)


def error_lines(done: Done) -> list[str]:
    """Return what stands on standard error; fails on a traceback."""
    assert "Traceback" not in done.stderr, done.stderr
    return done.stderr.splitlines()


def no_repository(stack: ShopStack) -> None:
    """Take the repository away."""
    shutil.rmtree(stack.repository)


def wrong_password(stack: ShopStack) -> None:
    """Change the password file."""
    (stack.directory / "password").write_text("another\n")


def no_configuration(stack: ShopStack) -> None:
    """Take the configuration away."""
    stack.config.unlink()


def unknown_key(stack: ShopStack) -> None:
    """Put a spelling mistake into the configuration."""
    stack.config.write_text(stack.config.read_text().replace("password_file", "pasword_file"))


FAILURES: dict[str, tuple[Callable[[ShopStack], None], int, str, str]] = {
    "no repository": (no_repository, 10, "no_repository", "init"),
    "wrong password": (wrong_password, 12, "wrong_password", ""),
    "no configuration": (no_configuration, 2, "configuration", "init"),
    "unknown key": (unknown_key, 2, "configuration", ""),
}


@pytest.mark.parametrize("failure", FAILURES)
def test_failures_have_their_exit_codes(stack: ShopStack, failure: str) -> None:
    """One `error:` line, a hint, and the code; with --json the same as an object; `status` says unknown."""
    break_it, status, code, hint = FAILURES[failure]
    break_it(stack)
    for command in (["list"], ["backup"], ["restore", "latest", "--no-confirm"]):
        done = stack.call(*command)
        assert done.status == status, (command, done.stderr)
        lines = error_lines(done)
        assert lines[0].startswith("error: ")
        assert len(lines) <= 2
        assert hint in done.stderr
        assert done.stdout == ""
    as_json = stack.call("list", "--json")
    (message,) = as_json.messages
    assert (as_json.status, message["message_type"], message["code"]) == (status, "error", code)
    assert error_lines(as_json) == []
    nagios = stack.call("status", "--format", "nagios")
    assert nagios.status == 3
    assert nagios.stdout.startswith("BACKUP UNKNOWN - ")
    assert len(nagios.stdout.splitlines()) == 1


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["bakup"], "did you mean 'backup'"),
        (["backup", "--nonsense"], "no such option: --nonsense"),
        (["backup", "--config", "x"], "no such option: --config"),
        (["backup", "--only", "nothing"], "no component is named 'nothing'"),
        (["backup", "--skip-type", "volumes"], "'volumes' is no type"),
        (["restore"], "which backup?"),
        (["restore", "latest"], "there is no terminal"),
        (["restore", "latest", "--json"], "takes no answers"),
        (["restore", "latest", "--resume"], "takes no name"),
        (["rollback"], "there is no terminal"),
        (["repository", "check", "--read-data=0%"], "is no share"),
        (["export", "latest", "--form", "zip"], "is no form"),
        (["export", "latest", "--form", "enc"], "needs a key"),
        (["key", "add"], "which new password?"),
        (["status", "--format", "xml"], "xml"),
        (["--json", "ls"], "missing argument"),
    ],
    ids=" ".join,
)
def test_wrong_usage_is_code_2(
    tmp_path_factory: pytest.TempPathFactory, arguments: list[str], message: str
) -> None:
    """What the command line cannot mean is said in one line with the next step, and nothing is done."""
    directory = tmp_path_factory.mktemp("usage")
    stack = ShopStack.make(directory, repository=False)
    if arguments[:2] == ["backup", "--only"]:
        assert stack.call("init").status == 0
    done = stack.call(*arguments)
    said = done.stdout if "--json" in arguments else done.stderr
    assert done.status == 2, said
    assert message in said.lower()
    assert "hint" in said
    assert "Traceback" not in done.stderr


def test_points_in_time_are_refused_for_now(stack: ShopStack) -> None:
    """The options are known, and answered by what is missing."""
    for option in ("--to-time=2026-11-22", "--to-xid=5", "--to-lsn=0/1", "--to-name=x", "--to-immediate"):
        done = stack.call("restore", "latest", option, "--no-confirm")
        assert done.status == 1
        assert "point-in-time recovery needs a WAL archive; this repository has none" in done.stderr


def test_unknown_names_show_the_nearest(stack: ShopStack) -> None:
    """A digit mistyped at night: the names that were meant are shown."""
    name = stack.backup()
    done = stack.call("restore", name[:-1] + "x", "--no-confirm")
    assert done.status == 1
    assert name in error_lines(done)[1]


def test_status_counts_age_like_a_monitoring_plugin(stack: ShopStack) -> None:
    """2 without a backup, then 0, and 1 or 2 by the limits; every form agrees."""
    empty = stack.call("status", "--format", "nagios")
    assert (empty.status, empty.stdout.split(" - ")[0]) == (2, "BACKUP CRITICAL")
    name = stack.backup()
    time.sleep(1.1)
    for limits, status, level in (
        (["25h", "30h"], 0, "ok"),
        (["1s", "30h"], 1, "warning"),
        (["0s", "1s"], 2, "critical"),
    ):
        options = ["--warn", limits[0], "--alert", limits[1]]
        as_json = stack.call("status", "--format", "json", *options)
        assert (as_json.status, as_json.summary["level"]) == (status, level)
        assert as_json.summary["newest_complete"]["backup"] == name
        text = stack.call("status", *options)
        assert (text.status, text.stdout.split(":")[0]) == (status, level.upper())
        metrics = stack.call("status", "--format", "prometheus", *options)
        assert f'sheetanchor_status{{stack="shop"}} {status}\n' in metrics.stdout
        assert 'sheetanchor_component_age_seconds{stack="shop",component="uploads"} ' in metrics.stdout


def test_a_vanished_volume_makes_the_backup_partial(stack: ShopStack) -> None:
    """The rest is saved, the exit code is 3, and `latest` stays the last complete backup."""
    complete = stack.backup()
    shutil.rmtree(stack.uploads)
    time.sleep(1)
    done = stack.call("backup", "--json")
    assert done.status == 3
    assert done.summary["status"] == "partial"
    states = {component["name"]: component["status"] for component in done.summary["components"]}
    assert states == {"uploads": "failed", "configs": "saved"}
    text = stack.call("backup")
    assert text.status == 3
    assert "is partial; not saved: uploads: " in error_lines(text)[0]
    assert stack.call("restore", "latest", "--dry-run", "--json").summary["backup"] == complete
    assert stack.call("status", "--json").status == 1


def test_restore_asks_for_the_name_of_the_stack(stack: ShopStack) -> None:
    """The wrong word changes nothing; the right one restores, and the terminal is told how to go back."""
    stack.backup()
    (stack.uploads / "a.txt").write_text("changed\n")
    wrong = stack.on_a_terminal("restore", "latest", answer="yes")
    assert wrong.status == 1
    assert "not confirmed ('yes' is not 'shop'); nothing was touched" in wrong.stdout
    assert (stack.uploads / "a.txt").read_text() == "changed\n"
    right = stack.on_a_terminal("restore", "latest", answer="shop")
    assert right.status == 0, right.stdout
    assert (stack.uploads / "a.txt").read_text() == "first\n"
    assert "`sheetanchor rollback` brings it back" in right.stdout
    back = stack.on_a_terminal("rollback", answer="shop")
    assert back.status == 0, back.stdout
    assert (stack.uploads / "a.txt").read_text() == "changed\n"


def test_colours_are_for_terminals_that_want_them(stack: ShopStack) -> None:
    """NO_COLOR and pipes get plain text."""
    no_repository(stack)
    assert "\x1b[31merror:" in stack.on_a_terminal("list").stdout
    assert "\x1b" not in stack.on_a_terminal("list", NO_COLOR="1").stdout
    assert "\x1b" not in stack.call("list").stderr


def test_a_traceback_only_under_debug(stack: ShopStack) -> None:
    """People get one line, whoever looks for the cause gets the whole way to it."""
    no_repository(stack)
    assert "Traceback" not in stack.call("list").stderr
    debugged = stack.call("--debug", "list")
    assert debugged.status == 10
    assert "Traceback (most recent call last)" in debugged.stderr
    assert debugged.stderr.splitlines()[-2].startswith("error: ")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_backup_leaves_nothing_half(stack: ShopStack, number: signal.Signals) -> None:
    """Exit 130 within seconds, no new backup, a whole repository, no lock in the way of the next run."""
    name = stack.backup()
    _fill(stack.uploads)
    child = subprocess.Popen(stack.command("backup"), stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    _wait_for_packs(stack.repository, child)
    child.send_signal(number)
    begin = time.monotonic()
    _, stderr = child.communicate(timeout=60)
    assert time.monotonic() - begin < 30
    assert child.returncode == 130, stderr
    assert stderr.decode().splitlines()[-1].startswith("error: interrupted")
    (backups,) = stack.call("list", "--json").messages
    assert [backup["backup"] for backup in backups] == [name]
    assert stack.call("repository", "check", "--read-data").status == 0
    assert os.listdir(stack.repository / "locks") == []
    assert stack.call("backup").status == 0


@pytest.mark.parametrize("phase", ["stage", "verify", "swap"])
def test_an_interrupted_restore_leaves_the_live_data_as_it_was(stack: ShopStack, phase: str) -> None:
    """Stopped while it builds, compares or swaps: exit 130, the present state, and nothing left beside it."""
    _fill(stack.uploads)
    stack.backup()
    shutil.rmtree(stack.uploads)
    stack.uploads.mkdir()
    (stack.uploads / "present").write_text("state\n")
    child = subprocess.Popen(
        stack.command("restore", "latest", "--no-confirm", "--json"), stdout=subprocess.PIPE, text=True
    )
    assert child.stdout is not None
    last: dict[str, object] = {}
    for line in child.stdout:
        last = json.loads(line)
        if (last.get("task"), last.get("phase")) == (f"{phase} uploads", "started"):
            child.send_signal(signal.SIGTERM)
    assert child.wait(60) == 130
    child.stdout.close()
    assert (last["message_type"], last["code"]) == ("error", "interrupted")
    assert last["hint"] == "the live data is as it was before"
    assert os.listdir(stack.uploads) == ["present"]
    assert sorted(os.listdir(stack.uploads.parent)) == ["docker-compose.yml", "uploads"]
    assert stack.call("restore", "--resume").status == 1
    assert stack.call("restore", "latest", "--no-confirm").status == 0
    assert len(os.listdir(stack.uploads)) == 63


def test_a_closed_terminal_does_not_stop_a_backup(stack: ShopStack) -> None:
    """SIGHUP, which a lost SSH session sends, is ignored: the backup is complete."""
    with _held_backup(stack) as child:
        child.send_signal(signal.SIGHUP)
    assert child.returncode == 0
    assert stack.call("list", "--json").messages[0][0]["status"] == "complete"


def test_a_second_backup_at_once_is_locked_out(stack: ShopStack) -> None:
    """Exit 11, naming the run that goes on; that one is complete."""
    with _held_backup(stack) as child:
        second = stack.run("backup")
        assert second.status == 11
        assert f"(process {child.pid})" in error_lines(second)[0]
    assert child.returncode == 0


def test_keys_come_and_go(stack: ShopStack) -> None:
    """A second password opens the repository, the key in use cannot be removed, the old one can."""
    second = stack.directory / "second"
    second.write_text("another password\n")
    second.chmod(0o600)
    added = stack.call("key", "add", "--new-password-file", str(second), "--json").summary["key"]
    other = {"SHEETANCHOR_PASSWORD_FILE": str(second)}
    (keys,) = stack.run("key", "list", "--json", **other).messages
    assert {key["key"]: key["current"] for key in keys}[added] is True
    first = next(key["key"] for key in keys if key["key"] != added)
    assert stack.run("key", "remove", added[:8], **other).status == 1
    assert stack.run("key", "remove", first[:8], **other).status == 0
    assert stack.call("list").status == 12
    changed = stack.run("key", "passwd", SHEETANCHOR_NEW_PASSWORD=PASSWORD, **other)
    assert changed.status == 0, changed.stderr
    assert stack.call("list").status == 0
    assert stack.run("list", **other).status == 12


def test_no_output_ever_holds_a_password(stack: ShopStack) -> None:
    """Neither results nor errors nor tracebacks show what opens the repository."""
    stack.backup()
    outputs = [
        stack.run(*command, SHEETANCHOR_NEW_PASSWORD="hunter2hunter2", SHEETANCHOR_PASSWORD=PASSWORD)
        for command in (
            ["--debug", "show", "latest", "--json"],
            ["--debug", "restore", "nothing", "--no-confirm"],
            ["key", "add", "--json"],
            ["config", "check"],
        )
    ]
    outputs.append(stack.run("--debug", "list", SHEETANCHOR_PASSWORD=PASSWORD + "x"))
    text = "".join(done.stdout + done.stderr for done in outputs)
    assert outputs[-1].status == 12
    assert PASSWORD not in text
    assert "hunter2" not in text


def test_init_writes_what_is_missing_and_keeps_what_is_there(tmp_path: Path) -> None:
    """First a configuration, a password file of mode 0600 and a repository; then nothing is changed."""
    (tmp_path / "uploads").mkdir()
    (tmp_path / "docker-compose.yml").write_text(
        "name: shop\nservices: {web: {image: nginx, volumes: ['./uploads:/srv']}}\n"
    )
    argv = [
        str(PROGRAM),
        "init",
        "--repository",
        str(tmp_path / "r"),
        "--password-file",
        str(tmp_path / "pw"),
    ]
    first = run([*argv, "--json"], {}, tmp_path)
    assert first.status == 0, first.stdout
    assert first.summary["status"] == "created"
    assert {"uploads", "configs"} <= set(first.summary["components"])
    assert (tmp_path / "pw").stat().st_mode & 0o777 == 0o600
    assert len((tmp_path / "pw").read_text().strip()) >= 40
    written = (tmp_path / "sheetanchor.yml").read_bytes()
    again = run([str(PROGRAM), "init", "--json"], {}, tmp_path)
    assert again.summary["status"] == "present"
    assert again.summary["id"] == first.summary["id"]
    assert (tmp_path / "sheetanchor.yml").read_bytes() == written
    refused = run(argv, {}, tmp_path)
    assert refused.status == 2
    assert "never changes a configuration" in refused.stderr
    secret = (tmp_path / "pw").read_text().strip()
    assert secret not in first.stdout + first.stderr + again.stdout + again.stderr


@contextmanager
def _held_backup(stack: ShopStack) -> Iterator[subprocess.Popen[bytes]]:
    """Run a backup that does not end before the block does: its first component waits for a file to go."""
    mark = stack.directory / "running"
    wait = json.dumps(["sh", "-c", f"touch '{mark}'; while [ -e '{mark}' ]; do sleep 0.05; done"])
    written = stack.config.read_text()
    stack.config.write_text(written.replace("srv/uploads}", f"srv/uploads, pre: [{wait}]}}"))
    child = subprocess.Popen(stack.command("backup"), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        while not mark.exists():
            assert child.poll() is None
            time.sleep(0.05)
        yield child
    finally:
        mark.unlink(missing_ok=True)
        child.wait(120)


def _fill(directory: Path) -> None:
    """Write so much that a backup takes a few seconds."""
    for number in range(60):
        (directory / f"big{number}").write_bytes(os.urandom(4 << 20))


def _wait_for_packs(repository: Path, child: subprocess.Popen[bytes]) -> None:
    """Wait until the backup has stored something of what is new."""
    known = sum(1 for _ in (repository / "data").rglob("*") if _.is_file())
    deadline = time.monotonic() + 60
    while sum(1 for _ in (repository / "data").rglob("*") if _.is_file()) <= known:
        assert child.poll() is None, child.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.02)
