"""Repositories behind REST servers through the whole program, and the server as people start it."""

from __future__ import annotations

import shutil
import signal
import stat
import subprocess
from pathlib import Path

import pytest

from support.files_stack import FilesStack, make_files_stack
from support.program import PROGRAM, run
from support.rclone import require_rclone
from support.rest_server import PASSWORD, certificate, program, rclone_rest
from support.volume_cases import describe

SERVE = [str(PROGRAM), "repository", "serve"]


def _stack_behind(directory: Path, url: str) -> FilesStack:
    stack = make_files_stack(directory)
    shutil.rmtree(stack.repository)
    repository = {"url": url, "password_file": str(directory / "password"), "retry_seconds": 2}
    stack.write_config(repository=repository)
    return stack


def _round_trip(stack: FilesStack, **environment: str) -> None:
    assert stack.run("init", **environment).status == 0
    before = describe(stack.volume())
    made = stack.run("backup", **environment)
    assert made.status == 0, (made.messages, made.stderr)
    shutil.rmtree(stack.volume())
    done = stack.run("restore", "latest", "--no-confirm", **environment)
    assert done.status == 0, (done.messages, done.stderr)
    assert describe(stack.volume()) == before
    assert stack.run("verify", "latest", "--read-data", **environment).status == 0
    assert PASSWORD not in str((made, done))


def test_backup_and_restore_through_our_server(tmp_path: Path) -> None:
    """Init, backup, loss, restore and verify with TLS and a user from the command line; SIGTERM ends it."""
    ca, key = certificate(tmp_path)
    file = tmp_path / "users"
    added = subprocess.run(
        [
            *SERVE,
            "--users",
            str(file),
            "--add-user",
            "web",
            "--right",
            "append-only",
            "--user-password-file",
            "-",
        ],
        input=f"{PASSWORD}\n",
        text=True,
        capture_output=True,
        check=True,
    )
    assert added.stdout == "added: user web, right append-only\n"
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert PASSWORD not in file.read_text()
    options = ["--users", str(file), "--tls-cert", str(ca), "--tls-key", str(key)]
    with program(tmp_path / "served", *options) as (server, child):
        stack = _stack_behind(tmp_path, f"rest:{server.url}")
        environment = {
            "SHEETANCHOR_REST_USERNAME": "web",
            "SHEETANCHOR_REST_PASSWORD": PASSWORD,
            "SHEETANCHOR_REST_CACERT": str(ca),
        }
        _round_trip(stack, **environment)
        wrong = stack.run("list", **{**environment, "SHEETANCHOR_REST_PASSWORD": "guessed"})
        assert wrong.status == 1
        assert "401" in wrong.error["message"]
        assert "SHEETANCHOR_REST_PASSWORD_FILE" in wrong.error["hint"]
        child.send_signal(signal.SIGTERM)
        assert child.wait(30) == 0
    assert server.log[-1].endswith(" stopped")
    assert PASSWORD not in "".join(server.log)


def test_backup_and_restore_through_the_server_of_others(tmp_path: Path) -> None:
    """The same behind stock `rclone serve restic`."""
    with rclone_rest(require_rclone(), tmp_path / "served") as url:
        _round_trip(_stack_behind(tmp_path, f"rest:{url}shop/"))


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--listen", "0.0.0.0:0"], ["users", "TLS", "hint"]),
        (["--listen", "nonsense"], ["no address", "hint"]),
        (["--quota", "much"], ["no size", "hint"]),
        (["--users", "no-such-file"], ["no-such-file", "hint"]),
        (["--tls-cert", "no.pem", "--tls-key", "no.key"], ["no.pem", "hint"]),
        (["--add-user", "web"], ["which file of users", "hint"]),
        (["--users", "users", "--add-user", "web", "--right", "god"], ["god", "append-only"]),
        (["--users", "users", "--add-user", "web"], ["which password", "hint"]),
        (["--users", "users", "--remove-user", "web"], ["no user"]),
    ],
)
def test_wrong_options_are_one_line_and_a_hint(
    tmp_path: Path, arguments: list[str], words: list[str]
) -> None:
    """Exit code 2, nothing started, nothing written."""
    (tmp_path / "served").mkdir()
    done = run([*SERVE, str(tmp_path / "served"), *arguments], {}, tmp_path)
    assert done.status == 2, done.stderr
    for word in words:
        assert word in done.stderr
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "users").exists()


def test_users_are_read_anew_while_serving(tmp_path: Path) -> None:
    """A user who is added or removed counts from the next request on."""
    file = tmp_path / "users"
    environment = {"SHEETANCHOR_USER_PASSWORD": PASSWORD}
    change = [*SERVE, "--users", str(file)]
    assert run([*change, "--add-user", "one"], environment, tmp_path).status == 0
    with program(tmp_path / "served", "--users", str(file)) as (server, _):
        stack = _stack_behind(tmp_path, f"rest:{server.url}")
        as_two = {"SHEETANCHOR_REST_USERNAME": "two", "SHEETANCHOR_REST_PASSWORD": PASSWORD}
        assert stack.run("init", **as_two).status == 1
        assert run([*change, "--add-user", "two", "--expires", "1h"], environment, tmp_path).status == 0
        assert stack.run("init", **as_two).status == 0
        assert run([*change, "--remove-user", "two"], {}, tmp_path).status == 0
        assert stack.run("list", **as_two).status == 1
    assert [line.split(":")[0] for line in file.read_text().splitlines()] == ["one"]
