"""Challenges for engineers: one outstanding, single use, and a delay after failures that survives a restart.

Owns: the persisted counter and number of failures. The proof itself is checked by the installer's verb `engineer`,
because the resident carries no cryptography.
Rules: a challenge costs a durable write and anybody on the line may ask, so they come at most one in PACE_S.
"""

from __future__ import annotations

import math
import secrets
from collections.abc import Mapping
from typing import Any

from posagent.core import durable
from posagent.core.errors import PosagentError, Refusal
from posagent.core.ports import Clock, Files, Message

ROLES: Mapping[str, frozenset[str]] = {
    "look": frozenset({"check", "history"}),
    "update": frozenset({"check", "history", "update", "cancel", "defer", "confirm", "upload"}),
}
"""What a role may do besides what everybody may: status, why, help."""

CHALLENGE_S = 60.0
DELAY_S_MAX = 300.0
PACE_S = 1.0
PACE_AHEAD_S = 4.0
"""So many seconds of PACE_S may be used up at once, by somebody who mistypes."""
NONCE_BYTES = 16


class Gatekeeper:
    """Hands out challenges and takes them back."""

    def __init__(self, *, files: Files, path: str, clock: Clock, terminal: str, boot_id: str) -> None:
        self._files = files
        self._path = path
        self._clock = clock
        self._terminal = terminal
        self._boot_id = boot_id
        kept = self._kept()
        self._counter = _number(kept.get("counter"))
        self._failures = _number(kept.get("failures"))
        self._not_before = clock.monotonic() + self._delay_s()
        self._paced_to = clock.monotonic()
        self._outstanding: tuple[str, str, float] | None = None

    def challenge(self, role: str) -> str:
        """A new line to sign; an older one is void. Raises Refusal `bad_request` or `unlock_wait`."""
        if role not in ROLES:
            raise Refusal("bad_request", f"roles are {', '.join(ROLES)}")
        now = self._clock.monotonic()
        paced_to = max(self._paced_to, now)
        wait_s = max(self._not_before, paced_to - PACE_AHEAD_S) - now
        if wait_s > 0:
            raise Refusal("unlock_wait", f"too many tries; wait {math.ceil(wait_s)} s", expected_s=round(wait_s, 1))
        self._paced_to = paced_to + PACE_S
        self._counter += 1
        self._keep()
        nonce = secrets.token_hex(NONCE_BYTES)
        line = f"posagent-console-v1 {self._terminal} {self._boot_id} {self._counter} {nonce} {role}"
        self._outstanding = (line, role, self._clock.monotonic() + CHALLENGE_S)
        return line

    def take(self) -> tuple[str, str]:
        """The outstanding challenge and its role, used up by this. Raises Refusal `unlock_expired`."""
        outstanding, self._outstanding = self._outstanding, None
        if outstanding is None or self._clock.monotonic() > outstanding[2]:
            raise Refusal("unlock_expired", "there is no challenge outstanding")
        return outstanding[0], outstanding[1]

    def failed(self) -> None:
        """An answer was wrong: the next challenge waits, twice as long each time."""
        self._failures += 1
        self._not_before = self._clock.monotonic() + self._delay_s()
        self._keep()

    def succeeded(self) -> None:
        self._failures = 0
        self._keep()

    def _delay_s(self) -> float:
        return min(2.0 ** min(self._failures, 20), DELAY_S_MAX) if self._failures else 0.0

    def _kept(self) -> Mapping[str, Any]:
        try:
            kept = durable.read_json(self._files, self._path)
        except OSError:
            return {}
        return kept if isinstance(kept, dict) else {}

    def _keep(self) -> None:
        try:
            durable.replace_json(self._files, self._path, {"counter": self._counter, "failures": self._failures})
        except OSError:
            pass  # a full disk must neither end the agent nor lock out who may help; the delay holds until a restart


def proven(answer: Message) -> str:
    """The engineer's name in an answer of the verb `engineer`. Raises PosagentError: the installer's, or `internal`."""
    try:
        if "error" not in answer:
            name = answer["result"]["name"]
            if isinstance(name, str) and name.isprintable():
                return name
            raise TypeError("name")
        trouble = PosagentError.from_dict(answer["error"])
    except (KeyError, TypeError, AttributeError):
        raise PosagentError("internal", "the answer of the installer is not understood") from None
    raise trouble


def _number(value: Any) -> int:
    return value if type(value) is int and 0 <= value < 2**53 else 0
