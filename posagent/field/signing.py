"""The engineer's key: signs challenges and visit reports with ssh-keygen, and checks signed reports.

Rules: the private key is ssh-keygen's business, in a file beside the certificate, in the SSH agent or in hardware.
Nothing asks for a passphrase in the middle of a visit: a key that is protected by one has to be in the agent. One
signature at a time, because a key in hardware blinks for one at a time.
"""

from __future__ import annotations

import subprocess
import tempfile
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from posagent.core.errors import PosagentError
from posagent.field import certificate, laptop
from posagent.field.certificate import FOR_EVER, PRINCIPAL, Certificate

CONSOLE = "posagent-console"
VISIT = "posagent-visit"
SIGN_S = 30.0
CA_BYTES_MAX = 16384


class Engineer:
    """Who stands there. `path` is the certificate, or the key beside which it lies. Raises PosagentError
    `engineer_key`."""

    def __init__(self, path: Path) -> None:
        self._path = _certificate_beside(path)
        self.certificate = certificate.of_line(_text(self._path))
        self._at_work = threading.Lock()

    def check(self, role: str, now_s: float) -> None:
        """Whether a terminal would take this key for the role now, as far as the laptop can tell: better here than at
        each of ten terminals. Raises PosagentError `engineer_key`."""
        mine = self.certificate
        if mine.principals and role not in mine.roles:
            roles = ", ".join(mine.roles) or "none"
            raise PosagentError("engineer_key", f"the certificate is not for the role {role}, but for: {roles}")
        if now_s >= mine.valid_before:
            raise PosagentError("engineer_key", f"the certificate was valid until {_moment(mine.valid_before)}")

    def sign_challenge(self, challenge: str) -> str:
        """The answer to a terminal's challenge. Raises PosagentError `engineer_key`."""
        return self.sign(challenge.encode() + b"\n", CONSOLE)

    def sign(self, data: bytes, namespace: str) -> str:
        """An armored signature. Raises PosagentError `engineer_key`."""
        with self._at_work:
            done = _run(["-q", "-Y", "sign", "-n", namespace, "-f", str(self._path)], data)
        if done.returncode != 0:
            raise PosagentError("engineer_key", f"ssh-keygen cannot sign with {self._path}: {_said(done)}")
        return done.stdout.decode("ascii", "replace")


@dataclass(frozen=True, slots=True, kw_only=True)
class Signed:
    """What a good signature proves. `authority` is empty where no CA was given: then it only shows that the file is
    unchanged since somebody with this key signed it."""

    by: Certificate
    authority: str


def verify(data: bytes, signature: Path, at_s: int, ca: Path | None) -> Signed:
    """A visit report's signature, made at `at_s`: certificates live for hours, reports for years. Raises PosagentError
    `report_altered`, `report_signer` or `laptop_io`."""
    who = certificate.of_signature(_text(signature, "laptop_io"))
    if who is None:
        raise PosagentError("report_signer", "it is signed with a key that has no certificate")
    done = _run(["-q", "-Y", "check-novalidate", "-n", VISIT, "-s", str(signature)], data)
    if done.returncode != 0:
        raise PosagentError("report_altered", f"the signature does not fit the report: {_said(done)}")
    if ca is None:
        return Signed(by=who, authority="")
    if not who.valid_after <= at_s < who.valid_before:
        raise PosagentError("report_signer", f"the certificate of {who.name} was not valid at the report's time")
    principal = next(iter(who.principals), PRINCIPAL.format("update"))
    lines = [line for line in _text(ca, "laptop_io").splitlines() if line.strip() and not line.startswith("#")]
    with tempfile.TemporaryDirectory() as folder:
        allowed = Path(folder) / "allowed"
        allowed.write_text("".join(f'* cert-authority,namespaces="{VISIT}" {line}\n' for line in lines))
        when = time.strftime("%Y%m%d%H%M%S", time.localtime(at_s))  # a Z for UTC is not known to older ones
        words = ["-q", "-Y", "verify", "-n", VISIT, "-I", principal, "-f", str(allowed), "-s", str(signature)]
        done = _run([*words, "-Overify-time=" + when], data)
    if done.returncode != 0:
        raise PosagentError("report_signer", f"{who.name} is not certified by {ca}: {_said(done)}")
    return Signed(by=who, authority=who.authority)


def _certificate_beside(path: Path) -> Path:
    """`engineer-cert.pub` for `engineer`, `engineer.pub` or itself."""
    stem = path.name.removesuffix(".pub").removesuffix("-cert")
    beside = path.with_name(stem + "-cert.pub")
    if not beside.exists():
        raise PosagentError(
            "engineer_key", f"there is no certificate {beside}; the office signs one with ssh-keygen -s"
        )
    return beside


def _run(words: Sequence[str], data: bytes) -> subprocess.CompletedProcess[bytes]:
    environment, how = laptop.unattended()
    try:
        return subprocess.run(
            [laptop.ssh_keygen(), *words],
            input=data,
            capture_output=True,
            timeout=SIGN_S,
            env=environment,
            check=False,
            **how,
        )
    except subprocess.TimeoutExpired:
        raise PosagentError("engineer_key", f"no signature in {SIGN_S:.0f} s; was the key touched?") from None
    except OSError as error:
        raise PosagentError("engineer_key", f"ssh-keygen does not start: {error.strerror or error}") from None


def _said(done: subprocess.CompletedProcess[bytes]) -> str:
    lines = done.stderr.decode("utf-8", "replace").strip().splitlines() or [f"exit code {done.returncode}"]
    return lines[-1][:200]


def _text(path: Path, code: str = "engineer_key") -> str:
    try:
        with path.open("rb") as stream:
            return stream.read(CA_BYTES_MAX).decode("utf-8", "replace")
    except OSError as error:
        raise PosagentError(code, f"{path}: {error.strerror or error}") from None


def _moment(at_s: int) -> str:
    if at_s >= FOR_EVER:
        return "for ever"
    return time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime(at_s))
