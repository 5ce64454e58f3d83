"""docs/archives.md: its commands open an encrypted archive, as they stand there."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

from support import volume_cases
from support.files_stack import make_files_stack

DOCUMENT = Path(__file__).parents[2] / "docs" / "archives.md"


def test_the_documented_commands_open_an_archive(tmp_path: Path) -> None:
    """openssl, tar and sha256sum alone give the volume back, equal in content and metadata."""
    stack = make_files_stack(tmp_path)
    volume_cases.fill(stack.volume())
    name = stack.backup()
    key_file = tmp_path / "archive key"
    key_file.write_text("the operator's key\n")
    key_file.chmod(0o600)
    archives, out = tmp_path / "archives", tmp_path / "recovered"
    out.mkdir()
    done = stack.run("export", name, "--directory", str(archives), "--key-file", str(key_file))
    assert done.status == 0, (done.messages, done.stderr)
    values = {
        "ENCRYPTION_KEY_FILE": key_file,
        "ARCHIVES": archives,
        "BACKUP": name,
        "OUT": out,
    }
    first, *others = re.findall(r"```sh\n(.*?)```", DOCUMENT.read_text(), re.DOTALL)
    assert set(re.findall(r"^export (\w+)=", first, re.MULTILINE)) == values.keys()
    settings = "".join(f"export {variable}='{value}'\n" for variable, value in values.items())
    script = "set -eu\n" + settings + "".join(others)
    ran = subprocess.run(["sh", "-c", script], capture_output=True, check=False)
    assert ran.returncode == 0, ran.stderr.decode()
    assert volume_cases.describe(out / "uploads") == volume_cases.describe(stack.volume())
