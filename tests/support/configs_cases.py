"""Configuration files for tests: plain, linked, a directory, names that are not UTF-8."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from sheetanchor.components.base import Component
from sheetanchor.components.configs import ConfigsComponent
from sheetanchor.config.models import ConfigsConfig
from support.component_cases import ComponentCase, context
from support.volume_cases import describe


@dataclass
class ConfigsCase:
    """A compose file, a linked file, a directory, and a file that will be missing at the restore."""

    directory: Path
    etc: Path
    paths: tuple[Path, ...]

    def component(self) -> Component:
        """Return a new component object."""
        config = ConfigsConfig(name="configs", type="configs", paths=self.paths)
        return ConfigsComponent(config, context(self.directory))

    def change(self) -> None:
        """Alter a file, remove another with its directory, change the directory and what a link leads to."""
        (self.etc / "compose.yml").write_text("services: {web: {}}\n")
        (self.etc / "compose.yml").chmod(0o600)
        shutil.rmtree(self.etc / "deep")
        (self.etc / "nginx" / "new.conf").write_text("later")
        (self.etc / "nginx" / "site.conf").unlink()
        (self.etc / "real.conf").write_text("changed through the link")

    def describe(self) -> object:
        """Return every entry with its content; directories that staging has to make are no part of it."""
        found = describe(self.etc)
        assert not isinstance(found, str)
        last = self.etc / "deep" / "er" / "last.conf"
        return last.read_text() if last.exists() else None, [
            (entry.path, entry.type, entry.mode, entry.uid, entry.xattrs, content)
            for entry, content, _ in found
            if b".sheetanchor-" not in entry.path and not entry.path.startswith(b"deep")
        ]

    def leftovers(self) -> list[str]:
        """Name work folders."""
        return [os.fspath(path) for path in self.etc.rglob(".*sheetanchor-*")]

    def tamper(self, token: str) -> None:
        """Change the staged compose file but for its length."""
        staged = self.etc / f".compose.yml.sheetanchor-{token}" / "new"
        staged.write_text(staged.read_text().replace("db", "DB"))


@contextmanager
def configs_case(directory: Path) -> Iterator[ComponentCase]:
    """Files and a directory below `directory`/etc."""
    etc = directory / "etc"
    (etc / "nginx").mkdir(parents=True)
    (etc / "deep" / "er").mkdir(parents=True)
    (etc / "compose.yml").write_text("services: {db: {}}\n")
    (etc / "compose.yml").chmod(0o640)
    os.setxattr(etc / "compose.yml", "user.origin", b"git")
    (etc / "nginx" / "site.conf").write_text("listen 80;")
    (etc / "nginx" / "on").symlink_to("site.conf")
    (etc / "real.conf").write_text("what the link leads to")
    (etc / "linked.conf").symlink_to("real.conf")
    odd = Path(os.fsdecode(os.fsencode(etc) + b"/na\xefve 100%.conf"))
    odd.write_text("odd")
    (etc / "deep" / "er" / "last.conf").write_text("last")
    paths = (
        etc / "compose.yml",
        etc / "nginx",
        etc / "linked.conf",
        odd,
        etc / "deep" / "er" / "last.conf",
    )
    yield ConfigsCase(directory, etc, paths)
