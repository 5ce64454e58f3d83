"""Every option of `sheetanchor.yml` as a frozen pydantic model; unknown keys are refused."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

Argv = Annotated[tuple[str, ...], Field(min_length=1)]
Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]{0,62}$")]


class Model(BaseModel):
    """Base of all configuration models."""

    model_config = ConfigDict(frozen=True, extra="forbid", str_strip_whitespace=True)


class StackConfig(Model):
    """What is protected."""

    name: Name
    driver: Literal["local"] = "local"


class RepositoryConfig(Model):
    """Where backups are kept."""

    url: Annotated[
        str, Field(min_length=1, description="as restic writes it: /srv/repo, s3:https://host/bucket/prefix")
    ]
    password_file: Path | None = None
    compression: Literal["off", "auto", "max"] = "auto"
    threads: Annotated[int | None, Field(ge=1, le=64)] = None


class ComponentConfig(Model):
    """What all components have in common."""

    name: Name
    pre: tuple[Argv, ...] = ()
    """Commands run before the capture; one that fails fails the component."""
    post: tuple[Argv, ...] = ()
    """Commands run after the capture, whatever happened."""
    stop: Argv | None = None
    """Stops the service, for what can only be restored with it down."""
    start: Argv | None = None


class PostgresConfig(ComponentConfig):
    """One PostgreSQL server with all its databases."""

    type: Literal["postgres"]
    url: str
    """libpq URL of a superuser; no password in it."""
    password_file: Path | None = None
    bin_dir: Path | None = None
    """Where the client programs of the server's own major version are."""
    data_dir: Path | None = None
    jobs: Annotated[int, Field(ge=1, le=64)] = 2

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
    password_file: Path | None = None
    server_program: Path | None = None
    """Scratch servers run this; found on PATH otherwise (redis-server, valkey-server)."""

    @field_validator("url")
    @classmethod
    def _no_password(cls, value: str) -> str:
        return _without_password(value, ("redis://", "rediss://", "unix://"))


class VolumeConfig(ComponentConfig):
    """One directory tree."""

    type: Literal["volume"]
    path: Path
    exclude: tuple[str, ...] = ()

    @field_validator("path")
    @classmethod
    def _absolute(cls, value: Path) -> Path:
        return _absolute_path(value)


class ConfigsConfig(ComponentConfig):
    """Configuration files."""

    type: Literal["configs"]
    paths: Annotated[tuple[Path, ...], Field(min_length=1)]

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
    work_directory: Path | None = None
    """For scratch servers and staged dumps; the system's temporary directory otherwise."""
    state_directory: Path | None = None
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
        raise ValueError(f"{path} is not an absolute path")
    return path


def _without_password(url: str, schemes: tuple[str, ...]) -> str:
    if not url.startswith(schemes):
        raise ValueError(f"has to begin with {' or '.join(schemes)}")
    authority = url.split("://", 1)[1].split("/", 1)[0]
    if ":" in authority.rpartition("@")[0]:
        raise ValueError("holds a password; give it by password_file")
    return url
