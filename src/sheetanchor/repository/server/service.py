"""What the server does with one request: who asks, may they, and then the file system."""

from __future__ import annotations

import base64
import binascii
import json
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http import HTTPStatus

from sheetanchor.clock import Clock
from sheetanchor.errors import ConfigError
from sheetanchor.repository.backend.base import Kind, StoredObject
from sheetanchor.repository.server.authentication import Authenticator
from sheetanchor.repository.server.options import Options
from sheetanchor.repository.server.quota import Quota
from sheetanchor.repository.server.refused import RefusedError
from sheetanchor.repository.server.request import Request
from sheetanchor.repository.server.rights import Action, Right, permits
from sheetanchor.repository.server.store import DirectoryStore, ExistsError, OpenedObject
from sheetanchor.repository.server.target import Target, parse_target

VERSION_1 = "application/vnd.x.restic.rest.v1"
VERSION_2 = "application/vnd.x.restic.rest.v2"
NOBODY = "-"
"""The name of who has not proven to be somebody."""
ANYBODY = "anybody"
"""The name of everyone where there are no users."""
_BYTES = "application/octet-stream"
_DIGEST = "sha-256=:"
_OBJECT_METHODS = "GET, HEAD, POST, PUT, DELETE"


@dataclass(frozen=True)
class Response:
    """An answer; either `body`, or `length` bytes of an opened object from `offset`."""

    status: HTTPStatus
    body: bytes = b""
    content_type: str = "text/plain; charset=utf-8"
    headers: dict[str, str] = field(default_factory=dict)
    opened: OpenedObject | None = None
    offset: int = 0
    length: int = 0


@dataclass(frozen=True)
class Upload:
    """The body of a request, to be read once."""

    length: int
    chunks: Callable[[], Iterator[memoryview]]


class Service:
    """Answers requests; threads share it."""

    def __init__(self, options: Options, authenticator: Authenticator | None, clock: Clock) -> None:
        self._options = options
        self._authenticator = authenticator
        self._store = DirectoryStore(str(options.directory))
        self._store.clear_unfinished(clock.now())
        self._quota = Quota(str(options.directory), options.quota, clock)
        self._own: dict[Target, str] = {}
        self._own_lock = threading.Lock()

    def identify(self, request: Request) -> tuple[str, Right]:
        """Return the name and the right of who asks. Raises RefusedError (401)."""
        if "origin" in request.headers:
            raise RefusedError(HTTPStatus.FORBIDDEN, "no web page may send requests here")
        if self._authenticator is None:
            return ANYBODY, Right.FULL
        try:
            user = self._authenticator.user(request.headers.get("authorization"))
        except ConfigError as error:
            raise RefusedError(
                HTTPStatus.SERVICE_UNAVAILABLE, "the server's file of users cannot be read"
            ) from error
        return user.name, user.right

    def answer(self, request: Request, name: str, right: Right, upload: Upload) -> Response:
        """Do what is asked. Raises RefusedError, and OSError when the client goes away."""
        target = parse_target(request.path)
        if self._options.private_repositories and target.repository[:1] != (name,):
            raise RefusedError(HTTPStatus.FORBIDDEN, "this path belongs to another user")
        if target.kind is None:
            return self._create(request, target, right)
        if target.name is None:
            if request.method not in ("GET", "HEAD"):
                raise _wrong_method("GET, HEAD")
            self._demand(right, Action.LIST, target)
            return self._list(request, target)
        match request.method:
            case "GET" | "HEAD":
                self._demand(right, Action.READ if request.method == "GET" else Action.LOOK, target)
                return self._read(request, target)
            case "POST" | "PUT":
                self._demand(right, Action.ADD, target)
                return self._add(request, target, name, right, upload)
            case "DELETE":
                return self._remove(target, name, right)
        raise _wrong_method(_OBJECT_METHODS)

    def _demand(self, right: Right, action: Action, target: Target) -> None:
        if not self._permits(right, action, target.kind):
            raise RefusedError(HTTPStatus.FORBIDDEN, f"the right {right} does not include this")

    def _permits(self, right: Right, action: Action, kind: Kind | None) -> bool:
        capped = not self._options.append_only or permits(Right.APPEND_ONLY, action, kind)
        return permits(right, action, kind) and (capped or action is Action.REMOVE_OWN)

    def _create(self, request: Request, target: Target, right: Right) -> Response:
        if request.method != "POST":
            raise _wrong_method("POST")
        if "create=true" not in request.query.split("&"):
            raise RefusedError(HTTPStatus.BAD_REQUEST, "create=true is needed")
        self._demand(right, Action.CREATE, target)
        self._store.create(target)
        return Response(HTTPStatus.OK)

    def _list(self, request: Request, target: Target) -> Response:
        found = self._store.list(target)
        newest = VERSION_2 in request.headers.get("accept", "") or target.kind is Kind.OBJECTS
        listed = [_listed(one) if newest else one.name for one in found]
        body = json.dumps(listed, separators=(",", ":")).encode("ascii")
        return Response(HTTPStatus.OK, body, VERSION_2 if newest else VERSION_1)

    def _read(self, request: Request, target: Target) -> Response:
        opened = self._store.open(target)
        wanted = request.byte_range if request.method == "GET" else None
        if wanted is None:
            return Response(
                HTTPStatus.OK,
                content_type=_BYTES,
                headers={"Accept-Ranges": "bytes"},
                opened=opened,
                length=opened.size,
            )
        first, last = wanted
        if first >= opened.size:
            return Response(
                HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE,
                headers={"Content-Range": f"bytes */{opened.size}"},
                opened=opened,
            )
        last = opened.size - 1 if last is None else min(last, opened.size - 1)
        headers = {"Content-Range": f"bytes {first}-{last}/{opened.size}"}
        return Response(
            HTTPStatus.PARTIAL_CONTENT,
            content_type=_BYTES,
            headers=headers,
            opened=opened,
            offset=first,
            length=last + 1 - first,
        )

    def _add(self, request: Request, target: Target, name: str, right: Right, upload: Upload) -> Response:
        if request.content_length is None:
            raise RefusedError(HTTPStatus.LENGTH_REQUIRED, "send a Content-Length", close=True)
        if upload.length > self._options.largest_object:
            raise RefusedError(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, "larger than this server takes")
        digest = _digest(request, target)
        exists = _exists(request)
        replace = self._may_replace(request, target, right)
        if not replace and self._store.exists(target):
            raise exists
        self._quota.reserve(upload.length)
        stored = False
        try:
            self._store.put(target, upload.chunks(), digest, replace=replace)
            stored = True
        except ExistsError as error:
            raise exists from error
        finally:
            self._quota.settle(upload.length, stored=stored)
        if right is Right.RUN and permits(right, Action.REMOVE_OWN, target.kind):
            with self._own_lock:
                self._own[target] = name
        return Response(HTTPStatus.OK)

    def _may_replace(self, request: Request, target: Target, right: Right) -> bool:
        """Say whether to put an object over another: a sealed one only, by who may remove it."""
        asked = target.kind is Kind.OBJECTS and request.headers.get("if-match") == "*"
        if asked:
            self._demand(right, Action.REMOVE, target)
        return asked

    def _remove(self, target: Target, name: str, right: Right) -> Response:
        if not self._permits(right, Action.REMOVE, target.kind):
            self._demand(right, Action.REMOVE_OWN, target)
            with self._own_lock:
                if self._own.get(target, name) != name or (
                    target not in self._own and self._store.exists(target)
                ):
                    raise RefusedError(HTTPStatus.FORBIDDEN, f"the right {right} removes only what it added")
        self._quota.freed(self._store.remove(target))
        with self._own_lock:
            self._own.pop(target, None)
        return Response(HTTPStatus.OK)


def _listed(found: StoredObject) -> dict[str, object]:
    received_at = found.received_at.isoformat(timespec="seconds") if found.received_at else None
    return {"name": found.name, "size": found.size, "received_at": received_at}


def _digest(request: Request, target: Target) -> str | None:
    """Return the SHA-256 that the body must have: the name itself, or what Content-Digest says (RFC 9530)."""
    if target.kind not in (Kind.CONFIG, Kind.OBJECTS):
        return target.name
    given = request.headers.get("content-digest", "")
    if not given.startswith(_DIGEST):
        return None
    try:
        return base64.b64decode(given.removeprefix(_DIGEST).rstrip(":"), validate=True).hex()
    except binascii.Error as error:
        raise RefusedError(HTTPStatus.BAD_REQUEST, "Content-Digest is malformed") from error


def _exists(request: Request) -> RefusedError:
    if request.headers.get("if-none-match") == "*":
        return RefusedError(HTTPStatus.PRECONDITION_FAILED, "it exists already")
    return RefusedError(HTTPStatus.FORBIDDEN, "it exists already and is never replaced")


def _wrong_method(allow: str) -> RefusedError:
    return RefusedError(HTTPStatus.METHOD_NOT_ALLOWED, f"here you can {allow}", allow=allow)
