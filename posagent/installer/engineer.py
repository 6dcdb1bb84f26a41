"""Whether an answer on the serial line proves an engineer's key: OpenSSH signatures under short-lived certificates.

Rules: the signature (`ssh-keygen -Y sign`) must be over exactly the challenge, in our namespace, by the key of an SSH
user certificate that one of the terminal's CAs signed for the role. Freshness comes from the challenge's nonce, not
from the clock: a clock that is behind does not lock anybody out, one that says "expired" is believed. Unknown
critical options refuse.
Source: OpenSSH PROTOCOL.sshsig, PROTOCOL.certkeys.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
from dataclasses import dataclass

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, utils
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    PublicFormat,
    SSHCertificate,
    SSHCertificateType,
    load_ssh_public_identity,
    load_ssh_public_key,
)

from posagent.core.errors import TrustError

NAMESPACE = "posagent-console"
PRINCIPAL = "posagent-{role}"
ANSWER_BYTES_MAX = 8192
CA_BYTES_MAX = 16384
CAS_MAX = 4
_MAGIC = b"SSHSIG"
_BEGIN, _END = "-----BEGIN SSH SIGNATURE-----", "-----END SSH SIGNATURE-----"
_HASHES = {b"sha256": hashlib.sha256, b"sha512": hashlib.sha512}


@dataclass(frozen=True, slots=True, kw_only=True)
class Engineer:
    """Who unlocked: the certificate's key id and serial number."""

    name: str
    serial: int
    role: str


@dataclass(frozen=True, slots=True, kw_only=True)
class _Signature:
    key: bytes
    namespace: bytes
    reserved: bytes
    hash_name: bytes
    algorithm: bytes
    value: bytes


def verify(*, challenge: str, answer: str, role: str, cas: bytes, now_s: float) -> Engineer:
    """The engineer who answered. Raises TrustError `unlock_refused` or `unlock_expired`."""
    signature = _parse(answer)
    if signature.namespace != NAMESPACE.encode():
        raise _refused("the signature is for another purpose; use -n " + NAMESPACE)
    certificate = _certificate(signature.key)
    _check_certificate(certificate, cas)
    if PRINCIPAL.format(role=role).encode() not in certificate.valid_principals:
        raise _refused(f"the certificate is not for the role {role}")
    if now_s >= certificate.valid_before:
        raise TrustError("unlock_expired", "the certificate is no longer valid")
    for message in (challenge + "\n", challenge):  # with and without the line end that `echo` adds
        if _signed(signature, certificate, message.encode()):
            return Engineer(name=_name(certificate.key_id), serial=certificate.serial, role=role)
    raise _refused("the signature is not over this challenge")


def _name(key_id: bytes) -> str:
    """Fit for a screen and the journal: short, one line, no control characters."""
    text = key_id.decode("utf-8", "replace")[:64]
    return "".join(character if character.isprintable() else "?" for character in text)


def _refused(detail: str) -> TrustError:
    return TrustError("unlock_refused", detail)


class _Reader:
    """SSH wire format: strings with a length before them."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._at = 0

    def take(self, count: int) -> bytes:
        piece = self._data[self._at : self._at + count]
        if len(piece) != count:
            raise _refused("the signature is cut short")
        self._at += count
        return piece

    def string(self) -> bytes:
        return self.take(int.from_bytes(self.take(4), "big"))

    def end(self) -> None:
        if self._at != len(self._data):
            raise _refused("the signature has bytes too many")


def _parse(answer: str) -> _Signature:
    """An armored SSHSIG. Raises TrustError `unlock_refused`."""
    if len(answer) > ANSWER_BYTES_MAX:
        raise _refused("the signature is too long")
    lines = [line.strip() for line in answer.strip().splitlines()]
    if len(lines) < 3 or lines[0] != _BEGIN or lines[-1] != _END:
        raise _refused("not an SSH signature")
    try:
        blob = base64.b64decode("".join(lines[1:-1]), validate=True)
    except (binascii.Error, ValueError):
        raise _refused("not an SSH signature") from None
    reader = _Reader(blob)
    if reader.take(6) != _MAGIC or reader.take(4) != b"\0\0\0\1":
        raise _refused("not an SSH signature of version 1")
    key, namespace, reserved, hash_name = (reader.string() for _ in range(4))
    inner = _Reader(reader.string())
    reader.end()
    algorithm, value = inner.string(), inner.string()
    inner.end()
    return _Signature(
        key=key, namespace=namespace, reserved=reserved, hash_name=hash_name, algorithm=algorithm, value=value
    )


def _certificate(key: bytes) -> SSHCertificate:
    kind = _Reader(key).string()
    if not kind.endswith(b"-cert-v01@openssh.com"):
        raise _refused("the signature carries no certificate; sign with -f KEY-cert.pub")
    try:
        identity = load_ssh_public_identity(kind + b" " + base64.b64encode(key))
    except (ValueError, UnsupportedAlgorithm, TypeError, NotImplementedError) as error:
        raise _refused(f"the certificate cannot be read: {error}"[:200]) from None
    if not isinstance(identity, SSHCertificate):
        raise _refused("the signature carries no certificate")
    return identity


def _check_certificate(certificate: SSHCertificate, cas: bytes) -> None:
    if certificate.type is not SSHCertificateType.USER:
        raise _refused("the certificate is not a user's")
    if certificate.critical_options:
        raise _refused("the certificate has critical options that are not known here")
    try:
        authority = certificate.signature_key().public_bytes(Encoding.OpenSSH, PublicFormat.OpenSSH)
        if authority not in authorities(cas):
            raise _refused("the certificate is not signed by one of this terminal's authorities")
        certificate.verify_cert_signature()
    except (InvalidSignature, UnsupportedAlgorithm, ValueError):  # a damaged certificate, for one
        raise _refused("the certificate's own signature is wrong") from None


def authorities(cas: bytes) -> set[bytes]:
    """The CA keys, one a line as in an OpenSSH .pub file; lines that are none count for nothing."""
    found: set[bytes] = set()
    for line in cas[:CA_BYTES_MAX].splitlines()[:CAS_MAX]:
        try:
            found.add(load_ssh_public_key(line).public_bytes(Encoding.OpenSSH, PublicFormat.OpenSSH))
        except (ValueError, UnsupportedAlgorithm):
            continue
    return found


def _signed(signature: _Signature, certificate: SSHCertificate, message: bytes) -> bool:
    digest = _HASHES.get(signature.hash_name)
    if digest is None:
        raise _refused("the signature's hash is not known here")
    parts = (signature.namespace, signature.reserved, signature.hash_name, digest(message).digest())
    data = _MAGIC + b"".join(len(part).to_bytes(4, "big") + part for part in parts)
    key = certificate.public_key()
    try:
        if isinstance(key, ed25519.Ed25519PublicKey) and signature.algorithm == b"ssh-ed25519":
            key.verify(signature.value, data)
        elif isinstance(key, ec.EllipticCurvePublicKey) and signature.algorithm == b"ecdsa-sha2-nistp256":
            reader = _Reader(signature.value)
            r, s = (int.from_bytes(reader.string(), "big") for _ in range(2))
            key.verify(utils.encode_dss_signature(r, s), data, ec.ECDSA(hashes.SHA256()))
        else:
            raise _refused("use an Ed25519 or ECDSA P-256 key")
    except InvalidSignature:
        return False
    return True
