"""The repository's password: from where, in which order, and what is refused."""

from __future__ import annotations

from pathlib import Path

import pytest

from sheetanchor.config.environment import read_password_file, repository_password
from sheetanchor.errors import ConfigError
from sheetanchor.secret import Secret


def secret_file(directory: Path, data: bytes, mode: int = 0o600) -> Path:
    """Write a password file."""
    path = directory / "password"
    path.write_bytes(data)
    path.chmod(mode)
    return path


def silent(message: str) -> None:
    """Fail on any warning."""
    raise AssertionError(message)


def test_the_order_is_environment_then_configuration_then_a_question(tmp_path: Path) -> None:
    """The environment wins, so that a repository opens where the configured file is lost."""
    one, two = tmp_path / "one", tmp_path / "two"
    one.write_text("by file\n")
    two.write_text("by configuration\n")
    one.chmod(0o600)
    two.chmod(0o600)
    both = {"SHEETANCHOR_PASSWORD_FILE": str(one), "SHEETANCHOR_PASSWORD": "by variable"}
    single = {"SHEETANCHOR_PASSWORD": "by variable"}

    def chosen(password_file: Path | None, environment: dict[str, str]) -> str:
        return repository_password(
            password_file, environment, warn=silent, ask=lambda: Secret("by answer")
        ).reveal()

    assert chosen(two, both) == "by file"
    assert chosen(two, single) == "by variable"
    assert chosen(two, {}) == "by configuration"
    assert chosen(None, {}) == "by answer"


def test_without_any_password_the_three_ways_are_named() -> None:
    """The error says what to set."""
    with pytest.raises(ConfigError, match="password_file is not set") as caught:
        repository_password(None, {}, warn=silent)
    assert "SHEETANCHOR_PASSWORD_FILE" in (caught.value.hint or "")


@pytest.mark.parametrize("data", [b"a b\xc3\xa4", b"a b\xc3\xa4\n", b"a b\xc3\xa4\r\n"])
def test_only_the_end_of_the_line_is_taken_off(tmp_path: Path, data: bytes) -> None:
    """Spaces belong to the password; the newline that editors add does not."""
    assert read_password_file(secret_file(tmp_path, data), warn=silent).reveal() == "a bä"


@pytest.mark.parametrize(
    ("data", "cause"),
    [(b"", "is empty"), (b"\n", "is empty"), (b"a\nb\n", "more than one line"), (b"\xff", "not UTF-8"),
     (b"a" * 5000, "more than one line")],
)  # fmt: skip
def test_a_bad_file_is_refused_without_showing_it(tmp_path: Path, data: bytes, cause: str) -> None:
    """The file's name and the cause, never its content."""
    with pytest.raises(ConfigError, match=cause) as caught:
        read_password_file(secret_file(tmp_path, data), warn=silent)
    assert str(tmp_path) in caught.value.message


def test_a_missing_file_says_how_else_to_give_the_password(tmp_path: Path) -> None:
    """After a disaster the file may be lost while the password is known."""
    with pytest.raises(ConfigError, match="No such file") as caught:
        read_password_file(tmp_path / "gone", warn=silent)
    assert "SHEETANCHOR_PASSWORD" in (caught.value.hint or "")


def test_a_file_that_others_may_read_is_warned_about(tmp_path: Path) -> None:
    """The run goes on: at three in the morning a warning is better than a refusal."""
    warnings: list[str] = []
    secret = read_password_file(secret_file(tmp_path, b"x\n", 0o644), warn=warnings.append)
    assert secret.reveal() == "x"
    assert "chmod 600" in warnings[0]


def test_a_secret_shows_itself_nowhere() -> None:
    """Neither repr, str nor formatting gives it away."""
    secret = Secret("hunter2")
    assert "hunter2" not in f"{secret} {secret!r} {[secret]}"
