"""Publishes a bundle in a directory that any web server can serve: `bundles/` and one pointer a channel.

`channels/CHANNEL.json` is `{"format":1,"version","bundle":"bundles/NAME","length","sha256","payloads":[{"from","bytes",
"image_bytes"}]}` and core.manifest's terms. It tells a terminal what to fetch and when the download is whole. Whether
the bundle is installed is decided by the signatures in it; a forged pointer can only waste bytes or hide an update
until the terminal's metadata expires. With keys it also has core.channel's roll-out, and is signed: only such a file is
followed by terminals on their own.
Rules: bundle names hold their digest, so that none changes under a resumed download; bundle first, then pointer.
"""

from __future__ import annotations

import hashlib
import json
import re
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from posagent.core.channel import SIGNATURES, STAGE, Rollout, rollout_of, signed_part
from posagent.core.errors import BundleError, Refusal
from posagent.core.manifest import SYSTEM
from posagent.release import bundle, files, keys

CHANNEL = "stable"
SIGNER = "timestamp"
FRESH = {"attempt": 1, "stopped": False, "forced": False, "percent": 100}
FRESH_DAYS, FRESH_DAYS_MAX = 7, 90
"""How long a signed channel counts: whoever holds it back is noticed so soon."""
TERMS = ("conditions", "not_after", "contents", "reason")
_CHANNEL = re.compile(r"[a-z0-9][a-z0-9._-]{0,31}")


def publish(
    path: Path, repository: Path, *, channel: str = CHANNEL, keys_dir: Path | None = None, **changes: Any
) -> dict[str, Any]:
    """Copy the bundle in and point the channel to it; returns the pointer. Doing it again without keys changes nothing.
    With `keys_dir` the pointer is signed, and `changes` are those of `change`.

    Raises Refusal `bad_request`, BundleError for a bundle that is not whole or holds no single image, ReleaseError.
    """
    _known_channel(channel)
    found = bundle.show(path)
    images = [one for one in found["manifests"] if one["component"] == SYSTEM] or found["manifests"]
    versions = {one["version"] for one in images}
    if len(versions) != 1:
        raise BundleError("bundle_unreadable", f"{path} holds {len(versions)} versions; one is published")
    (version,) = versions
    name = f"bundles/{version}-{found['sha256'][:16]}.bundle"
    pointer = {
        "format": 1,
        "version": version,
        "bundle": name,
        "length": found["length"],
        "sha256": found["sha256"],
        "payloads": [
            {"from": one.get("source_sha256", ""), "bytes": one["length"], "image_bytes": one["image_size"]}
            for one in images
        ],
        **{name: value for name, value in images[0].items() if name in TERMS},
    }
    with files.coded():
        for folder in ("bundles", "channels"):
            (repository / folder).mkdir(parents=True, exist_ok=True)
        _copy(path, repository / name, found["sha256"])
        if keys_dir is not None:
            return _sign(pointer, repository, channel, keys_dir, changes)
        published = repository / "channels" / f"{channel}.json"
        if published.exists() and SIGNATURES.encode() in published.read_bytes():
            raise Refusal("bad_request", f"the channel {channel} is signed, and terminals follow it: publish with keys")
        files.replace_json(published, pointer)
    return pointer


def change(repository: Path, *, keys_dir: Path, channel: str = CHANNEL, **changes: Any) -> dict[str, Any]:
    """Sign the channel's pointer anew: that keeps it fresh, for `days`. `changes`: `percent`, `stopped`, `forced`,
    `poll_s`, and `again`, with which terminals that have failed try again. Returns the pointer. Raises Refusal
    `bad_request`, ReleaseError."""
    _known_channel(channel)
    with files.coded():
        return _sign(None, repository, channel, keys_dir, changes)


def _known_channel(channel: str) -> None:
    if not _CHANNEL.fullmatch(channel):
        raise Refusal("bad_request", f"a channel is named like {CHANNEL}, not {channel[:40]!r}")


def _sign(
    pointer: Mapping[str, Any] | None, repository: Path, channel: str, keys_dir: Path, changes: Mapping[str, Any]
) -> dict[str, Any]:
    """Sign that pointer, or the last one again, and publish it. What was signed last stands beside the keys: whatever
    somebody else has put into the repository is never signed."""
    place = hashlib.sha256(str(repository.resolve()).encode()).hexdigest()[:8]
    with files.locked(keys_dir):
        own = keys_dir / f"channel-{channel}-{place}.json"
        before: dict[str, Any] = json.loads(own.read_bytes()) if own.exists() else {}
        if pointer is None and not before:
            raise Refusal("bad_request", f"this desk has not signed {channel} in {repository}; publish a bundle first")
        told = {name: value for name, value in (pointer or before).items() if name != SIGNATURES}
        another = before.get("sha256") != told["sha256"]
        told[STAGE] = _rollout(dict(before.get(STAGE, {})), another, channel, changes).as_dict()
        root = keys.newest_root(keys_dir)
        signers = keys.role_signers(keys_dir, root, "timestamp", names=(SIGNER,))
        payload = signed_part(told)
        told[SIGNATURES] = {one.keyid: one.signature for one in (signer.sign(payload) for signer in signers)}
        (repository / "roots").mkdir(exist_ok=True)
        for number, data in enumerate(keys.roots(keys_dir), 1):
            files.replace(repository / "roots" / f"{number}.root.json", data)
        files.replace_json(own, told)
        files.replace_json(repository / "channels" / f"{channel}.json", told)
    return told


def _rollout(old: dict[str, Any], another: bool, channel: str, changes: Mapping[str, Any]) -> Rollout:
    """As it was, what `another` bundle begins with, then the changes. Raises Refusal."""
    now = files.now_s()
    wanted = {name: value for name, value in changes.items() if value is not None}
    days, again = int(wanted.pop("days", FRESH_DAYS)), bool(wanted.pop("again", False))
    if not 1 <= days <= FRESH_DAYS_MAX:
        raise Refusal("bad_request", f"days must be from 1 to {FRESH_DAYS_MAX}")
    told = {**old, **(FRESH if another else {}), **wanted}
    told |= {"channel": channel, "signed_at_s": now, "expires_at_s": now + days * 86400}
    told["serial"] = max(int(old.get("serial", 0)) + 1, now)  # also where what was signed before is lost
    told["attempt"] = int(told["attempt"]) + again
    try:
        return rollout_of({STAGE: Rollout(**told).as_dict()})
    except (TypeError, ValueError) as error:
        raise Refusal("bad_request", f"the roll-out cannot be like that: {error}") from None


def _copy(path: Path, published: Path, sha256: str) -> None:
    if published.exists() and files.sha256(published) == sha256:
        return
    temporary = published.with_name(published.name + ".new")
    shutil.copyfile(path, temporary)
    if files.sha256(temporary) != sha256:
        raise BundleError("bundle_unreadable", f"{path} changed while it was copied")
    files.settle(temporary, published)
