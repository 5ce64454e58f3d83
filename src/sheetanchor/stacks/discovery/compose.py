"""Reads the compose files of a directory: files worth keeping, and the directories that services mount."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

from sheetanchor.stacks.base import Discovered

PATTERNS = (
    "docker-compose*.yml",
    "docker-compose*.yaml",
    "compose*.yml",
    "compose*.yaml",
    "docker-stack*.yml",
)
DATABASES = ("postgres", "postgis", "timescaledb", "pgvector", "redis", "valkey", "rabbitmq", "minio")
"""Images whose data directory belongs to a component of its own and is never copied live."""
DOCKER_VOLUMES = Path("/var/lib/docker/volumes")
SYSTEM = tuple(map(Path, ("/", "/proc", "/sys", "/dev", "/run", "/var/run", "/etc", "/usr", "/boot")))
MAX_BYTES = 1 << 20


def files(directory: Path) -> list[Path]:
    """Return the compose files in `directory`, and the `.env` that belongs to them."""
    found = sorted({path for pattern in PATTERNS for path in directory.glob(pattern) if path.is_file()})
    env = directory / ".env"
    return [*found, env] if found and env.is_file() else found


def stack_name(directory: Path) -> str:
    """Return the `name:` of the compose files, or the directory's own, fit for a stack's name."""
    for document in _documents(directory):
        if isinstance(document.get("name"), str):
            return _fit(document["name"])
    return _fit(directory.name)


def find(directory: Path, *, docker_volumes: Path = DOCKER_VOLUMES) -> list[Discovered]:
    """Return the mounted directories as volumes, and the compose files as `configs`."""
    found: dict[Path, Discovered] = {}
    names: set[str] = {"postgres", "redis", "configs"}
    for service, path in _mounts(directory, docker_volumes):
        if path in found:
            continue
        name = _unused(_fit(_short(path)), names)
        names.add(name)
        found[path] = Discovered(
            name, "volume", "local", (f"mounted by service {service}",), (("path", str(path)),)
        )
    kept = files(directory)
    if kept:
        paths = tuple(str(path) for path in kept)
        return [*found.values(), Discovered("configs", "configs", "local", (), (("paths", paths),))]
    return list(found.values())


def _mounts(directory: Path, docker_volumes: Path) -> Iterator[tuple[str, Path]]:
    for document in _documents(directory):
        project = _fit(str(document.get("name") or directory.name)).lower()
        for service, settings in _mapping(document.get("services")).items():
            image = str(_mapping(settings).get("image", ""))
            if any(word in image.rsplit("/", 1)[-1] for word in DATABASES):
                continue
            volumes = _mapping(settings).get("volumes")
            for mount in volumes if isinstance(volumes, list) else []:
                path = _source(mount, directory, docker_volumes / f"{project}_")
                if path is not None and path not in SYSTEM and path.is_dir():
                    yield str(service), path


def _source(mount: Any, directory: Path, volume_prefix: Path) -> Path | None:
    """Return the directory on this machine that a mount in short or long form names."""
    if isinstance(mount, str):
        source, separator, _ = mount.partition(":")
        source = source if separator else ""
    else:
        source = str(_mapping(mount).get("source") or "")
    if not source or "$" in source:
        return None
    if source.startswith(("/", ".", "~")):
        return (directory / Path(source).expanduser()).resolve()
    return Path(f"{volume_prefix}{source}") / "_data"


def _documents(directory: Path) -> Iterator[dict[str, Any]]:
    for path in files(directory):
        if path.suffix not in {".yml", ".yaml"} or path.stat().st_size > MAX_BYTES:
            continue
        try:
            document = yaml.safe_load(path.read_bytes())
        except (OSError, yaml.YAMLError):
            # A file that Docker would refuse, too, is still worth keeping; it tells us nothing.
            continue
        if isinstance(document, dict):
            yield document


def _mapping(value: Any) -> dict[Any, Any]:
    return value if isinstance(value, dict) else {}


def _short(path: Path) -> str:
    """Return the last telling part: Docker's own volumes all end in `_data`."""
    return path.parent.name if path.name == "_data" else path.name


def _unused(name: str, taken: set[str]) -> str:
    candidates = (name if number == 1 else f"{name}-{number}" for number in range(1, len(taken) + 2))
    return next(candidate for candidate in candidates if candidate not in taken)


def _fit(text: str) -> str:
    """Return `text` as a name that the configuration accepts."""
    return re.sub(r"[^A-Za-z0-9_.-]+", "-", text).strip("-._")[:63] or "stack"
