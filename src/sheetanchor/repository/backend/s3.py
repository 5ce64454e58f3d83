"""A repository in S3 or anything that speaks its protocol, laid out as restic does it.

Keys are `<prefix>/config`, `<prefix>/<kind>/<id>` and `<prefix>/data/<2 digits>/<id>`. Requests are
tried once here; trying again is the retry wrapper's work.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Literal
from urllib.parse import urlsplit

import obstore
from obstore.exceptions import AlreadyExistsError, BaseError, GenericError, NotFoundError
from obstore.store import S3Store

from sheetanchor.errors import (
    BackendError,
    ConfigError,
    FinalBackendError,
    NoSpaceError,
    ObjectAbsentError,
    ObjectExistsError,
    PassingBackendError,
    ReadOnlyBackendError,
)
from sheetanchor.repository.backend.base import CONFIG_NAME, Features, Kind, StoredObject, is_name
from sheetanchor.secret import Secret

_AMAZON = ".amazonaws.com"
_CONCURRENCY = 8
LARGEST_PUT = 128 << 20
"""Larger objects go up in parts; bytes."""
PART_SIZE = 64 << 20
_CONNECT_TIMEOUT = timedelta(seconds=15)
_REQUEST_TIMEOUT = timedelta(minutes=10)
_NO_RANGES = "non-partial response"
"""Some servers answer a range with 200 instead of 206; from these whole objects are read."""
_STATUS = re.compile(r"status code: (\d{3})")
_CODE = re.compile(r"<Code>([A-Za-z0-9]{1,64})</Code>")
_PASSING_STATUS = (408, 425, 429)
_FULL_CODES = ("QuotaExceeded", "XMinioStorageFull", "InsufficientStorage", "EntityTooLarge")


@dataclass(frozen=True)
class S3Location:
    """Where and as whom: made of a URL as restic writes it and of AWS_* variables."""

    endpoint: str
    bucket: str
    prefix: str
    region: str
    access_key: str | None = None
    secret_key: Secret | None = field(default=None, repr=False)
    session_token: Secret | None = field(default=None, repr=False)

    @property
    def url(self) -> str:
        """The URL without credentials."""
        return f"s3:{self.endpoint}/{self.bucket}" + (f"/{self.prefix}" if self.prefix else "")


def parse_s3_url(url: str, environment: Mapping[str, str]) -> S3Location:
    """Read `s3:host/bucket/prefix`, `s3:https://host:port/bucket/prefix` and AWS_* variables.

    AWS_ENDPOINT_URL replaces an Amazon host, never another one. Raises ConfigError.
    """
    rest = url.removeprefix("s3:")
    parts = urlsplit(rest if re.match(r"https?://", rest) else f"https://{rest.removeprefix('//')}")
    bucket, _, prefix = parts.path.strip("/").partition("/")
    if parts.username is not None or parts.password is not None:
        raise ConfigError(
            "the repository URL holds credentials", hint="set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY"
        )
    if not parts.hostname or not bucket or parts.query or parts.fragment:
        raise ConfigError(
            f"{url!r} is no S3 URL", hint="write s3:host/bucket/prefix or s3:https://host:port/bucket/prefix"
        )
    endpoint = f"{parts.scheme}://{parts.netloc}"
    if parts.hostname.endswith(_AMAZON) and environment.get("AWS_ENDPOINT_URL"):
        endpoint = environment["AWS_ENDPOINT_URL"].rstrip("/")
    return S3Location(
        endpoint,
        bucket,
        re.sub("/+", "/", prefix.strip("/")),
        _region(parts.hostname, environment),
        environment.get("AWS_ACCESS_KEY_ID") or None,
        _secret(environment.get("AWS_SECRET_ACCESS_KEY")),
        _secret(environment.get("AWS_SESSION_TOKEN")),
    )


class S3Backend:
    """Keeps objects in a bucket, which has to exist."""

    def __init__(
        self, location: S3Location, *, largest_put: int = LARGEST_PUT, part_size: int = PART_SIZE
    ) -> None:
        self._location = location
        self._largest_put = largest_put
        self._part_size = part_size
        self._store = _connect(location)

    @property
    def location(self) -> str:
        """Where this is, for people."""
        return self._location.url

    @property
    def features(self) -> Features:
        """What the storage promises; only Amazon's is known to honour conditional puts."""
        honoured = (urlsplit(self._location.endpoint).hostname or "").endswith(_AMAZON)
        return Features(conditional_put=honoured, concurrency=_CONCURRENCY)

    def create(self) -> None:
        """Check that the bucket can be listed; a prefix needs no making."""
        for _ in self.list(Kind.CONFIG):
            return

    def put(
        self, kind: Kind, name: str, data: bytes | bytearray | memoryview, *, if_absent: bool = False
    ) -> None:
        """Store an object; see Backend. A server may ignore the condition, so it is asked before too."""
        key = self._key(kind, name)
        if if_absent and self._exists(kind, name):
            raise ObjectExistsError(f"{self.location}: {key} exists already")
        self._send(key, data, "create" if if_absent else "overwrite")

    def put_on_condition(self, kind: Kind, name: str, data: bytes) -> None:
        """Store an object if the server itself finds it absent; see probe.LooksFirst."""
        self._send(self._key(kind, name), data, "create")

    def _send(
        self, key: str, data: bytes | bytearray | memoryview, mode: Literal["create", "overwrite"]
    ) -> None:
        try:
            obstore.put(
                self._store,
                key,
                data,
                mode=mode,
                use_multipart=len(data) > self._largest_put and mode == "overwrite",
                chunk_size=self._part_size,
                max_concurrency=2,
            )
        except AlreadyExistsError as error:
            raise ObjectExistsError(f"{self.location}: {key} exists already") from error
        except (BaseError, OSError) as error:
            raise self._error("write", key, error, writing=True) from error

    def get(self, kind: Kind, name: str, offset: int = 0, length: int | None = None) -> bytes:
        """Return bytes of an object; see Backend."""
        key = self._key(kind, name)
        try:
            data = self._read(key, offset, length)
        except (BaseError, OSError) as error:
            raise self._error("read", key, error) from error
        if length is not None and len(data) < length:
            raise FinalBackendError(f"{self.location}: {key} ends before byte {offset + length}")
        return data

    def size(self, kind: Kind, name: str) -> int:
        """Return the object's size in bytes; see Backend."""
        key = self._key(kind, name)
        try:
            return obstore.head(self._store, key)["size"]
        except (BaseError, OSError) as error:
            raise self._error("look at", key, error) from error

    def list(self, kind: Kind) -> Iterator[StoredObject]:
        """Yield all objects of a kind; see Backend."""
        folder = self._folder(kind)
        try:
            if kind is Kind.CONFIG:
                yield from self._list_config(folder)
                return
            for page in obstore.list(self._store, prefix=folder):
                for found in page:
                    below = found["path"].removeprefix(f"{folder}/")
                    name = below if kind is Kind.OBJECTS else below.rpartition("/")[2]
                    if is_name(kind, name):
                        yield StoredObject(name, found["size"], found["last_modified"])
        except (BaseError, OSError) as error:
            failure = self._error("list", folder, error)
            if isinstance(failure, ObjectAbsentError):
                failure = FinalBackendError(failure.message, hint="does the bucket exist?")
            raise failure from error

    def delete(self, kind: Kind, name: str) -> None:
        """Remove an object; see Backend."""
        key = self._key(kind, name)
        try:
            obstore.delete(self._store, key)
        except (BaseError, OSError) as error:
            failure = self._error("remove", key, error, writing=True)
            if not isinstance(failure, ObjectAbsentError):
                raise failure from error

    def close(self) -> None:
        """Connections are freed with the object."""

    def _exists(self, kind: Kind, name: str) -> bool:
        try:
            self.size(kind, name)
        except ObjectAbsentError:
            return False
        return True

    def _read(self, key: str, offset: int, length: int | None) -> bytes:
        if length is None and offset == 0:
            return bytes(obstore.get(self._store, key).bytes())
        size = obstore.head(self._store, key)["size"] if length is None or length == 0 else offset + length
        end = size if length is None else offset + length
        if end <= offset:
            return b""
        try:
            return bytes(obstore.get_range(self._store, key, start=offset, end=end))
        except GenericError as error:
            if _NO_RANGES not in str(error):
                raise
        return bytes(obstore.get(self._store, key).bytes())[offset:end]

    def _list_config(self, key: str) -> Iterator[StoredObject]:
        next(iter(obstore.list(self._store, prefix=self._folder(Kind.KEYS))), None)
        try:
            found = obstore.head(self._store, key)
        except (NotFoundError, FileNotFoundError):
            return
        yield StoredObject(CONFIG_NAME, found["size"], found["last_modified"])

    def _folder(self, kind: Kind) -> str:
        return f"{self._location.prefix}/{kind}" if self._location.prefix else str(kind)

    def _key(self, kind: Kind, name: str) -> str:
        if kind is Kind.CONFIG:
            return self._folder(kind)
        if not is_name(kind, name):
            raise FinalBackendError(f"{name[:80]!r} is no name of a file of kind {kind}")
        return (
            f"{self._folder(kind)}/{name[:2]}/{name}" if kind is Kind.DATA else f"{self._folder(kind)}/{name}"
        )

    def _error(self, what: str, key: str, error: Exception, *, writing: bool = False) -> BackendError:
        """Sort a failure into absent, passing and final."""
        text = str(error)
        found = _STATUS.search(text)
        status = int(found[1]) if found else 0
        code = found[1] if (found := _CODE.search(text)) else ""
        where = f"{self.location}: cannot {what} {key}"
        message = f"{where}: {code or _first_line(text)}" + (f" (HTTP {status})" if status else "")
        if code == "NoSuchBucket":
            return FinalBackendError(message, hint="create the bucket, or correct the repository URL")
        if isinstance(error, (NotFoundError, FileNotFoundError)) or status == 404:
            return ObjectAbsentError(message)
        if code in _FULL_CODES or status == 507:
            return NoSpaceError(message, hint="free space in the bucket or raise its quota")
        if status in (401, 403):
            kind = ReadOnlyBackendError if writing else FinalBackendError
            return kind(
                message, hint="check the access key, its rights on this bucket and the machine's clock"
            )
        if status == 0 or status >= 500 or status in _PASSING_STATUS:
            return PassingBackendError(message)
        return FinalBackendError(message)


def _connect(location: S3Location) -> S3Store:
    configuration: dict[str, object] = {
        "endpoint": location.endpoint,
        "region": location.region,
        "virtual_hosted_style_request": False,
        "disable_bulk_delete": True,
        "conditional_put": "etag",
    }
    if location.access_key is not None and location.secret_key is not None:
        configuration["access_key_id"] = location.access_key
        configuration["secret_access_key"] = location.secret_key.reveal()
        if location.session_token is not None:
            configuration["session_token"] = location.session_token.reveal()
    return S3Store(
        location.bucket,
        config=configuration,  # type: ignore[arg-type]  # the stub lists literal regions only
        client_options={
            "allow_http": location.endpoint.startswith("http://"),
            "connect_timeout": _CONNECT_TIMEOUT,
            "timeout": _REQUEST_TIMEOUT,
        },
        retry_config={"max_retries": 0, "retry_timeout": _REQUEST_TIMEOUT},
    )


def _region(host: str, environment: Mapping[str, str]) -> str:
    named = environment.get("AWS_REGION") or environment.get("AWS_DEFAULT_REGION")
    if named:
        return named
    found = re.fullmatch(r"s3[.-]([a-z0-9-]+)\.amazonaws\.com(\.cn)?", host)
    return found[1] if found else "us-east-1"


def _secret(value: str | None) -> Secret | None:
    return Secret(value) if value else None


def _first_line(text: str) -> str:
    line = text.split("\n", 1)[0]
    return line.rpartition(" - ")[2][:200]
