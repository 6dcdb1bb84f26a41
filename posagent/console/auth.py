"""Challenges for engineers: one outstanding, single use, and a delay after failures that survives a restart.

Owns: the persisted counter and number of failures, and what each role may do. The proof itself is checked by the
installer's verb `engineer`, because the resident carries no cryptography. One Gatekeeper serves all modes of the line.
Rules: a challenge costs a durable write and anybody on the line may ask, so they come at most one in PACE_S. An answer
counts as a failure before it is looked at: nobody gains a try by cutting the power. Time is monotonic; every start
waits the delay anew.
"""

from __future__ import annotations

import math
import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from posagent.core import durable
from posagent.core.errors import PosagentError, Refusal
from posagent.core.ports import Clock, Files, Message

_LOOK = frozenset({"check", "history", "slots", "power", "network", "log", "audit"})
_UPDATE = _LOOK | {"update", "cancel", "defer", "confirm", "upload", "selftest", "allow", "data"}
ROLES: Mapping[str, frozenset[str]] = {
    "look": _LOOK,
    "update": _UPDATE,
    "rollback": _UPDATE | {"rollback"},
    "support": _LOOK | {"support", "selftest", "data"},
}
"""What a role may do besides what everybody may (access.OPEN_VERBS)."""

CHALLENGE_S = 60.0
DELAY_S_MAX = 300.0
PACE_S = 1.0
PACE_AHEAD_S = 4.0
"""So many seconds of PACE_S may be used up at once, by somebody who mistypes."""
NONCE_BYTES = 16
ACTION_CHARACTERS_MAX = 200


@dataclass(frozen=True, slots=True)
class Challenge:
    """A line to sign: to unlock a role, or for one action of a role that is unlocked."""

    line: str
    role: str
    action: str = ""


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
        self._outstanding: tuple[Challenge, float] | None = None
        self._before_try = 0.0

    def challenge(self, role: str, action: str = "") -> str:
        """A new line to sign, over exactly that `action` if any; an older one is void.

        Raises Refusal `bad_request` or `unlock_wait`.
        """
        if role not in ROLES:
            raise Refusal("bad_request", f"roles are {', '.join(ROLES)}")
        if len(action) > ACTION_CHARACTERS_MAX or not action.isprintable():
            raise Refusal("bad_request", "the action cannot be written in a line")
        now = self._clock.monotonic()
        paced_to = max(self._paced_to, now)
        wait_s = max(self._not_before, paced_to - PACE_AHEAD_S) - now
        if wait_s > 0:
            raise Refusal("unlock_wait", f"too many tries; wait {math.ceil(wait_s)} s", expected_s=round(wait_s, 1))
        self._paced_to = paced_to + PACE_S
        self._counter += 1
        self._keep()
        nonce = secrets.token_hex(NONCE_BYTES)
        line = f"posagent-console-v1 {self._terminal} {self._boot_id} {self._counter} {nonce} {role} {action}".rstrip()
        self._outstanding = (Challenge(line, role, action), self._clock.monotonic() + CHALLENGE_S)
        return line

    def take(self) -> Challenge:
        """The outstanding challenge, used up by this; a try that counts until it `succeeded` or was `untried`.

        Raises Refusal `unlock_expired`.
        """
        outstanding, self._outstanding = self._outstanding, None
        if outstanding is None or self._clock.monotonic() > outstanding[1]:
            raise Refusal("unlock_expired", "there is no challenge outstanding")
        self._before_try = self._not_before
        self._failures += 1
        self._keep()
        self.failed()
        return outstanding[0]

    def failed(self) -> None:
        """The answer that was taken is wrong: the next challenge waits, twice as long each time."""
        self._not_before = self._clock.monotonic() + self._delay_s()

    def untried(self) -> None:
        """Nobody could look at the answer that was taken."""
        self._failures = max(0, self._failures - 1)
        self._not_before = self._before_try
        self._keep()

    def succeeded(self) -> None:
        self._failures, self._not_before = 0, 0.0
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


@dataclass(frozen=True, slots=True, kw_only=True)
class Proof:
    """Whose key answered: key id and serial number of the certificate, fingerprint of the key."""

    name: str
    serial: int = 0
    key: str = ""


def proven(answer: Message) -> Proof:
    """Who answered, from what the verb `engineer` says. Raises PosagentError: the installer's, or `internal`."""
    try:
        if "error" not in answer:
            result = answer["result"]
            name, serial, key = result["name"], result.get("serial", 0), result.get("key", "")
            if isinstance(name, str) and name.isprintable() and type(serial) is int and isinstance(key, str):
                return Proof(name=name, serial=serial, key=key)
            raise TypeError("name")
        trouble = PosagentError.from_dict(answer["error"])
    except (KeyError, TypeError, AttributeError):
        raise PosagentError("internal", "the answer of the installer is not understood") from None
    raise trouble


def _number(value: Any) -> int:
    return value if type(value) is int and 0 <= value < 2**53 else 0
