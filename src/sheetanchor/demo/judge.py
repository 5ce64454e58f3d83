"""An independent judge: stock restic, where it is installed, reads every byte of the repository."""

from __future__ import annotations

import shutil
from pathlib import Path

from sheetanchor.errors import ProcessError
from sheetanchor.process import ProcessRunner


def judge(repository: Path, password_file: Path, processes: ProcessRunner) -> tuple[bool, str]:
    """Return whether nothing is wrong, and what was looked at, in one line."""
    program = shutil.which("restic")
    if program is None:
        return True, "stock restic is not installed here, so it was not asked"
    version = " ".join(processes.run([program, "version"]).text.split()[:2])
    argv = [program, "check", "--read-data", "--no-cache", "--repo", str(repository)]
    try:
        processes.run([*argv, "--password-file", str(password_file)])
    except ProcessError as error:
        return False, f"stock {version} check --read-data: {error.message}"
    return True, f"stock {version} check --read-data: no errors were found"
