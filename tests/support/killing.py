"""Kills work with SIGKILL between two lines of the program's own code, chosen by number."""

from __future__ import annotations

import os
import signal
import sys
import warnings
from collections.abc import Callable
from types import FrameType

Tracer = Callable[[FrameType, str, object], object]


def killed_after(lines: int, action: Callable[[], object], *, within: str) -> bool:
    """Run `action` in a forked child that is killed before its line number `lines` (from 0).

    Only lines of files whose path holds `within` count. Returns False when the action ended
    before that. Raises RuntimeError when it failed by itself.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # the child touches no lock of another thread
        child = os.fork()
    if child == 0:
        _run(lines, action, within)
    _, status = os.waitpid(child, 0)
    if os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGKILL:
        return True
    if status != 0:
        raise RuntimeError("the action failed before it was killed")
    return False


def count_lines(action: Callable[[], object], *, within: str) -> int:
    """Run `action` here and return how many lines `killed_after` would count."""
    counted = 0

    def trace(frame: FrameType, event: str, _argument: object) -> Tracer | None:
        nonlocal counted
        if within not in frame.f_code.co_filename:
            return None
        counted += event == "line"
        return trace

    before = sys.gettrace()
    sys.settrace(trace)
    try:
        action()
    finally:
        sys.settrace(before)
    return counted


def _run(lines: int, action: Callable[[], object], within: str) -> None:
    left = lines

    def trace(frame: FrameType, event: str, _argument: object) -> Tracer | None:
        nonlocal left
        if within not in frame.f_code.co_filename:
            return None
        if event == "line":
            if left == 0:
                os.kill(os.getpid(), signal.SIGKILL)
            left -= 1
        return trace

    status = 1
    try:
        sys.settrace(trace)
        action()
        status = 0
    finally:
        os._exit(status)
