"""Every command does what its help says, on a real stack of files, run as people run it."""

from __future__ import annotations

import shlex
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from sheetanchor.cli.main import main
from support.program import PROGRAM, ShopStack

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ShopStack]:
    """A stack with two backups; tests of this module only look at it."""
    stack = ShopStack.make(tmp_path_factory.mktemp("looking"))
    first = stack.backup("--tag", "before,test")
    (stack.uploads / "a.txt").write_text("first, changed\n")
    (stack.uploads / "new\x1b[2J\nname").write_text("x")
    (stack.uploads / "sub" / "b.txt").unlink()
    while stack.backup() == first:
        pass
    yield stack
    shutil.rmtree(stack.directory)


def names(stack: ShopStack) -> list[str]:
    """Return the names of all backups, oldest first."""
    (backups,) = stack.call("list", "--json").messages
    return [backup["backup"] for backup in backups]


def test_list_shows_all_backups(stack: ShopStack) -> None:
    """Without --json a table, with it one array; tags, status and sizes are there."""
    (backups,) = stack.call("list", "--json").messages
    assert [backup["status"] for backup in backups] == ["complete", "complete"]
    assert backups[0]["tags"] == ["before", "test"]
    assert backups[0]["components"] == ["configs", "uploads"]
    assert backups[0]["bytes_read"] == 6 + 256 * 40 + 7 + len("services: {}\n")
    table = stack.call("list").stdout.splitlines()
    assert table[0].split() == [
        "BACKUP", "TIME", "STATUS", "TIER", "READ", "ADDED", "DURATION", "COMPONENTS", "TAGS"
    ]  # fmt: skip
    assert table[1].startswith(names(stack)[0])
    assert "before, test" in table[1]


def test_show_tells_what_a_backup_holds(stack: ShopStack) -> None:
    """For people the parts, for programs the manifest with its proofs."""
    shown = stack.call("show", "latest")
    assert shown.status == 0
    assert "uploads (volume): saved" in shown.stdout
    summary = stack.call("show", "latest", "--json").summary
    assert summary["backup"] == names(stack)[1]
    assert {component["name"] for component in summary["components"]} == {"uploads", "configs"}
    assert all(component["proof"] for component in summary["components"])


def test_ls_prints_one_harmless_line_per_entry(stack: ShopStack) -> None:
    """A name with an escape sequence and a newline stays one line of visible characters."""
    listed = stack.call("ls", "latest", "/volumes/uploads").stdout
    lines = listed.splitlines()
    assert len(lines) == 5
    assert any(line.endswith(r"/volumes/uploads/new\x1b[2J\nname") for line in lines)
    assert all(line.isprintable() for line in lines)
    *entries, summary = stack.call("ls", "latest", "/volumes/uploads", "--json").messages
    assert {entry["message_type"] for entry in entries} == {"entry"}
    assert summary["entries"] == 5


def test_diff_names_every_change(stack: ShopStack) -> None:
    """Changed content, a new and a removed file; nothing else below the volume."""
    before, after = names(stack)
    *changes, summary = stack.call("diff", before, after, "--json").messages
    found = {(change["change"], change["path"]) for change in changes if "uploads/" in change["path"]}
    assert ("M", "/volumes/uploads/a.txt") in found
    assert ("-", "/volumes/uploads/sub/b.txt") in found
    assert {sign for sign, path in found if "new" in path} == {"+"}
    assert summary["added"] == 1
    assert summary["removed"] == 1
    assert "M  /volumes/uploads/a.txt  (6 B -> 15 B)" in stack.call("diff", before, after).stdout


def test_dump_writes_the_bytes_and_nothing_else(stack: ShopStack) -> None:
    """Binary data arrives unchanged; with --json every message goes to standard error."""
    command = stack.command("dump", "latest", "/volumes/uploads/binary", "--json")
    done = subprocess.run(command, capture_output=True, check=True)
    assert done.stdout == (stack.uploads / "binary").read_bytes()
    assert b'"message_type": "summary"' in done.stderr


def test_dump_into_a_pipe_that_closes_ends_quietly(stack: ShopStack) -> None:
    """`sheetanchor dump … | head -c 1` is no error worth a message."""
    command = shlex.join(stack.command("dump", "latest", "/volumes/uploads/binary"))
    done = subprocess.run(
        ["/bin/bash", "-o", "pipefail", "-c", f"{command} | true"], capture_output=True, check=False
    )
    assert done.returncode in {0, 141}
    assert done.stderr == b""


def test_a_closed_pipe_does_not_fail_a_listing(stack: ShopStack) -> None:
    """The reader has what it wanted: exit 0, and not a word."""
    command = shlex.join(stack.command("ls", "latest"))
    done = subprocess.run(
        ["/bin/bash", "-o", "pipefail", "-c", f"{command} | true"], capture_output=True, check=False
    )
    assert (done.returncode, done.stderr) == (0, b"")


@pytest.mark.parametrize("options", [[], ["--read-data"]], ids=str)
def test_verify_proves_a_backup_whole(stack: ShopStack, options: list[str]) -> None:
    """Exit 0 and what was looked at; the bytes only when they were asked for."""
    done = stack.call("verify", "--json", *options)
    assert done.status == 0
    assert done.summary["status"] == "whole"
    assert (done.summary["bytes_checked"] > 10_000) is bool(options)


@pytest.mark.parametrize("options", [[], ["--read-data"], ["--read-data=50%"]], ids=str)
def test_check_proves_the_repository_whole(stack: ShopStack, options: list[str]) -> None:
    """Exit 0, counts of what is there, and bytes only when they were read."""
    done = stack.call("repository", "check", "--json", *options)
    assert done.status == 0, done.stderr
    assert done.summary["status"] == "whole"
    assert done.summary["snapshots"] == 6
    assert (done.summary["bytes_read"] > 0) is bool(options)


def test_a_target_gets_the_files_and_nothing_live_is_touched(stack: ShopStack, tmp_path: Path) -> None:
    """`restore --target` needs no confirmation and refuses a directory that holds something."""
    before = (stack.uploads / "a.txt").stat()
    done = stack.call("restore", names(stack)[0], "--target", str(tmp_path / "out"), "--only", "uploads")
    assert done.status == 0, done.stderr
    assert (tmp_path / "out/volumes/uploads/a.txt").read_text() == "first\n"
    assert not (tmp_path / "out/configs").exists()
    assert (stack.uploads / "a.txt").stat() == before
    again = stack.call("restore", "latest", "--target", str(tmp_path / "out"))
    assert again.status == 1
    assert "is not empty" in again.stderr


def test_a_dry_run_shows_the_plan_and_touches_nothing(stack: ShopStack) -> None:
    """The plan names components, room and steps; --json gives it as one summary."""
    before = (stack.uploads / "a.txt").stat()
    shown = stack.call("restore", names(stack)[0], "--dry-run")
    assert shown.status == 0
    assert "uploads" in shown.stdout
    assert "swap the live state for it" in shown.stdout
    plan = stack.call("restore", names(stack)[0], "--dry-run", "--json").summary
    assert [step for step in plan["steps"] if step.startswith("swap:")] == ["swap:uploads", "swap:configs"]
    assert (stack.uploads / "a.txt").stat() == before
    assert len(names(stack)) == 2


def test_config_check_and_schema(stack: ShopStack) -> None:
    """The configuration is read without a connection to anything; the schema is JSON."""
    checked = stack.call("config", "check", "--json").summary
    assert checked["stack"] == "shop"
    (schema,) = stack.call("config", "schema", "--json").messages
    assert schema["properties"].keys() >= {"stack", "repository", "components"}


COMMANDS = (
    "init", "backup", "status", "list", "show", "ls", "diff", "dump", "verify", "restore", "rollback",
    "export", "import", "demo", "key list", "key add", "key remove", "key passwd", "repository check",
    "repository unlock", "config check", "config schema",
)  # fmt: skip


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_has_help_with_examples(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Three at night is no time to guess: each help ends with lines that can be copied."""
    assert main([*command.split(), "--help"]) == 0
    help_text = capsys.readouterr().out
    assert "--json" in help_text
    assert f"sheetanchor {command}" in help_text.split("\nExamples:\n")[1]


def test_the_shell_completes_commands_and_options() -> None:
    """Bash, zsh and fish ask the program itself; here as bash does."""
    environment = {
        "_SHEETANCHOR_COMPLETE": "complete_bash",
        "COMP_WORDS": "sheetanchor re",
        "COMP_CWORD": "1",
    }
    done = subprocess.run([PROGRAM], capture_output=True, check=False, env=environment)
    assert done.stdout.decode().split() == ["restore", "repository"]
