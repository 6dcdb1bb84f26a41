"""Bytes inside a recording (hil/record.py), which is JSON."""

from __future__ import annotations

import base64
import zlib


def packed(data: bytes) -> str:
    """Deflated, because most bytes of a boot environment are the same."""
    return base64.b64encode(zlib.compress(data, 9)).decode()


def unpacked(text: str) -> bytes:
    return zlib.decompress(base64.b64decode(text))
