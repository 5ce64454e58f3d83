"""A repository behind a server of restic's REST protocol, version 1 or 2.

Requests are tried once here; trying again is the retry wrapper's work.
"""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Iterator, Mapping
from datetime import datetime
from http import HTTPStatus

from sheetanchor.errors import (
    BackendError,
    FinalBackendError,
    NoSpaceError,
    ObjectAbsentError,
    ObjectExistsError,
    PassingBackendError,
    ReadOnlyBackendError,
)
from sheetanchor.repository.backend.base import CONFIG_NAME, Features, Kind, StoredObject, is_name
from sheetanchor.repository.backend.rest_http import Answer, RestHttp
from sheetanchor.repository.backend.rest_location import RestLocation
from sheetanchor.repository.ids import is_hex_id

_VERSION_2 = "application/vnd.x.restic.rest.v2"
_FEATURES_HEADER = "x-sheetanchor-features"
_CONDITIONAL_PUT = "conditional-put"
_CONCURRENCY = 5
_OBJECTS = "objects"
_PASSING = (408, 425, 429)
_LONGEST_REASON = 200


class RestBackend:
    """Keeps objects behind a REST server; sealed objects only behind one of our own."""

    def __init__(self, location: RestLocation) -> None:
        self._location = location
        self._http = RestHttp(location)
        self._promises: frozenset[str] | None = None

    @property
    def location(self) -> str:
        """Where this is, for people."""
        return self._location.url

    @property
    def features(self) -> Features:
        """What the server promises; it is asked once. One that cannot be asked promises nothing."""
        if self._promises is None:
            try:
                self._request("HEAD", Kind.CONFIG)
            except BackendError:
                return Features(conditional_put=False, concurrency=_CONCURRENCY)
        return Features(conditional_put=_CONDITIONAL_PUT in (self._promises or ()), concurrency=_CONCURRENCY)

    def create(self) -> None:
        """Let the server make its directories. Idempotent."""
        self._expect(self._request("POST", "?create=true", body=b""), "make", "the repository", writing=True)

    def put(
        self, kind: Kind, name: str, data: bytes | bytearray | memoryview, *, if_absent: bool = False
    ) -> None:
        """Store an object; see Backend. A file that is there and differs is removed first, as restic does."""
        path, view = self._path(kind, name), memoryview(data)
        if if_absent and not self.features.conditional_put and self._exists(path):
            raise self._exists_error(path)
        answer = self._send(path, view, "If-None-Match" if if_absent else None)
        if answer.status == HTTPStatus.PRECONDITION_FAILED:
            raise self._exists_error(path)
        if answer.status == HTTPStatus.FORBIDDEN and self._exists(path):
            if if_absent:
                raise self._exists_error(path)
            if self._holds(path, view):
                return
            if kind is not Kind.OBJECTS:
                self._delete(path)
            answer = self._send(path, view, "If-Match")
        self._expect(answer, "write", path, writing=True)

    def get(self, kind: Kind, name: str, offset: int = 0, length: int | None = None) -> bytes:
        """Return bytes of an object; see Backend."""
        return self._get(self._path(kind, name), offset, length)

    def size(self, kind: Kind, name: str) -> int:
        """Return the object's size in bytes; see Backend."""
        return self._size(self._path(kind, name))

    def list(self, kind: Kind) -> Iterator[StoredObject]:
        """Yield all objects of a kind; see Backend."""
        if kind is not Kind.CONFIG:
            self._refuse_sealed(kind)
            for found in self._list(f"{kind}/"):
                if is_name(kind, found.name):
                    yield found
            return
        try:
            size = self._size(kind)
        except ObjectAbsentError:
            return
        yield StoredObject(CONFIG_NAME, size, None)

    def delete(self, kind: Kind, name: str) -> None:
        """Remove an object; see Backend."""
        self._delete(self._path(kind, name))

    def close(self) -> None:
        """Close connections."""
        self._http.close()

    def _request(
        self,
        method: str,
        path: str,
        headers: Mapping[str, str] | None = None,
        body: bytes | memoryview | None = None,
    ) -> Answer:
        view = memoryview(body) if body is not None else None
        answer = self._http.request(method, path, {"Accept": _VERSION_2, **(headers or {})}, view)
        promised = answer.headers.get(_FEATURES_HEADER, "")
        self._promises = frozenset(word.strip() for word in promised.split(",") if word.strip())
        return answer

    def _path(self, kind: Kind, name: str) -> str:
        if kind is Kind.CONFIG:
            return str(kind)
        if not is_name(kind, name):
            raise FinalBackendError(f"{name[:80]!r} is no name of a file of kind {kind}")
        self._refuse_sealed(kind)
        return f"{kind}/{name}"

    def _refuse_sealed(self, kind: Kind) -> None:
        if kind is not Kind.OBJECTS:
            return
        if self._promises is None:
            self._request("HEAD", Kind.CONFIG)
        if _OBJECTS not in (self._promises or ()):
            raise FinalBackendError(
                f"{self.location}: this server keeps restic's files only, no sealed objects (WAL among them)",
                hint="serve the repository with `sheetanchor repository serve`, or give WAL a URL of its own",
            )

    def _send(self, path: str, data: memoryview, condition: str | None) -> Answer:
        headers = {"Content-Type": "application/octet-stream"}
        if path.startswith(f"{Kind.OBJECTS}/"):
            # The names of restic's files say their hash already; a sealed object's does not.
            digest = base64.b64encode(hashlib.sha256(data).digest()).decode("ascii")
            headers["Content-Digest"] = f"sha-256=:{digest}:"
        if condition is not None:
            headers[condition] = "*"
        return self._request("POST", path, headers, data)

    def _exists_error(self, path: str) -> ObjectExistsError:
        return ObjectExistsError(f"{self.location}: {path} exists already")

    def _holds(self, path: str, data: memoryview) -> bool:
        """Say whether an object is there with these bytes.

        Who may not read it judges by its size: the server has checked the name against the bytes.
        """
        try:
            if self._size(path) != data.nbytes:
                return False
            return data == self._get(path, 0, None)
        except ObjectAbsentError:
            return False
        except ReadRefusedError:
            return path != Kind.CONFIG

    def _exists(self, path: str) -> bool:
        return self._request("HEAD", path).status == HTTPStatus.OK

    def _get(self, path: str, offset: int, length: int | None) -> bytes:
        if length == 0:
            self._size(path)
            return b""
        end = None if length is None else offset + length
        ranged = offset > 0 or length is not None
        headers = {"Range": f"bytes={offset}-{'' if end is None else end - 1}"} if ranged else {}
        answer = self._request("GET", path, headers)
        if answer.status == HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE:
            if length is None:
                return b""
            raise FinalBackendError(f"{self.location}: {path} ends before byte {end}")
        self._expect(answer, "read", path)
        # A server that knows no ranges sends the whole with status 200.
        whole = ranged and answer.status == HTTPStatus.OK
        data = answer.body[offset:end] if whole else answer.body
        if length is not None and len(data) != length:
            raise FinalBackendError(f"{self.location}: {path} ends before byte {end}")
        return data

    def _size(self, path: str) -> int:
        answer = self._request("HEAD", path)
        self._expect(answer, "look at", path)
        length = answer.headers.get("content-length", "")
        if not length.isdecimal():
            raise FinalBackendError(f"{self.location}: the server does not say how long {path} is")
        return int(length)

    def _list(self, folder: str) -> Iterator[StoredObject]:
        answer = self._request("GET", folder)
        if answer.status == HTTPStatus.NOT_FOUND:
            return
        self._expect(answer, "list", folder)
        try:
            listed = json.loads(answer.body)
            entries = [_listed(entry) for entry in listed or ()]
        except (ValueError, TypeError, KeyError) as error:
            raise FinalBackendError(
                f"{self.location}: what came for {folder} is no listing", hint="is this a restic REST server?"
            ) from error
        for name, stored in entries:
            # Version 1 of the protocol lists names only.
            if stored is not None:
                yield stored
            elif is_hex_id(name):
                yield from self._sized(folder, name)

    def _sized(self, folder: str, name: str) -> Iterator[StoredObject]:
        try:
            yield StoredObject(name, self._size(f"{folder}{name}"), None)
        except ObjectAbsentError:
            return

    def _delete(self, path: str) -> None:
        answer = self._request("DELETE", path)
        if answer.status != HTTPStatus.NOT_FOUND:
            self._expect(answer, "remove", path, writing=True)

    def _expect(self, answer: Answer, what: str, path: str, *, writing: bool = False) -> None:
        """Sort an answer into done, absent, passing and final."""
        status = answer.status
        if HTTPStatus.OK <= status < HTTPStatus.MULTIPLE_CHOICES:
            return
        reason = " ".join(answer.body[:_LONGEST_REASON].decode("utf-8", "replace").split())
        message = f"{self.location}: cannot {what} {path}: {reason or 'refused'} (HTTP {status})"
        if status == HTTPStatus.NOT_FOUND and not writing:
            raise ObjectAbsentError(message)
        if status == HTTPStatus.UNAUTHORIZED:
            raise FinalBackendError(
                message, hint="check SHEETANCHOR_REST_USERNAME and SHEETANCHOR_REST_PASSWORD_FILE"
            )
        if status == HTTPStatus.FORBIDDEN:
            kind = ReadOnlyBackendError if writing else ReadRefusedError
            raise kind(message, hint="this user's rights on the server do not include it")
        if status in (HTTPStatus.INSUFFICIENT_STORAGE, HTTPStatus.REQUEST_ENTITY_TOO_LARGE):
            raise NoSpaceError(message, hint="free space on the server, or raise its limits")
        if status >= HTTPStatus.INTERNAL_SERVER_ERROR or status in _PASSING:
            raise PassingBackendError(message)
        raise FinalBackendError(message)


class ReadRefusedError(FinalBackendError):
    """The server does not let this user read."""


def _listed(entry: object) -> tuple[str, StoredObject | None]:
    if isinstance(entry, str):
        return entry, None
    if not isinstance(entry, dict):
        raise TypeError("an entry is neither text nor an object")
    received_at = entry.get("received_at")
    moment = datetime.fromisoformat(received_at) if received_at else None
    return entry["name"], StoredObject(str(entry["name"]), int(entry["size"]), moment)
