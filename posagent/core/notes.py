"""Signed notes: a text with an Ed25519 signature behind it, and public keys in one line (C2SP signed-note). Pure.

    TEXT
                                  (an empty line)
    — NAME BASE64(4 bytes that name the key, signature)

Signing and checking are for others: this is the form only. Never raises for what is in a file.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
from dataclasses import dataclass

ED25519 = b"\x01"
_DASH = "\u2014"


@dataclass(frozen=True, slots=True, kw_only=True)
class Note:
    """A signed note with one signature. `text` is what was signed."""

    text: str
    name: str
    key_id: bytes
    signature: bytes


def key_id(name: str, public: bytes) -> bytes:
    return hashlib.sha256(name.encode() + b"\n" + ED25519 + public).digest()[:4]


def note_of(text: str, name: str, public: bytes, signature: bytes) -> str:
    return f"{text}\n{_DASH} {name} {base64.b64encode(key_id(name, public) + signature).decode()}\n"


def parse_note(note: str) -> Note | None:
    text, gap, last = note.rpartition("\n\n")
    words = last.removesuffix("\n").split(" ")
    if not gap or len(words) != 3 or words[0] != _DASH:
        return None
    blob = decoded(words[2])
    return None if blob is None else Note(text=text + "\n", name=words[1], key_id=blob[:4], signature=blob[4:])


def public_line(name: str, public: bytes) -> str:
    """A public key as tools for signed notes take it: `NAME+ID+KEY`."""
    return f"{name}+{key_id(name, public).hex()}+{base64.b64encode(ED25519 + public).decode()}"


def parse_public_line(line: str) -> tuple[str, bytes] | None:
    """Name and key, or None where it is no such line."""
    parts = line.strip().split("+", 2)
    blob = decoded(parts[2]) if len(parts) == 3 else None
    if blob is None or len(blob) != 33 or blob[:1] != ED25519:
        return None
    name, public = parts[0], blob[1:]
    return (name, public) if key_id(name, public).hex() == parts[1] else None


def decoded(text: str) -> bytes | None:
    """Base64, or None where it is none."""
    try:
        return base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        return None
