"""Heads of HTTP requests, read strictly (RFC 9112): what is odd is refused, never guessed at."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from http import HTTPStatus

from sheetanchor.repository.server.refused import RefusedError

MOST_HEADERS = 64
_REQUEST_LINE = re.compile(rb"([A-Z]{1,16}) (/[\x21-\x7e]*) HTTP/1\.([01])")
_HEADER = re.compile(rb"([!#$%&'*+.^_`|~0-9A-Za-z-]+):[ \t]*([\x20-\x7e\t\x80-\xff]*?)[ \t]*")
_LENGTH = re.compile(r"[0-9]{1,15}")
_ONLY_ONCE = ("authorization", "content-length", "host", "range", "transfer-encoding")
_RANGE = re.compile(r"bytes=([0-9]{1,15})-([0-9]{0,15})")


@dataclass(frozen=True)
class Request:
    """A request without its body; names of headers are in lower case."""

    method: str
    path: str
    query: str
    headers: Mapping[str, str]
    keep_alive: bool
    content_length: int | None

    @property
    def byte_range(self) -> tuple[int, int | None] | None:
        """First and last byte asked for; None without a range, or with one this server passes over."""
        found = _RANGE.fullmatch(self.headers.get("range", ""))
        if found is None:
            return None
        first, last = int(found[1]), int(found[2]) if found[2] else None
        return None if last is not None and last < first else (first, last)


def parse_head(head: bytes) -> Request:
    """Read a head, without the empty line that ends it. Raises RefusedError."""
    lines = head.split(b"\r\n")
    line = _REQUEST_LINE.fullmatch(lines[0])
    if line is None:
        raise _bad("no HTTP/1.1 request for a path")
    headers = _headers(lines[1:])
    if "transfer-encoding" in headers:
        raise RefusedError(HTTPStatus.NOT_IMPLEMENTED, "send a Content-Length, not chunks", close=True)
    length = headers.get("content-length")
    if length is not None and not _LENGTH.fullmatch(length):
        raise _bad("Content-Length is no number")
    newest = line[3] == b"1"
    if newest and "host" not in headers:
        raise _bad("no Host")
    path, _, query = line[2].decode("ascii").partition("?")
    keep_alive = newest and "close" not in headers.get("connection", "").lower()
    return Request(
        line[1].decode("ascii"), path, query, headers, keep_alive, None if length is None else int(length)
    )


def _headers(lines: list[bytes]) -> dict[str, str]:
    if len(lines) > MOST_HEADERS:
        raise RefusedError(
            HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE, f"more than {MOST_HEADERS} headers", close=True
        )
    headers: dict[str, str] = {}
    for line in lines:
        found = _HEADER.fullmatch(line)
        if found is None:
            raise _bad("a header is malformed")
        name, value = found[1].decode("ascii").lower(), found[2].decode("latin-1")
        if name in headers:
            if name in _ONLY_ONCE:
                raise _bad(f"{name} stands there twice")
            value = f"{headers[name]}, {value}"
        headers[name] = value
    return headers


def _bad(reason: str) -> RefusedError:
    return RefusedError(HTTPStatus.BAD_REQUEST, reason, close=True)
