"""A sealed text of any length: chunks that are sealed each by itself and open only all together and in their order.

A chunk's place is twice its number, and one more for the last: chunks that are missing, doubled or in another order do
not open (STREAM, Hoang et al., 2015). What stands before them in a file may be bound to them: `head`. Never imported by
the resident: OpenSSL is large.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from posagent.core.seal import Seal

TAG_BYTES = 16


def split(data: bytes, size: int) -> Iterator[tuple[bytes, bool]]:
    """Parts of `size` bytes, and whether it is the last, which may be shorter."""
    for at in range(0, max(1, len(data)), size):
        yield data[at : at + size], at + size >= len(data)


@dataclass(slots=True)
class Stream:
    """One way through one text. A seal closes one text only."""

    seal: Seal
    head: bytes = b""
    number: int = 0

    def close(self, part: bytes, last: bool) -> bytes:
        return self.seal.close(self._place(last), part, self.head)

    def open(self, chunk: bytes, last: bool) -> bytes:
        """Raises BundleError `payload_corrupt`. What opens is authentic; that it is all, only the last one says."""
        return self.seal.open(self._place(last), chunk, self.head)

    def _place(self, last: bool) -> int:
        self.number += 1
        return 2 * (self.number - 1) + last
