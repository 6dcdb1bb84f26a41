"""Signed metadata: is it what it says, have enough keys signed it, and which time is it for its expiry (TUF 1.0, 5)."""

from __future__ import annotations

from tuf.api.exceptions import LengthOrHashMismatchError, RepositoryError
from tuf.api.metadata import Metadata, MetaFile, Root, T

from posagent.core.errors import BundleError, TrustError

CLOCK_AHEAD_S_MAX = 20 * 365 * 86400
TIME_S_MAX = 1 << 37


def reference_s(wall_s: float, floor_s: float) -> float:
    """What is believed of a clock that may be wrong: never less than the floor, a time that is known to have passed (0:
    none is), nor a wall clock that is implausibly far above it."""
    if floor_s and wall_s > floor_s + CLOCK_AHEAD_S_MAX:
        return floor_s
    return min(max(wall_s, floor_s), TIME_S_MAX)


def load(data: bytes | None, kind: type[T], root: Root | None, part: MetaFile | None = None) -> T:
    """Metadata of `kind` in `data`, signed by enough keys of `root` (by itself where None) and being `part`.

    Raises BundleError `bundle_unreadable`, TrustError `signature_invalid`, `repository_rollback`.
    """
    if data is None:
        raise BundleError("bundle_unreadable", f"the bundle lacks its {kind.type} metadata")
    try:
        if part is not None:
            part.verify_length_and_hashes(data)
        metadata: Metadata[T] = Metadata.from_bytes(data)
        found, signed_bytes = metadata.signed, metadata.signed_bytes
    except LengthOrHashMismatchError:
        raise TrustError("signature_invalid", f"{kind.type}: not the file that was signed for") from None
    except RepositoryError:
        raise BundleError("bundle_unreadable", f"{kind.type}: not TUF metadata") from None
    if not isinstance(found, kind):
        raise BundleError("bundle_unreadable", f"{kind.type}: another role's metadata")
    try:
        delegator = root or found
        assert isinstance(delegator, Root)
        delegator.verify_delegate(kind.type, signed_bytes, metadata.signatures)
    except (RepositoryError, ValueError) as error:
        raise TrustError("signature_invalid", str(error)) from None
    if part is not None and found.version != part.version:
        raise TrustError("repository_rollback", f"{kind.type} is version {found.version}, signed was {part.version}")
    return found


def next_root(data: bytes, root: Root) -> Root:
    """The root that follows `root`, signed by enough keys of both. Raises as `load`."""
    new = load(data, Root, root)
    load(data, Root, None)
    if new.version != root.version + 1:
        raise TrustError("repository_rollback", f"root version {new.version} cannot follow {root.version}")
    return new
