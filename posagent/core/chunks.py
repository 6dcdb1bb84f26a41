"""A sealed text of any length: chunks that are sealed each by itself and open only all together and in their order.

A chunk's place is twice its number, and one more for the last: chunks that are missing, doubled or in another order do
not open (STREAM, Hoang et al., 2015). What stands before them in a file may be bound to them: `head`. Never imported by
the resident: OpenSSL is large.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from posagent.core.seal import Seal

TAG_BYTES = 16


def split(data: bytes, size: int) -> Iterator[bytes]:
    """Parts of `size` bytes; the last may be shorter."""
    for at in range(0, len(data), size):
        yield data[at : at + size]


def close(seal: Seal, parts: Iterable[bytes], head: bytes = b"") -> Iterator[bytes]:
    """A chunk for each part; each comes when it is known whether it is the last one. The seal is for this text only."""
    for place, part in _placed(parts):
        yield seal.close(place, part, head)


def open_all(seal: Seal, chunks: Iterable[bytes], head: bytes = b"") -> Iterator[bytes]:
    """The parts. Raises BundleError `payload_corrupt`, at the end for a text that is cut short: before it is through,
    what came is authentic, but may not be all."""
    for place, chunk in _placed(chunks):
        yield seal.open(place, chunk, head)


def _placed(parts: Iterable[bytes]) -> Iterator[tuple[int, bytes]]:
    number, held = 0, None
    for part in parts:
        if held is not None:
            yield 2 * number, held
            number += 1
        held = part
    yield 2 * number + 1, b"" if held is None else held
