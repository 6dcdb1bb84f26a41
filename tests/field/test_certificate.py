"""Reading certificates: what ssh-keygen made is understood, everything else is told, nothing crashes."""

from __future__ import annotations

import base64
import subprocess
import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from posagent.core.errors import PosagentError
from posagent.field import certificate
from tests.conftest import Desk
from tests.console.engineers import certify, make_key, sign


def fingerprint(public: Path) -> str:
    shown = subprocess.run(["ssh-keygen", "-l", "-f", str(public)], capture_output=True, text=True, check=True)
    return shown.stdout.split()[1]


@pytest.mark.parametrize("kind", ["ed25519", "ecdsa"])
def test_what_ssh_keygen_certified_is_read(desk: Desk, tmp_path: Path, kind: str) -> None:
    key = make_key(tmp_path / "engineer", kind)
    path = certify(desk.keys / "engineer-ca", key, "-n", "posagent-look,posagent-update,other", name="李伟")
    found = certificate.of_line(path.read_text())
    assert (found.name, found.serial, found.roles) == ("李伟", 7, ("look", "update"))
    assert found.fingerprint == fingerprint(tmp_path / "engineer.pub")
    assert found.authority == fingerprint(desk.keys / "engineer-ca.pub")
    assert found.valid_after < time.time() < found.valid_before < time.time() + 9 * 3600
    assert not found.needs_touch


def test_a_signature_tells_whose_key_it_is(desk: Desk, tmp_path: Path) -> None:
    path = certify(desk.keys / "engineer-ca", make_key(tmp_path / "engineer"))
    assert certificate.of_signature(sign(path, "x")) == certificate.of_line(path.read_text())
    assert certificate.of_signature(sign(tmp_path / "engineer", "x")) is None, "a key without a certificate"


def test_keys_that_no_terminal_takes_are_refused_here_already(desk: Desk, tmp_path: Path) -> None:
    path = certify(desk.keys / "engineer-ca", make_key(tmp_path / "engineer", "rsa"))
    with pytest.raises(PosagentError, match="ssh-rsa are not known"):
        certificate.of_line(path.read_text())


def test_a_hosts_certificate_is_no_engineers(desk: Desk, tmp_path: Path) -> None:
    path = certify(desk.keys / "engineer-ca", make_key(tmp_path / "engineer"), "-h")
    with pytest.raises(PosagentError, match="a host's"):
        certificate.of_line(path.read_text())


def test_a_name_is_fit_for_a_screen(desk: Desk, tmp_path: Path) -> None:
    path = certify(desk.keys / "engineer-ca", make_key(tmp_path / "engineer"), name="Li\x1b[2J" + "x" * 100)
    name = certificate.of_line(path.read_text()).name
    assert name.startswith("Li?[2Jx") and len(name) == 64


@given(st.binary(max_size=400), st.integers(0, 600), st.integers(0, 255))
def test_damaged_certificates_and_signatures_are_told(noise: bytes, at: int, byte: int) -> None:
    blob = bytearray(BLOB)
    blob[at % len(blob)] = byte
    for data in (noise, bytes(blob), bytes(blob)[: at % len(blob)]):
        line = f"ssh-ed25519-cert-v01@openssh.com {base64.b64encode(data).decode()}"
        armored = f"-----BEGIN\n{base64.b64encode(b'SSHSIG' + data).decode()}\n-----END"
        for read, text in ((certificate.of_line, line), (certificate.of_signature, armored)):
            try:
                read(text)
            except PosagentError as error:
                assert error.code in ("engineer_key", "report_altered")


def _packed(*parts: bytes) -> bytes:
    return b"".join(len(part).to_bytes(4, "big") + part for part in parts)


BLOB = (
    _packed(b"ssh-ed25519-cert-v01@openssh.com", b"n" * 32, b"k" * 32)
    + (7).to_bytes(8, "big")
    + (1).to_bytes(4, "big")
    + _packed(b"Li Wei", _packed(b"posagent-update"))
    + bytes(8)
    + b"\xff" * 8
    + _packed(b"", b"", b"", b"authority", b"signature")
)


def test_the_sample_that_is_damaged_is_whole() -> None:
    found = certificate.of_blob(BLOB)
    assert (found.name, found.roles, found.valid_before) == ("Li Wei", ("update",), certificate.FOR_EVER)
