"""Support bundles as files: compressed, then sealed for the vendor's key: of no use to whoever finds one.

    posagent-support-1 GROUP WRAPPED\\n   the vendor's key by its name, and the file's key wrapped for it (core.seal)
    chunks                               16 KiB of the compressed text each, and 16 bytes more; the last is short

Chunks that are missing, doubled or in another order do not open (core.chunks). That a bundle is of this terminal,
nobody proves: its code, read out over the phone, says that it is the one that is talked about. Never imported by the
resident: OpenSSL is large.
"""

from __future__ import annotations

import re
import zlib

from posagent.core.chunks import TAG_BYTES, Stream, split
from posagent.core.errors import PosagentError
from posagent.core.seal import Seal, unwrapped

PURPOSE = b"posagent support bundle key"
MAGIC = b"posagent-support-1"
HEADER_BYTES_MAX = 512
_HEADER = re.compile(MAGIC + rb" ([0-9a-f]+) ((?:[0-9a-f]{2})+)")
"""One spelling only: capitals would say the same, and be a change that nobody notices."""
CHUNK_BYTES = 16 << 10
SEALED_BYTES = CHUNK_BYTES + TAG_BYTES
TEXT_BYTES_MAX = 16 << 20
"""More is not taken out of any bundle, however well it was compressed."""


def sealed(text: bytes, vendor_pem: bytes) -> bytes:
    """The file for a text. Raises PosagentError `support_no_key` where that is no X25519 public key."""
    seal = Seal.new()
    try:
        group, wrapped = seal.wrapped(vendor_pem, PURPOSE)
    except ValueError as error:
        raise PosagentError("support_no_key", f"support.vendor_key_file: {error}") from None
    stream = Stream(seal)
    parts = (stream.close(part, last) for part, last in split(zlib.compress(text, 9), CHUNK_BYTES))
    return b"%b %b %b\n" % (MAGIC, group.encode(), wrapped.encode()) + b"".join(parts)


def opened(file: bytes, vendor_pem: bytes) -> bytes:
    """The text in a file, which may be anybody's. Raises PosagentError `support_unreadable`; ValueError for a key that
    is none."""
    header, _, body = file.partition(b"\n")
    found = _HEADER.fullmatch(header)
    if len(header) > HEADER_BYTES_MAX or found is None:
        raise PosagentError("support_unreadable", "it does not begin like a support bundle")
    group, key = (word.decode() for word in found.groups())
    try:
        stream = Stream(unwrapped({group: key}, vendor_pem, PURPOSE))
        data = b"".join(stream.open(chunk, last) for chunk, last in split(body, SEALED_BYTES))
    except PosagentError as error:
        raise PosagentError("support_unreadable", error.detail) from None
    return _inflated(data)


def _inflated(data: bytes) -> bytes:
    reader = zlib.decompressobj()
    try:
        text = reader.decompress(data, TEXT_BYTES_MAX)
    except zlib.error as error:
        raise PosagentError("support_unreadable", str(error)) from None
    if not reader.eof or reader.unused_data:
        raise PosagentError("support_unreadable", f"not whole, or more than {TEXT_BYTES_MAX} bytes")
    return text
