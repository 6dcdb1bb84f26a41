"""Whether an answer on the serial line proves an engineer's key: OpenSSH signatures under short-lived certificates.

Rules: the signature (`ssh-keygen -Y sign`) must be over exactly the challenge, in our namespace, by the key of an SSH
user certificate that one of the terminal's CAs signed for the role, and neither may be revoked. Freshness comes from
the challenge's nonce, not from the clock: a clock that is behind does not lock anybody out, so when a certificate
begins to be valid does not count; one that says "expired" is believed. Unknown critical options refuse.
Source: OpenSSH PROTOCOL.sshsig, PROTOCOL.certkeys.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
from dataclasses import dataclass

from posagent.core.errors import TrustError
from posagent.core.revocation import Revoked
from posagent.installer.certificate import (
    PRESENT,
    SUFFIX,
    VERIFIED,
    VERIFY_REQUIRED,
    Certificate,
    Reader,
    certificate,
    holds,
    public_key_of_line,
    refused,
)

NAMESPACE = "posagent-console"
PRINCIPAL = "posagent-{role}"
ANSWER_BYTES_MAX = 8192
CA_BYTES_MAX = 16384
CAS_MAX = 4
_MAGIC = b"SSHSIG"
_BEGIN, _END = "-----BEGIN SSH SIGNATURE-----", "-----END SSH SIGNATURE-----"
_HASHES = {b"sha256": hashlib.sha256, b"sha512": hashlib.sha512}
NOBODY = Revoked()


@dataclass(frozen=True, slots=True, kw_only=True)
class Engineer:
    """Who unlocked: the certificate's key id and serial number, and the fingerprint of the key."""

    name: str
    serial: int
    role: str
    key: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Signature:
    key: bytes
    namespace: bytes
    reserved: bytes
    hash_name: bytes
    value: bytes


def verify(*, challenge: str, answer: str, role: str, cas: bytes, now_s: float, revoked: Revoked = NOBODY) -> Engineer:
    """The engineer who answered. Raises TrustError `unlock_refused` or `unlock_expired`."""
    signature = _parse(answer)
    if signature.namespace != NAMESPACE.encode():
        raise refused(
            f"the signature is for another purpose; use -n {NAMESPACE}", f"签名用途不符；请使用 -n {NAMESPACE}"
        )
    proof = _certificate(signature.key)
    _check_certificate(proof, cas, revoked)
    if PRINCIPAL.format(role=role).encode() not in proof.principals:
        raise refused(f"the certificate is not for the role {role}", f"证书不含角色 {role}")
    if now_s >= proof.valid_before:
        raise TrustError("unlock_expired", "the certificate is no longer valid", detail_zh="证书已过期")
    for message in (challenge + "\n", challenge):  # with and without the line end that `echo` adds
        if _signed(signature, proof, message.encode()):
            return Engineer(name=_name(proof.key_id), serial=proof.serial, role=role, key=proof.key.fingerprint)
    raise refused("the signature is not over this challenge", "签名与该挑战不符")


def _name(key_id: bytes) -> str:
    """Fit for a screen and the journal: short, one line, no control characters."""
    text = key_id.decode("utf-8", "replace")[:64]
    return "".join(character if character.isprintable() else "?" for character in text)


def _parse(answer: str) -> _Signature:
    """An armored SSHSIG. Raises TrustError `unlock_refused`."""
    if len(answer) > ANSWER_BYTES_MAX:
        raise refused("the signature is too long", "签名过长")
    lines = [line.strip() for line in answer.strip().splitlines()]
    if len(lines) < 3 or lines[0] != _BEGIN or lines[-1] != _END:
        raise refused("not an SSH signature", "不是 SSH 签名")
    try:
        blob = base64.b64decode("".join(lines[1:-1]), validate=True)
    except (binascii.Error, ValueError):
        raise refused("not an SSH signature", "不是 SSH 签名") from None
    reader = Reader(blob)
    if reader.take(6) != _MAGIC or reader.number(4) != 1:
        raise refused("not an SSH signature of version 1", "不是第 1 版 SSH 签名")
    key, namespace, reserved, hash_name, value = (reader.string() for _ in range(5))
    reader.end()
    return _Signature(key=key, namespace=namespace, reserved=reserved, hash_name=hash_name, value=value)


def _certificate(key: bytes) -> Certificate:
    if not Reader(key).string().endswith(SUFFIX):
        raise refused(
            "the signature carries no certificate; sign with -f KEY-cert.pub", "签名不含证书；请用 -f KEY-cert.pub 签名"
        )
    return certificate(key)


def _check_certificate(proof: Certificate, cas: bytes, revoked: Revoked) -> None:
    if not proof.user:
        raise refused("the certificate is not a user's", "不是用户证书")
    known = (VERIFY_REQUIRED,) if proof.key.hardware else ()
    if not set(proof.critical_options) <= set(known):
        raise refused("the certificate has critical options that are not known here", "证书含未知的关键选项")
    if proof.authority.blob not in authorities(cas):
        raise refused(
            "the certificate is not signed by one of this terminal's authorities", "证书非本终端认可的机构签发"
        )
    if not holds(proof.authority, proof.signature, proof.signed):
        raise refused("the certificate's own signature is wrong", "证书自身签名错误")
    fingerprints = (proof.key.fingerprint, proof.authority.fingerprint)
    if revoked.covers(serial=proof.serial, key_id=proof.key_id, fingerprints=fingerprints):
        raise refused("the certificate is revoked", "证书已吊销")


def authorities(cas: bytes) -> set[bytes]:
    """The CA keys, one a line as in an OpenSSH .pub file; lines that are none count for nothing."""
    found: set[bytes] = set()
    for line in cas[:CA_BYTES_MAX].splitlines():
        try:
            found.add(public_key_of_line(line).blob)
        except TrustError:
            continue
        if len(found) == CAS_MAX:
            break
    return found


def _signed(signature: _Signature, proof: Certificate, message: bytes) -> bool:
    digest = _HASHES.get(signature.hash_name)
    if digest is None:
        raise refused("the signature's hash is not known here", "不支持签名的散列算法")
    parts = (signature.namespace, signature.reserved, signature.hash_name, digest(message).digest())
    data = _MAGIC + b"".join(len(part).to_bytes(4, "big") + part for part in parts)
    flags = PRESENT | VERIFIED if VERIFY_REQUIRED in proof.critical_options else PRESENT
    return holds(proof.key, signature.value, data, flags)
