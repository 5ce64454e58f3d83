"""Every option of `sheetanchor.yml` as a frozen pydantic model; unknown keys are refused.

Validated with the context `{"directory": Path}`, the directory of the file: what is written
relative in it is meant relative to it, whatever the working directory of a cron job is.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated, Literal

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    ValidationInfo,
    field_validator,
    model_validator,
)

from sheetanchor.errors import UsageError
from sheetanchor.patterns import Patterns

_SCHEME = re.compile(r"[a-z][a-z0-9]+:")


def _beside_the_file(path: Path, info: ValidationInfo) -> Path:
    try:
        path = path.expanduser()
    except RuntimeError as error:
        raise ValueError(f"{path}: there is no such home directory") from error
    directory = (info.context or {}).get("directory")
    return path if path.is_absolute() or directory is None else directory / path


Argv = Annotated[tuple[str, ...], Field(min_length=1)]
ConfiguredPath = Annotated[Path, AfterValidator(_beside_the_file)]
"""A path that may be written relative to the configuration file, or begin with `~`."""
Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]{0,62}$")]


class Model(BaseModel):
    """Base of all configuration models."""

    model_config = ConfigDict(
        frozen=True, extra="forbid", str_strip_whitespace=True, use_attribute_docstrings=True
    )


class StackConfig(Model):
    """What is protected."""

    name: Name
    driver: Literal["local"] = "local"


class RepositoryConfig(Model):
    """Where backups are kept."""

    url: Annotated[
        str, Field(min_length=1, description="as restic writes it: /srv/repo, s3:https://host/bucket/prefix")
    ]
    password_file: ConfiguredPath | None = None
    """Holds the password; SHEETANCHOR_PASSWORD_FILE and SHEETANCHOR_PASSWORD stand above it."""
    compression: Literal["off", "auto", "max"] = "auto"
    """off: none; auto: fast zstd; max: the smallest, at several times the time."""
    threads: Annotated[int | None, Field(ge=1, le=64)] = None
    """How many cores a run may use; all of them when absent."""
    retry_seconds: Annotated[float, Field(ge=0, le=86400)] = 900
    """How long a request that fails in passing is tried again, on S3."""

    @field_validator("url")
    @classmethod
    def _local_path_beside_the_file(cls, value: str, info: ValidationInfo) -> str:
        return value if _SCHEME.match(value) else str(_beside_the_file(Path(value), info))


class ComponentConfig(Model):
    """What all components have in common."""

    name: Name
    """Unique in the stack; it names the component on the command line and in the repository."""
    pre: tuple[Argv, ...] = ()
    """Commands run before the capture; one that fails fails the component."""
    post: tuple[Argv, ...] = ()
    """Commands run after the capture, whatever happened."""
    stop: Argv | None = None
    """Stops the service, for what can only be restored with it down."""
    start: Argv | None = None
    """Starts it again."""


class PostgresConfig(ComponentConfig):
    """One PostgreSQL server with all its databases."""

    type: Literal["postgres"]
    url: str
    """libpq URL of a superuser; no password in it."""
    password_file: ConfiguredPath | None = None
    bin_dir: ConfiguredPath | None = None
    """Where the client programs of the server's own major version are."""
    data_dir: ConfiguredPath | None = None
    """Where the server keeps its data on this machine."""
    jobs: Annotated[int, Field(ge=1, le=64)] = 2
    """How many processes pg_restore may use for one database."""

    @field_validator("url")
    @classmethod
    def _no_password(cls, value: str) -> str:
        return _without_password(value, ("postgresql://", "postgres://"))


class RedisConfig(ComponentConfig):
    """One Redis or Valkey server."""

    type: Literal["redis"]
    url: str
    """redis://host:port/0, rediss:// or unix:///path; no password in it."""
    username: str | None = None
    password_file: ConfiguredPath | None = None
    server_program: ConfiguredPath | None = None
    """Scratch servers run this; found on PATH otherwise (redis-server, valkey-server)."""
    tls_ca_file: Path | None = None
    """Certificate authority for rediss://; the system's otherwise."""
    tls_certificate_file: Path | None = None
    """Client certificate, where the server asks for one."""
    tls_key_file: Path | None = None

    @field_validator("url")
    @classmethod
    def _no_password(cls, value: str) -> str:
        return _without_password(value, ("redis://", "rediss://", "unix://"))


class VolumeConfig(ComponentConfig):
    """One directory tree."""

    type: Literal["volume"]
    path: Path
    """The directory, absolute."""
    exclude: tuple[str, ...] = ()
    """Patterns of what is left out: `*.tmp` at any depth, `/cache` only at the top."""

    @field_validator("path")
    @classmethod
    def _absolute(cls, value: Path) -> Path:
        return _absolute_path(value)

    @field_validator("exclude")
    @classmethod
    def _patterns(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        try:
            Patterns(value)
        except UsageError as error:
            raise ValueError(error.message) from error
        return value


class ConfigsConfig(ComponentConfig):
    """Configuration files."""

    type: Literal["configs"]
    paths: Annotated[tuple[Path, ...], Field(min_length=1)]
    """Files and directories, absolute."""

    @field_validator("paths")
    @classmethod
    def _absolute(cls, value: tuple[Path, ...]) -> tuple[Path, ...]:
        return tuple(_absolute_path(path) for path in value)


AnyComponentConfig = Annotated[
    PostgresConfig | RedisConfig | VolumeConfig | ConfigsConfig, Field(discriminator="type")
]


class Config(Model):
    """The whole file."""

    stack: StackConfig
    repository: RepositoryConfig
    components: Annotated[tuple[AnyComponentConfig, ...], Field(min_length=1)]
    work_directory: ConfiguredPath | None = None
    """For scratch servers and staged dumps; the system's temporary directory otherwise."""
    state_directory: ConfiguredPath | None = None
    """For the journal of a running restore; /var/lib/sheetanchor, or below the home of a user."""

    @model_validator(mode="after")
    def _unique_names(self) -> Config:
        seen: set[str] = set()
        for component in self.components:
            if component.name in seen:
                raise ValueError(f"two components are named {component.name!r}")
            seen.add(component.name)
        return self


def _absolute_path(path: Path) -> Path:
    if not path.is_absolute():
        raise ValueError("has to be an absolute path")
    return path


def _without_password(url: str, schemes: tuple[str, ...]) -> str:
    if not url.startswith(schemes):
        raise ValueError(f"has to begin with {' or '.join(schemes)}")
    authority = url.split("://", 1)[1].split("/", 1)[0]
    query = url.partition("?")[2]
    if ":" in authority.rpartition("@")[0] or re.search(r"(^|&)\w*password=", query):
        raise ValueError("holds a password; give it by password_file")
    return url
