"""Portable archives of a whole stack: out, into an empty repository, back to the same live state."""

from __future__ import annotations

import hashlib
import shutil
import subprocess
from pathlib import Path

import pytest

from support.postgres import connect, dump_all, running_server
from support.redis import live_server, state
from support.redis_cases import DATABASES
from support.stack import StackUnderTest, stack_under_test
from support.volume_cases import describe

KEY = "a key of the operator's"


def _forget_repository(stack: StackUnderTest) -> None:
    shutil.rmtree(stack.repository)
    assert stack.run("init").status == 0


@pytest.mark.slow
def test_encrypted_archive_brings_a_lost_stack_back(tmp_path: Path) -> None:
    """With the repository gone too, one `.tar.gz.enc` and its key bring everything back, equal."""
    with stack_under_test(tmp_path) as stack:
        before = stack.describe()
        name = stack.backup()
        out = tmp_path / "out"
        done = stack.run("export", name, "--directory", str(out), "--form", "enc", ENCRYPTION_KEY=KEY)
        assert done.status == 0, (done.messages, done.stderr)
        assert sorted(path.name for path in out.iterdir()) == [
            f"{name}.sha256",
            f"{name}.tar.gz.enc",
            f"{name}.tar.gz.enc.hmac",
            f"backup_report_{name.removeprefix('backup_')}.txt",
        ]
        stack.destroy()
        _forget_repository(stack)
        archive = str(out / f"{name}.tar.gz.enc")
        wrong = stack.run("restore", archive, "--no-confirm", ENCRYPTION_KEY="another key")
        assert wrong.status == 1
        assert wrong.error["code"] == "wrong_key"
        restored = stack.run("restore", archive, "--no-confirm", ENCRYPTION_KEY=KEY)
        assert restored.status == 0, (restored.messages[-3:], restored.stderr)
        assert stack.describe() == before
        again = stack.run("import", archive, ENCRYPTION_KEY=KEY)
        assert again.summary["status"] == "present"
        assert stack.leftovers() == []


@pytest.mark.slow
def test_folder_is_restored_by_stock_tools_alone(tmp_path: Path) -> None:
    """psql, the Redis server, tar and sha256sum need no Sheetanchor to rebuild every part."""
    with stack_under_test(tmp_path, postgres=15, cache="redis") as stack:
        name = stack.backup()
        out = tmp_path / "out"
        assert stack.run("export", name, "--directory", str(out), "--form", "folder").status == 0
        folder = out / name
        subprocess.run(["sha256sum", "--check", "--quiet", "SHA256SUMS"], cwd=folder, check=True)
        _assert_sql_rebuilds(stack, folder / "postgres_dump.sql")
        _assert_rdb_loads(stack, folder / "redis_dump.rdb", tmp_path / "loaded")
        target = tmp_path / "unpacked"
        target.mkdir()
        subprocess.run(
            [
                "tar",
                "--xattrs",
                "--xattrs-include=*",
                "--acls",
                "-xpzf",
                folder / "volumes" / "uploads.tar.gz",
            ],
            cwd=target,
            check=True,
        )
        assert describe(target) == describe(stack.volume.live)
        compose = (folder / "configs" / "docker-compose.prod.yml").read_bytes()
        assert hashlib.sha256(compose).digest() == hashlib.sha256(stack.compose.read_bytes()).digest()
        assert "docker-compose.prod.yml" in (folder / "configs" / "configs_list.txt").read_text()


def _assert_sql_rebuilds(stack: StackUnderTest, script: Path) -> None:
    live = stack.postgres.server
    with running_server(15) as empty:
        done = subprocess.run(
            [
                empty.tools.path("psql"),
                "--no-psqlrc",
                "--quiet",
                f"--dbname={empty.url()}",
                f"--file={script}",
            ],
            check=True,
            capture_output=True,
        )
        # The role that the empty server was made with: the same line as with any pg_dumpall.
        errors = [line for line in done.stderr.decode().splitlines() if "ERROR" in line]
        assert [line.rpartition("ERROR:")[2].strip() for line in errors] == ['role "postgres" already exists']
        with connect(empty, "shop") as connection:
            (rows,) = connection.execute("SELECT count(*) FROM goods").fetchone() or (0,)
        assert rows == 100
        assert sorted(dump_all(empty).splitlines()) == sorted(dump_all(live).splitlines())


def _assert_rdb_loads(stack: StackUnderTest, rdb: Path, directory: Path) -> None:
    directory.mkdir()
    shutil.copy(rdb, directory / "dump.rdb")
    with live_server(stack.redis.server.program, directory) as loaded:
        assert state(loaded, DATABASES) == state(stack.redis.server, DATABASES)
