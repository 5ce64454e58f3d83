"""`repository rekey` as an operator uses it, from the old password to a verified new repository."""

from __future__ import annotations

from pathlib import Path

import pytest

from support.program import PASSWORD, ShopStack

NEW_PASSWORD = "another horse entirely"


@pytest.fixture
def stack(tmp_path: Path) -> ShopStack:
    """A stack of files with a repository, and the file with the new password."""
    made = ShopStack.make(tmp_path)
    file = tmp_path / "new-password"
    file.write_text(NEW_PASSWORD + "\n")
    file.chmod(0o600)
    return made


def _rekey(stack: ShopStack, *arguments: str) -> list[str]:
    new = stack.directory / "new"
    password = stack.directory / "new-password"
    return ["repository", "rekey", "--to", str(new), "--new-password-file", str(password), *arguments]


def _use_new(stack: ShopStack, password: str) -> None:
    text = stack.config.read_text()
    stack.config.write_text(text.replace("url: repository", "url: new"))
    (stack.directory / "password").write_text(password + "\n")


def test_backups_are_whole_under_the_new_key_alone(stack: ShopStack) -> None:
    """The copied backup verifies and restores with the new password; the old one opens nothing."""
    name = stack.backup()
    done = stack.call(*_rekey(stack))
    assert done.status == 0, done.stderr
    assert "3 snapshots" in done.stdout
    assert "copied and counted" in done.stdout
    assert PASSWORD not in done.stdout + done.stderr
    _use_new(stack, NEW_PASSWORD)
    assert stack.call("verify", name, "--read-data").status == 0
    (stack.uploads / "a.txt").write_text("spoilt")
    restored = stack.call("restore", name, "--no-confirm", "--no-safety-backup")
    assert restored.status == 0, restored.stderr
    assert (stack.uploads / "a.txt").read_text() == "first\n"
    _use_new(stack, PASSWORD)
    assert stack.call("list").status == 12


def test_what_came_meanwhile_is_copied_by_a_second_run(stack: ShopStack) -> None:
    """The second run adds the new backup only, and a third one finds all of it there."""
    stack.backup()
    assert stack.call(*_rekey(stack)).status == 0
    (stack.uploads / "late.txt").write_text("late\n")
    stack.backup("--tag", "second")
    second = stack.call(*_rekey(stack, "--json"))
    assert second.status == 0, second.stderr
    assert (second.summary["snapshots"], second.summary["snapshots_copied"]) == (6, 3)
    third = stack.call(*_rekey(stack))
    assert "all of it was there already" in third.stdout


def test_places_that_make_no_sense_are_refused(stack: ShopStack) -> None:
    """Neither the old repository itself nor a place inside a protected volume is taken."""
    stack.backup()
    arguments = _rekey(stack)
    arguments[3] = str(stack.repository)
    refused = stack.call(*arguments)
    assert refused.status == 12
    (stack.directory / "new-password").write_text(PASSWORD + "\n")
    refused = stack.call(*arguments)
    assert refused.status == 1
    assert "the same repository" in refused.stderr
    arguments[3] = str(stack.uploads / "new")
    refused = stack.call(*arguments)
    assert refused.status == 1
    assert "inside the volume" in refused.stderr
    assert not (stack.uploads / "new").exists()
