"""What must hold for every tracked file: size, no machine's paths, no registry's address."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
MOST_LINES = 400
# Written in pieces, so that this file does not find itself.
REGISTRIES = (
    "pypi" + ".org",
    "python" + "hosted",
    "deb.debian" + ".org",
    "npmjs" + ".org",
    "registry-1.docker" + ".io",
)
MACHINE_PATHS = ("/wo" + "rk/", "/opt/py" + "pi", "/ro" + "ot/.", "/ho" + "me/user")


def _tracked() -> list[Path]:
    """Return the files under version control; in an unpacked release, all that would be."""
    listed = subprocess.run(
        ["git", "-c", f"safe.directory={ROOT}", "-C", ROOT, "ls-files", "-z", "--cached"],
        capture_output=True,
        check=False,
    )
    if listed.returncode == 0:
        names = [name for name in listed.stdout.decode().split("\0") if name]
        return [ROOT / name for name in names if (ROOT / name).is_file()]
    ignored = (ROOT / ".gitignore").read_text().split()
    made = {".git", *(name.rstrip("/") for name in ignored if name.endswith("/"))}
    return [path for path in ROOT.rglob("*") if path.is_file() and not made & set(path.parts)]


def _modules() -> list[Path]:
    return [path for path in _tracked() if path.suffix == ".py"]


def test_every_module_can_be_read_at_one_sitting() -> None:
    """No module is longer than 400 lines, so each can be named for the one thing it does."""
    too_long = {
        str(path.relative_to(ROOT)): lines
        for path in _modules()
        if (lines := len(path.read_text().splitlines())) > MOST_LINES
    }
    assert too_long == {}


@pytest.mark.parametrize("needles", [REGISTRIES, MACHINE_PATHS], ids=["registries", "machine paths"])
def test_no_file_names_a_registry_or_a_path_of_one_machine(needles: tuple[str, ...]) -> None:
    """What is committed works anywhere: no index address in a lock, no developer's folder in a script."""
    pattern = re.compile(b"|".join(re.escape(needle.encode()) for needle in needles))
    found = {
        str(path.relative_to(ROOT)): match.group().decode()
        for path in _tracked()
        if (match := pattern.search(path.read_bytes()))
    }
    assert found == {}


def test_every_pinned_package_has_hashes() -> None:
    """Both locks pin exact versions by hash, and the demo's is a part of the developers'."""
    pins = {}
    for lock in ("demo", "dev"):
        text = (ROOT / "requirements" / f"{lock}.txt").read_text().replace("\\\n", " ")
        lines = [line for line in text.splitlines() if line and not line.lstrip().startswith("#")]
        assert [line for line in lines if " --hash=sha256:" not in line or "==" not in line] == []
        pins[lock] = {line.split()[0] for line in lines}
    assert pins["demo"] < pins["dev"]


def test_programs_of_the_checkout_are_executable() -> None:
    """A fresh clone runs `./dev` and the continuous integration as they are."""
    for name in ("dev", ".ci/run", "scripts/install-system-packages", "scripts/lock-requirements"):
        assert (ROOT / name).stat().st_mode & 0o111 == 0o111, name


def test_the_module_map_names_every_module() -> None:
    """docs/architecture.md lists what there is, no more and no less (scripts/write-module-map)."""
    source = ROOT / "src" / "sheetanchor"
    expected = sorted(path.name for path in source.rglob("*.py") if path.name != "__init__.py")
    text = (ROOT / "docs" / "architecture.md").read_text()
    listed = re.findall(r"^\| `(\w+\.py)` \|", text[text.index("## Module map") :], re.MULTILINE)
    assert sorted(listed) == expected
