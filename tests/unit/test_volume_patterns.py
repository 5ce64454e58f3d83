"""The globs of `exclude` and `--include`, by the rules that people know from .gitignore."""

from __future__ import annotations

import fnmatch

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from sheetanchor.config.models import VolumeConfig
from sheetanchor.errors import UsageError
from sheetanchor.patterns import Patterns

MATCHES = [
    ("*.tmp", b"a.tmp", True),
    ("*.tmp", b"deep/er/a.tmp", True),
    ("*.tmp", b"a.tmp.gz", False),
    ("cache", b"var/cache", True),
    ("/cache", b"cache", True),
    ("/cache", b"var/cache", False),
    ("var/cache", b"var/cache", True),
    ("var/cache", b"srv/var/cache", False),
    ("var/*.log", b"var/a.log", True),
    ("var/*.log", b"var/sub/a.log", False),
    ("cache/**", b"cache/x/y", True),
    ("cache/**", b"cache", False),
    ("**/cache", b"cache", True),
    ("**/cache", b"a/b/cache", True),
    ("a/**/b", b"a/b", True),
    ("a/**/b", b"a/x/y/b", True),
    ("a/**/b", b"ab", False),
    ("?.txt", b"\xef.txt", True),
    ("?.txt", b"/.txt", False),
    ("[ab].c", b"b.c", True),
    ("[!ab].c", b"b.c", False),
    ("[!ab].c", b"c.c", True),
    ("[0-9]*", b"7days", True),
    ("[]]", b"]", True),
    ("[", b"[", True),
    ("a.b", b"aXb", False),
    (r"\*", b"*", True),
    (r"\*", b"x", False),
    ("!x", b"!x", True),
    ("name\nline", b"name\nline", True),
    ("*", b"name\nline", True),
]


@pytest.mark.parametrize(("pattern", "path", "expected"), MATCHES)
def test_pattern_matches(pattern: str, path: bytes, expected: bool) -> None:
    """Each rule, with a path that it takes and one that it leaves."""
    assert Patterns([pattern]).match(path, is_directory=False) is expected


def test_directories_only() -> None:
    """A slash at the end leaves files of that name alone; what is below a match is covered."""
    patterns = Patterns(["cache/"])
    assert patterns.match(b"cache", is_directory=True)
    assert not patterns.match(b"cache", is_directory=False)
    assert patterns.covers(b"var/cache/a/b", is_directory=False)
    assert not patterns.covers(b"var/cached/a", is_directory=False)


def test_empty_patterns_are_refused() -> None:
    """A pattern of nothing is a mistake, in the configuration as on the command line."""
    for pattern in ("", "/", "//"):
        with pytest.raises(UsageError, match="matches nothing"):
            Patterns([pattern])
    with pytest.raises(ValidationError, match="matches nothing"):
        VolumeConfig.model_validate({"name": "v", "type": "volume", "path": "/v", "exclude": ["/"]})
    assert not Patterns([])


@given(st.text(st.sampled_from("ab*?[]!-^x."), min_size=1, max_size=8), st.text("abx.-]^!", max_size=6))
def test_names_match_as_fnmatch_does(pattern: str, name: str) -> None:
    """Within one name the globs are those of fnmatch, an implementation of other hands."""
    if "[^" in pattern or ("[" in pattern and "-" in pattern):
        return  # fnmatch has no [^x], and treats reversed ranges in its own way
    expected = fnmatch.fnmatchcase(name, pattern)
    assert Patterns([pattern]).match(name.encode(), is_directory=False) is expected


@given(st.text(min_size=1, max_size=12).filter(lambda text: text.strip("/") != ""))
def test_any_text_is_a_pattern(pattern: str) -> None:
    """No pattern of a user makes the compiler fail."""
    try:
        pattern.encode()
    except UnicodeEncodeError:
        return
    Patterns([pattern]).match(b"some/path", is_directory=False)
