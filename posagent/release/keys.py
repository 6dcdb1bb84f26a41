"""Makes and renews the keys of the release desk: who may sign what, as a TUF root that ships in every system image.

Owns: a directory of `NAME.pem` (PKCS#8, mode 0600, encrypted where POSAGENT_KEY_PASSPHRASE is set), the chain of
`N.root.json`, and `root.json`, the newest; `vendor.pem` opens support bundles, `vendor.pub.pem` is for the signed image
(support.vendor_key_file). Root and targets need two signatures each. `timestamp-offline` signs the
long-lived timestamps of bundles, `timestamp` is for servers that sign short-lived ones.
Rules: keys are never overwritten; a replaced key's successor is `NAME.vN.pem`, N being the root that introduced it.
Root keys belong on other media than the rest: copy `root-*.pem` away after `init`; only `renew` needs them.
"""

from __future__ import annotations

import copy
import datetime
import os
import shutil
import subprocess
import tempfile
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.types import PrivateKeyTypes
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    KeySerializationEncryption,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_pem_private_key,
)
from securesystemslib.signer import CryptoSigner
from tuf.api.exceptions import RepositoryError
from tuf.api.metadata import Metadata, Root

from posagent.core.errors import Refusal, ReleaseError
from posagent.release import files

PASSPHRASE_VARIABLE = "POSAGENT_KEY_PASSPHRASE"  # noqa: S105  its name, not its value
SIGNED_AT = "x-posagent-signed-at-s"
"""Additional signed field that installer.trust reads: when the metadata was made, in seconds since 1970."""
ROOT_DAYS = 5 * 365
ROLES: Mapping[str, tuple[str, ...]] = {
    "root": ("root-1", "root-2"),
    "targets": ("targets-1", "targets-2"),
    "snapshot": ("snapshot",),
    "timestamp": ("timestamp", "timestamp-offline"),
}
THRESHOLDS: Mapping[str, int] = {"root": 2, "targets": 2, "snapshot": 1, "timestamp": 1}
NAMES = tuple(name for names in ROLES.values() for name in names)


def init(directory: Path, *, now_s: int | None = None, root_days: int = ROOT_DAYS) -> Path:
    """Make all keys, `1.root.json` and (where ssh-keygen is installed) the engineers' CA. Returns `root.json`.

    Raises Refusal `keys_exist`, ReleaseError.
    """
    now = files.now_s() if now_s is None else now_s
    with files.coded():
        directory.mkdir(parents=True, exist_ok=True, mode=0o700)
        with files.locked(directory):
            if any(directory.glob("*.pem")) or any(directory.glob("*root.json")):
                raise Refusal("keys_exist", f"{directory} holds keys")
            root = Metadata(Root(consistent_snapshot=True))
            signers = {name: _make_key(directory / f"{name}.pem") for name in NAMES}
            for role, names in ROLES.items():
                for name in names:
                    root.signed.add_key(signers[name].public_key, role)
                root.signed.roles[role].threshold = THRESHOLDS[role]
            _make_engineer_ca(directory)
            _make_vendor_key(directory)
            return _publish_root(directory, root, [signers[name] for name in ROLES["root"]], now, root_days)


def renew(
    directory: Path, *, replace: Collection[str] = (), now_s: int | None = None, root_days: int = ROOT_DAYS
) -> Path:
    """Sign the next root: a new validity, and new keys for the names in `replace`. Returns `root.json`.

    Bundles built afterwards carry it to the terminals. Raises Refusal `bad_request`, ReleaseError.
    """
    now = files.now_s() if now_s is None else now_s
    unknown = sorted(set(replace) - set(NAMES))
    if unknown:
        raise Refusal("bad_request", f"no key is named {', '.join(unknown)}; known: {', '.join(NAMES)}")
    with files.coded(), files.locked(directory):
        old = newest_root(directory)
        root = Metadata(copy.deepcopy(old))
        root.signed.version += 1
        for role, names in ROLES.items():
            for position, name in enumerate(names):
                if name in replace:
                    new = _make_key(directory / f"{name}.v{root.signed.version}.pem")
                    _put(root.signed, role, position, new)
        wanted = [s for r in (old, root.signed) for s in role_signers(directory, r, "root")]
        return _publish_root(directory, root, wanted, now, root_days)


def roots(directory: Path) -> list[bytes]:
    """All roots, `1.root.json` first. Raises ReleaseError `keys_unusable` where there is none."""
    chain: list[bytes] = []
    while (path := directory / f"{len(chain) + 1}.root.json").exists():
        chain.append(path.read_bytes())
    if not chain:
        raise ReleaseError("keys_unusable", f"{directory} has no 1.root.json; make keys with `keys init`")
    return chain


def newest_root(directory: Path) -> Root:
    try:
        root: Root = Metadata[Root].from_bytes(roots(directory)[-1]).signed
    except RepositoryError as error:
        raise ReleaseError("keys_unusable", f"{directory}: the newest root cannot be read: {error}") from None
    return root


def role_signers(directory: Path, root: Root, role: str, *, names: Collection[str] = ()) -> list[CryptoSigner]:
    """The keys in `directory` that may sign for `role`, or those of them in `names`: as many as `root` demands.

    Opens no other role's keys, which may lie elsewhere. Raises ReleaseError `keys_unusable`.
    """
    known = root.roles[role]
    wanted = names or ROLES[role]
    paths = [path for path in sorted(directory.glob("*.pem")) if path.name.split(".")[0] in wanted]
    found = [signer for signer in map(_open_key, paths) if signer.public_key.keyid in known.keyids]
    if len(found) < known.threshold:
        detail = f"{role} needs {known.threshold} keys; {directory} holds {len(found)} of them"
        raise ReleaseError("keys_unusable", detail, role=role)
    return found


def sign(metadata: Metadata[Any], signers: Collection[CryptoSigner]) -> bytes:
    """The signed metadata as it is published."""
    metadata.signatures.clear()
    for signer in signers:
        metadata.sign(signer, append=True)
    return metadata.to_bytes()


def date(seconds: int) -> datetime.datetime:
    return datetime.datetime.fromtimestamp(seconds, datetime.UTC)


def _put(root: Root, role: str, position: int, new: CryptoSigner) -> None:
    """Give the place of a role's key to `new`. By place, for the old key's file may be lost."""
    root.revoke_key(root.roles[role].keyids[position], role)
    root.add_key(new.public_key, role)
    keyids = root.roles[role].keyids
    keyids.insert(position, keyids.pop())


def _publish_root(
    directory: Path, root: Metadata[Root], signers: Collection[CryptoSigner], now: int, days: int
) -> Path:
    root.signed.expires = date(now + days * 86400)
    root.signed.unrecognized_fields[SIGNED_AT] = now
    data = sign(root, signers)
    files.replace(directory / f"{root.signed.version}.root.json", data)
    files.replace(directory / "root.json", data)
    return directory / "root.json"


def vendor_pem(path: Path) -> bytes:
    """The private key that opens support bundles, as core.envelope takes it. Raises ReleaseError `keys_unusable`."""
    with files.coded():
        key = _load(path)
    if not isinstance(key, X25519PrivateKey):
        raise ReleaseError("keys_unusable", f"{path.name} is no X25519 key")
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())


def _make_key(path: Path) -> CryptoSigner:
    key = Ed25519PrivateKey.generate()
    _keep(path, key)
    return CryptoSigner(key)


def _make_vendor_key(directory: Path) -> None:
    key = X25519PrivateKey.generate()
    _keep(directory / "vendor.pem", key)
    public = key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    files.replace(directory / "vendor.pub.pem", public)


def _keep(path: Path, key: Ed25519PrivateKey | X25519PrivateKey) -> None:
    passphrase = os.environ.get(PASSPHRASE_VARIABLE, "").encode()
    encryption: KeySerializationEncryption = BestAvailableEncryption(passphrase) if passphrase else NoEncryption()
    files.replace(path, key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, encryption), 0o600)


def _open_key(path: Path) -> CryptoSigner:
    key = _load(path)
    if not isinstance(key, Ed25519PrivateKey):
        raise ReleaseError("keys_unusable", f"{path.name}: the desk makes Ed25519 keys only")
    return CryptoSigner(key)


def _load(path: Path) -> PrivateKeyTypes:
    passphrase = os.environ.get(PASSPHRASE_VARIABLE, "").encode()
    data = path.read_bytes()
    encrypted = b"ENCRYPTED" in data
    if encrypted and not passphrase:
        raise ReleaseError("keys_unusable", f"{path.name} is encrypted; set {PASSPHRASE_VARIABLE}")
    try:
        return load_pem_private_key(data, passphrase if encrypted else None)
    except (ValueError, TypeError) as error:
        raise ReleaseError("keys_unusable", f"{path.name}: {error}") from None


def _make_engineer_ca(directory: Path) -> None:
    """The certificate authority of the field engineers' SSH keys. The passphrase never stands on a command line."""
    tool = shutil.which("ssh-keygen")
    path = directory / "engineer-ca"
    if tool is None or path.exists():
        return
    command = [tool, "-q", "-t", "ed25519", "-C", "posagent-engineer-ca", "-f", str(path)]
    environment = dict(os.environ)
    with tempfile.TemporaryDirectory() as folder:
        if os.environ.get(PASSPHRASE_VARIABLE):
            asker = Path(folder) / "ask"
            asker.write_text(f'#!/bin/sh\nprintf "%s\\n" "${PASSPHRASE_VARIABLE}"\n')
            asker.chmod(0o700)
            environment |= {"SSH_ASKPASS": str(asker), "SSH_ASKPASS_REQUIRE": "force", "DISPLAY": ":none"}
        else:
            command += ["-N", ""]
        done = subprocess.run(
            command, env=environment, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=60, check=False
        )
    if done.returncode != 0:
        raise ReleaseError("keys_unusable", f"ssh-keygen: {done.stderr.strip()[:200]}")
