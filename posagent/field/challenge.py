"""What a terminal wants signed, read before it is: a signature is worth exactly what its line says. Pure.

Rules: a line that asks for more than the engineer does, or for something at another terminal, is not signed: whatever
answers at the end of a cable could pass on the challenge of the terminal beside it.
"""

from __future__ import annotations

from dataclasses import dataclass

from posagent.core.errors import PosagentError

FIRST = "posagent-console-v1"
_WORDS = 4
"""Behind the terminal's id and before the action: boot, counter, nonce, role."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Challenge:
    """The `line` to be signed; `action` is what is done once it is, empty where it only unlocks the role."""

    line: str
    terminal: str
    role: str
    action: str


def checked(line: str, *, terminal: str, role: str, verb: str = "") -> Challenge:
    """The challenge, which must be of that terminal, in that role, and for that verb or for unlocking alone. Raises
    PosagentError `challenge_differs`."""
    before = f"{FIRST} {terminal} "
    words = line.removeprefix(before).split(" ", _WORDS)
    if not line.startswith(before) or not line.isprintable() or len(words) < _WORDS or not all(words):
        raise PosagentError("challenge_differs", f"no challenge of {terminal}: {line[:80]!r}")
    action = words[_WORDS] if len(words) > _WORDS else ""
    wanted, told = (role, verb), (words[_WORDS - 1], action.partition(" ")[0])
    if told != wanted:
        asked, said = (" ".join(one).rstrip() for one in (wanted, told))
        raise PosagentError("challenge_differs", f"asked of it: {asked}; it wants signed: {said}")
    return Challenge(line=line, terminal=terminal, role=role, action=action)
