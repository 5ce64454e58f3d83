"""From a repository URL, as restic writes it, to a backend."""

from __future__ import annotations

import random
import re
from collections.abc import Callable, Mapping
from pathlib import Path

from sheetanchor.clock import Clock
from sheetanchor.errors import ConfigError
from sheetanchor.repository.backend.base import Backend
from sheetanchor.repository.backend.local import LocalBackend
from sheetanchor.repository.backend.retry import RetryingBackend, RetryPolicy

_LOCAL_POLICY = RetryPolicy(first_delay=0.2, longest_delay=5.0, total_seconds=30.0)


def open_backend(
    url: str,
    environment: Mapping[str, str],
    clock: Clock,
    random_source: random.Random,
    on_retry: Callable[[str], None] | None = None,
    retry_seconds: float | None = None,
) -> Backend:
    """Return the backend that a URL names; nothing is read or written yet.

    `/path`, `local:/path`, `s3:host/bucket/prefix` and `s3:https://host/bucket/prefix` are known,
    so is `rest:https://host:port/path/`. Credentials come from AWS_*, SHEETANCHOR_REST_* and
    RESTIC_REST_* variables in `environment`. `retry_seconds` bounds how long a request that fails
    is tried again. Raises ConfigError.
    """
    scheme = re.match(r"([a-z0-9+]+):", url)
    if scheme is None or scheme[1] == "local":
        path = url.removeprefix("local:")
        if not path.startswith("/"):
            raise ConfigError(
                f"the repository {url!r} is no absolute path", hint="write /path or s3:host/bucket/prefix"
            )
        return RetryingBackend(LocalBackend(Path(path)), clock, random_source, _LOCAL_POLICY, on_retry)
    policy = RetryPolicy() if retry_seconds is None else RetryPolicy(total_seconds=retry_seconds)
    if scheme[1] == "s3":
        from sheetanchor.repository.backend.s3 import S3Backend, parse_s3_url

        s3 = S3Backend(parse_s3_url(url, environment))
        return RetryingBackend(s3, clock, random_source, policy, on_retry)
    if scheme[1] == "rest":
        from sheetanchor.repository.backend.rest import RestBackend
        from sheetanchor.repository.backend.rest_location import parse_rest_url

        rest = RestBackend(parse_rest_url(url, environment))
        return RetryingBackend(rest, clock, random_source, policy, on_retry)
    raise ConfigError(
        f"repositories of scheme {scheme[1]!r} are not supported",
        hint="write /path, s3:https://host:port/bucket/prefix or rest:https://host:port/path/",
    )
