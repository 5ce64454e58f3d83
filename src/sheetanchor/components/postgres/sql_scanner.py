"""Reads psql input line by line and says where statements, meta-commands and COPY data begin and end.

The lexical rules are psql's own (PostgreSQL manual, 4.1, and "psql", Meta-Commands). Constructs on
which a scanner and psql could disagree, and which no dump holds, are refused: backslashes outside
of quotes, continued escape strings, `U&` names, a switched-off standard_conforming_strings, and
encodings in which a backslash may be half of a character.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from enum import Enum, auto

from sheetanchor.errors import HostileArchiveError

SKELETON_LIMIT = 1 << 20
_TOKEN = re.compile(
    r"(?P<string>')|(?P<name>\")|(?P<dollar>(?<![A-Za-z0-9_$\x80-\xff])\$(?:[A-Za-z_\x80-\xff][A-Za-z0-9_\x80-\xff]*)?\$)"
    r"|(?P<line>--)|(?P<block>/\*)|(?P<end>;)|(?P<open>\()|(?P<close>\))|(?P<backslash>\\)"
    r"|(?P<word>(?i:\b(?:begin|case|end)\b))"
)
_ROUTINE = re.compile(r"\s*CREATE\s+(?:OR\s+REPLACE\s+)?(?:FUNCTION|PROCEDURE)\b", re.IGNORECASE)
_COPY_IN = re.compile(r"\s*COPY\s+[^;()]+(?:\([^;()]*\))?\s+FROM\s+stdin\s*;\s*$", re.IGNORECASE)
_ENCODING = re.compile(r"(?:client_encoding|\bSET\s+NAMES)\W+(?:TO|=)?\W*([A-Za-z0-9_-]+)", re.IGNORECASE)
_UNSAFE_ENCODINGS = ("SJIS", "MSKANJI", "SHIFTJIS", "BIG5", "GBK", "UHC", "GB18030", "JOHAB", "WIN932")
_STRINGS_ON = re.compile(r"\s*SET standard_conforming_strings = on;\s*$")


class _Mode(Enum):
    PLAIN = auto()
    STRING = auto()
    ESCAPE_STRING = auto()
    NAME = auto()
    DOLLAR = auto()
    COMMENT = auto()
    COPY = auto()


_INSIDE = {
    _Mode.STRING: re.compile(r"[^']*(?:''[^']*)*"),
    _Mode.ESCAPE_STRING: re.compile(r"[^'\\]*(?:(?:''|\\.)[^'\\]*)*", re.DOTALL),
    _Mode.NAME: re.compile(r'[^"]*(?:""[^"]*)*'),
}
"""From within a quote up to the mark that closes it, or to the end of the line."""


@dataclass(frozen=True)
class Statement:
    """One SQL statement; `skeleton` is its text with literals and comments left out."""

    line: int
    skeleton: str


@dataclass(frozen=True)
class MetaCommand:
    """A line that begins with a backslash."""

    line: int
    text: str


def refuse(line: int, what: str) -> HostileArchiveError:
    """Build the error for something at a line that must not be run."""
    return HostileArchiveError(
        f"line {line} of the SQL: {what}",
        hint="only what pg_dump and pg_dumpall write is imported; load other SQL by hand, in a sandbox",
    )


class SqlScanner:
    """Feed it every line, in order; it returns what the line completes."""

    def __init__(self) -> None:
        self.line = 0
        self._mode = _Mode.PLAIN
        self._tag = ""
        self._depth = 0
        self._parentheses = 0
        self._blocks = 0
        self._after_escape_string = False
        self._skeleton: list[str] = []
        self._length = 0
        self._first_line = 0

    @property
    def between_statements(self) -> bool:
        """Nothing is open: no quote, no comment, no COPY data, no unfinished statement."""
        return self._mode is _Mode.PLAIN and not "".join(self._skeleton).strip()

    @property
    def in_copy_data(self) -> bool:
        """The next line is data of COPY, or its end mark."""
        return self._mode is _Mode.COPY

    def feed(self, raw: bytes) -> list[Statement | MetaCommand]:
        """Scan one line with its line end. Raises HostileArchiveError for what psql could misread."""
        self.line += 1
        if self._mode is _Mode.COPY:
            if raw.rstrip(b"\r\n") == b"\\.":
                self._mode = _Mode.PLAIN
            return []
        text = raw.decode("latin-1")
        if "\x00" in text:
            raise refuse(self.line, "a NUL byte")
        self._check_session(text)
        if self.between_statements and text.startswith("\\"):
            return [MetaCommand(self.line, text.rstrip("\r\n"))]
        return list(self._scan(text))

    def _scan(self, text: str) -> Iterator[Statement]:
        position = 0
        while position < len(text):
            if self._mode is not _Mode.PLAIN:
                position = self._skip(text, position)
                continue
            token = _TOKEN.search(text, position)
            if token is None:
                self._add(text[position:])
                return
            self._add(text[position : token.start()])
            position = token.end()
            if token.lastgroup == "line":
                return
            if token.lastgroup == "end" and not self._parentheses and not self._blocks:
                self._add(";")
                yield self._finish(text[position:])
                if self.in_copy_data:
                    return
            else:
                self._enter(token, text)

    def _enter(self, token: re.Match[str], text: str) -> None:
        kind, start = token.lastgroup, token.start()
        if kind == "string":
            self._open_string(text[:start])
        elif kind == "name":
            if re.search(r"U&\s*$", text[:start], re.IGNORECASE):
                raise refuse(self.line, "a name with Unicode escapes")
            self._add('"')
            self._mode = _Mode.NAME
        elif kind == "dollar":
            self._add("''")
            self._mode, self._tag = _Mode.DOLLAR, token.group()
        elif kind == "block":
            self._mode, self._depth = _Mode.COMMENT, 1
        elif kind == "backslash":
            raise refuse(self.line, "a backslash outside of quotes")
        elif kind == "word":
            self._count_block(token.group().lower())
            self._add(token.group())
        else:
            self._parentheses = max(0, self._parentheses + {"open": 1, "close": -1}.get(kind or "", 0))
            self._add(token.group())

    def _open_string(self, before: str) -> None:
        if self._after_escape_string and not before.rpartition("'")[2].strip():
            raise refuse(self.line, "an escape string in several parts")
        escaped = re.search(r"(?<![A-Za-z0-9_$\x80-\xff])[eE]$", before) is not None
        self._add("'")
        self._mode = _Mode.ESCAPE_STRING if escaped else _Mode.STRING

    def _count_block(self, word: str) -> None:
        """Follow psql: semicolons between BEGIN and END of a routine's body do not end it."""
        if not self._blocks and not (word == "begin" and _ROUTINE.match("".join(self._skeleton))):
            return
        self._blocks += -1 if word == "end" else 1

    def _skip(self, text: str, position: int) -> int:
        """Pass over the inside of a quote or comment; return where it, or the line, ends."""
        if self._mode is _Mode.DOLLAR:
            end = text.find(self._tag, position)
            if end < 0:
                return len(text)
            self._mode = _Mode.PLAIN
            return end + len(self._tag)
        if self._mode is _Mode.COMMENT:
            return self._skip_comment(text, position)
        return self._skip_quoted(text, position)

    def _skip_quoted(self, text: str, position: int) -> int:
        inside = _INSIDE[self._mode].match(text, position)
        assert inside is not None
        closed = inside.end() < len(text)
        end = inside.end() + closed
        if self._mode is _Mode.NAME:
            self._add(text[position:end])
        elif closed:
            self._add("'", keep_flag=True)
        if closed:
            self._after_escape_string = self._mode is _Mode.ESCAPE_STRING
            self._mode = _Mode.PLAIN
        return end

    def _skip_comment(self, text: str, position: int) -> int:
        for mark in re.finditer(r"/\*|\*/", text[position:]):
            self._depth += 1 if mark.group() == "/*" else -1
            if self._depth == 0:
                self._mode = _Mode.PLAIN
                self._add(" ", keep_flag=True)
                return position + mark.end()
        return len(text)

    def _add(self, text: str, *, keep_flag: bool = False) -> None:
        if not text:
            return
        if not keep_flag and text.strip() and text != "'":
            self._after_escape_string = False
        if not self._skeleton and not text.strip():
            return
        if not self._skeleton:
            self._first_line = self.line
        self._length += len(text)
        if self._length > SKELETON_LIMIT:
            raise refuse(self._first_line, f"a statement of more than {SKELETON_LIMIT:,} characters")
        self._skeleton.append(text)

    def _finish(self, rest: str) -> Statement:
        statement = Statement(self._first_line, "".join(self._skeleton).strip())
        self._skeleton, self._length, self._after_escape_string = [], 0, False
        if _COPY_IN.match(statement.skeleton):
            if rest.strip():
                raise refuse(self.line, "something behind COPY … FROM stdin")
            self._mode = _Mode.COPY
        return statement

    def _check_session(self, text: str) -> None:
        if "standard_conforming_strings" in text.lower() and not _STRINGS_ON.match(text):
            raise refuse(self.line, "standard_conforming_strings other than on")
        for found in _ENCODING.finditer(text):
            name = re.sub(r"[^A-Z0-9]", "", found.group(1).upper())
            if name.startswith(_UNSAFE_ENCODINGS):
                raise refuse(self.line, f"client_encoding {found.group(1)}")
