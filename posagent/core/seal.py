"""Payload encryption: the stored bytes of a payload's operations, readable only for terminals of some groups.

Each payload file has a random key of its own, each operation's stored bytes are sealed by themselves (AES-256-GCM, the
nonce is where they begin behind the header), so that ranges, resuming and deltas work as without. The key stands in the
signed manifest, wrapped for each group's X25519 key:

    32 bytes  ephemeral public key
    48 bytes  the payload's key, sealed with HKDF-SHA256(shared secret, salt = both public keys), nonce 0

Sealing hides what is new; that it is authentic is for signatures and digests to say. Table and sizes are not hidden.
Never imported by the resident: OpenSSL is large.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from cryptography.hazmat.primitives.keywrap import InvalidUnwrap, aes_key_unwrap, aes_key_wrap
from cryptography.hazmat.primitives.serialization import load_pem_private_key, load_pem_public_key

from posagent.core.errors import BundleError

KEY_BYTES = 32
GROUP_CHARACTERS = 16
_NONCE = 12
PAYLOAD = b"posagent payload key"
"""What a wrapped key is for: it opens for nothing else."""


@dataclass(frozen=True, slots=True)
class Seal:
    """The key of one payload."""

    key: bytes

    @staticmethod
    def new() -> Seal:
        return Seal(AESGCM.generate_key(8 * KEY_BYTES))

    def close(self, place: int, data: bytes, head: bytes = b"") -> bytes:
        """`data`, sealed for that place and bound to `head`; no place may be used twice."""
        return AESGCM(self.key).encrypt(place.to_bytes(_NONCE, "big"), data, head)

    def open(self, place: int, sealed: bytes, head: bytes = b"") -> bytes:
        """Raises BundleError `payload_corrupt`."""
        try:
            return AESGCM(self.key).decrypt(place.to_bytes(_NONCE, "big"), sealed, head)
        except (InvalidTag, ValueError):
            raise BundleError("payload_corrupt", f"the sealed bytes {place} behind the header are damaged") from None

    def wrapped(self, public_pem: bytes, purpose: bytes = PAYLOAD) -> tuple[str, str]:
        """For one group: its name, and the wrapped key in hexadecimal. Raises ValueError for what is no such key."""
        public = load_pem_public_key(public_pem)
        if not isinstance(public, X25519PublicKey):
            raise ValueError("not an X25519 public key")
        ephemeral = X25519PrivateKey.generate()
        mine, theirs = ephemeral.public_key().public_bytes_raw(), public.public_bytes_raw()
        wrapping = _wrapping(ephemeral.exchange(public), mine, theirs, purpose)
        return _group(theirs), (mine + wrapping.encrypt(bytes(_NONCE), self.key, None)).hex()


def locked(key: bytes, with_key: bytes) -> bytes:
    """A key, wrapped with another that both sides have (RFC 3394)."""
    return aes_key_wrap(with_key, key)


def unlocked(locked_key: bytes, with_key: bytes) -> bytes:
    """Raises ValueError where it was not wrapped with that key, or is damaged."""
    try:
        return aes_key_unwrap(with_key, locked_key)
    except InvalidUnwrap as error:
        raise ValueError(str(error)) from None


def unwrapped(wrapped: Mapping[str, str], private_pem: bytes, purpose: bytes = PAYLOAD) -> Seal:
    """What the group's private key opens. Raises BundleError `bundle_sealed`, ValueError for what is no such key."""
    private = load_pem_private_key(private_pem, None)
    if not isinstance(private, X25519PrivateKey):
        raise ValueError("not an X25519 private key")
    mine = private.public_key().public_bytes_raw()
    if (found := wrapped.get(_group(mine))) is None:
        raise BundleError("bundle_sealed", f"it is for {', '.join(sorted(wrapped))}, the key here is {_group(mine)}")
    data = bytes.fromhex(found)
    theirs, sealed = data[:KEY_BYTES], data[KEY_BYTES:]
    try:
        shared = private.exchange(X25519PublicKey.from_public_bytes(theirs))
        return Seal(_wrapping(shared, theirs, mine, purpose).decrypt(bytes(_NONCE), sealed, None))
    except (InvalidTag, ValueError):
        raise BundleError("bundle_sealed", "its key cannot be unwrapped") from None


def _wrapping(shared: bytes, ephemeral: bytes, group: bytes, purpose: bytes) -> AESGCM:
    return AESGCM(HKDF(SHA256(), KEY_BYTES, salt=ephemeral + group, info=purpose).derive(shared))


def _group(public: bytes) -> str:
    """A group is named by its key."""
    return hashlib.sha256(public).hexdigest()[:GROUP_CHARACTERS]
