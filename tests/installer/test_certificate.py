"""Certificates are read as another reader of them reads them, whatever their bytes."""

from __future__ import annotations

import base64
from pathlib import Path

import pytest
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.serialization import (
    SSHCertificate,
    SSHCertificateType,
    load_ssh_public_identity,
)
from hypothesis import given, settings
from hypothesis import strategies as st

from posagent.core.errors import TrustError
from posagent.installer.certificate import certificate
from tests.console.engineers import certify, make_key

OPTIONS = ("-O", "critical:x@y=z", "-O", "clear", "-O", "permit-pty", "-O", "force-command=/bin/true")


@pytest.fixture(scope="module")
def blobs(tmp_path_factory: pytest.TempPathFactory) -> list[bytes]:
    """Real certificates of every kind that the other reader knows, plain and with options."""
    folder = tmp_path_factory.mktemp("certificates")
    found: list[bytes] = []
    for ca_kind in ("ed25519", "ecdsa"):
        ca = make_key(folder / f"ca-{ca_kind}", ca_kind)
        for kind in ("ed25519", "ecdsa"):
            for more in ((), OPTIONS, ("-h",)):
                key = make_key(folder / f"{ca_kind}-{kind}-{len(found)}", kind)
                made = certify(ca, key, *more, role="look,posagent-update")
                found.append(base64.b64decode(made.read_bytes().split()[1]))
    return found


def other_readers(blob: bytes) -> SSHCertificate | None:
    kind = blob[4 : 4 + int.from_bytes(blob[:4], "big")]
    try:
        found = load_ssh_public_identity(kind + b" " + base64.b64encode(blob))
    except (ValueError, UnsupportedAlgorithm, TypeError, NotImplementedError):
        return None
    return found if isinstance(found, SSHCertificate) else None


def agrees(blob: bytes) -> bool:
    """Where both read it, they read the same; whether both did."""
    other = other_readers(blob)
    try:
        ours = certificate(blob)
    except TrustError:
        return False
    if other is None:
        return False
    assert (ours.serial, ours.user) == (other.serial, other.type is SSHCertificateType.USER)
    assert (ours.key_id, list(ours.principals)) == (other.key_id, list(other.valid_principals))
    assert (ours.valid_before, set(ours.critical_options)) == (other.valid_before, set(other.critical_options))
    return True


def test_real_certificates_are_read_alike(blobs: list[bytes]) -> None:
    assert len(blobs) == 12
    assert all(map(agrees, blobs))


@settings(max_examples=1500)
@given(st.data())
def test_damaged_certificates_are_read_alike_or_refused(blobs: list[bytes], data: st.DataObject) -> None:
    blob = bytearray(data.draw(st.sampled_from(blobs)))
    for _ in range(data.draw(st.integers(1, 3))):
        at = data.draw(st.integers(0, len(blob) - 1))
        blob[at : at + data.draw(st.integers(0, 4))] = data.draw(st.binary(max_size=6))
    agrees(bytes(blob))


def test_a_key_has_one_form_and_so_one_fingerprint(tmp_path: Path) -> None:
    """A point that is written in its short form would be the same key under a name that nobody has revoked."""
    key = make_key(tmp_path / "key", "ecdsa")
    made = certify(make_key(tmp_path / "ca"), key)
    blob = base64.b64decode(made.read_bytes().split()[1])
    point = certificate(blob).key.point
    short = bytes([2 + point[-1] % 2]) + point[1:33]
    other = blob.replace(len(point).to_bytes(4, "big") + point, len(short).to_bytes(4, "big") + short)
    with pytest.raises(TrustError, match="point"):
        certificate(other)
