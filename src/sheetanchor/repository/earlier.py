"""One directory of an earlier snapshot, of which unmodified files are taken over.

Entries are compared as they stand in the tree; a Node for each would cost more than all else
that a backup without changes does.
"""

from __future__ import annotations

import os
from collections.abc import Callable

from sheetanchor.repository import gojson
from sheetanchor.repository.file_text import FileTexts, is_unmodified, tail_of_hex, times_of
from sheetanchor.repository.ids import Id, parse_id
from sheetanchor.repository.node import Fields, decode_node, tree_fields, xattrs_text


class EarlierDirectory:
    """What a directory held; empty when there is no earlier snapshot."""

    def __init__(self, tree: bytes | None = None) -> None:
        """Take a tree blob. Raises DamagedRepositoryError for one that cannot be read."""
        items = tree_fields(tree) if tree is not None else []
        self._entries: dict[str, Fields] = {str(fields.get("name")): fields for fields in items}

    def subtree(self, name: bytes) -> Id | None:
        """Return the tree of a directory, None when there was none of that name."""
        fields = self._entries.get(gojson.quote_name(name))
        value = fields.get("subtree") if fields is not None else None
        try:
            return parse_id(value) if isinstance(value, str) else None
        except ValueError:
            return None

    def take_over(
        self, name: bytes, status: os.stat_result, texts: FileTexts, has_blob: Callable[[Id], bool]
    ) -> str | None:
        """Return the entry of a file that is still what it was and whose blobs are still stored.

        Metadata is that of now. None when the file has to be read: it is new or has changed, or
        the earlier entry makes no sense.
        """
        before = self._entries.get(gojson.quote_name(name))
        if before is None:
            return None
        times = times_of(status)
        try:
            if not is_unmodified(before, status, times):
                return None
            xattrs = ""
            if before.get("extended_attributes") is not None:
                xattrs = xattrs_text(decode_node(before).xattrs)
            content = _content(before)
            if not all(has_blob(parse_id(blob_id)) for blob_id in content):
                return None
        except ValueError:
            return None
        return texts.head(name, status, times, status.st_size) + xattrs + tail_of_hex(content)


def _content(fields: Fields) -> list[str]:
    content = fields.get("content")
    if not isinstance(content, list) or not all(isinstance(blob_id, str) for blob_id in content):
        raise ValueError("a file without a list of blobs")
    return content
