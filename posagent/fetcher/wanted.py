"""A download as the agent asks for it, read from its words with suspicion.

Owns: how much of a file is fetched before anything is known of it, and how near pieces must be to come together.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from posagent.core import pieces
from posagent.core.errors import FetchError
from posagent.core.pieces import Piece
from posagent.fetcher.media import CONTENT

HEAD_BYTES = 64 << 10
"""Enough for a bundle's metadata, mostly."""
GAP_BYTES = 16 << 10
"""Fetched along between two pieces rather than asking once more: what a slow link brings in a second or two."""
_DIGEST = re.compile(r"([0-9a-fA-F]{64})?")


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """`length` and `sha256` are what the repository announced of the whole file, `pieces` what is wanted of it. With
    `tables`, which are needed to the end, they are all that is wanted, and need not all fit into the spool; `make_room`
    when what is there has been used as far as it can be."""

    id: str
    source: str
    length: int | None = None
    sha256: str = ""
    pieces: tuple[Piece, ...] | None = None
    tables: tuple[Piece, ...] | None = None
    make_room: bool = False
    head_bytes: int = HEAD_BYTES

    @property
    def is_local(self) -> bool:
        """A file of this terminal, or on a USB stick."""
        return self.source.startswith("/") or self.on_stick

    @property
    def on_stick(self) -> bool:
        """A bundle that is called by its content (fetcher.media)."""
        return self.source.startswith(CONTENT)

    @property
    def needed(self) -> Sequence[Piece]:
        if self.pieces is None:
            return ((0, self.head_bytes),)
        return (*self.pieces, *(self.tables or ()))

    @property
    def asked(self) -> Sequence[Piece]:
        """What is needed, and what lies between pieces that are near each other."""
        return pieces.joined(self.needed, GAP_BYTES)

    @staticmethod
    def of(args: Mapping[str, Any], head_bytes: int = HEAD_BYTES) -> Wanted:
        """Raises FetchError `bad_request`."""
        length, texts = args.get("length"), (args.get("id"), args.get("source"), args.get("sha256") or "")
        name, source, sha256 = (text if isinstance(text, str) else None for text in texts)
        if not name or not source or sha256 is None or not _DIGEST.fullmatch(sha256):
            raise FetchError("bad_request", "a fetch needs an id, a source, and a digest in hexadecimal if any")
        if length is not None and (type(length) is not int or length <= 0):
            raise FetchError("bad_request", f"not a length in bytes: {length!r:.40}")
        return Wanted(
            id=name,
            source=source,
            length=length,
            sha256=sha256.lower(),
            pieces=_pieces(args.get("pieces")),
            tables=_pieces(args.get("tables")),
            make_room=args.get("make_room") is True,
            head_bytes=head_bytes,
        )


def _pieces(value: Any) -> tuple[Piece, ...] | None:
    found = None if value is None else pieces.of(value)
    if value is not None and found is None:
        raise FetchError("bad_request", "not a list of pieces")
    return None if found is None else tuple(found)
