"""Builds concrete components and backends from the configuration; used by `app` alone."""

from __future__ import annotations

import os
import random
from collections.abc import Callable, Mapping
from pathlib import Path

from sheetanchor.clock import Clock
from sheetanchor.components.base import Component, Context
from sheetanchor.config.models import (
    AnyComponentConfig,
    Config,
    ConfigsConfig,
    PostgresConfig,
    RedisConfig,
    RepositoryConfig,
    VolumeConfig,
)
from sheetanchor.errors import PlanRefusedError
from sheetanchor.repository.backend.base import Backend

SYSTEM_STATE = Path("/var/lib/sheetanchor")


def build_component(config: AnyComponentConfig, context: Context) -> Component:
    """Return the component that `config` describes; connects to nothing."""
    match config:
        case PostgresConfig():
            from sheetanchor.components.postgres.component import PostgresComponent

            return PostgresComponent(config, context)
        case RedisConfig():
            from sheetanchor.components.redis.component import RedisComponent

            return RedisComponent(config, context)
        case VolumeConfig():
            from sheetanchor.components.volume.component import VolumeComponent

            return VolumeComponent(config, context)
        case ConfigsConfig():
            from sheetanchor.components.configs.component import ConfigsComponent

            return ConfigsComponent(config, context)


def open_backend(
    config: RepositoryConfig,
    environment: Mapping[str, str],
    clock: Clock,
    on_retry: Callable[[str], None],
) -> Backend:
    """Return the backend that the repository's URL names, with retry; connects to nothing."""
    from sheetanchor.repository.backend import location

    return location.open_backend(
        config.url, environment, clock, random.SystemRandom(), on_retry, config.retry_seconds
    )


def refuse_repository_inside(config: Config) -> None:
    """Raise PlanRefusedError for a repository inside a volume that it is to protect.

    It would be part of every backup, grow with each, and be lost together with the volume.
    """
    url = config.repository.url
    if ":" in url.partition("/")[0] and not url.startswith("local:"):
        return
    repository = Path(url.removeprefix("local:")).resolve()
    for component in config.components:
        if isinstance(component, VolumeConfig) and repository.is_relative_to(component.path.resolve()):
            raise PlanRefusedError(
                f"the repository {repository} lies inside the volume {component.name} that it protects",
                hint="put the repository on another disk, at the least in another directory",
            )


def state_directory(config: Config, environment: Mapping[str, str]) -> Path:
    """Return where the journals of a stack are kept on this machine."""
    if config.state_directory is not None:
        return config.state_directory / config.stack.name
    if os.geteuid() == 0:
        return SYSTEM_STATE / config.stack.name
    home = Path(environment.get("HOME") or "/var/tmp")  # noqa: S108 - has to outlive a restart
    state = environment.get("XDG_STATE_HOME")
    return (Path(state) if state else home / ".local" / "state") / "sheetanchor" / config.stack.name
