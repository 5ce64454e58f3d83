"""Sizes, durations and times as people read and write them."""

from __future__ import annotations

import re
from datetime import datetime

_UNITS = ("KiB", "MiB", "GiB", "TiB", "PiB")
_SECONDS = {"s": 1, "m": 60, "min": 60, "h": 3600, "d": 86400, "w": 604800}
_DURATION = re.compile(r"(\d+(?:\.\d+)?)(s|min|m|h|d|w)")
_SIZE = re.compile(r"(\d+(?:\.\d+)?)([KMGTP]?)(?:i?B)?", re.IGNORECASE)
_PERCENT = re.compile(r"(\d+(?:\.\d+)?)%")


def size(num_bytes: float | None) -> str:
    """Return "412 B", "1.3 MiB"; "-" where it is not known."""
    if num_bytes is None:
        return "-"
    if num_bytes < 1024:
        return f"{int(num_bytes)} B"
    value = float(num_bytes)
    for unit in _UNITS:
        value /= 1024
        # 1023.95 would be written "1024.0".
        if value < 1023.95 or unit == _UNITS[-1]:
            return f"{value:.1f} {unit}" if value < 99.95 else f"{value:.0f} {unit}"
    raise AssertionError("the last unit takes everything")


def rate(num_bytes: float, seconds: float) -> str:
    """Return "45.1 MiB/s"."""
    return f"{size(num_bytes / seconds)}/s" if seconds > 0 else "-"


def duration(seconds: float | None) -> str:
    """Return "0.4 s", "12 s", "3 min 05 s", "2 h 10 min", "3 d 4 h"; "-" where it is not known."""
    if seconds is None:
        return "-"
    if seconds < 9.95:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    minutes, rest = divmod(whole, 60)
    hours, minutes_left = divmod(minutes, 60)
    days, hours_left = divmod(hours, 24)
    if minutes == 0:
        return f"{rest} s"
    if hours == 0:
        return f"{minutes} min {rest:02} s"
    if days < 2:
        return f"{hours} h {minutes_left:02} min"
    return f"{days} d {hours_left} h"


def moment(when: datetime) -> str:
    """Return the local time with its offset: "2026-11-22 22:10:05 +01:00"."""
    text = when.astimezone().isoformat(sep=" ", timespec="seconds")
    return f"{text[:19]} {text[19:]}"


def count(number: int, singular: str, plural: str | None = None) -> str:
    """Return "1 file", "4,210 files"."""
    return f"{number:,} {singular if number == 1 else plural or singular + 's'}"


def parse_duration(text: str) -> float:
    """Read "25h", "90m", "1h30m", "2d"; return seconds. Raises ValueError."""
    rest = text.replace(" ", "")
    found = _DURATION.findall(rest)
    if not found or "".join(number + unit for number, unit in found) != rest:
        raise ValueError(f"{text!r} is no duration; write it like 25h, 90m, 2d or 1h30m")
    return sum(float(number) * _SECONDS[unit] for number, unit in found)


def parse_size(text: str) -> int:
    """Read "500K", "10M", "1.5GiB" (powers of 1024) or plain bytes, at least 1. Raises ValueError."""
    match = _SIZE.fullmatch(text.replace(" ", ""))
    num_bytes = (
        int(float(match.group(1)) * 1024 ** "_KMGTP".index(match.group(2).upper() or "_")) if match else 0
    )
    if num_bytes < 1:
        raise ValueError(f"{text!r} is no size; write it like 500K, 10M or 1.5G")
    return num_bytes


def parse_percent(text: str) -> float:
    """Read "5%" as 0.05, above 0 and up to 100 %. Raises ValueError."""
    match = _PERCENT.fullmatch(text.strip())
    part = float(match.group(1)) / 100 if match else 0.0
    if not 0 < part <= 1:
        raise ValueError(f"{text!r} is no share; write it like 5%, above 0% and up to 100%")
    return part


def printable(text: str) -> str:
    r"""Return `text` with control characters and undecodable bytes escaped.

    A file's name may hold anything; written raw it could steer the terminal of whoever lists it.
    """
    return "".join(character if character.isprintable() else _escaped(character) for character in text)


def _escaped(character: str) -> str:
    code = ord(character)
    if 0xDC80 <= code <= 0xDCFF:
        return f"\\x{code - 0xDC00:02x}"
    return character.encode("unicode_escape").decode("ascii")
