"""The terminal's memory of the repository: versions and signed time it has seen, kept twice so that they last.

Rules: the two copies are written one after the other, each atomically, so the first readable one is the newest. A copy
that is there but unreadable is damage; only where no copy was ever written does the memory begin empty.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from posagent.core import durable
from posagent.core.errors import TrustError
from posagent.core.ports import Files

FORMAT = 1
COPIES = ("record.json", "record-copy.json")
RECORD_BYTES_MAX = 1 << 16
ROLES = ("root", "timestamp", "snapshot", "targets")


@dataclass(frozen=True, slots=True, kw_only=True)
class Record:
    """Newest version seen of each role (0: none), key ids that each role had then, newest signed time (seconds)."""

    versions: Mapping[str, int] = field(default_factory=lambda: dict.fromkeys(ROLES, 0))
    keys: Mapping[str, tuple[str, ...]] = field(default_factory=lambda: dict.fromkeys(ROLES, ()))
    signed_at_s: int = 0

    def without_revoked(self, keys: Mapping[str, tuple[str, ...]]) -> Record:
        """The same, but roles of which a key is not in `keys` any more begin again, and the signed time with them.

        The root's version always stays.
        """
        revoked = {role for role in ROLES[1:] if not set(self.keys[role]) <= set(keys[role])}
        if not revoked:
            return self
        versions = {role: 0 if role in revoked else version for role, version in self.versions.items()}
        return replace(self, versions=versions, signed_at_s=0)


class RecordFile:
    """The record's two copies in the directory `store_dir`."""

    def __init__(self, files: Files, store_dir: str) -> None:
        self._files = files
        self._paths = [f"{store_dir}/{name}" for name in COPIES]

    def read(self) -> Record:
        """What was seen so far. Raises TrustError `trust_store_damaged` where there are copies and none is readable."""
        for copy in self._copies():
            if copy is not None:
                return copy
        if any(self._files.size(path) is not None for path in self._paths):
            raise TrustError("trust_store_damaged", "both copies of the trust record are damaged")
        return Record()

    def write(self, record: Record) -> None:
        """Make `record` durable in both copies; a copy that already says so is left alone."""
        for path, copy in zip(self._paths, self._copies(), strict=True):
            if copy != record:
                durable.replace_json(self._files, path, _encode(record))

    def _copies(self) -> list[Record | None]:
        return [_decode(durable.read_json(self._files, path, RECORD_BYTES_MAX)) for path in self._paths]


def _encode(record: Record) -> dict[str, Any]:
    value = {
        "format": FORMAT,
        "versions": dict(record.versions),
        "keys": {role: list(ids) for role, ids in record.keys.items()},
        "signed_at_s": record.signed_at_s,
    }
    return {**value, "sha256": _digest(value)}


def _digest(value: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True, separators=(",", ":")).encode()).hexdigest()


def _decode(value: Any) -> Record | None:
    """The record in `value`, or None where it is damaged. The digest vouches for the shape: only we write it."""
    if not isinstance(value, dict) or value.get("format") != FORMAT:
        return None
    rest = {name: part for name, part in value.items() if name != "sha256"}
    try:
        if _digest(rest) != value.get("sha256"):
            return None
    except RecursionError:
        return None
    return Record(
        versions=rest["versions"],
        keys={role: tuple(ids) for role, ids in rest["keys"].items()},
        signed_at_s=rest["signed_at_s"],
    )
