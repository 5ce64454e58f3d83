"""Archives to and from `s3://bucket/prefix`: multipart both ways, every part checksummed.

Credentials and places come from the usual AWS variables: AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY,
AWS_SESSION_TOKEN, AWS_REGION or AWS_DEFAULT_REGION, AWS_ENDPOINT_URL_S3 or AWS_ENDPOINT_URL.
"""

from __future__ import annotations

import os
import re
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path

import obstore
from obstore.exceptions import BaseError, NotFoundError, PermissionDeniedError, UnauthenticatedError
from obstore.store import S3Store

from sheetanchor.archive.layout import CHECKSUM_SUFFIX, ENCRYPTED_SUFFIX, MAC_SUFFIX, TAR_SUFFIX, check_member
from sheetanchor.archive.layout import archive_paths as _archive_paths
from sheetanchor.archive.spool import open_new, storage_error, write_all
from sheetanchor.errors import (
    BackendError,
    FinalBackendError,
    ObjectAbsentError,
    PassingBackendError,
    UsageError,
)
from sheetanchor.events import Listener
from sheetanchor.secret import Secret

PART_BYTES = 16 << 20
MAX_PARTS = 9_000
"""S3 takes 10,000 parts of an object; parts grow with objects beyond 140 GiB."""
PARALLEL = 3
_RETRIES = 5
_TIMEOUT = timedelta(minutes=10)
_CONNECT_TIMEOUT = timedelta(seconds=15)
_SCHEME = "s3://"
_CODE = re.compile(r"<Code>([A-Za-z0-9]{1,64})</Code>")
_STATUS = re.compile(r"status code: (\d{3})")


@dataclass(frozen=True)
class Address:
    """A place in a bucket, and as whom to reach it."""

    bucket: str
    key: str
    endpoint: str | None = None
    region: str = "us-east-1"
    access_key: str | None = None
    secret_key: Secret | None = field(default=None, repr=False)
    session_token: Secret | None = field(default=None, repr=False)

    def url_of(self, key: str) -> str:
        """Return the address of `key` in the same bucket, without credentials."""
        return f"{_SCHEME}{self.bucket}/{key}"


def is_address(text: str) -> bool:
    """Say whether `text` is meant as an address in S3."""
    return text.startswith(_SCHEME)


def parse_address(url: str, environment: Mapping[str, str]) -> Address:
    """Read `s3://bucket/prefix` and the AWS variables of `environment`. Raises UsageError."""
    bucket, _, key = url.removeprefix(_SCHEME).partition("/")
    if not is_address(url) or not re.fullmatch(r"[a-z0-9][a-z0-9.-]{1,62}", bucket):
        raise UsageError(f"{url[:200]!r} is no address in S3", hint="write s3://bucket/prefix")
    secret, token = environment.get("AWS_SECRET_ACCESS_KEY"), environment.get("AWS_SESSION_TOKEN")
    return Address(
        bucket,
        re.sub("/+", "/", key.strip("/")),
        environment.get("AWS_ENDPOINT_URL_S3") or environment.get("AWS_ENDPOINT_URL") or None,
        environment.get("AWS_REGION") or environment.get("AWS_DEFAULT_REGION") or "us-east-1",
        environment.get("AWS_ACCESS_KEY_ID") or None,
        Secret(secret) if secret else None,
        Secret(token) if token else None,
    )


def upload(
    paths: Sequence[Path], url: str, environment: Mapping[str, str], listener: Listener
) -> tuple[str, ...]:
    """Put files, and folders with all below them, under `url`; return the address of each file.

    An object appears whole or not at all; its size is asked for afterwards. Raises UsageError,
    BackendError.
    """
    address = parse_address(url, environment)
    store = _connect(address)
    addresses = []
    for path, name in _files_of(paths):
        key = f"{address.key}/{name}" if address.key else name
        where = address.url_of(key)
        size = path.stat().st_size
        listener.started(f"upload {name}", size)
        try:
            _put(store, key, path, size, f"upload {name}", listener)
            arrived = obstore.head(store, key)["size"]
        except (BaseError, OSError) as error:
            raise _failure(where, "write", error) from error
        finally:
            listener.finished(f"upload {name}")
        if arrived != size:
            raise FinalBackendError(f"{where}: {arrived} bytes arrived of {size}", hint="upload it again")
        addresses.append(where)
    return tuple(addresses)


def download(url: str, directory: Path, environment: Mapping[str, str], listener: Listener) -> Path:
    """Fetch an archive, with what authenticates it, into `directory`; return its path there.

    Without a suffix the form that exists is taken: `.tar.gz`, `.tar.gz.enc`, a folder. Raises
    UsageError, ObjectAbsentError and other BackendErrors, NoSpaceError.
    """
    address = parse_address(url, environment)
    store = _connect(address)
    try:
        keys = _keys_of(store, address)
        for key, target in keys:
            _fetch(store, key, directory / target, listener)
    except (BaseError, OSError) as error:
        raise _failure(address.url_of(address.key), "read", error) from error
    return directory / keys[-1][1].parts[0]


def _files_of(paths: Sequence[Path]) -> Iterator[tuple[Path, str]]:
    """Yield files and their names below the prefix; what authenticates an archive goes first."""
    for path in sorted(paths, key=lambda one: not one.name.endswith((MAC_SUFFIX, CHECKSUM_SUFFIX))):
        if path.is_dir():
            for file in sorted(one for one in path.rglob("*") if one.is_file()):
                yield file, str(file.relative_to(path.parent))
        else:
            yield path, path.name


def _put(store: S3Store, key: str, path: Path, size: int, task: str, listener: Listener) -> None:
    part = max(PART_BYTES, -(-size // MAX_PARTS))

    def pieces() -> Iterator[bytes]:
        with path.open("rb") as file:
            while data := file.read(1 << 20):
                listener.advanced(task, len(data))
                yield data

    if size <= PART_BYTES:
        obstore.put(store, key, b"".join(pieces()), use_multipart=False)
    else:
        obstore.put(store, key, pieces(), use_multipart=True, chunk_size=part, max_concurrency=PARALLEL)


def _keys_of(store: S3Store, address: Address) -> list[tuple[str, Path]]:
    """Return the keys that make up the archive and their names below the target; it comes last."""
    stem = address.key
    name = stem.rpartition("/")[2]
    single = name.endswith((TAR_SUFFIX, ENCRYPTED_SUFFIX))
    for key in (stem,) if single else (stem + TAR_SUFFIX, stem + ENCRYPTED_SUFFIX):
        if _exists(store, key):
            base = _archive_paths(Path(key)).name
            folder = key.removesuffix(key.rpartition("/")[2])
            beside = [key + MAC_SUFFIX, folder + base + CHECKSUM_SUFFIX]
            found = [one for one in beside if _exists(store, one)]
            return [(one, Path(one.rpartition("/")[2])) for one in [*found, key]]
    members = [] if single or not stem else _members_below(store, stem)
    if not members:
        raise ObjectAbsentError(
            f"{address.url_of(stem)}: no archive there",
            hint="give the address of a backup_<date>_<time>, with or without .tar.gz or .tar.gz.enc",
        )
    return [(f"{stem}/{member}", Path(name, member)) for member in members]


def _members_below(store: S3Store, stem: str) -> list[str]:
    """List a folder's members; names that are no part of a backup are refused."""
    keys = [found["path"] for page in obstore.list(store, prefix=f"{stem}/") for found in page]
    return sorted(check_member(key.removeprefix(f"{stem}/")) for key in keys)


def _exists(store: S3Store, key: str) -> bool:
    try:
        obstore.head(store, key)
    except (NotFoundError, FileNotFoundError):
        return False
    return True


def _fetch(store: S3Store, key: str, target: Path, listener: Listener) -> None:
    """Write an object to `target` under a passing name, then give it its own."""
    meta = obstore.head(store, key)
    task = f"download {target.name}"
    listener.started(task, meta["size"])
    _make_folder(target.parent)
    passing = target.with_name(f".{target.name}.fetching")
    with suppress(FileNotFoundError):
        passing.unlink()
    file = open_new(passing)
    try:
        for data in _ranges(store, key, meta["size"], meta["e_tag"]):
            write_all(file, data, target.parent)
            listener.advanced(task, len(data))
        os.fsync(file.fileno())
        os.replace(passing, target)
    finally:
        file.close()
        passing.unlink(missing_ok=True)
        listener.finished(task)


def _make_folder(folder: Path) -> None:
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise storage_error(folder, error) from error


def _ranges(store: S3Store, key: str, size: int, tag: str | None) -> Iterator[bytes]:
    """Yield an object in order, several parts under way at once; all of one version of it."""

    def read(start: int) -> bytes:
        end = min(start + PART_BYTES, size)
        whole = start == 0 and end == size
        options = {} if whole else {"range": (start, end)}
        if tag:
            options["if_match"] = tag  # type: ignore[assignment]
        data = bytes(obstore.get(store, key, options=options).bytes())  # type: ignore[arg-type]
        if len(data) != end - start:
            raise PassingBackendError(f"{key}: {len(data)} bytes came of {end - start}")
        return data

    with ThreadPoolExecutor(PARALLEL, thread_name_prefix="fetch") as pool:
        pending: deque[Future[bytes]] = deque()
        try:
            for start in range(0, size, PART_BYTES):
                if len(pending) >= PARALLEL:
                    yield pending.popleft().result()
                pending.append(pool.submit(read, start))
            while pending:
                yield pending.popleft().result()
        finally:
            for future in pending:
                future.cancel()


def _connect(address: Address) -> S3Store:
    configuration: dict[str, object] = {
        "region": address.region,
        "virtual_hosted_style_request": False,
        "checksum_algorithm": "SHA256",
    }
    if address.endpoint:
        configuration["endpoint"] = address.endpoint
    if address.access_key and address.secret_key:
        configuration["access_key_id"] = address.access_key
        configuration["secret_access_key"] = address.secret_key.reveal()
        if address.session_token:
            configuration["session_token"] = address.session_token.reveal()
    return S3Store(
        address.bucket,
        config=configuration,  # type: ignore[arg-type]  # the stub lists literal regions only
        client_options={
            "allow_http": bool(address.endpoint and address.endpoint.startswith("http://")),
            "connect_timeout": _CONNECT_TIMEOUT,
            "timeout": _TIMEOUT,
        },
        retry_config={"max_retries": _RETRIES, "retry_timeout": _TIMEOUT},
    )


def _failure(where: str, what: str, error: Exception) -> BackendError:
    """Turn a failed request into one of ours."""
    text = str(error)
    found = _CODE.search(text)
    status = int(match[1]) if (match := _STATUS.search(text)) else 0
    first = text.splitlines()[0][:200] if text else type(error).__name__
    message = f"{where}: cannot {what}: {found[1] if found else first}"
    if found and found[1] == "NoSuchBucket":
        return FinalBackendError(message, hint="create the bucket, or correct the address")
    if isinstance(error, (PermissionDeniedError, UnauthenticatedError)) or status in (401, 403):
        return FinalBackendError(
            message, hint="check AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY and their rights on this bucket"
        )
    if isinstance(error, (NotFoundError, FileNotFoundError)) or status == 404:
        return ObjectAbsentError(message, hint="check the bucket's name and the address")
    return PassingBackendError(message, hint="check AWS_ENDPOINT_URL and the network, then try again")
