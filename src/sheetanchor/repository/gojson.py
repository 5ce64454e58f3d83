"""JSON, names and times byte for byte as Go writes them, so that equal trees get equal ids.

Sources: Go's encoding/json (HTML-safe escapes), strconv.Quote and time.RFC3339Nano; restic's
design asks every writer to match them ("Trees and Data").
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import NoReturn

from sheetanchor.repository.printable import is_printable

_UNSAFE = re.compile('["\\\\<>&\x00-\x1f\u2028\u2029\ud800-\udfff]')
_SHORT = {"\n": "\\n", "\r": "\\r", "\t": "\\t", "\b": "\\b", "\f": "\\f", '"': '\\"', "\\": "\\\\"}
_PLAIN_NAME = re.compile(rb"[ !#-\[\]-~]*")
_NAME_ESCAPES = {
    "\a": "\\a",
    "\b": "\\b",
    "\f": "\\f",
    "\n": "\\n",
    "\r": "\\r",
    "\t": "\\t",
    "\v": "\\v",
    '"': '\\"',
    "\\": "\\\\",
}
_NAME_ESCAPE = re.compile(
    r"\\(?:([abfnrtv\\\"'])|x([0-9a-fA-F]{2})|u([0-9a-fA-F]{4})|U([0-9a-fA-F]{8})|([0-7]{3}))|(\\)"
)
_UNESCAPED = {
    "a": b"\a",
    "b": b"\b",
    "f": b"\f",
    "n": b"\n",
    "r": b"\r",
    "t": b"\t",
    "v": b"\v",
    "\\": b"\\",
    '"': b'"',
    "'": b"'",
}
_TIME = re.compile(
    r"(\d{4}-\d\d-\d\d)T(\d\d):(\d\d):(\d\d)(?:[.,](\d{1,9})\d*)?(?:Z|([+-])(\d\d):(\d\d))", re.ASCII
)
_DAYS_TO_1970 = 719468
"""Days from 0000-03-01 to 1970-01-01 in the proleptic Gregorian calendar."""
_SECOND = 1_000_000_000


def encode(value: object) -> str:
    """Return `value` as compact JSON; mappings keep their order (sort Go maps before).

    Raises TypeError for anything but None, bool, int, str, sequences and mappings of these.
    """
    if value is None:
        return "null"
    if isinstance(value, str):
        return encode_string(value)
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int):
        return str(value)
    if isinstance(value, float):
        return json.dumps(value, allow_nan=False)
    if isinstance(value, Mapping):
        return "{" + ",".join(f"{encode_string(key)}:{encode(item)}" for key, item in value.items()) + "}"
    if isinstance(value, Sequence) and not isinstance(value, (bytes, bytearray, memoryview)):
        return "[" + ",".join(encode(item) for item in value) + "]"
    raise TypeError(f"no JSON form for {type(value).__name__}")


def encode_string(text: str) -> str:
    """Return `text` in quotes; undecodable bytes (surrogate escapes) become `\\ufffd` as in Go."""
    if _UNSAFE.search(text) is None:
        return f'"{text}"'
    return '"' + _UNSAFE.sub(_escape, text) + '"'


def decode(data: bytes | bytearray | memoryview) -> object:
    """Parse JSON that may be hostile. Raises ValueError for all that is no JSON."""
    try:
        return json.loads(bytes(data), parse_constant=_refuse_constant)
    except RecursionError as error:
        raise ValueError("JSON is nested too deeply") from error


def quote_name(name: bytes) -> str:
    """Return a file name as restic stores it: strconv.Quote without the outer quotes."""
    if _PLAIN_NAME.fullmatch(name) is not None:
        return name.decode("ascii")
    return "".join(_quote_character(character) for character in name.decode("utf-8", "surrogateescape"))


def unquote_name(text: str) -> bytes:
    """Return the file name that `quote_name` (or Go's strconv.Quote) stored.

    Raises ValueError for an escape sequence that Go would refuse.
    """
    if "\\" not in text and '"' not in text and "\n" not in text:
        return text.encode()
    parts: list[bytes] = []
    position = 0
    for match in _NAME_ESCAPE.finditer(text):
        parts.append(_unescaped_part(text[position : match.start()]))
        parts.append(_unescape(match))
        position = match.end()
    parts.append(_unescaped_part(text[position:]))
    return b"".join(parts)


def format_time(time_ns: int) -> str:
    """Return nanoseconds since 1970 as RFC 3339 in UTC, trailing zeros trimmed, years 0 to 9999."""
    seconds, fraction = divmod(time_ns, _SECOND)
    day, second = divmod(seconds, 86400)
    minute, second = divmod(second, 60)
    hour, minute = divmod(minute, 60)
    if fraction == 0:
        return f"{_format_day(day)}T{hour:02d}:{minute:02d}:{second:02d}Z"
    digits = f"{fraction:09d}".rstrip("0")
    return f"{_format_day(day)}T{hour:02d}:{minute:02d}:{second:02d}.{digits}Z"


def parse_time(text: str) -> int:
    """Return the nanoseconds since 1970 of an RFC 3339 time. Raises ValueError."""
    match = _TIME.fullmatch(text)
    if match is None:
        raise ValueError(f"not a time: {text[:80]!r}")
    day, hour, minute, second, fraction, sign, offset_hours, offset_minutes = match.groups()
    if hour > "23" or minute > "59" or second > "59":
        raise ValueError(f"not a time: {text[:80]!r}")
    seconds = _parse_day(day) * 86400 + int(hour) * 3600 + int(minute) * 60 + int(second)
    if sign is not None:
        seconds -= (int(offset_hours) * 60 + int(offset_minutes)) * (60 if sign == "+" else -60)
    return seconds * _SECOND + (int(fraction.ljust(9, "0")) if fraction else 0)


def _refuse_constant(text: str) -> NoReturn:
    raise ValueError(f"{text} is no JSON")


def _escape(match: re.Match[str]) -> str:
    character = match[0]
    short = _SHORT.get(character)
    if short is not None:
        return short
    if "\ud800" <= character <= "\udfff":
        return "\\ufffd"
    return f"\\u{ord(character):04x}"


def _quote_character(character: str) -> str:
    escape = _NAME_ESCAPES.get(character)
    if escape is not None:
        return escape
    code = ord(character)
    if 0xDC80 <= code <= 0xDCFF:
        return f"\\x{code - 0xDC00:02x}"
    if is_printable(character):
        return character
    if code < 0x20 or code == 0x7F:
        return f"\\x{code:02x}"
    return f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"


def _unescaped_part(text: str) -> bytes:
    if '"' in text or "\n" in text:
        raise ValueError("a quote or line feed that is not escaped")
    return text.encode()


def _unescape(match: re.Match[str]) -> bytes:
    simple, byte, short, long, octal, bare = match.groups()
    if simple is not None and simple != "'":
        return _UNESCAPED[simple]
    if byte is not None:
        return bytes((int(byte, 16),))
    if octal is not None and int(octal, 8) <= 0xFF:
        return bytes((int(octal, 8),))
    if short is not None or long is not None:
        code = int(short or long, 16)
        if code <= sys.maxunicode:
            return chr(code).encode()
    raise ValueError(f"no such escape: {(bare or match[0])!r}")


@lru_cache(maxsize=4096)
def _format_day(day: int) -> str:
    year, month, day_of_month = _civil_from_days(day)
    if year > 9999 and month == 2 and day_of_month == 29:
        month, day_of_month = 3, 1
    return f"{min(max(year, 0), 9999):04d}-{month:02d}-{day_of_month:02d}"


@lru_cache(maxsize=4096)
def _parse_day(text: str) -> int:
    year, month, day = int(text[:4]), int(text[5:7]), int(text[8:])
    if not (1 <= month <= 12 and 1 <= day <= 31):
        raise ValueError(f"not a time: {text!r}")
    return _days_from_civil(year, month, day)


def _civil_from_days(day: int) -> tuple[int, int, int]:
    """Return year, month, day of a day counted from 1970-01-01; years start in March inside."""
    era, day_of_era = divmod(day + _DAYS_TO_1970, 146097)
    year = (day_of_era - day_of_era // 1460 + day_of_era // 36524 - day_of_era // 146096) // 365
    day_of_year = day_of_era - (365 * year + year // 4 - year // 100)
    shifted = (5 * day_of_year + 2) // 153
    month = shifted + 3 if shifted < 10 else shifted - 9
    return era * 400 + year + (month <= 2), month, day_of_year - (153 * shifted + 2) // 5 + 1


def _days_from_civil(year: int, month: int, day: int) -> int:
    year -= month <= 2
    era, year_of_era = divmod(year, 400)
    day_of_year = (153 * (month - 3 if month > 2 else month + 9) + 2) // 5 + day - 1
    return (
        era * 146097 + year_of_era * 365 + year_of_era // 4 - year_of_era // 100 + day_of_year - _DAYS_TO_1970
    )
