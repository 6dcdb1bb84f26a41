"""OpenSSH's public keys, user certificates and signatures as bytes, and whether a signature holds.

Keys are Ed25519 and ECDSA P-256, also those that live in a security key (FIDO), which must have been touched. Written
here because `cryptography` knows no certificates of security keys.
Rules: everything is bounded by the length of what came; trouble is a TrustError `unlock_refused`.
Source: OpenSSH PROTOCOL.certkeys, PROTOCOL.u2f; RFC 5656, RFC 8709.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
from dataclasses import dataclass

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, utils

from posagent.core.errors import TrustError

ED25519, P256 = b"ssh-ed25519", b"ecdsa-sha2-nistp256"
SK_ED25519, SK_P256 = b"sk-ssh-ed25519@openssh.com", b"sk-ecdsa-sha2-nistp256@openssh.com"
CERTIFIED = {
    b"ssh-ed25519-cert-v01@openssh.com": ED25519,
    b"ecdsa-sha2-nistp256-cert-v01@openssh.com": P256,
    b"sk-ssh-ed25519-cert-v01@openssh.com": SK_ED25519,
    b"sk-ecdsa-sha2-nistp256-cert-v01@openssh.com": SK_P256,
}
SUFFIX = b"-cert-v01@openssh.com"
CURVE = b"nistp256"
POINT_BYTES = 65
"""Of P-256, uncompressed: one key has one fingerprint."""
APPLICATION = b"ssh:"
"""Security keys sign for many; what they sign for SSH is under a name that begins so."""
USER = 1
PRESENT, VERIFIED = 0x01, 0x04
"""Flags of a security key's signature: it was touched; it asked for a PIN or a finger."""
VERIFY_REQUIRED = b"verify-required"
"""The one critical option that is known here."""


_UNTOUCHED = ("the security key was not touched", "未触摸安全密钥")
_NO_PIN = ("the security key asked for no PIN", "安全密钥未要求 PIN")
_KINDS = (
    "use an Ed25519 or ECDSA P-256 key, also on a security key",
    "请使用 Ed25519 或 ECDSA P-256 密钥，也可在安全密钥中",
)


def refused(detail: str, detail_zh: str = "") -> TrustError:
    """In Chinese as well where somebody can do something about it, not for bytes that nobody made by hand."""
    return TrustError("unlock_refused", detail, **({"detail_zh": detail_zh} if detail_zh else {}))


class Reader:
    """SSH wire format: strings with a length before them."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self.at = 0

    @property
    def more(self) -> bool:
        return self.at < len(self._data)

    def take(self, count: int) -> bytes:
        piece = self._data[self.at : self.at + count]
        if len(piece) != count:
            raise refused("the signature is cut short")
        self.at += count
        return piece

    def string(self) -> bytes:
        return self.take(self.number(4))

    def number(self, size: int) -> int:
        return int.from_bytes(self.take(size), "big")

    def end(self) -> None:
        if self.more:
            raise refused("the signature has bytes too many")


@dataclass(frozen=True, slots=True, kw_only=True)
class PublicKey:
    """`blob` is its whole wire form; `application` is a security key's."""

    kind: bytes
    point: bytes
    application: bytes
    blob: bytes

    @property
    def hardware(self) -> bool:
        return self.kind in (SK_ED25519, SK_P256)

    @property
    def fingerprint(self) -> str:
        """As `ssh-keygen -l` prints it."""
        return "SHA256:" + base64.b64encode(hashlib.sha256(self.blob).digest()).decode().rstrip("=")


@dataclass(frozen=True, slots=True, kw_only=True)
class Certificate:
    """What a certificate says. `signed` are the bytes that `signature` of `authority` is over."""

    key: PublicKey
    serial: int
    user: bool
    key_id: bytes
    principals: tuple[bytes, ...]
    valid_before: int
    critical_options: tuple[bytes, ...]
    authority: PublicKey
    signed: bytes
    signature: bytes


def public_key(blob: bytes) -> PublicKey:
    reader = Reader(blob)
    key = _fields(reader, reader.string())
    reader.end()
    return key


def public_key_of_line(line: bytes) -> PublicKey:
    """The key in a line as in an OpenSSH .pub file."""
    words = line.split()
    if len(words) < 2:
        raise refused("not a public key")
    try:
        key = public_key(base64.b64decode(words[1], validate=True))
    except (binascii.Error, ValueError):
        raise refused("not a public key") from None
    if key.kind != words[0]:
        raise refused("not a public key")
    return key


def certificate(blob: bytes) -> Certificate:
    reader = Reader(blob)
    kind = CERTIFIED.get(reader.string())
    if kind is None:
        raise refused(*_KINDS)
    reader.string()  # a nonce
    key = _fields(reader, kind)
    serial, user = reader.number(8), reader.number(4) == USER
    key_id, principals = reader.string(), _strings(reader.string())
    reader.take(8)  # valid from: see installer.engineer
    valid_before = reader.number(8)
    options = _strings(reader.string())  # names and values in turn
    if len(options) % 2:
        raise refused("the certificate's critical options are not understood")
    reader.string(), reader.string()  # extensions, and what is reserved
    authority = public_key(reader.string())
    signed = blob[: reader.at]
    signature = reader.string()
    reader.end()
    return Certificate(
        key=key,
        serial=serial,
        user=user,
        key_id=key_id,
        principals=principals,
        valid_before=valid_before,
        critical_options=options[::2],
        authority=authority,
        signed=signed,
        signature=signature,
    )


def holds(key: PublicKey, signature: bytes, data: bytes, flags: int = PRESENT) -> bool:
    """Whether `signature` is by `key` and over `data`; a security key's must have all of `flags` set."""
    reader = Reader(signature)
    if reader.string() != key.kind:
        raise refused("the signature is of another kind than its key")
    value = reader.string()
    if key.hardware:
        told = reader.take(1)
        if told[0] & flags != flags:
            raise refused(*(_UNTOUCHED if flags == PRESENT else _NO_PIN))
        data = hashlib.sha256(key.application).digest() + told + reader.take(4) + hashlib.sha256(data).digest()
    reader.end()
    try:
        if key.kind in (ED25519, SK_ED25519):
            ed25519.Ed25519PublicKey.from_public_bytes(key.point).verify(value, data)
        else:
            point = ec.EllipticCurvePublicKey.from_encoded_point(ec.SECP256R1(), key.point)
            point.verify(_der(value), data, ec.ECDSA(hashes.SHA256()))
    except InvalidSignature:
        return False
    except ValueError:
        raise refused("the key is no point of its curve") from None
    return True


def _der(value: bytes) -> bytes:
    reader = Reader(value)
    r, s = (int.from_bytes(reader.string(), "big") for _ in range(2))
    reader.end()
    return utils.encode_dss_signature(r, s)


def _fields(reader: Reader, kind: bytes) -> PublicKey:
    """What follows a key's kind; its wire form is the same with the kind before it."""
    if kind not in CERTIFIED.values():
        raise refused(*_KINDS)
    parts = [kind]
    if kind in (P256, SK_P256):
        parts.append(reader.string())
        if parts[-1] != CURVE:
            raise refused("the key is of another curve than it says")
    point = reader.string()
    parts.append(point)
    if len(point) != (POINT_BYTES if CURVE in parts else 32):
        raise refused("the key is no point of its curve")
    application = b""
    if kind in (SK_ED25519, SK_P256):
        application = reader.string()
        parts.append(application)
        if not application.startswith(APPLICATION):
            raise refused("the security key's key is not one for SSH")
    blob = b"".join(len(part).to_bytes(4, "big") + part for part in parts)
    return PublicKey(kind=kind, point=point, application=application, blob=blob)


def _strings(data: bytes) -> tuple[bytes, ...]:
    reader, found = Reader(data), []
    while reader.more:
        found.append(reader.string())
    return tuple(found)
