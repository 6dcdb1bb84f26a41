"""What a repository without a server says of a channel, beside the bundle itself: how far the roll-out is, and since
when. Pure.

Owns: the words of a channel's file that are about the roll-out, the bytes that the release desk signs, and the place of
a terminal in a roll-out.
Rules: everything but the signatures is signed. `serial` only grows. A terminal's place depends on the terminal and on
the bundle, on nothing else: a roll-out that goes further never leaves out one that it had reached, and each bundle has
other canaries.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any

SIGNATURES, STAGE = "signatures", "rollout"
TIME_S_MAX, SERIAL_MAX = 1 << 37, 1 << 53
POLL_S_MIN, POLL_S_MAX = 1, 7 * 86400


@dataclass(frozen=True, slots=True, kw_only=True)
class Rollout:
    """`percent` of all terminals have been reached; one that is `stopped` begins and installs nothing. `attempt` is
    raised where terminals that have failed shall try again. Times are in seconds since 1970; terminals ask every
    `poll_s`."""

    channel: str
    serial: int
    signed_at_s: int
    expires_at_s: int
    percent: float = 100
    stopped: bool = False
    forced: bool = False
    attempt: int = 1
    poll_s: int = 3600

    def reaches(self, terminal: str, sha256: str) -> bool:
        """Whether it is the turn of that terminal to get the bundle with that digest."""
        return not self.stopped and place(terminal, sha256) < self.percent

    def as_dict(self) -> dict[str, Any]:
        """As it stands in the file."""
        return asdict(self)


def place(terminal: str, sha256: str) -> float:
    """Of a terminal in the roll-out of that bundle: evenly from 0 to 100."""
    digest = hashlib.sha256(f"{sha256}\n{terminal}".encode()).digest()
    return int.from_bytes(digest[:8], "big") / 2**64 * 100


def rollout_of(told: Mapping[str, Any]) -> Rollout:
    """Of a channel's file, read with suspicion. Raises KeyError, TypeError, ValueError."""
    found = told[STAGE]
    words = {one.name: found[one.name] for one in fields(Rollout)}
    numbers = {
        "serial": (1, SERIAL_MAX),
        "signed_at_s": (0, TIME_S_MAX),
        "expires_at_s": (0, TIME_S_MAX),
        "attempt": (1, SERIAL_MAX),
        "poll_s": (POLL_S_MIN, POLL_S_MAX),
    }
    for name, (least, most) in numbers.items():
        if type(words[name]) is not int or not least <= words[name] <= most:
            raise ValueError(name)
    if type(words["percent"]) not in (int, float) or not 0 <= words["percent"] <= 100:
        raise ValueError("percent")
    if not all(isinstance(words[name], bool) for name in ("stopped", "forced")) or not isinstance(
        words["channel"], str
    ):
        raise TypeError(STAGE)
    return Rollout(**words)


def signed_part(told: Mapping[str, Any]) -> bytes:
    """The bytes of a channel's file that signatures are over."""
    kept = {name: value for name, value in told.items() if name != SIGNATURES}
    return json.dumps(kept, sort_keys=True, separators=(",", ":")).encode()
