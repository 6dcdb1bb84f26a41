"""The terminal's key in a secure element, by PKCS #11: it wraps the keys of backups and never leaves its token.

Rules: this module, python-pkcs11 (the extra `pkcs11`) and the vendor's module are only loaded where that is configured.
The key is an AES key of 256 bits with the configured label; where there is none it is made on the token when the first
backup is, and cannot be read out. A session is as short as one wrapping.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pkcs11
from pkcs11 import Attribute, KeyType, Mechanism, MechanismFlag, ObjectClass
from pkcs11.exceptions import DeviceError, DeviceMemory, DeviceRemoved, NoSuchKey, PKCS11Error, TokenNotPresent

from posagent.core.errors import PosagentError
from posagent.core.ports import Files

PIN_BYTES_MAX = 256
KEY_BITS = 256
_ONLY_HERE = {Attribute.EXTRACTABLE: True, Attribute.SENSITIVE: False, Attribute.TOKEN: False}
"""A backup's key is an object of its own on the token while it is wrapped, and gone with the session."""


class Pkcs11Keys:
    """data.keys.KeyStore. The PIN is read from its file each time."""

    def __init__(self, files: Files, *, module: str, token: str, label: str, pin_file: str) -> None:
        self._files, self._module, self._token, self._label, self._pin_file = files, module, token, label, pin_file

    def wrap(self, key: bytes) -> tuple[str, bytes]:
        with self._session() as session:
            shape = {Attribute.CLASS: ObjectClass.SECRET_KEY, Attribute.KEY_TYPE: KeyType.AES, Attribute.VALUE: key}
            inner = session.create_object(shape | _ONLY_HERE)
            mine = self._key(session, make=True)
            return self._label, bytes(mine.wrap_key(inner, mechanism=Mechanism.AES_KEY_WRAP))

    def unwrap(self, name: str, wrapped: bytes) -> bytes:
        if name != self._label:
            raise PosagentError("data_key", f"made with the key {name[:32]}, the one here is {self._label}")
        with self._session() as session:
            mine = self._key(session)
            try:
                inner = mine.unwrap_key(
                    ObjectClass.SECRET_KEY,
                    KeyType.AES,
                    wrapped,
                    mechanism=Mechanism.AES_KEY_WRAP,
                    template=_ONLY_HERE,
                )
            except (DeviceError, DeviceMemory, DeviceRemoved, TokenNotPresent):
                raise
            except PKCS11Error as error:  # tokens do not agree on which: SoftHSM has its most general one for it
                raise ValueError(type(error).__name__) from None
            return bytes(inner[Attribute.VALUE])

    @contextmanager
    def _session(self) -> Iterator[pkcs11.Session]:
        try:
            pin = self._files.read(self._pin_file, 0, PIN_BYTES_MAX).decode().strip()
            token = pkcs11.lib(self._module).get_token(token_label=self._token)
            with token.open(user_pin=pin, rw=True) as session:
                yield session
        except PKCS11Error as error:
            raise PosagentError("data_key", f"token {self._token}: {type(error).__name__} {error}".strip()) from None
        except OSError as error:
            raise PosagentError("data_key", f"{self._pin_file}: {error.strerror or error}") from None

    def _key(self, session: pkcs11.Session, make: bool = False) -> Any:
        """Without a type: what a key can do is only known of the token's."""
        try:
            return session.get_key(ObjectClass.SECRET_KEY, KeyType.AES, self._label)
        except NoSuchKey:
            if not make:
                raise PosagentError("data_key", f"token {self._token} has no key {self._label}") from None
        use = MechanismFlag.WRAP | MechanismFlag.UNWRAP
        return session.generate_key(KeyType.AES, KEY_BITS, label=self._label, store=True, capabilities=use)
