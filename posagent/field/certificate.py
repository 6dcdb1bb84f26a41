"""What an engineer's certificate says: who, for which roles, until when. Pure.

Owns: reading OpenSSH user certificates, and the certificate that an SSH signature carries.
Never: whether any of it is authentic. The terminal decides that when it is unlocked, ssh-keygen for a report.
Source: OpenSSH PROTOCOL.certkeys, PROTOCOL.sshsig.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
from dataclasses import dataclass

from posagent.core.errors import PosagentError

BYTES_MAX = 16384
PRINCIPALS_MAX = 64
PRINCIPAL = "posagent-{}"
SUFFIX = "-cert-v01@openssh.com"
FOR_EVER = (1 << 64) - 1

_KEY_FIELDS = {
    "ssh-ed25519": 1,
    "ecdsa-sha2-nistp256": 2,
    "sk-ssh-ed25519@openssh.com": 2,
    "sk-ecdsa-sha2-nistp256@openssh.com": 3,
}
"""Strings that make up the public key, by its kind."""
_USER = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Certificate:
    """Times are seconds since 1970; `fingerprint` is the engineer's key as ssh-keygen -l prints it."""

    kind: str
    name: str
    serial: int
    principals: tuple[str, ...]
    valid_after: int
    valid_before: int
    fingerprint: str
    authority: str

    @property
    def roles(self) -> tuple[str, ...]:
        before = PRINCIPAL.format("")
        return tuple(one.removeprefix(before) for one in self.principals if one.startswith(before))

    @property
    def needs_touch(self) -> bool:
        """The key is in a piece of hardware that somebody has to touch."""
        return self.kind.startswith("sk-")


class _Reader:
    def __init__(self, data: bytes) -> None:
        self._data = data
        self._at = 0

    @property
    def ended(self) -> bool:
        return self._at == len(self._data)

    def take(self, count: int) -> bytes:
        piece = self._data[self._at : self._at + count]
        if len(piece) != count:
            raise ValueError("cut short")
        self._at += count
        return piece

    def string(self) -> bytes:
        return self.take(int.from_bytes(self.take(4), "big"))

    def number(self, count: int) -> int:
        return int.from_bytes(self.take(count), "big")


def of_line(text: str) -> Certificate:
    """A `KEY-cert.pub` file's line. Raises PosagentError `engineer_key`."""
    words = text[:BYTES_MAX].split()
    try:
        if len(words) < 2 or not words[0].endswith(SUFFIX):
            raise ValueError("it is no certificate; give the file that ends in -cert.pub")
        return of_blob(base64.b64decode(words[1], validate=True))
    except (ValueError, binascii.Error) as error:
        raise PosagentError("engineer_key", f"the certificate cannot be read: {error}") from None


def of_blob(blob: bytes) -> Certificate:
    """A certificate in SSH's wire format. Raises ValueError."""
    reader = _Reader(blob[:BYTES_MAX])
    kind = reader.string().decode("ascii")
    plain = _plain(kind)
    reader.string()  # nonce
    key = [reader.string() for _ in range(_KEY_FIELDS[plain])]
    serial, form = reader.number(8), reader.number(4)
    if form != _USER:
        raise ValueError("it is a host's, not a user's")
    name, principals = _shown(reader.string()), _strings(reader.string())
    after, before = reader.number(8), reader.number(8)
    for _ in ("critical options", "extensions", "reserved"):
        reader.string()
    authority = reader.string()
    reader.string()  # the authority's signature
    if not reader.ended:
        raise ValueError("bytes too many")
    return Certificate(
        kind=plain,
        name=name,
        serial=serial,
        principals=principals,
        valid_after=after,
        valid_before=before,
        fingerprint=fingerprint(b"".join(_packed(part) for part in (plain.encode(), *key))),
        authority=fingerprint(authority),
    )


def of_signature(armored: str) -> Certificate | None:
    """Whose key an SSH signature was made with; None for a key without a certificate. Raises PosagentError."""
    lines = armored[:BYTES_MAX].strip().splitlines()
    try:
        blob = base64.b64decode("".join(line.strip() for line in lines[1:-1]), validate=True)
        reader = _Reader(blob)
        if reader.take(6) != b"SSHSIG" or reader.number(4) != 1:
            raise ValueError("it is no SSH signature")
        key = reader.string()
        return of_blob(key) if _Reader(key).string().endswith(SUFFIX.encode()) else None
    except (ValueError, binascii.Error) as error:
        raise PosagentError("report_altered", f"the signature cannot be read: {error}") from None


def fingerprint(key: bytes) -> str:
    """As `ssh-keygen -l` prints it."""
    return "SHA256:" + base64.b64encode(hashlib.sha256(key).digest()).decode().rstrip("=")


def _plain(kind: str) -> str:
    """The kind of key that is certified."""
    if not kind.endswith(SUFFIX):
        raise ValueError("it is no certificate")
    found = kind.removesuffix(SUFFIX)
    plain = found if found in _KEY_FIELDS else f"{found}@openssh.com"
    if plain not in _KEY_FIELDS:
        raise ValueError(f"keys of the kind {found[:40]} are not known here")
    return plain


def _strings(data: bytes) -> tuple[str, ...]:
    reader, found = _Reader(data), list[str]()
    while not reader.ended:
        found.append(_shown(reader.string()))
        if len(found) > PRINCIPALS_MAX:
            raise ValueError("principals too many")
    return tuple(found)


def _packed(data: bytes) -> bytes:
    return len(data).to_bytes(4, "big") + data


def _shown(data: bytes) -> str:
    """Fit for a screen: short, one line, no control characters."""
    text = data.decode("utf-8", "replace")[:64]
    return "".join(character if character.isprintable() else "?" for character in text)
