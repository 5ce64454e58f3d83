"""Finds, reads and checks `sheetanchor.yml`."""

from __future__ import annotations

import stat
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from pydantic import ValidationError

from sheetanchor.config.document import parse
from sheetanchor.config.environment import CONFIG_VARIABLE
from sheetanchor.config.explain import explain
from sheetanchor.config.models import Config
from sheetanchor.errors import ConfigError

FILE_NAME = "sheetanchor.yml"
SYSTEM_PATH = Path("/etc/sheetanchor") / FILE_NAME


@dataclass(frozen=True)
class LoadedConfig:
    """A configuration and where it came from."""

    config: Config
    path: Path
    warnings: tuple[str, ...] = ()
    """What is not wrong enough to stop, one line each."""


def find_config(
    explicit: Path | None, environment: Mapping[str, str], *, directory: Path | None = None
) -> Path:
    """Return the configuration file to use: `--config`, SHEETANCHOR_CONFIG, here, /etc.

    The first two are returned also when nothing is there: what was named is meant. Raises
    ConfigError when there is none.
    """
    if explicit is not None:
        return explicit
    if named := environment.get(CONFIG_VARIABLE):
        return Path(named)
    places = ((directory or Path.cwd()) / FILE_NAME, SYSTEM_PATH)
    for place in places:
        if place.exists():
            return place
    raise ConfigError(
        f"no configuration: neither {places[0]} nor {places[1]} is there",
        hint="`sheetanchor init` writes one; or name yours: `sheetanchor --config FILE …`",
    )


def load_config(path: Path) -> LoadedConfig:
    """Read and check the file. Raises ConfigError `file:line: path: cause`."""
    label = str(path)
    data, warnings = _read(path)
    document = parse(data, label)
    try:
        config = Config.model_validate(document.values, context={"directory": path.absolute().parent})
    except ValidationError as error:
        raise explain(error, document, label, Config) from error
    return LoadedConfig(config, path.absolute(), warnings)


def _read(path: Path) -> tuple[bytes, tuple[str, ...]]:
    try:
        with path.open("rb") as file:
            mode = path.stat().st_mode
            data = file.read()
    except FileNotFoundError as error:
        raise ConfigError(
            f"{path}: no such file", hint=f"`sheetanchor --config {path} init` writes one"
        ) from error
    except IsADirectoryError as error:
        raise ConfigError(
            f"{path}: is a directory", hint=f"name the file in it, such as {path / FILE_NAME}"
        ) from error
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read: {error.strerror}") from error
    if mode & stat.S_IWOTH:
        # It holds commands that run with our rights (pre, post, stop, start).
        return data, (f"{path}: everybody may write to this file; `chmod o-w {path}`",)
    return data, ()
