"""Seals the audit log: checkpoints signed with a key that the agent does not have, and a memory of the last one.

Owns: `audit-key.pem` (Ed25519, made at first use), `audit-key.pub` (its public line) and `audit.json` (what was sealed
last, and what was found lost) in the installer's directory. Rules: the agent's word is not taken: the log is read here,
and only what goes on from what was sealed before is sealed in silence. A log that does not, because its end was cut off
or records were changed, is sealed as well, or sealing would be over for ever; but that checkpoint says so, and so does
the memory.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_pem_private_key,
)

from posagent.core import audit, durable, notes
from posagent.core.audit import Checkpoint, Sealed, Verdict
from posagent.core.errors import PosagentError
from posagent.core.notes import Note
from posagent.core.ports import Files

KEY_FILE = "audit-key.pub"
KEY_BYTES_MAX = 4096
LOG_BYTES_MAX = 1 << 20
"""agent.audit keeps less."""
LOST_MAX = 8


NOTHING = Sealed()


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Memory:
    """What was sealed last; the newest of what was found `lost`."""

    sealed: Sealed = NOTHING
    lost: tuple[Sealed, ...] = ()


class Notary:
    """Raises PosagentError `audit_unreadable`."""

    def __init__(self, files: Files, directory: str, terminal: str) -> None:
        self._files = files
        self._dir = directory
        self._name = audit.origin_of(terminal)

    def seal(self, read_log: Callable[[], bytes]) -> dict[str, Any]:
        """`{size, head, note, key, whole}`; not `whole` is a log that does not go on from the last seal."""
        try:
            key, memory = self._key(), self.memory()
            public = key.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw)
            line = notes.public_line(self._name, public)
            self._publish(line)
            sealed, whole = audit.goes_on(_bytes(read_log), memory.sealed)
            checkpoint = Checkpoint(origin=self._name, sealed=sealed, lost=None if whole else memory.sealed)
            text = audit.text_of(checkpoint)
            note = notes.note_of(text, self._name, public, key.sign(text.encode()))
            lost = memory.lost if whole else (*memory.lost, memory.sealed)[-LOST_MAX:]
            self._remember(Memory(sealed=sealed, lost=lost))
        except OSError as error:
            raise PosagentError("audit_unreadable", f"{self._dir}: {error.strerror or error}") from error
        return {"size": sealed.size, "head": sealed.head, "note": note, "key": line, "whole": whole}

    def memory(self) -> Memory:
        """A damaged one counts as none. Raises OSError."""
        kept = durable.read_json(self._files, f"{self._dir}/audit.json")
        try:
            return Memory(sealed=_seal_of(kept["sealed"]), lost=tuple(map(_seal_of, kept["lost"])))
        except (TypeError, KeyError, ValueError):
            return Memory()

    def _remember(self, memory: Memory) -> None:
        if memory != self.memory():
            value = {"sealed": dataclasses.astuple(memory.sealed), "lost": [*map(dataclasses.astuple, memory.lost)]}
            durable.replace_json(self._files, f"{self._dir}/audit.json", value)

    def _key(self) -> Ed25519PrivateKey:
        """A key that cannot be read is replaced: what it signed stays in the log, and verifying says so."""
        path = f"{self._dir}/audit-key.pem"
        if self._files.size(path) is not None:
            try:
                found = load_pem_private_key(self._files.read(path, 0, KEY_BYTES_MAX), None)
                if isinstance(found, Ed25519PrivateKey):
                    return found
            except ValueError:
                pass  # damaged
        key = Ed25519PrivateKey.generate()
        self._files.make_dir(self._dir)
        durable.replace(self._files, path, key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
        return key

    def _publish(self, line: str) -> None:
        """Beside the key, for whoever checks the log later."""
        path, data = f"{self._dir}/{KEY_FILE}", f"{line}\n".encode()
        if self._files.size(path) is None or self._files.read(path, 0, KEY_BYTES_MAX) != data:
            durable.replace(self._files, path, data)


def genuine(line: str, note: Note) -> bool:
    """Whether a note is signed by the key in a public line."""
    key = notes.parse_public_line(line)
    if key is None or note.name != key[0] or note.key_id != notes.key_id(*key):
        return False
    try:
        Ed25519PublicKey.from_public_bytes(key[1]).verify(note.signature, note.text.encode())
    except InvalidSignature:
        return False
    return True


def verify(data: bytes, *, key: str = "", known: Sequence[Sealed] = ()) -> Verdict:
    """core.audit.verify with real signatures."""
    return audit.verify(data, genuine, key=key, known=known)


def _seal_of(value: Any) -> Sealed:
    """Raises TypeError, ValueError."""
    size, head = value
    if type(size) is not int or len(bytes.fromhex(head)) != 32:
        raise ValueError("not a seal")
    return Sealed(size, head)


def _bytes(read_log: Callable[[], bytes]) -> bytes:
    """A log that is not there is empty: that it was there, the memory knows."""
    try:
        return read_log()
    except FileNotFoundError:
        return b""
