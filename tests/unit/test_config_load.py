"""The configuration file: found, read, checked, and every mistake answered by one line."""

from __future__ import annotations

from pathlib import Path

import pytest

from sheetanchor.config.load import SYSTEM_PATH, find_config, load_config
from sheetanchor.config.models import PostgresConfig, VolumeConfig
from sheetanchor.errors import ConfigError

WHOLE = """\
stack: {name: shop, driver: local}
repository:
  url: repository
  password_file: password
components:
  - {name: db, type: postgres, url: "postgresql://postgres@127.0.0.1:5432/postgres"}
  - name: uploads
    type: volume
    path: /srv/uploads
    exclude: ["*.tmp"]
"""


def write(directory: Path, text: str | bytes) -> Path:
    """Write a configuration file."""
    path = directory / "sheetanchor.yml"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


def refused(directory: Path, text: str | bytes) -> ConfigError:
    """Return the error that loading `text` ends with."""
    with pytest.raises(ConfigError) as caught:
        load_config(write(directory, text))
    assert "\n" not in caught.value.message
    return caught.value


def test_a_whole_file_is_read(tmp_path: Path) -> None:
    """Every part arrives as a frozen model; relative paths are relative to the file, not to us."""
    loaded = load_config(write(tmp_path, WHOLE))
    database, uploads = loaded.config.components
    assert isinstance(database, PostgresConfig)
    assert isinstance(uploads, VolumeConfig)
    assert uploads.exclude == ("*.tmp",)
    assert loaded.config.repository.url == str(tmp_path / "repository")
    assert loaded.config.repository.password_file == tmp_path / "password"
    assert loaded.warnings == ()


@pytest.mark.parametrize(
    "url", ["s3:https://s3.example.com/bucket/prefix", "rest:https://host:8000/", "/srv/repository"]
)
def test_urls_stay_as_they_are_written(tmp_path: Path, url: str) -> None:
    """Only a relative path is completed; a URL is the backend's business."""
    loaded = load_config(write(tmp_path, WHOLE.replace("url: repository", f"url: {url}")))
    assert loaded.config.repository.url == url


MISTAKES = {
    "unknown key": (
        WHOLE.replace("exclude:", "exlude:"),
        ":10: components[1].exlude: unknown key (did you mean 'exclude'?); allowed: exclude, name, path,",
    ),
    "unknown key at the top": (WHOLE + "tiers: []\n", ":11: tiers: unknown key; allowed: components, repos"),
    "unknown type": (
        WHOLE.replace("type: volume", "type: volum"),
        ":8: components[1].type: 'volum' is not known (did you mean 'volume'?); allowed: configs, postgres,",
    ),
    "no type": (
        WHOLE.replace("    type: volume\n", ""),
        ":7: components[1].type: missing; allowed: configs,",
    ),
    "no path": (WHOLE.replace("    path: /srv/uploads\n", ""), ":7: components[1].path: missing"),
    "no stack": (WHOLE.replace("stack: {name: shop, driver: local}\n", ""), ":1: stack: missing"),
    "wrong kind": (
        WHOLE.replace('["*.tmp"]', "'*.tmp'"),
        ":10: components[1].exclude: has to be a list; this",
    ),
    "relative volume": (
        WHOLE.replace("/srv/uploads", "srv/uploads"),
        ":9: components[1].path: has to be an absolute path; this is 'srv/uploads'",
    ),
    "a bad name": (
        WHOLE.replace("name: db", "name: d/b"),
        ":6: components[0].name: has to begin with a letter",
    ),
    "a driver that is not": (
        WHOLE.replace("local}", "swarmy}"),
        ":1: stack.driver: has to be 'local'; this is",
    ),
    "two of a name": (
        WHOLE.replace("name: uploads", "name: db"),
        ":1: the file: two components are named 'db'",
    ),
    "nothing to protect": (WHOLE[: WHOLE.index("  - {")] + "  []\n", ":5: components: must not be empty"),
    "no value": (WHOLE.replace("/srv/uploads", ""), ":9: components[1].path: has to be a path; nothing is"),
    "not a mapping": ("- a\n- b\n", ":1: the file: has to be a mapping"),
    "a key twice": (WHOLE + "stack: {name: other}\n", ":11: 'stack' is written twice"),
    "a tab": (WHOLE.replace("  url", "\turl"), ":3: not valid YAML: found character"),
    "an open quote": (WHOLE.replace('["*.tmp"]', '["*.tmp'), "not valid YAML: "),
    "two documents": (WHOLE + "---\nstack: {}\n", ":11: not valid YAML: but found another document"),
    "nothing": ("# nothing\n", ": the file is empty"),
    "binary": (b"stack:\n  name: \xff\xfe\n", ":2: not UTF-8 text"),
    "a control character": (b"stack:\n  name: a\x00b\n", ":2: a character that text must not hold: #x0000"),
    "an alias of itself": ("stack: &a\n  name: *a\n", ":1: an alias that holds itself"),
    "too many values": (
        "a: &a [1,1,1,1,1,1,1,1,1]\n"
        + "".join(
            f"{b}: &{b} [{','.join(['*' + a] * 9)}]\n" for a, b in zip("abcdef", "bcdefg", strict=True)
        ),
        "more than 20000 values",
    ),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_mistake_is_one_line_with_file_line_path_and_cause(tmp_path: Path, mistake: str) -> None:
    """Each mistake is named where it stands, with what is allowed there."""
    text, expected = MISTAKES[mistake]
    error = refused(tmp_path, text)
    assert error.message.startswith(str(tmp_path / "sheetanchor.yml"))
    assert expected in error.message
    assert error.exit_code == 2


def test_all_mistakes_are_told_at_once(tmp_path: Path) -> None:
    """The first mistake is the message, the others follow in the hint with their own lines."""
    error = refused(tmp_path, WHOLE.replace("exclude:", "exlude:").replace("url: repository", "uri: x"))
    assert "sheetanchor.yml:2: repository.url: missing" in error.message
    assert error.hint is not None
    assert "sheetanchor.yml:3: repository.uri: unknown key" in error.hint
    assert "sheetanchor.yml:10: components[1].exlude" in error.hint


def test_a_number_where_a_text_belongs_says_how_to_write_it(tmp_path: Path) -> None:
    """YAML's `yes` and `2024` are no texts; the hint says that quotes help."""
    error = refused(tmp_path, WHOLE.replace("name: shop", "name: 2024"))
    assert "stack.name: has to be a text; this is '2024'" in error.message
    assert "quotes" in (error.hint or "")


@pytest.mark.parametrize(
    "line",
    [
        'url: "postgresql://postgres:hunter2@127.0.0.1/postgres"',
        'url: "postgresql://127.0.0.1/postgres?user=postgres&password=hunter2"',
        'url: "http://postgres:hunter2@127.0.0.1"',
        'url: "postgresql://postgres@127.0.0.1/postgres", password: hunter2',
        'url: "postgresql://postgres@127.0.0.1/postgres", password_file: [hunter2]',
    ],
)
def test_a_password_in_the_file_is_refused_and_never_shown(tmp_path: Path, line: str) -> None:
    """However a password gets into the file, the error does not repeat it."""
    plain = 'url: "postgresql://postgres@127.0.0.1:5432/postgres"'
    error = refused(tmp_path, WHOLE.replace(plain, line))
    assert "hunter2" not in f"{error.message} {error.hint}"
    assert ":6: components[0]." in error.message


def test_merged_keys_keep_their_own_lines(tmp_path: Path) -> None:
    """`<<` merges as in compose files; what is written here wins, and errors point to the anchor."""
    text = WHOLE.replace("  - name: uploads\n", "  - <<: {name: x, exlude: [a]}\n    name: uploads\n")
    error = refused(tmp_path, text)
    assert ":7: components[1].exlude: unknown key" in error.message


def test_the_file_is_found_in_the_promised_order(tmp_path: Path) -> None:
    """--config, SHEETANCHOR_CONFIG, ./sheetanchor.yml, /etc; what was named is not replaced by a guess."""
    here = write(tmp_path, WHOLE)
    environment = {"SHEETANCHOR_CONFIG": "/named/by/environment.yml"}
    assert find_config(Path("given.yml"), environment, directory=tmp_path) == Path("given.yml")
    assert find_config(None, environment, directory=tmp_path) == Path("/named/by/environment.yml")
    assert find_config(None, {}, directory=tmp_path) == here
    if not SYSTEM_PATH.exists():
        with pytest.raises(ConfigError, match="no configuration: neither"):
            find_config(None, {}, directory=tmp_path / "elsewhere")


def test_a_missing_file_or_a_directory_is_one_line(tmp_path: Path) -> None:
    """The line names the file, the hint the next step."""
    with pytest.raises(ConfigError, match="no such file") as missing:
        load_config(tmp_path / "sheetanchor.yml")
    assert "init" in (missing.value.hint or "")
    with pytest.raises(ConfigError, match="is a directory"):
        load_config(tmp_path)


def test_a_file_that_everybody_may_write_is_warned_about(tmp_path: Path) -> None:
    """It holds commands that run with our rights."""
    path = write(tmp_path, WHOLE)
    path.chmod(0o666)
    (warning,) = load_config(path).warnings
    assert "everybody may write" in warning


def test_a_file_that_cannot_be_read_is_one_line(tmp_path: Path) -> None:
    """The operating system's own word is the cause; here for a link that leads to itself."""
    path = tmp_path / "sheetanchor.yml"
    path.symlink_to(path)
    with pytest.raises(ConfigError, match="cannot be read: Too many levels of symbolic links"):
        load_config(path)
