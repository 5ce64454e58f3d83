"""A repository in S3 does what one in a directory does, and stock restic agrees with it."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from support.files_stack import FilesStack, make_files_stack
from support.programs import require_program
from support.s3_server import ACCESS_KEY, SECRET_KEY, make_bucket, moto_server
from support.stack import PASSWORD
from support.volume_cases import describe

CREDENTIALS = {"AWS_ACCESS_KEY_ID": ACCESS_KEY, "AWS_SECRET_ACCESS_KEY": SECRET_KEY}


@pytest.fixture
def endpoint() -> Iterator[str]:
    """Yield the address of an S3 server with the bucket `backups`."""
    with moto_server() as url:
        make_bucket(url, "backups")
        yield url


def _stack_in_s3(directory: Path, endpoint: str) -> FilesStack:
    stack = make_files_stack(directory)
    shutil.rmtree(stack.repository)
    repository = {
        "url": f"s3:{endpoint}/backups/prodstack",
        "password_file": str(directory / "password"),
    }
    stack.write_config(repository=repository)
    return stack


def test_backup_and_restore_through_s3(tmp_path: Path, endpoint: str) -> None:
    """Init, backup, loss, restore and verify work; stock restic checks every byte in the bucket."""
    restic = require_program("restic")
    stack = _stack_in_s3(tmp_path, endpoint)
    assert stack.run("init", **CREDENTIALS).status == 0
    before = describe(stack.volume())
    made = stack.run("backup", **CREDENTIALS)
    assert made.status == 0, (made.messages, made.stderr)
    checked = subprocess.run(
        [restic, "-r", f"s3:{endpoint}/backups/prodstack", "--no-cache", "check", "--read-data"],
        env={**os.environ, **CREDENTIALS, "RESTIC_PASSWORD": PASSWORD},
        capture_output=True,
        check=False,
    )
    assert checked.returncode == 0, checked.stdout.decode() + checked.stderr.decode()
    shutil.rmtree(stack.volume())
    done = stack.run("restore", "latest", "--no-confirm", **CREDENTIALS)
    assert done.status == 0, (done.messages, done.stderr)
    assert describe(stack.volume()) == before
    assert stack.run("verify", "latest", "--read-data", **CREDENTIALS).status == 0


def test_wrong_credentials_and_no_server_are_told_apart(tmp_path: Path, endpoint: str) -> None:
    """An S3 that nobody answers at is named in one line; no credentials get into any output."""
    stack = _stack_in_s3(tmp_path, endpoint)
    assert stack.run("init", **CREDENTIALS).status == 0
    stack.write_config(
        repository={
            "url": "s3:http://127.0.0.1:1/backups/x",
            "password_file": str(tmp_path / "password"),
            "retry_seconds": 1,
        }
    )
    done = stack.run("list", **CREDENTIALS)
    assert done.status == 1
    assert "127.0.0.1:1" in done.error["message"]
    assert SECRET_KEY not in str(done)


def test_archive_goes_to_s3_and_comes_back_from_there(tmp_path: Path, endpoint: str) -> None:
    """`export --upload s3://…` and `restore s3://…` round an empty repository."""
    stack = make_files_stack(tmp_path)
    before = describe(stack.volume())
    name = stack.backup()
    environment = {**CREDENTIALS, "AWS_ENDPOINT_URL": endpoint, "ENCRYPTION_KEY": "k"}
    place = "s3://backups/archives"
    out = str(tmp_path / "out")
    sent = stack.run("export", name, "--directory", out, "--upload", place, **environment)
    assert sent.status == 0, (sent.messages, sent.stderr)
    shutil.rmtree(stack.repository)
    shutil.rmtree(stack.volume())
    shutil.rmtree(out)
    assert stack.run("init").status == 0
    done = stack.run("restore", f"{place}/{name}.tar.gz.enc", "--no-confirm", **environment)
    assert done.status == 0, (done.messages, done.stderr)
    assert describe(stack.volume()) == before
