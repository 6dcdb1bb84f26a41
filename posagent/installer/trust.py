"""Decides whether a bundle is authentic, fresh and not older than what this terminal has seen (TUF 1.0, chapter 5).

Owns: the client workflow over the public `tuf.api.metadata`, and the durable trust store. Never: `tuf.ngclient`, whose
store does not survive a power cut and whose clock is its own. Delegations are ignored: only targets that the top-level
role signs itself exist for us. The repository layout is that of consistent snapshots (`2.snapshot.json`).

The store (a directory of root's):
* `N.root.json`: roots newer than the one in the system image. Each is verified again, from the image's root on, at
  every use, so that whoever writes to the data partition cannot replace the root of trust. A damaged one is brought
  again by the bundle, which carries the whole chain.
* `record.json`, `record-copy.json`: the same small record twice: versions seen, keys they were signed with, newest
  signed time. Written only after a whole chain was valid, roots first. One damaged copy is replaced from the other;
  with both damaged nothing is verified (`trust_store_damaged`), because floors must not vanish silently.

The reference time for expiry is max(floor, wall clock), where floor = max(time the image was built, newest signed time
seen in the store, the root and this bundle's timestamp); see core.signed. The store keeps signed times only, never the
wall clock: a clock that was wrong for a day can then delay an update for that day, but never strand the terminal.

A version floor ends when a key of its role is no longer in the root (TUF 5.3.11), and so does the signed time seen: a
release desk that lost a key must be able to begin again below the versions and before the times the thief has signed.
"""

from __future__ import annotations

import datetime
import hashlib
from collections.abc import Sequence
from dataclasses import replace

from tuf.api.metadata import MetaFile, Root, Snapshot, Targets, Timestamp

from posagent.core import durable, manifest, signed
from posagent.core.bundle import METADATA_BYTES_MAX, Bundle
from posagent.core.errors import BundleError, TrustError
from posagent.core.manifest import Manifest
from posagent.core.ports import Clock, Files
from posagent.installer.trust_record import ROLES, Record, RecordFile

SIGNED_AT = "x-posagent-signed-at-s"
"""Additional signed field: when the metadata was made, in seconds since 1970."""


class Trust:
    """What this terminal trusts. `root_bytes` is the root in the system image, `image_built_at_s` its build time.

    Raises TrustError `trust_store_damaged` where the image's root cannot be used.
    """

    def __init__(
        self, files: Files, store_dir: str, root_bytes: bytes, *, clock: Clock, image_built_at_s: int = 0
    ) -> None:
        self._files = files
        self._dir = store_dir
        self._record = RecordFile(files, store_dir)
        self._clock = clock
        self._built_at_s = image_built_at_s
        try:
            self._shipped = signed.load(root_bytes, Root, None)
        except (BundleError, TrustError) as error:
            raise TrustError("trust_store_damaged", f"the root in the system image: {error.detail}") from None

    def verify(self, bundle: Bundle, allowed: str = "") -> tuple[Manifest, ...]:
        """The components that `bundle` lists with valid, fresh signatures; then the store knows their versions.

        A bundle may have expired where its timestamp has the digest that an engineer `allowed`. Verifying the same
        bundle again changes nothing. Raises BundleError, or TrustError `signature_invalid`, `repository_expired`,
        `repository_rollback`, `trust_store_damaged`; nothing is stored then.
        """
        try:
            record = self._record.read()
            root, new_roots = self._newest_root(bundle, record)
            floors = record.without_revoked(_keys(root))
            chain = _Chain(root, self._reference_s(floors, root), floors, allowed)
            timestamp = chain.timestamp(bundle.metadata("timestamp.json"))
            part = timestamp.snapshot_meta
            snapshot = chain.snapshot(bundle.metadata(f"{part.version}.snapshot.json"), part)
            part = _targets_part(snapshot)
            targets = chain.targets(bundle.metadata(f"{part.version}.targets.json"), part)
            manifests = _manifests(targets)
            self._advance(new_roots, chain.seen)
        except OSError as error:
            raise TrustError("trust_store_damaged", f"{self._dir}: {error.strerror or error}") from None
        return manifests

    def _newest_root(self, bundle: Bundle, record: Record) -> tuple[Root, dict[str, bytes]]:
        """The last root of the chain from the image's root over the store's and the bundle's; those to be stored."""
        root, new = self._shipped, {}
        while True:
            name = f"{root.version + 1}.root.json"
            kept = self._kept_root(name, root)
            if kept is None:
                data = bundle.metadata(name)
                if data is None:
                    break
                kept, new[name] = signed.next_root(data, root), data
            root = kept
        if root.version < record.versions["root"]:
            wanted = record.versions["root"]
            raise TrustError("trust_store_damaged", f"root {root.version + 1} of {wanted} is lost; the bundle lacks it")
        return root, new

    def _kept_root(self, name: str, root: Root) -> Root | None:
        """The store's next root, or None where it is missing or damaged."""
        path = f"{self._dir}/{name}"
        size = self._files.size(path)
        if size is None or size > METADATA_BYTES_MAX:
            return None
        try:
            return signed.next_root(self._files.read(path), root)
        except (BundleError, TrustError):
            return None

    def _reference_s(self, record: Record, root: Root) -> float:
        floor = max(self._built_at_s, record.signed_at_s, _signed_at_s(root), _signed_at_s(self._shipped))
        return signed.reference_s(self._clock.wall(), floor)

    def _advance(self, new_roots: dict[str, bytes], seen: Record) -> None:
        self._files.make_dir(self._dir)
        for name, data in new_roots.items():
            durable.replace(self._files, f"{self._dir}/{name}", data)
        self._record.write(seen)
        for name in self._files.names(self._dir):
            number = name.removesuffix(".root.json")
            if number != name and number.isdecimal() and int(number) <= self._shipped.version:
                durable.remove(self._files, f"{self._dir}/{name}")


class _Chain:
    """Timestamp, snapshot and targets, verified in this order under one final root; `seen` is what the store will know.

    `now_s` is the reference time, `floors` the least versions that are accepted, `allowed` the digest of the timestamp
    under which expiry does not count. That digest stands for the bundle: the timestamp names the snapshot by its hash,
    and so on to the payloads.
    """

    def __init__(self, root: Root, now_s: float, floors: Record, allowed: str) -> None:
        self.root, self.now_s, self.floors, self._allowed = root, now_s, floors, allowed
        self._digest = ""
        self.seen = replace(floors, keys=_keys(root))
        self._see(root)

    def timestamp(self, data: bytes | None) -> Timestamp:
        timestamp = signed.load(data, Timestamp, self.root)
        self._digest = hashlib.sha256(data or b"").hexdigest()
        self._not_older("timestamp", timestamp.version)
        self._not_older("snapshot", timestamp.snapshot_meta.version)
        self.now_s = max(self.now_s, _signed_at_s(timestamp))
        self._fresh(self.root, timestamp)
        self._see(timestamp)
        return timestamp

    def snapshot(self, data: bytes | None, part: MetaFile) -> Snapshot:
        snapshot = signed.load(data, Snapshot, self.root, part)
        self._not_older("targets", _targets_part(snapshot).version)
        self._fresh(snapshot)
        self._see(snapshot)
        return snapshot

    def targets(self, data: bytes | None, part: MetaFile) -> Targets:
        targets = signed.load(data, Targets, self.root, part)
        self._fresh(targets)
        self._see(targets)
        return targets

    def _not_older(self, role: str, version: int) -> None:
        floor = self.floors.versions[role]
        if version < floor:
            raise TrustError(
                "repository_rollback", f"{role} version {version} is older than {floor}", role=role, version=version
            )

    def _fresh(self, *parts: Root | Timestamp | Snapshot | Targets) -> None:
        if self._allowed and self._digest == self._allowed:
            return
        now = datetime.datetime.fromtimestamp(self.now_s, datetime.UTC)
        for part in parts:
            if part.is_expired(now):
                raise TrustError(
                    "repository_expired",
                    f"{part.type} expired {part.expires:%Y-%m-%d %H:%M}; the terminal believes {now:%Y-%m-%d %H:%M}; "
                    f"the bundle is sha256:{self._digest}",
                    role=part.type,
                    expired_at_s=int(part.expires.timestamp()),
                    reference_s=int(self.now_s),
                )

    def _see(self, part: Root | Timestamp | Snapshot | Targets) -> None:
        versions = {**self.seen.versions, part.type: part.version}
        self.seen = replace(self.seen, versions=versions, signed_at_s=max(self.seen.signed_at_s, _signed_at_s(part)))


def _targets_part(snapshot: Snapshot) -> MetaFile:
    part = snapshot.meta.get("targets.json")
    if part is None:
        raise BundleError("bundle_unreadable", "snapshot does not name targets.json")
    return part


def _keys(root: Root) -> dict[str, tuple[str, ...]]:
    return {role: tuple(sorted(root.roles[role].keyids)) for role in ROLES}


def _signed_at_s(part: Root | Timestamp | Snapshot | Targets) -> int:
    """When `part` says it was signed, 0 where it does not; a time after its own expiry is nonsense."""
    value = part.unrecognized_fields.get(SIGNED_AT)
    return value if type(value) is int and 0 < value < part.expires.timestamp() else 0


def _manifests(targets: Targets) -> tuple[Manifest, ...]:
    """The components among `targets`."""
    return tuple(
        manifest.from_custom(name, length=one.length, sha256=one.hashes.get("sha256"), custom=one.custom)
        for name, one in sorted(targets.targets.items())
        if manifest.is_component(one.custom)
    )


def select(manifests: Sequence[Manifest], *, hardware: str, hardware_revision: int, floor: int) -> tuple[Manifest, ...]:
    """The payloads of the one image for this terminal, and the one set of parameters; either may be missing, but not
    both. Of each the one that fits with the highest security counter, then the highest `min_hw_rev`.

    Raises TrustError `wrong_hardware` or `counter_too_low`, BundleError where there is none or no single one.
    """
    if not manifests:
        raise BundleError("bundle_unreadable", "the bundle holds nothing that this release understands")
    fitting = [m for m in manifests if hardware in m.hw_ids and m.min_hw_rev <= hardware_revision]
    leaders = manifest.leading(manifests)
    if not any(one in fitting for one in leaders):
        names = sorted({f"{name} from revision {m.min_hw_rev}" for m in leaders for name in m.hw_ids})
        detail = f"this is {hardware} revision {hardware_revision}; the bundle is for {', '.join(names[:8])}"
        raise TrustError("wrong_hardware", detail, hardware=hardware, hardware_revision=hardware_revision)
    images = _best([one for one in fitting if one.component == manifest.SYSTEM], "images")
    if images and images[0].security_counter < floor:
        counter = images[0].security_counter
        raise TrustError(
            "counter_too_low", f"security counter {counter} is below {floor}", counter=counter, floor=floor
        )
    return (*images, *_best([one for one in fitting if one.component == manifest.PARAMETERS], "sets of parameters"))


def _best(fitting: Sequence[Manifest], what: str) -> tuple[Manifest, ...]:
    """Of one component."""
    rank = {m.target: (m.security_counter, m.min_hw_rev) for m in fitting}
    best = tuple(m for m in fitting if rank[m.target] == max(rank.values()))
    different = {(m.image_sha256, m.image_size, m.version) for m in best}
    if len(different) > 1:
        raise BundleError("bundle_unreadable", f"{len(different)} {what} fit this terminal equally well")
    return best
