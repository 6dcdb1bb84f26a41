"""Publishes a bundle in a directory that any web server can serve: `bundles/` and one pointer a channel.

`channels/CHANNEL.json` is `{"format":1,"version","bundle":"bundles/NAME","length","sha256","payloads":[{"from","bytes",
"image_bytes"}]}` and core.manifest's terms. It is advice and not signed: it tells a terminal what to fetch and when the
download is whole. Whether the bundle is installed is decided by the signatures in it; a forged pointer can only waste
bytes or hide an update until the terminal's metadata expires.
Rules: bundle names hold their digest, so that none changes under a resumed download; bundle first, then pointer.
"""

from __future__ import annotations

import re
import shutil
from pathlib import Path
from typing import Any

from posagent.core.errors import BundleError, Refusal
from posagent.core.manifest import SYSTEM
from posagent.release import bundle, files

CHANNEL = "stable"
TERMS = ("conditions", "not_after", "contents", "reason")
_CHANNEL = re.compile(r"[a-z0-9][a-z0-9._-]{0,31}")


def publish(path: Path, repository: Path, *, channel: str = CHANNEL) -> dict[str, Any]:
    """Copy the bundle in and point the channel to it; returns the pointer. Doing it again changes nothing.

    Raises Refusal `bad_request`, BundleError for a bundle that is not whole or holds no single image, ReleaseError.
    """
    if not _CHANNEL.fullmatch(channel):
        raise Refusal("bad_request", f"a channel is named like {CHANNEL}, not {channel[:40]!r}")
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
        files.replace_json(repository / "channels" / f"{channel}.json", pointer)
    return pointer


def _copy(path: Path, published: Path, sha256: str) -> None:
    if published.exists() and files.sha256(published) == sha256:
        return
    temporary = published.with_name(published.name + ".new")
    shutil.copyfile(path, temporary)
    if files.sha256(temporary) != sha256:
        raise BundleError("bundle_unreadable", f"{path} changed while it was copied")
    files.settle(temporary, published)
