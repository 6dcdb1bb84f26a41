"""Which answers prove an engineer's key: everything here is signed by the real ssh-keygen."""

from __future__ import annotations

import base64
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from posagent.core import revocation
from posagent.core.errors import TrustError
from posagent.installer import engineer
from posagent.installer.engineer import Engineer
from tests.console.engineers import certify, make_key, sign
from tests.console.security_key import PIN, TOUCHED, SecurityKey, openssh_accepts, string

CHALLENGE = "posagent-console-v1 pos-0001 0f3a-boot 41 5d41402abc4b2a76b9719d911017c592 update"
BEGIN, END = "-----BEGIN SSH SIGNATURE-----", "-----END SSH SIGNATURE-----"


@dataclass(frozen=True, slots=True, kw_only=True)
class Bench:
    """A CA, an engineer's key with a certificate for the role `update`, and the answer to CHALLENGE."""

    ca: Path
    key: Path
    certificate: Path
    answer: str

    @property
    def cas(self) -> bytes:
        return Path(f"{self.ca}.pub").read_bytes()


def bench_of(folder: Path, ca_kind: str, key_kind: str) -> Bench:
    ca = make_key(folder / f"ca-{ca_kind}-{key_kind}", ca_kind)
    key = make_key(folder / f"key-{ca_kind}-{key_kind}", key_kind)
    certificate = certify(ca, key)
    return Bench(ca=ca, key=key, certificate=certificate, answer=sign(certificate, CHALLENGE))


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Bench:
    return bench_of(tmp_path_factory.mktemp("engineer"), "ed25519", "ed25519")


def ask(
    bench: Bench,
    answer: str,
    *,
    role: str = "update",
    now_s: float | None = None,
    cas: bytes = b"",
    revoked: str = "",
) -> Engineer:
    return engineer.verify(
        challenge=CHALLENGE,
        answer=answer,
        role=role,
        cas=cas or bench.cas,
        now_s=time.time() if now_s is None else now_s,
        revoked=revocation.parse(revoked.encode()),
    )


def refusal(bench: Bench, answer: str, *, role: str = "update", cas: bytes = b"", revoked: str = "") -> str:
    """Why the answer was refused; anything but `unlock_refused` fails the test."""
    with pytest.raises(TrustError) as caught:
        ask(bench, answer, role=role, cas=cas, revoked=revoked)
    assert caught.value.code == "unlock_refused"
    return caught.value.detail


def printed_fingerprint(key: Path) -> str:
    """As ssh-keygen prints it."""
    done = subprocess.run(["ssh-keygen", "-l", "-f", f"{key}.pub"], capture_output=True, check=True)
    return done.stdout.decode().split()[1]


def certified_answer(bench: Bench, folder: Path, *more: str, role: str = "update", validity: str = "-5m:+8h") -> str:
    """The answer to CHALLENGE by a fresh key under a certificate made with these options."""
    key = make_key(folder / "key")
    return sign(certify(bench.ca, key, *more, role=role, validity=validity), CHALLENGE)


# what is accepted


@pytest.mark.parametrize(
    ("ca_kind", "key_kind"), [("ed25519", "ed25519"), ("ed25519", "ecdsa"), ("ecdsa", "ed25519"), ("ecdsa", "ecdsa")]
)
def test_the_right_answer_names_the_engineer(ca_kind: str, key_kind: str, tmp_path: Path) -> None:
    bench = bench_of(tmp_path, ca_kind, key_kind)
    fingerprint = printed_fingerprint(bench.key)
    assert ask(bench, bench.answer) == Engineer(name="Li Wei", serial=7, role="update", key=fingerprint)


def test_a_challenge_signed_without_its_line_end_is_accepted_too(bench: Bench) -> None:
    assert ask(bench, sign(bench.certificate, CHALLENGE, line_end="")).name == "Li Wei"


def test_line_ends_and_blanks_that_a_serial_program_adds_do_not_matter(bench: Bench) -> None:
    assert ask(bench, "\r\n" + bench.answer.replace("\n", " \r\n") + "\r\n\r\n").name == "Li Wei"


def test_any_of_the_authorities_in_the_file_will_do_and_unreadable_lines_count_for_nothing(
    bench: Bench, tmp_path: Path
) -> None:
    other = Path(f"{make_key(tmp_path / 'next-ca')}.pub").read_bytes()
    assert ask(bench, bench.answer, cas=b"# rotated in May\n" + other + b"\xff\xfe\n" + bench.cas).name == "Li Wei"
    assert "authorities" in refusal(bench, bench.answer, cas=b"\n")


def test_a_terminal_whose_clock_is_behind_accepts_a_certificate_that_is_not_yet_valid(bench: Bench) -> None:
    assert ask(bench, bench.answer, now_s=0.0).name == "Li Wei"


def test_a_name_of_control_characters_neither_moves_the_cursor_nor_starts_a_line(bench: Bench, tmp_path: Path) -> None:
    key = make_key(tmp_path / "key")
    answer = sign(certify(bench.ca, key, name="李伟 \x1b[2J\r\nunlocked: " + "x" * 99), CHALLENGE)
    name = ask(bench, answer).name
    assert name.startswith("李伟 ?[2J??unlocked: x") and name.isprintable() and len(name) <= 64


def test_while_the_authority_changes_certificates_of_both_are_accepted_and_then_of_the_next_alone(
    bench: Bench, tmp_path: Path
) -> None:
    next_ca = make_key(tmp_path / "next-ca")
    next_answer = sign(certify(next_ca, make_key(tmp_path / "key")), CHALLENGE)
    next_line = Path(f"{next_ca}.pub").read_bytes()
    assert "authorities" in refusal(bench, next_answer)
    for answer in (bench.answer, next_answer):
        assert ask(bench, answer, cas=bench.cas + next_line).name == "Li Wei"
    assert ask(bench, next_answer, cas=next_line).name == "Li Wei"
    assert "authorities" in refusal(bench, bench.answer, cas=next_line)


# security keys


@pytest.fixture(scope="module", params=["ed25519", "ecdsa"])
def security_key(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> SecurityKey:
    return SecurityKey(tmp_path_factory.mktemp("sk") / "key", request.param)


def test_a_security_key_that_was_touched_answers(bench: Bench, security_key: SecurityKey, tmp_path: Path) -> None:
    answer = security_key.answer(certify(bench.ca, security_key.path), CHALLENGE)
    assert openssh_accepts(answer, CHALLENGE, tmp_path), "the test's own signatures are right"
    fingerprint = printed_fingerprint(security_key.path)
    assert ask(bench, answer) == Engineer(name="Li Wei", serial=7, role="update", key=fingerprint)


@pytest.mark.parametrize("flags", [0, PIN])
def test_a_security_key_that_was_not_touched_does_not_answer(
    bench: Bench, security_key: SecurityKey, flags: int
) -> None:
    certificate = certify(bench.ca, security_key.path, "-O", "no-touch-required")
    assert "not touched" in refusal(bench, security_key.answer(certificate, CHALLENGE, flags=flags))


def test_a_certificate_that_requires_a_pin_is_held_to_it(bench: Bench, security_key: SecurityKey) -> None:
    certificate = certify(bench.ca, security_key.path, "-O", "verify-required")
    assert "PIN" in refusal(bench, security_key.answer(certificate, CHALLENGE))
    assert ask(bench, security_key.answer(certificate, CHALLENGE, flags=TOUCHED | PIN)).name == "Li Wei"


def test_an_option_that_was_stripped_from_a_certificate_is_missed(bench: Bench, security_key: SecurityKey) -> None:
    certificate = certify(bench.ca, security_key.path, "-O", "verify-required")
    kind, body, *_ = certificate.read_bytes().split()
    options = string(string(b"verify-required") + string(b""))
    stripped = base64.b64decode(body).replace(options, string(b""))
    assert len(stripped) == len(base64.b64decode(body)) - len(options) + 4
    certificate.write_bytes(kind + b" " + base64.b64encode(stripped) + b"\n")
    assert "own signature" in refusal(bench, security_key.answer(certificate, CHALLENGE))


def test_a_key_without_hardware_cannot_promise_a_pin(bench: Bench, tmp_path: Path) -> None:
    assert "critical options" in refusal(bench, certified_answer(bench, tmp_path, "-O", "verify-required"))


def test_flags_and_counter_are_part_of_what_is_signed(bench: Bench, security_key: SecurityKey) -> None:
    certificate = certify(bench.ca, security_key.path, "-O", "verify-required")
    blob = bytearray(decoded(security_key.answer(certificate, CHALLENGE)))
    blob[-5] |= PIN
    assert "not over this challenge" in refusal(bench, armored(bytes(blob)))
    counted = bytearray(decoded(security_key.answer(certify(bench.ca, security_key.path), CHALLENGE)))
    counted[-1] ^= 1
    assert "not over this challenge" in refusal(bench, armored(bytes(counted)))


@pytest.mark.parametrize("application", ["https://bank.example", "", "ssh"])
def test_a_security_keys_key_for_something_else_is_none_for_ssh(bench: Bench, tmp_path: Path, application: str) -> None:
    """Whatever website has it sign must not open terminals."""
    ours = SecurityKey(tmp_path / "key", "ed25519")
    other = SecurityKey(tmp_path / "other", "ed25519", application)
    certificate = certify(bench.ca, ours.path)
    body = base64.b64decode(certificate.read_bytes().split()[1])
    path = tmp_path / "forged-cert.pub"
    path.write_bytes(
        b"sk-ssh-ed25519-cert-v01@openssh.com " + base64.b64encode(body.replace(key_of(ours), key_of(other)))
    )
    assert "not one for SSH" in refusal(bench, other.answer(path, CHALLENGE))


def key_of(key: SecurityKey) -> bytes:
    """Its fields as they stand in a certificate: without the name of its kind."""
    return key.blob[4 + int.from_bytes(key.blob[:4], "big") :]


def test_a_security_key_may_be_the_authority(tmp_path: Path) -> None:
    """ssh-keygen cannot certify with a key of software, so the certificate is signed again by hand."""
    bench = bench_of(tmp_path, "ed25519", "ed25519")
    ca = SecurityKey(tmp_path / "sk-ca", "ecdsa")
    body = base64.b64decode(bench.certificate.read_bytes().split()[1])
    old_ca = base64.b64decode(bench.cas.split()[1])
    signed = body[: body.rindex(string(old_ca))] + string(ca.blob)
    bench.certificate.write_bytes(
        b"ssh-ed25519-cert-v01@openssh.com " + base64.b64encode(signed + string(ca.signature(signed))) + b"\n"
    )
    answer = sign(bench.certificate, CHALLENGE)
    assert ask(bench, answer, cas=Path(f"{ca.path}.pub").read_bytes()).name == "Li Wei"
    untouched = signed + string(ca.signature(signed, flags=0))
    bench.certificate.write_bytes(b"ssh-ed25519-cert-v01@openssh.com " + base64.b64encode(untouched) + b"\n")
    assert "not touched" in refusal(bench, sign(bench.certificate, CHALLENGE), cas=Path(f"{ca.path}.pub").read_bytes())


# revocation


def test_a_revoked_certificate_key_person_or_authority_is_refused(bench: Bench) -> None:
    for line in (
        "serial: 7",
        "serial: 3-9",
        "id: Li Wei",
        printed_fingerprint(bench.key),
        "hash: " + printed_fingerprint(bench.key),
        printed_fingerprint(bench.ca),
    ):
        assert refusal(bench, bench.answer, revoked=line) == "the certificate is revoked", line
        assert refusal(bench, bench.answer, revoked=f"# list\n\nno such word\n{line}\n???") != "", line
    others = "serial: 8-20\nserial: 6\nid: Li\nid: Li Wei 2\nSHA256:" + "A" * 43
    assert ask(bench, bench.answer, revoked=others).name == "Li Wei"


# what is refused


def test_an_expired_certificate_is_believed(bench: Bench, tmp_path: Path) -> None:
    for answer, now_s in (
        (certified_answer(bench, tmp_path, validity="-2d:-1d"), None),
        (bench.answer, time.time() + 9 * 3600),
    ):
        with pytest.raises(TrustError) as caught:
            ask(bench, answer, now_s=now_s)
        assert caught.value.code == "unlock_expired"


def test_a_certificate_for_another_role_is_refused(bench: Bench, tmp_path: Path) -> None:
    assert "role update" in refusal(bench, certified_answer(bench, tmp_path, role="look"))
    assert "role look" in refusal(bench, bench.answer, role="look")


def test_a_certificate_for_several_roles_serves_each_of_them(bench: Bench, tmp_path: Path) -> None:
    answer = certified_answer(bench, tmp_path, role="look,posagent-update")
    assert {ask(bench, answer, role=role).role for role in ("look", "update")} == {"look", "update"}


def test_a_certificate_without_principals_is_good_for_no_role(bench: Bench, tmp_path: Path) -> None:
    """OpenSSH takes an empty list for everybody; here it is nobody."""
    key = make_key(tmp_path / "key")
    subprocess.run(["ssh-keygen", "-q", "-s", str(bench.ca), "-I", "Li Wei", f"{key}.pub"], check=True)
    assert "role" in refusal(bench, sign(tmp_path / "key-cert.pub", CHALLENGE))


def test_a_host_certificate_is_refused(bench: Bench, tmp_path: Path) -> None:
    assert "not a user's" in refusal(bench, certified_answer(bench, tmp_path, "-h"))


@pytest.mark.parametrize("option", ["force-command=/bin/true", "source-address=10.0.0.0/8", "critical:new@example=1"])
def test_a_certificate_with_a_critical_option_is_refused(bench: Bench, tmp_path: Path, option: str) -> None:
    assert "critical options" in refusal(bench, certified_answer(bench, tmp_path, "-O", option))


def test_an_extension_is_no_critical_option(bench: Bench, tmp_path: Path) -> None:
    assert ask(bench, certified_answer(bench, tmp_path, "-O", "clear", "-O", "permit-pty")).name == "Li Wei"


def test_another_authority_of_the_same_name_is_refused(bench: Bench, tmp_path: Path) -> None:
    stranger = make_key(tmp_path / bench.ca.name)
    key = make_key(tmp_path / "key")
    assert "authorities" in refusal(bench, sign(certify(stranger, key), CHALLENGE))


def test_a_plain_key_without_a_certificate_is_refused(bench: Bench) -> None:
    assert "no certificate" in refusal(bench, sign(bench.key, CHALLENGE))


def test_the_authority_itself_is_no_engineer(bench: Bench) -> None:
    assert "no certificate" in refusal(bench, sign(bench.ca, CHALLENGE))


def test_an_rsa_key_is_refused(bench: Bench, tmp_path: Path) -> None:
    key = make_key(tmp_path / "key", "rsa")
    assert "Ed25519" in refusal(bench, sign(certify(bench.ca, key), CHALLENGE))


@pytest.mark.parametrize(
    ("what", "signed"),
    [
        ("an older challenge", CHALLENGE.replace(" 41 ", " 40 ")),
        ("another nonce", CHALLENGE.replace("5d41", "5d42")),
        ("another terminal", CHALLENGE.replace("pos-0001", "pos-0002")),
        ("another boot", CHALLENGE.replace("0f3a-boot", "0f3b-boot")),
        ("another role", CHALLENGE.replace("update", "look")),
        ("two line ends", CHALLENGE + "\n"),
        ("nothing", ""),
    ],
)
def test_a_signature_over_something_else_is_refused(bench: Bench, what: str, signed: str) -> None:
    assert "not over this challenge" in refusal(bench, sign(bench.certificate, signed)), what


@pytest.mark.parametrize("namespace", ["file", "git", "posagent-console-v2", "posagent-consol"])
def test_a_signature_for_another_purpose_is_refused(bench: Bench, namespace: str) -> None:
    assert "another purpose" in refusal(bench, sign(bench.certificate, CHALLENGE, namespace=namespace))


def test_a_certificate_cannot_be_put_over_another_keys_signature(bench: Bench, tmp_path: Path) -> None:
    """The stranger signs; the engineer's public certificate is pasted into the signature."""
    stranger = decoded(sign(make_key(tmp_path / "stranger"), CHALLENGE))
    engineers = decoded(bench.answer)
    at = 10
    own = at + 4 + int.from_bytes(stranger[at : at + 4], "big")
    borrowed = at + 4 + int.from_bytes(engineers[at : at + 4], "big")
    assert "not over this challenge" in refusal(bench, armored(engineers[:borrowed] + stranger[own:]))


# answers that are damaged or made up


def decoded(answer: str) -> bytes:
    return base64.b64decode("".join(answer.split("\n")[1:-2]))


def armored(blob: bytes) -> str:
    return f"{BEGIN}\n{base64.b64encode(blob).decode()}\n{END}\n"


def test_an_answer_cut_short_anywhere_is_refused(bench: Bench) -> None:
    blob = decoded(bench.answer)
    assert ask(bench, armored(blob)).name == "Li Wei"
    for length in range(len(blob)):
        refusal(bench, armored(blob[:length]))
    for length in range(0, len(bench.answer.rstrip()), 7):
        refusal(bench, bench.answer[:length])


def test_a_single_flipped_bit_anywhere_is_refused(bench: Bench) -> None:
    blob = decoded(bench.answer)
    for at in range(len(blob)):
        with pytest.raises(TrustError):
            ask(bench, armored(blob[:at] + bytes([blob[at] ^ (1 << at % 8)]) + blob[at + 1 :]))


def test_bytes_too_many_are_refused(bench: Bench) -> None:
    assert "too many" in refusal(bench, armored(decoded(bench.answer) + b"\0"))
    assert "too long" in refusal(bench, BEGIN + "\n" + "A" * engineer.ANSWER_BYTES_MAX + "\n" + END)


@pytest.mark.parametrize("text", ["", "\n", BEGIN, f"{BEGIN}\n{END}", f"{BEGIN}\n????\n{END}", f"{BEGIN}\né\n{END}"])
def test_what_is_no_signature_is_refused(bench: Bench, text: str) -> None:
    assert refusal(bench, text) == "not an SSH signature"


NAMES = st.sampled_from([b"ssh-ed25519", b"ecdsa-sha2-nistp256", b"ssh-rsa", b"sha512", b"sha256", b"posagent-console"])
KINDS = st.sampled_from(
    [
        b"ssh-ed25519-cert-v01@openssh.com",
        b"ecdsa-sha2-nistp256-cert-v01@openssh.com",
        b"ssh-rsa-cert-v01@openssh.com",
        b"sk-ssh-ed25519@openssh.com-cert-v01@openssh.com",
        b"\xff-cert-v01@openssh.com",
        b" x y-cert-v01@openssh.com",
    ]
)
FIELDS = st.one_of(NAMES, st.binary(max_size=64))
CERTIFICATES = st.builds(
    lambda kind, fields, rest: string(kind) + b"".join(map(string, fields)) + rest,
    KINDS,
    st.lists(FIELDS, max_size=10),
    st.binary(max_size=80),
)
SIGNATURES = st.builds(
    lambda key, name, digest, algorithm, value: armored(
        b"SSHSIG\0\0\0\1"
        + string(key)
        + string(name)
        + string(b"")
        + string(digest)
        + string(string(algorithm) + string(value))
    ),
    st.one_of(CERTIFICATES, FIELDS),
    NAMES,
    NAMES,
    NAMES,
    st.one_of(FIELDS, st.binary(min_size=64, max_size=64)),
)


@settings(max_examples=500)
@given(st.one_of(st.text(), st.binary(max_size=2000).map(armored), SIGNATURES))
def test_no_answer_whatsoever_does_more_than_being_refused(answer: str) -> None:
    with pytest.raises(TrustError):
        engineer.verify(challenge=CHALLENGE, answer=answer, role="update", cas=b"", now_s=0.0)


@settings(max_examples=500)
@given(st.data())
def test_an_engineers_answer_with_bytes_replaced_is_only_ever_refused(bench: Bench, data: st.DataObject) -> None:
    blob = bytearray(decoded(bench.answer))
    for _ in range(data.draw(st.integers(1, 4))):
        at = data.draw(st.integers(0, len(blob) - 1))
        blob[at : at + data.draw(st.integers(0, 4))] = data.draw(st.binary(max_size=8))
    if bytes(blob) == decoded(bench.answer):
        return
    with pytest.raises(TrustError):
        ask(bench, armored(bytes(blob)))
