"""A field engineer's laptop: real keys, certificates and signatures made by ssh-keygen."""

from __future__ import annotations

import subprocess
from pathlib import Path

NAMESPACE = "posagent-console"


def make_key(path: Path, kind: str = "ed25519") -> Path:
    """A key pair without a passphrase; `kind` in ssh-keygen's words."""
    subprocess.run(["ssh-keygen", "-q", "-t", kind, "-N", "", "-C", "", "-f", str(path)], check=True)
    return path


def certify(
    ca: Path, key: Path, *more: str, role: str = "update", validity: str = "-5m:+8h", name: str = "Li Wei"
) -> Path:
    """The CA signs the key; `more` are further options of ssh-keygen. Returns the certificate."""
    options = ["-I", name, "-n", f"posagent-{role}", "-V", validity, "-z", "7", *more]
    subprocess.run(["ssh-keygen", "-q", "-s", str(ca), *options, f"{key}.pub"], check=True)
    return key.with_name(key.name + "-cert.pub")


def sign(identity: Path, challenge: str, *, namespace: str = NAMESPACE, line_end: str = "\n") -> str:
    """The armored signature of a key or certificate, as `echo CHALLENGE | ssh-keygen -Y sign` prints it."""
    command = ["ssh-keygen", "-q", "-Y", "sign", "-n", namespace, "-f", str(identity)]
    done = subprocess.run(command, input=(challenge + line_end).encode(), capture_output=True, check=True)
    return done.stdout.decode()
