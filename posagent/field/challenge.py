"""What a terminal wants signed, read before it is: a signature is worth exactly what its line says. Pure.

Rules: a line that asks for more than the engineer does, or for something at another terminal, is not signed: whatever
answers at the end of a cable could pass on the challenge of the terminal beside it.
"""

from __future__ import annotations

from dataclasses import dataclass

from posagent.core.errors import PosagentError

FIRST = "posagent-console-v1"
_WORDS = 6
"""Before the action: first word, terminal, boot, counter, nonce, role."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Challenge:
    """`action` is what is done once it is signed; empty where it only unlocks the role."""

    terminal: str
    role: str
    action: str


def read(line: str) -> Challenge:
    """Raises PosagentError `challenge_differs`."""
    words = line.split(" ", _WORDS)
    if len(words) < _WORDS or not all(words) or words[0] != FIRST or not line.isprintable():
        raise PosagentError("challenge_differs", f"not a challenge: {line[:80]!r}")
    return Challenge(terminal=words[1], role=words[5], action=words[6] if len(words) > _WORDS else "")


def check(line: str, *, terminal: str, role: str, verb: str = "") -> Challenge:
    """The challenge, which must be of that terminal, in that role, and for that verb or for unlocking alone. Raises
    PosagentError `challenge_differs`."""
    found = read(line)
    wanted = (terminal, role, verb)
    told = (found.terminal, found.role, found.action.partition(" ")[0])
    if told != wanted:
        asked, said = (" ".join(one).rstrip() for one in (wanted, told))
        raise PosagentError("challenge_differs", f"asked of it: {asked}; it wants signed: {said}")
    return found
