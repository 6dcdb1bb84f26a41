"""The terminal's own key, which wraps the key of each backup: a file of root's, or a key that a secure element keeps.

Rules: the key is made when the first backup is, and never when one is to be opened: what is lost then is told. A backup
names its key, so that another one's is no damage. The file's key is as safe as root's files are; a secure element
(platform.pkcs11) never gives its own away.
"""

from __future__ import annotations

import hashlib
import re
import secrets
from collections.abc import Callable
from typing import Protocol

from posagent.core import durable, seal
from posagent.core.errors import PosagentError
from posagent.core.ports import Files

_TEXT = re.compile(rb"posagent-data-key-1 ([0-9a-f]{64})\n")
_TEXT_BYTES_MAX = 128
_NAMED_BY = b"posagent data key"
_NAME_CHARACTERS = 16


class KeyStore(Protocol):
    """Raises PosagentError `data_key`."""

    def wrap(self, key: bytes) -> tuple[str, bytes]:
        """The name of the terminal's key, and `key` wrapped with it (RFC 3394)."""

    def unwrap(self, name: str, wrapped: bytes) -> bytes:
        """The key. Raises ValueError where it was wrapped with another, or is damaged."""


class FileKeys:
    """A file. `files` makes it for root only."""

    def __init__(self, files: Files, path: str, random: Callable[[int], bytes] = secrets.token_bytes) -> None:
        self._files, self._path, self._random = files, path, random

    def wrap(self, key: bytes) -> tuple[str, bytes]:
        if self._files.size(self._path) is None:
            text = b"posagent-data-key-1 " + self._random(seal.KEY_BYTES).hex().encode() + b"\n"
            durable.replace(self._files, self._path, text)
        mine = self._load()
        return _name(mine), seal.locked(key, mine)

    def unwrap(self, name: str, wrapped: bytes) -> bytes:
        mine = self._load()
        if name != _name(mine):
            raise PosagentError("data_key", f"made with the key {name[:32]}, the one in {self._path} is {_name(mine)}")
        return seal.unlocked(wrapped, mine)

    def _load(self) -> bytes:
        try:
            found = _TEXT.fullmatch(self._files.read(self._path, 0, _TEXT_BYTES_MAX))
        except OSError as error:
            raise PosagentError("data_key", f"{self._path}: {error.strerror or error}") from None
        if found is None:
            raise PosagentError("data_key", f"{self._path} is damaged")
        return bytes.fromhex(found[1].decode())


def _name(key: bytes) -> str:
    return hashlib.sha256(_NAMED_BY + key).hexdigest()[:_NAME_CHARACTERS]
