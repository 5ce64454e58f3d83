"""How a request is turned down: a status and one line of reason, raised anywhere below the service."""

from __future__ import annotations

import errno
from http import HTTPStatus

_ABSENT = (errno.ENOENT, errno.ENOTDIR, errno.EISDIR, errno.ELOOP)
_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
_FORBIDDEN = (errno.EROFS, errno.EACCES, errno.EPERM)


class RefusedError(Exception):
    """Ends a request with `status`; never leaves the server.

    `close` ends the connection too, for requests whose end cannot be found.
    """

    def __init__(self, status: HTTPStatus, reason: str, *, close: bool = False, allow: str = "") -> None:
        super().__init__(reason)
        self.status = status
        self.reason = reason
        self.close = close
        self.allow = allow
        """The methods that would have been right, for 405."""


def refusal(error: OSError) -> RefusedError:
    """Return what a failure of the file system is to a client; it learns no path of this machine."""
    code = error.errno or 0
    if code in _ABSENT:
        return RefusedError(HTTPStatus.NOT_FOUND, "not there")
    if code in _FULL:
        return RefusedError(HTTPStatus.INSUFFICIENT_STORAGE, "the server's disk is full")
    if code in _FORBIDDEN:
        return RefusedError(HTTPStatus.FORBIDDEN, "the server may not do this on its disk")
    return RefusedError(
        HTTPStatus.INTERNAL_SERVER_ERROR, f"the server's disk failed ({errno.errorcode.get(code, code)})"
    )
