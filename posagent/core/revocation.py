"""Which engineers' keys and certificates are no longer good: a text file of the signed image. Pure.

One entry a line, in the words of `ssh-keygen -k` (KEY REVOCATION LISTS in ssh-keygen(1)):

    serial: 7          a certificate; also a range, 7-20
    id: Li Wei         all certificates of that key id
    SHA256:…           a key, by the fingerprint that `ssh-keygen -l` prints; an authority's revokes all it signed

Rules: `#` begins a comment line. What is not understood revokes nothing and is told, so that all the rest still holds.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection
from dataclasses import dataclass

from posagent.core.errors import PosagentError

FILE_BYTES_MAX = 256 * 1024
_SERIALS = re.compile(r"([1-9][0-9]{0,19})(?:-([1-9][0-9]{0,19}))?")
_FINGERPRINT = re.compile(r"SHA256:[A-Za-z0-9+/]{43}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Revoked:
    """`unclear` are the numbers of lines that are not understood, from 1."""

    serials: tuple[tuple[int, int], ...] = ()
    ids: frozenset[str] = frozenset()
    fingerprints: frozenset[str] = frozenset()
    unclear: tuple[int, ...] = ()

    def covers(self, *, serial: int, key_id: bytes, fingerprints: Collection[str]) -> bool:
        """Whether a certificate with these is revoked; `fingerprints` are of its key and of its authority."""
        return (
            any(first <= serial <= last for first, last in self.serials)
            or key_id.decode("utf-8", "replace") in self.ids
            or not self.fingerprints.isdisjoint(fingerprints)
        )


def trouble(path: str, read: Callable[[str], bytes]) -> PosagentError | None:
    """What is wrong with the list at `path`, for whoever looks at the terminal; none where no list is configured."""
    if not path:
        return None
    try:
        unclear = parse(read(path)).unclear
    except OSError as error:
        return PosagentError("revocation_unclear", f"{path}: {error.strerror or error}; nobody can unlock")
    if not unclear:
        return None
    return PosagentError("revocation_unclear", f"{path}: line {', '.join(map(str, unclear[:8]))} is not understood")


def parse(data: bytes) -> Revoked:
    """Never raises. A file that is too long is not understood beyond its limit; whoever decides does without it."""
    serials: list[tuple[int, int]] = []
    ids: set[str] = set()
    fingerprints: set[str] = set()
    unclear: list[int] = []
    lines = data[:FILE_BYTES_MAX].decode("utf-8", "replace").split("\n")
    for number, line in enumerate(lines, 1):
        text = line.strip()
        word, _, rest = text.partition(":")
        value = rest.strip()
        found = _SERIALS.fullmatch(value)
        if number == len(lines) and len(data) > FILE_BYTES_MAX:
            unclear.append(number)
        elif not text or text.startswith("#"):
            continue
        elif word == "serial" and found and int(found[1]) <= int(found[2] or found[1]):
            serials.append((int(found[1]), int(found[2] or found[1])))
        elif word == "id" and value:
            ids.add(value)
        elif _FINGERPRINT.fullmatch(text.removeprefix("hash:").strip()):
            fingerprints.add(text.removeprefix("hash:").strip())
        else:
            unclear.append(number)
    return Revoked(
        serials=tuple(serials), ids=frozenset(ids), fingerprints=frozenset(fingerprints), unclear=tuple(unclear)
    )
