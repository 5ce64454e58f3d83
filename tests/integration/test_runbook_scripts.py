"""The runbook's scripts, run as an operator, cron and CI run them, on a real stack."""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from support import s3_server
from support.archive_cases import write_archive
from support.postgres import run_sql
from support.programs import require_program
from support.stack import PROGRAM, StackUnderTest, stack_under_test

SCRIPTS = Path(__file__).parents[2] / "deploy" / "scripts"
KEY = "your-256-bit-key with spaces & $signs"
SECONDS = 240
NAME = re.compile(r"backup_\d{8}_\d{6}")

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[StackUnderTest]:
    """A running stack with PostgreSQL, a cache, a volume and a compose file."""
    with stack_under_test(tmp_path_factory.mktemp("stack")) as found:
        yield found


@pytest.fixture
def backups(tmp_path: Path) -> Path:
    """A BACKUP_DIR."""
    return tmp_path / "backups"


def run_script(
    stack: StackUnderTest, script: str | Path, *arguments: str, cwd: str | Path = "/", **variables: str
) -> subprocess.CompletedProcess[str]:
    """Run a script in cron's surroundings: next to no PATH, no terminal, another directory."""
    environment = {
        "PATH": "/usr/bin:/bin",
        "SHEETANCHOR": str(PROGRAM),
        "SHEETANCHOR_CONFIG": str(stack.config),
        **variables,
    }
    return subprocess.run(
        [SCRIPTS / script, *arguments],
        cwd=cwd,
        env={name: value for name, value in environment.items() if value},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=SECONDS,
        check=False,
    )


def back_up(stack: StackUnderTest, backups: Path, **variables: str) -> str:
    """Run backup.sh; it has to succeed; return the backup's name."""
    done = run_script(stack, "backup.sh", BACKUP_DIR=str(backups), **variables)
    assert done.returncode == 0, done.stdout + done.stderr
    found = NAME.search(done.stdout)
    assert found is not None
    return found.group()


def another_repository(stack: StackUnderTest, directory: Path) -> Path:
    """Return a configuration of the same stack with an empty repository: the first one is lost."""
    config = directory / "another.yml"
    config.write_text(stack.config.read_text().replace(str(stack.repository), str(directory / "another")))
    subprocess.run([PROGRAM, "--config", config, "init"], check=True, capture_output=True)
    return config


def names(directory: Path) -> set[str]:
    """List a directory, hidden things included."""
    return {path.name for path in directory.iterdir()}


def test_back_up_destroy_restore(stack: StackUnderTest, backups: Path) -> None:
    """`backup.sh` from cron, everything lost, `restore.sh NAME --no-confirm`: all is as it was."""
    before = stack.describe()
    name = back_up(stack, backups)
    stamp = name.removeprefix("backup_")
    assert names(backups) == {name, f"{name}.tar.gz", f"{name}.sha256", f"backup_report_{stamp}.txt"}
    stack.destroy()
    done = run_script(stack, "restore.sh", name, "--no-confirm", BACKUP_DIR=str(backups))
    assert done.returncode == 0, done.stdout + done.stderr
    assert stack.describe() == before


def test_the_report_tells_what_was_measured(stack: StackUnderTest, backups: Path) -> None:
    """Components, sizes, rates, checksums that sha256sum confirms, and a command that restores."""
    name = back_up(stack, backups)
    report = (backups / f"backup_report_{name.removeprefix('backup_')}.txt").read_text()
    for expected in (name, "postgres", "redis", "uploads", "configs", "/s", "Compressed:", "Restore with"):
        assert expected in report
    tar = backups / f"{name}.tar.gz"
    digest = subprocess.run(["sha256sum", tar], capture_output=True, text=True, check=True).stdout[:64]
    assert digest in report
    assert "Offsite:     no" in report
    subprocess.run(["tar", "-tzf", tar], capture_output=True, check=True)
    subprocess.run(["sha256sum", "-c", f"{name}.sha256"], cwd=backups, capture_output=True, check=True)


def test_an_encrypted_backup_restores_a_lost_cluster(
    stack: StackUnderTest, backups: Path, tmp_path: Path
) -> None:
    """Nothing plain stays; with the repository lost too, the `.tar.gz.enc` and the key bring all back."""
    before = stack.describe()
    name = back_up(stack, backups, ENCRYPT_BACKUP="true", ENCRYPTION_KEY=KEY)
    report = f"backup_report_{name.removeprefix('backup_')}.txt"
    encrypted = f"{name}.tar.gz.enc"
    assert names(backups) == {encrypted, f"{encrypted}.hmac", f"{name}.sha256", report}
    assert KEY not in (backups / report).read_text()
    config = another_repository(stack, tmp_path)
    variables = {"BACKUP_DIR": str(backups), "SHEETANCHOR_CONFIG": str(config)}
    stack.destroy()
    damaged = tmp_path / "damaged" / encrypted
    damaged.parent.mkdir()
    data = bytearray((backups / encrypted).read_bytes())
    data[-40] ^= 1
    damaged.write_bytes(bytes(data))
    shutil.copy(backups / f"{encrypted}.hmac", damaged.parent)
    for place, key in ((str(damaged), KEY), (encrypted, "wrong"), (encrypted, "")):
        refused = run_script(stack, "restore.sh", place, "--no-confirm", **variables, ENCRYPTION_KEY=key)
        assert refused.returncode == 1, refused.stdout + refused.stderr
        assert refused.stderr.startswith("error:")
    done = run_script(stack, "restore.sh", encrypted, "--no-confirm", **variables, ENCRYPTION_KEY=KEY)
    assert done.returncode == 0, done.stdout + done.stderr
    assert stack.describe() == before


def test_a_key_file_opens_what_it_closed(stack: StackUnderTest, backups: Path, tmp_path: Path) -> None:
    """ENCRYPTION_KEY_FILE instead of ENCRYPTION_KEY, and stock openssl with `-pass file:` agrees."""
    require_program("openssl")
    key_file = tmp_path / "key"
    key_file.write_text(KEY + "\n")
    key_file.chmod(0o600)
    name = back_up(stack, backups, ENCRYPT_BACKUP="true", ENCRYPTION_KEY_FILE=str(key_file))
    argv = ["openssl", "enc", "-d", "-aes-256-cbc", "-pbkdf2", "-iter", "600000", "-md", "sha256"]
    plain = tmp_path / "plain.tar.gz"
    argv += ["-pass", f"file:{key_file}", "-in", str(backups / f"{name}.tar.gz.enc"), "-out", str(plain)]
    subprocess.run(argv, check=True)
    listed = subprocess.run(["tar", "-tzf", plain], capture_output=True, text=True, check=True).stdout
    assert f"{name}/postgres_dump.sql\n" in listed


def test_a_selective_restore_leaves_the_rest_alone(stack: StackUnderTest, backups: Path) -> None:
    """`--skip-postgres --skip-redis` brings back the volume and the configs only."""
    name = back_up(stack, backups, ARCHIVE="none")
    assert not backups.exists()
    before = stack.describe()
    stack.change()
    changed = stack.describe()
    done = run_script(stack, "restore.sh", name, "--skip-postgres", "--skip-redis", "--no-confirm")
    assert done.returncode == 0, done.stdout + done.stderr
    after = stack.describe()
    assert after["volume"] == before["volume"]
    assert after["postgres"] == changed["postgres"]
    assert after["redis"] == changed["redis"]


def test_skipped_types_are_not_in_the_backup(stack: StackUnderTest, backups: Path) -> None:
    """SKIP_REDIS and SKIP_VOLUMES leave the database and the configs."""
    name = back_up(stack, backups, SKIP_REDIS="true", SKIP_VOLUMES="true", SKIP_CONFIGS="false")
    found = {str(path.relative_to(backups / name)) for path in (backups / name).rglob("*") if path.is_file()}
    assert "postgres_dump.sql" in found
    assert "configs/docker-compose.prod.yml" in found
    assert "redis_dump.rdb" not in found
    assert not [path for path in found if path.startswith("volumes/")]


def test_a_backup_goes_to_s3_and_comes_back(stack: StackUnderTest, backups: Path, tmp_path: Path) -> None:
    """S3_BACKUP_PATH uploads archive and report; `restore.sh s3://...` needs nothing else."""
    before = stack.describe()
    with s3_server.moto_server() as endpoint:
        s3_server.make_bucket(endpoint, "company-backups")
        aws = {**s3_server.ENVIRONMENT, "AWS_ENDPOINT_URL": endpoint}
        prefix = "s3://company-backups/prodstack"
        name = back_up(stack, backups, S3_BACKUP_PATH=prefix, ARCHIVE="tar", **aws)
        report = (backups / f"backup_report_{name.removeprefix('backup_')}.txt").read_text()
        assert f"{prefix}/{name}.tar.gz" in report
        shutil.rmtree(backups)
        config = another_repository(stack, tmp_path)
        stack.destroy()
        address = f"{prefix}/{name}.tar.gz"
        done = run_script(stack, "restore.sh", address, "--no-confirm", SHEETANCHOR_CONFIG=str(config), **aws)
        assert done.returncode == 0, done.stdout + done.stderr
    assert stack.describe() == before


def test_a_part_that_fails_is_told_and_the_rest_is_kept(stack: StackUnderTest, backups: Path) -> None:
    """A volume that has vanished: exit 3, archive of the rest, report says partial and why."""
    hidden = stack.volume.live.with_name("away")
    stack.volume.live.rename(hidden)
    try:
        done = run_script(stack, "backup.sh", BACKUP_DIR=str(backups))
    finally:
        hidden.rename(stack.volume.live)
    assert done.returncode == 3, done.stdout + done.stderr
    found = NAME.search(done.stdout)
    assert found is not None
    report = (backups / f"backup_report_{found.group().removeprefix('backup_')}.txt").read_text()
    assert "partial" in report
    assert "uploads: FAILED" in report
    assert (backups / found.group() / "postgres_dump.sql").exists()


def test_an_archive_of_the_old_scripts_restores_on_trust(
    stack: StackUnderTest, tmp_path: Path, backups: Path
) -> None:
    """pg_dumpall, dump.rdb and `tar czf` by hand: refused without --trust-archive, restored with it."""
    before = stack.describe()
    name = "backup_20240101_020000"
    folder = backups / name
    (folder / "volumes").mkdir(parents=True)
    server = stack.postgres.server
    with (folder / "postgres_dump.sql").open("wb") as dump:
        argv = [server.tools.directory / "pg_dumpall", "-d", server.url()]
        subprocess.run(argv, stdout=dump, check=True)
    with stack.redis.server.client() as client:
        client.save()
    shutil.copy(next(stack.directory.glob("cache/**/*.rdb")), folder / "redis_dump.rdb")
    volume = folder / "volumes" / "uploads.tar.gz"
    # A device would be refused: it is taken from a proven archive only.
    argv = ["tar", "--format=posix", "--exclude=./device", "-czf", volume, "-C", stack.volume.live, "."]
    subprocess.run(argv, check=True)
    subprocess.run(["tar", "-czf", f"{name}.tar.gz", name], cwd=backups, check=True)
    shutil.rmtree(folder)
    run_sql(server, "shop", "CREATE TABLE later AS SELECT 1 AS id")
    with stack.redis.server.client() as client:
        client.set("later", "x")
    variables = {"BACKUP_DIR": str(backups), "SHEETANCHOR_CONFIG": str(another_repository(stack, tmp_path))}
    changed = stack.describe()
    refused = run_script(stack, "restore.sh", name, "--no-confirm", **variables)
    assert refused.returncode == 1, refused.stdout + refused.stderr
    assert "--trust-archive" in refused.stderr
    assert stack.describe() == changed
    done = run_script(stack, "restore.sh", name, "--no-confirm", "--trust-archive", **variables)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "unproven" in done.stdout + done.stderr
    after = stack.describe()
    for part in ("postgres", "redis"):
        assert changed[part] != before[part] == after[part]


WRONG_SETTINGS = {
    "encryption without a key": ({"ENCRYPT_BACKUP": "true"}, "no key"),
    "a word that is no truth": (
        {"ENCRYPT_BACKUP": "ture", "ENCRYPTION_KEY": KEY},
        'ENCRYPT_BACKUP is "ture"',
    ),
    "encryption with plain forms only": (
        {"ENCRYPT_BACKUP": "1", "ENCRYPTION_KEY": KEY, "ARCHIVE": "tar"},
        "ARCHIVE",
    ),
    "an unknown form": ({"ARCHIVE": "zip"}, 'names "zip"'),
    "everything skipped": (
        {"SKIP_POSTGRES": "true", "SKIP_REDIS": "true", "SKIP_VOLUMES": "true", "SKIP_CONFIGS": "true"},
        "everything",
    ),
    "no address": ({"S3_BACKUP_PATH": "company-backups/prodstack"}, "s3://bucket"),
    "an upload of nothing": ({"S3_BACKUP_PATH": "s3://bucket/x", "ARCHIVE": "none"}, "nothing to upload"),
    "days in words": ({"ARCHIVE_KEEP_DAYS": "a month"}, "number of days"),
    "no program": ({"SHEETANCHOR": "/nowhere/sheetanchor"}, "not to be found"),
}


@pytest.mark.parametrize("case", WRONG_SETTINGS)
def test_wrong_settings_are_told_before_anything_is_done(
    stack: StackUnderTest, backups: Path, case: str
) -> None:
    """Exit 2, one line and a hint; no backup is made."""
    variables, words = WRONG_SETTINGS[case]
    count = len(list((stack.repository / "snapshots").iterdir()))
    done = run_script(stack, "backup.sh", BACKUP_DIR=str(backups), **variables)
    assert done.returncode == 2
    assert words in done.stderr
    assert KEY not in done.stdout + done.stderr
    assert len(list((stack.repository / "snapshots").iterdir())) == count
    assert not backups.exists()


def test_old_archives_go_by_their_date_and_only_ours(stack: StackUnderTest, backups: Path) -> None:
    """Older than ARCHIVE_KEEP_DAYS and written by us: removed, once a newer one stands beside them."""
    write_archive(backups, name="backup_20200101_020000")
    (backups / "backup_report_20200101_020000.txt").write_text("old")
    (backups / "backup_20190101_020000.tar.gz").write_bytes(b"made by the old scripts")
    (backups / "backup_20200101_notes.txt").write_text("mine")
    old = names(backups)
    back_up(stack, backups, ARCHIVE="none", ARCHIVE_KEEP_DAYS="30")
    assert names(backups) == old
    name = back_up(stack, backups, ARCHIVE="tar", ARCHIVE_KEEP_DAYS="30")
    report = f"backup_report_{name.removeprefix('backup_')}.txt"
    kept = {"backup_20190101_020000.tar.gz", "backup_20200101_notes.txt"}
    assert names(backups) == {*kept, f"{name}.tar.gz", f"{name}.sha256", report}


def test_scripts_work_where_the_runbook_copies_them(stack: StackUnderTest, tmp_path: Path) -> None:
    """`cd /home/deploy && ./scripts/backup.sh`: program on PATH, configuration beside `scripts/`."""
    home = tmp_path / "home deploy"
    shutil.copytree(SCRIPTS, home / "scripts")
    shutil.copy(stack.config, home / "sheetanchor.yml")
    programs = tmp_path / "bin"
    programs.mkdir()
    (programs / "sheetanchor").symlink_to(PROGRAM)
    variables = {"PATH": f"/usr/bin:/bin:{programs}", "SHEETANCHOR": "", "SHEETANCHOR_CONFIG": ""}
    variables["ARCHIVE"] = "none"
    for cwd in (home, Path("/")):
        script = home / "scripts" / "backup.sh"
        done = run_script(stack, script, cwd=cwd, **variables)
        assert done.returncode == 0, done.stdout + done.stderr
        done = run_script(stack, home / "scripts" / "monitor_backups.sh", cwd=cwd, **variables)
        assert done.returncode == 0, done.stdout + done.stderr


def test_monitoring_speaks_as_plugins_do(stack: StackUnderTest, tmp_path: Path) -> None:
    """0 fresh, 1 and 2 too old, 2 none at all, 3 cannot be told; the first word says the same."""
    done = run_script(stack, "backup.sh", ARCHIVE="none")
    assert done.returncode == 0, done.stderr
    empty = another_repository(stack, tmp_path)
    broken = tmp_path / "broken.yml"
    broken.write_text(stack.config.read_text().replace(str(stack.repository), str(tmp_path / "nowhere")))
    cases = (
        ({}, 0, "OK"),
        ({"WARN_AGE": "0"}, 1, "WARNING"),
        ({"WARN_AGE": "0", "ALERT_AGE": "0"}, 2, "CRITICAL"),
        ({"SHEETANCHOR_CONFIG": str(empty)}, 2, "CRITICAL"),
        ({"SHEETANCHOR_CONFIG": str(broken)}, 3, "UNKNOWN"),
        ({"SHEETANCHOR_CONFIG": str(tmp_path / "absent.yml")}, 3, "UNKNOWN"),
        ({"WARN_AGE": "a day"}, 3, "UNKNOWN"),
        ({"SHEETANCHOR": "/nowhere/sheetanchor"}, 3, "UNKNOWN"),
    )
    for variables, status, word in cases:
        done = run_script(stack, "monitor_backups.sh", **variables)
        assert (done.returncode, word in done.stdout) == (status, True), (variables, done.stdout, done.stderr)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ((), "no backup is named"),
        (("a", "b"), "give one backup"),
        (("./absent",), "no such archive"),
        (("backup_20200101_020000.tar.gz",), "no such archive"),
        (("latest", "--to-time"), "needs a value"),
    ],
)
def test_restore_refuses_what_it_cannot_understand(
    stack: StackUnderTest, tmp_path: Path, arguments: tuple[str, ...], words: str
) -> None:
    """Exit 2 with one line, before anything is touched."""
    done = run_script(stack, "restore.sh", *arguments, BACKUP_DIR=str(tmp_path))
    assert done.returncode == 2
    assert words in done.stderr


def test_an_unknown_backup_is_told(stack: StackUnderTest, tmp_path: Path) -> None:
    """A name that is neither in the repository nor in BACKUP_DIR: the program's own words."""
    done = run_script(stack, "restore.sh", "backup_20200101_020000", "--no-confirm", BACKUP_DIR=str(tmp_path))
    assert done.returncode == 1
    assert "backup_20200101_020000" in done.stderr


def test_help_of_every_script() -> None:
    """--help prints the comment at the script's head, to its end."""
    for script in SCRIPTS.glob("*.sh"):
        done = subprocess.run([script, "--help"], capture_output=True, text=True, check=True)
        assert f"./deploy/scripts/{script.name}" in done.stdout
        assert "SHEETANCHOR_CONFIG" in done.stdout
        assert "set -" not in done.stdout
