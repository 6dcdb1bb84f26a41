"""A security key made of software: keys and signatures as OpenSSH's PROTOCOL.u2f describes them, byte by byte."""

from __future__ import annotations

import base64
import hashlib
import subprocess
from pathlib import Path

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, utils
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

TOUCHED, PIN = 0x01, 0x04


def string(data: bytes) -> bytes:
    return len(data).to_bytes(4, "big") + data


def mpint(number: int) -> bytes:
    return string(number.to_bytes(number.bit_length() // 8 + 1, "big"))


class SecurityKey:
    """`kind` is ed25519 or ecdsa. `path` has the public key, as ssh-keygen would have written it."""

    def __init__(self, path: Path, kind: str, application: str = "ssh:") -> None:
        self.path = path
        self._application = application.encode()
        self._key: ed25519.Ed25519PrivateKey | ec.EllipticCurvePrivateKey
        if kind == "ed25519":
            self._key = ed25519.Ed25519PrivateKey.generate()
            self._kind = b"sk-ssh-ed25519@openssh.com"
            point = self._key.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw)
            fields = string(point)
        else:
            self._key = ec.generate_private_key(ec.SECP256R1())
            self._kind = b"sk-ecdsa-sha2-nistp256@openssh.com"
            point = self._key.public_key().public_bytes(Encoding.X962, PublicFormat.UncompressedPoint)
            fields = string(b"nistp256") + string(point)
        self.blob = string(self._kind) + fields + string(self._application)
        line = self._kind + b" " + base64.b64encode(self.blob) + b" a key of software\n"
        Path(f"{path}.pub").write_bytes(line)

    def signature(self, data: bytes, *, flags: int = TOUCHED, counter: int = 7) -> bytes:
        told = bytes([flags]) + counter.to_bytes(4, "big")
        signed = hashlib.sha256(self._application).digest() + told + hashlib.sha256(data).digest()
        if isinstance(self._key, ed25519.Ed25519PrivateKey):
            value = self._key.sign(signed)
        else:
            r, s = utils.decode_dss_signature(self._key.sign(signed, ec.ECDSA(hashes.SHA256())))
            value = mpint(r) + mpint(s)
        return string(self._kind) + string(value) + told

    def answer(
        self, certificate: Path, challenge: str, *, flags: int = TOUCHED, counter: int = 7, namespace: str = ""
    ) -> str:
        """The armored signature under a certificate, over the challenge and its line end."""
        name = (namespace or "posagent-console").encode()
        digest = hashlib.sha512(challenge.encode() + b"\n").digest()
        data = b"SSHSIG" + string(name) + string(b"") + string(b"sha512") + string(digest)
        key = base64.b64decode(certificate.read_bytes().split()[1])
        blob = b"SSHSIG\0\0\0\1" + b"".join(
            string(part) for part in (key, name, b"", b"sha512", self.signature(data, flags=flags, counter=counter))
        )
        text = base64.b64encode(blob).decode()
        lines = [text[at : at + 70] for at in range(0, len(text), 70)]
        return "\n".join(("-----BEGIN SSH SIGNATURE-----", *lines, "-----END SSH SIGNATURE-----", ""))


def openssh_accepts(answer: str, challenge: str, folder: Path, namespace: str = "posagent-console") -> bool:
    """What ssh-keygen itself says of a signature."""
    path = folder / "signature"
    path.write_text(answer)
    command = ["ssh-keygen", "-Y", "check-novalidate", "-n", namespace, "-s", str(path)]
    done = subprocess.run(command, input=(challenge + "\n").encode(), capture_output=True, check=False)
    return done.returncode == 0
