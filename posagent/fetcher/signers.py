"""Whether the release desk has signed what a repository says of a channel.

Owns: the way from the root in the system image to the newest one, and signatures by its role `timestamp`. Nothing is
kept: each time the way is walked anew, so that what was withdrawn since counts for nothing. What is installed is not
decided here, but by the installer and by the signatures in the bundle.
Source: TUF 1.0, 5.3 (root).
"""

from __future__ import annotations

import datetime
from collections.abc import Callable, Mapping
from typing import Any

from securesystemslib.signer import Signature
from tuf.api.exceptions import RepositoryError
from tuf.api.metadata import Root

from posagent.core import signed
from posagent.core.errors import BundleError, FetchError, TrustError

ROLE = "timestamp"
ROOTS_MAX = 64
SIGNATURES_MAX = 16


def newest_root(shipped: bytes, following: Callable[[int], bytes | None]) -> Root:
    """The last root of the chain that begins with the one in the system image; `following` has those of a version, or
    None. Raises FetchError."""
    try:
        root = signed.load(shipped, Root, None)
        for _ in range(ROOTS_MAX):
            data = following(root.version + 1)
            if data is None:
                break
            root = signed.next_root(data, root)
    except (BundleError, TrustError) as error:
        raise FetchError("signature_invalid", error.detail) from None
    return root


def keys_of(root: Root) -> list[str]:
    """Ids of the keys that may sign a channel's file."""
    return list(root.roles[ROLE].keyids)


def check(root: Root, payload: bytes, signatures: Mapping[str, Any], now_s: float) -> None:
    """Raises FetchError where too few of those who may have signed it, or nobody may any more."""
    if root.is_expired(datetime.datetime.fromtimestamp(now_s, datetime.UTC)):
        raise FetchError("repository_expired", f"the root of version {root.version} expired {root.expires:%Y-%m-%d}")
    known = {
        keyid: Signature(keyid, value)
        for keyid, value in list(signatures.items())[:SIGNATURES_MAX]
        if isinstance(keyid, str) and isinstance(value, str)
    }
    try:
        root.verify_delegate(ROLE, payload, known)
    except (RepositoryError, ValueError) as error:
        raise FetchError("signature_invalid", f"the channel's file: {error}") from None
