"""Builds and looks into bundles: a whole TUF repository in one plain tar file, metadata first.

Owns: the desk's version counters (`state.json` beside the keys), so that no version is ever signed twice. Never:
trust; a terminal decides that for itself (installer.trust). Unpacked with `tar xf`, a bundle is a repository that any
TUF client can use.
"""

from __future__ import annotations

import dataclasses
import hashlib
import io
import json
import tarfile
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from cryptography.exceptions import UnsupportedAlgorithm
from tuf.api.exceptions import RepositoryError, UnsignedMetadataError
from tuf.api.metadata import Metadata, MetaFile, Root, Snapshot, TargetFile, Targets, Timestamp

from posagent.core import manifest
from posagent.core.errors import BundleError, Refusal, ReleaseError
from posagent.core.manifest import Manifest
from posagent.core.parameters import decoded
from posagent.core.seal import Seal
from posagent.platform.schema import SchemaFile
from posagent.release import files, keys
from posagent.release.payload import LEVEL, Encoded, Progress, encode, shares

TARGET = "system.payload"
PARAMETERS = "parameters.json"
WHOLE = "whole.payload"
DELTA = "from-{}.payload"
"""A delta's target, named by the first digits of the digest of the image it was made from."""
SOURCES_MAX = 16
SHARE_MAX = 0.9
"""A payload that is not smaller than this part of those that need no source is left out: it saves too little for what
it costs."""
EXPIRES_DAYS = 60
"""Of the offline timestamp: 30 to 90 days cover a technician's round; a fresh bundle renews it."""
PARTS_DAYS = 365
"""Of snapshot and targets, at least: their freshness comes from the timestamp."""
DAYS_MAX = 3650


@dataclass(frozen=True, slots=True, kw_only=True)
class Versions:
    """Metadata versions of one bundle, and the security counter that builds use unless told otherwise."""

    targets: int = 1
    snapshot: int = 1
    timestamp: int = 1
    security_counter: int = 0


def build(
    image: Path | None,
    *,
    version: str,
    compatible: Sequence[str],
    keys_dir: Path,
    out: Path,
    min_hw_rev: int = 0,
    security_counter: int | None = None,
    expires_days: int = EXPIRES_DAYS,
    profile: Mapping[str, int] | None = None,
    terms: Mapping[str, Any] | None = None,
    parameters: tuple[Path, str] | None = None,
    sources: Sequence[Path] = (),
    groups: Sequence[Path] = (),
    whole: bool = True,
    level: int = LEVEL,
    data_bytes: int | None = None,
    versions: Versions | None = None,
    now_s: int | None = None,
    on_progress: Progress | None = None,
) -> Path:
    """Build the signed bundle `out` that installs `image`, a set of `parameters` (a file, and its version), or both;
    returns `out`. `version` is the image's, or that of the parameters alone.

    It holds a full payload, a `whole` one unless told otherwise, and a delta from each image in `sources`, those that
    are hardly smaller left out; encrypted for the terminals of `groups` (X25519 public keys, PEM), if any, and then
    other bytes each time. `versions` (default: one more than last time) and `now_s` (default: SOURCE_DATE_EPOCH or the
    clock) make a build repeatable;
    `security_counter` defaults to the last build's; `terms` are those of core.manifest. Raises Refusal `bad_request`,
    ReleaseError.
    """
    now = files.now_s() if now_s is None else now_s
    if not 1 <= expires_days <= DAYS_MAX:
        raise Refusal("bad_request", f"expires_days must be from 1 to {DAYS_MAX}")
    if len(groups) > manifest.GROUPS_MAX:
        raise Refusal("bad_request", f"a bundle is encrypted for at most {manifest.GROUPS_MAX} groups")
    if image is None and (parameters is None or sources or groups):
        raise Refusal(
            "bad_request", "without an image there must be parameters, which need no deltas and no encryption"
        )
    if len(sources) > SOURCES_MAX:
        raise Refusal("bad_request", f"a bundle holds at most {SOURCES_MAX} deltas")
    with files.coded(), files.locked(keys_dir):
        root = keys.newest_root(keys_dir)
        desk = _Desk(keys_dir, root, now, expires_days)
        chosen = versions or _next_versions(keys_dir)
        counter = chosen.security_counter if security_counter is None else security_counter
        public = [path.read_bytes() for path in groups]
        told = {"profile": dict(profile or {}), **(terms or {})}
        draft = _draft(version, compatible, min_hw_rev, counter, told)
        with tempfile.TemporaryDirectory(dir=out.parent, prefix=".posagent-build-") as folder:
            made: list[tuple[Manifest, Path]] = []
            alone = [False, True] if whole else [False]
            ways = [*((None, one) for one in alone), *((source, False) for source in sources)]
            for number, (source, is_whole) in enumerate(ways):
                if image is None:
                    break
                payload = Path(folder) / f"{number}.payload"
                seal = Seal.new() if public else None
                encoded = encode(
                    image,
                    payload,
                    source=source,
                    whole=is_whole,
                    level=level,
                    data_bytes=None if is_whole else data_bytes,
                    seal=seal,
                    on_progress=_part_of(on_progress, number, len(ways)),
                )
                found = dataclasses.replace(_manifest(draft, encoded, is_whole), sealed=_sealed(seal, public))
                most = min((SHARE_MAX * one.length for one, _ in made if not one.source_sha256), default=encoded.length)
                if encoded.length <= most:
                    made.append((found, payload))
            if parameters is not None:
                made.append((_parameters(draft, *parameters), parameters[0]))
            made = sorted({one.target: (one, payload) for one, payload in made}.values(), key=lambda one: one[0].length)
            members = desk.metadata([one for one, _ in made], dataclasses.replace(chosen, security_counter=counter))
            unnamed = Path(folder) / "bundle"
            _pack(unnamed, members, [(one.member, payload) for one, payload in made], now)
            if versions is None:
                _keep_versions(keys_dir, dataclasses.replace(chosen, security_counter=counter))
            files.settle(unnamed, out)
    return out


def _part_of(on_progress: Progress | None, number: int, count: int) -> Progress | None:
    """The progress of one of so many payloads as that of all."""
    return on_progress and (lambda done, total: on_progress(number * total + done, count * total))


class _Desk:
    """Signs the metadata of one bundle; needs every key but the root's, and finds out before the long work begins."""

    def __init__(self, keys_dir: Path, root: Root, now: int, expires_days: int) -> None:
        self._roots = keys.roots(keys_dir)
        self._signers = {
            "targets": keys.role_signers(keys_dir, root, "targets"),
            "snapshot": keys.role_signers(keys_dir, root, "snapshot"),
            "timestamp": keys.role_signers(keys_dir, root, "timestamp", names=("timestamp-offline",)),
        }
        self._signed_at = {keys.SIGNED_AT: now}
        self._expires = keys.date(now + expires_days * 86400)
        self._parts_expire = keys.date(now + max(expires_days, PARTS_DAYS) * 86400)

    def metadata(self, manifests: Sequence[Manifest], versions: Versions) -> dict[str, bytes]:
        """File names and bytes, in the order in which they stand in the bundle."""
        files = {
            one.target: TargetFile(one.length, {"sha256": one.sha256}, one.target, {"custom": one.as_custom()})
            for one in manifests
        }
        targets = self._sign(Targets(versions.targets, None, self._parts_expire, files, None, self._signed_at))
        meta = {"targets.json": _part(versions.targets, targets)}
        snapshot = self._sign(Snapshot(versions.snapshot, None, self._parts_expire, meta, self._signed_at))
        part = _part(versions.snapshot, snapshot)
        timestamp = self._sign(Timestamp(versions.timestamp, None, self._expires, part, self._signed_at))
        return {
            **{f"{number}.root.json": data for number, data in enumerate(self._roots, 1)},
            "timestamp.json": timestamp,
            f"{versions.snapshot}.snapshot.json": snapshot,
            f"{versions.targets}.targets.json": targets,
        }

    def _sign(self, signed: Targets | Snapshot | Timestamp) -> bytes:
        return keys.sign(Metadata(signed), self._signers[signed.type])


def _part(version: int, data: bytes) -> MetaFile:
    return MetaFile.from_data(version, data, ["sha256"])


def _draft(
    version: str, compatible: Sequence[str], min_hw_rev: int, security_counter: int, told: dict[str, Any]
) -> Manifest:
    """What is known before the image is read, held to the same rules as a terminal's."""
    custom = {
        "format": manifest.FORMAT,
        "component": manifest.SYSTEM,
        "version": version,
        "security_counter": security_counter,
        "hw_ids": list(compatible),
        "min_hw_rev": min_hw_rev,
        "header_sha256": "0" * 64,
        "image_size": 1,
        "image_sha256": "0" * 64,
        **told,
    }
    try:
        return manifest.from_custom(TARGET, length=1, sha256="0" * 64, custom=custom)
    except BundleError as error:
        raise Refusal("bad_request", error.detail) from None


def _parameters(draft: Manifest, path: Path, version: str) -> Manifest:
    """Their manifest; held to the same rules as a terminal's."""
    data = path.read_bytes()
    try:
        decoded(data)
    except ValueError as error:
        raise Refusal("bad_request", f"{path}: {error}") from None
    digest = hashlib.sha256(data).hexdigest()
    known = {"header_sha256": digest, "image_sha256": digest, "image_size": len(data), "security_counter": 0}
    custom = {**draft.as_custom(), **known, "component": manifest.PARAMETERS, "version": version}
    try:
        return manifest.from_custom(PARAMETERS, length=len(data), sha256=digest, custom=custom)
    except BundleError as error:
        raise Refusal("bad_request", error.detail) from None


def _sealed(seal: Seal | None, public: Sequence[bytes]) -> dict[str, str]:
    """The payload's key for each group."""
    try:
        return dict(map(seal.wrapped, public)) if seal is not None else {}
    except (ValueError, TypeError, UnsupportedAlgorithm) as error:
        raise ReleaseError("keys_unusable", f"a group's key: {error}") from None


def _manifest(draft: Manifest, encoded: Encoded, whole: bool) -> Manifest:
    alone = WHOLE if whole else TARGET
    target = DELTA.format(encoded.source_sha256[:12]) if encoded.source_sha256 else alone
    return dataclasses.replace(draft, target=target, whole=whole, **dataclasses.asdict(encoded))


def _next_versions(keys_dir: Path) -> Versions:
    path = keys_dir / "state.json"
    if not path.exists():
        return Versions()
    try:
        last = Versions(**json.loads(path.read_bytes()))
        return Versions(
            targets=last.targets + 1,
            snapshot=last.snapshot + 1,
            timestamp=last.timestamp + 1,
            security_counter=last.security_counter,
        )
    except (ValueError, TypeError):
        raise ReleaseError("keys_unusable", f"{path} is damaged; restore it, or terminals refuse the bundle") from None


def _keep_versions(keys_dir: Path, versions: Versions) -> None:
    """Before the bundle gets its name: a version may be skipped, never signed twice."""
    files.replace_json(keys_dir / "state.json", dataclasses.asdict(versions))


def _pack(path: Path, metadata: Mapping[str, bytes], payloads: Sequence[tuple[str, Path]], now: int) -> None:
    """The smallest payloads come first, so that little must be read to find them."""
    with tarfile.open(path, "w", format=tarfile.USTAR_FORMAT) as tar:
        for name, data in metadata.items():
            tar.addfile(_entry(f"metadata/{name}", len(data), now), io.BytesIO(data))
        for member, payload in payloads:
            with payload.open("rb") as stream:
                tar.addfile(_entry(f"targets/{member}", payload.stat().st_size, now), stream)


def _entry(name: str, size: int, now: int) -> tarfile.TarInfo:
    entry = tarfile.TarInfo(name)
    entry.size, entry.mtime, entry.mode = size, now, 0o644
    return entry


def judge(path: Path, schema: Path) -> None:
    """Hold parameters against the schema of the image that they are for. Raises PosagentError `parameters_invalid`,
    Refusal, ReleaseError."""
    with files.coded():
        try:
            SchemaFile(str(schema)).check(decoded(path.read_bytes()))
        except ValueError as error:
            raise Refusal("bad_request", f"{path}: {error}") from None


def show(path: Path) -> dict[str, Any]:
    """What a bundle says about itself, checked against the newest root in the bundle: whole, but perhaps not ours.

    Returns `{"manifests": [{…}], "payloads": {target: shares}, "versions": {role: n}, "expires": {role: "…Z"},
    "length", "sha256"}`; shares as in release.payload.
    Raises BundleError `bundle_unreadable` or `signature_invalid`, ReleaseError.
    """
    with files.coded():
        try:
            parts, payloads = _metadata(path)
            root = parts["root"].signed
            for role, part in parts.items():
                root.verify_delegate(role, part.signed_bytes, part.signatures)
        except UnsignedMetadataError as error:
            raise BundleError("signature_invalid", f"{path}: {error}") from None
        except (tarfile.TarError, RepositoryError, LookupError, ValueError, AttributeError):
            raise BundleError("bundle_unreadable", f"{path} is not a whole bundle") from None
        return {
            "manifests": [
                {**target.custom, "target": name, "length": target.length}
                for name, target in parts["targets"].signed.targets.items()
            ],
            "payloads": payloads,
            "versions": {role: part.signed.version for role, part in parts.items()},
            "expires": {role: f"{part.signed.expires:%Y-%m-%dT%H:%M:%SZ}" for role, part in parts.items()},
            "length": path.stat().st_size,
            "sha256": files.sha256(path),
        }


def _metadata(path: Path) -> tuple[dict[str, Metadata[Any]], dict[str, Any]]:
    """The newest root, timestamp, snapshot and targets in the bundle, by role; and the shares of its payloads."""
    with tarfile.open(path, "r:") as tar:
        names = tar.getnames()

        def opened(name: str) -> IO[bytes]:
            stream = tar.extractfile(name)
            if stream is None:
                raise LookupError(name)
            return stream

        def read(name: str) -> Metadata[Any]:
            return Metadata.from_bytes(opened(f"metadata/{name}").read())

        newest = max(int(n.split("/")[1].split(".")[0]) for n in names if n.endswith(".root.json"))
        timestamp = read("timestamp.json")
        snapshot = read(f"{timestamp.signed.snapshot_meta.version}.snapshot.json")
        targets = read(f"{snapshot.signed.meta['targets.json'].version}.targets.json")
        payloads = {}
        for name, target in targets.signed.targets.items():
            member = f"targets/{target.hashes['sha256']}.{target.path}"
            target.verify_length_and_hashes(opened(member))
            if target.custom.get("component") == manifest.SYSTEM:
                payloads[name] = shares(opened(member), target.length)
        root = read(f"{newest}.root.json")
    return {"root": root, "timestamp": timestamp, "snapshot": snapshot, "targets": targets}, payloads
