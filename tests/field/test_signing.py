"""The engineer's key: real ssh-keygen, real certificates; what cannot sign says so and never asks."""

from __future__ import annotations

import os
import subprocess
import time
from pathlib import Path

import pytest

from posagent.core.errors import PosagentError
from posagent.field import laptop, signing
from posagent.field.signing import Engineer
from posagent.installer import engineer as installer
from tests.conftest import Desk
from tests.console.engineers import certify, make_key

CHALLENGE = "posagent-console-v1 pos-1 boot 1 00ff update"


def test_the_terminal_takes_the_answer(desk: Desk, engineer: Engineer) -> None:
    answer = engineer.sign_challenge(CHALLENGE)
    cas = (desk.keys / "engineer-ca.pub").read_bytes()
    found = installer.verify(challenge=CHALLENGE, answer=answer, role="update", cas=cas, now_s=time.time())
    assert found.name == engineer.certificate.name


@pytest.mark.parametrize("name", ["engineer", "engineer.pub", "engineer-cert.pub"])
def test_the_certificate_is_found_beside_the_key(certificate: Path, name: str) -> None:
    assert Engineer(certificate.with_name(name)).certificate.name == "Li Wei"


def test_a_key_without_a_certificate_is_told_before_anything_begins(tmp_path: Path) -> None:
    with pytest.raises(PosagentError, match="there is no certificate"):
        Engineer(make_key(tmp_path / "engineer"))


def test_a_role_that_is_not_certified_is_told_before_anything_begins(engineer: Engineer) -> None:
    engineer.check("update", time.time())
    with pytest.raises(PosagentError, match="not for the role rollback, but for: update, support"):
        engineer.check("rollback", time.time())


def test_a_certificate_that_is_over_is_told_before_anything_begins(desk: Desk, tmp_path: Path) -> None:
    path = certify(desk.keys / "engineer-ca", make_key(tmp_path / "engineer"), validity="-2h:-1h")
    with pytest.raises(PosagentError, match="was valid until"):
        Engineer(path).check("update", time.time())


def protected(desk: Desk, folder: Path) -> Path:
    key = folder / "engineer"
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "secret", "-C", "", "-f", str(key)], check=True)
    return certify(desk.keys / "engineer-ca", key)


def test_a_passphrase_is_not_asked_for(desk: Desk, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SSH_AUTH_SOCK", raising=False)
    with pytest.raises(PosagentError, match="ssh-keygen cannot sign") as caught:
        Engineer(protected(desk, tmp_path)).sign_challenge(CHALLENGE)
    assert "ssh-add" in caught.value.spec.remedy


def test_a_key_in_the_agent_signs(desk: Desk, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = certify(desk.keys / "engineer-ca", make_key(tmp_path / "engineer"))
    socket = tmp_path / "agent"
    agent = subprocess.Popen(["ssh-agent", "-D", "-a", str(socket)], stdout=subprocess.PIPE)
    try:
        assert agent.stdout is not None and b"SSH_AUTH_SOCK" in agent.stdout.readline()
        monkeypatch.setenv("SSH_AUTH_SOCK", str(socket))
        subprocess.run(["ssh-add", "-q", str(tmp_path / "engineer")], check=True)
        (tmp_path / "engineer").unlink()
        assert Engineer(path).sign_challenge(CHALLENGE).startswith("-----BEGIN SSH SIGNATURE-----")
    finally:
        agent.terminate()
        agent.wait()


def signed(engineer: Engineer, path: Path, data: bytes) -> Path:
    signature = path / "visit.json.sig"
    signature.write_text(engineer.sign(data, signing.VISIT))
    return signature


def test_a_signed_report_proves_who_wrote_it(desk: Desk, engineer: Engineer, tmp_path: Path) -> None:
    signature, now = signed(engineer, tmp_path, b"report"), int(time.time())
    good = signing.verify(b"report", signature, now, desk.keys / "engineer-ca.pub")
    assert (good.by, good.authority) == (engineer.certificate, engineer.certificate.authority)
    assert signing.verify(b"report", signature, now, None).authority == "", "who that is was not asked"


def test_one_changed_byte_is_found(desk: Desk, engineer: Engineer, tmp_path: Path) -> None:
    signature = signed(engineer, tmp_path, b"report")
    for ca in (None, desk.keys / "engineer-ca.pub"):
        with pytest.raises(PosagentError) as caught:
            signing.verify(b"repord", signature, int(time.time()), ca)
        assert caught.value.code == "report_altered"


def test_an_answer_to_a_terminal_is_no_signed_report(desk: Desk, engineer: Engineer, tmp_path: Path) -> None:
    (tmp_path / "visit.json.sig").write_text(engineer.sign(b"report", signing.CONSOLE))
    with pytest.raises(PosagentError) as caught:
        signing.verify(b"report", tmp_path / "visit.json.sig", int(time.time()), None)
    assert caught.value.code == "report_altered"


def test_another_authoritys_engineer_is_found(engineer: Engineer, tmp_path: Path) -> None:
    other = make_key(tmp_path / "other-ca")
    with pytest.raises(PosagentError, match="is not certified by") as caught:
        signing.verify(b"report", signed(engineer, tmp_path, b"report"), int(time.time()), other.with_suffix(".pub"))
    assert caught.value.code == "report_signer"


def test_a_report_outlives_the_certificate_and_cannot_be_of_another_time(desk: Desk, tmp_path: Path) -> None:
    path = certify(desk.keys / "engineer-ca", make_key(tmp_path / "engineer"), validity="-2h:-1h")
    signature, now = signed(Engineer(path), tmp_path, b"report"), int(time.time())
    ca = desk.keys / "engineer-ca.pub"
    assert signing.verify(b"report", signature, now - 5400, ca).by.name == "Li Wei"
    with pytest.raises(PosagentError, match="not valid at the report's time"):
        signing.verify(b"report", signature, now, ca)


def test_the_next_authority_beside_the_present_one_counts(desk: Desk, engineer: Engineer, tmp_path: Path) -> None:
    next_ca = make_key(tmp_path / "next-ca").with_suffix(".pub").read_text()
    both = tmp_path / "cas"
    both.write_text("# engineers\n" + next_ca + (desk.keys / "engineer-ca.pub").read_text())
    assert signing.verify(b"report", signed(engineer, tmp_path, b"report"), int(time.time()), both).authority


def test_keys_are_looked_for_where_this_test_has_them() -> None:
    assert os.access(laptop.ssh_keygen(), os.X_OK)
