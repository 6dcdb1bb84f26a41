"""A bundle on the laptop: what it says of itself, and the part of it that one terminal needs.

Owns: leaving out payloads that a terminal has no use for. A bundle is a plain tar of signed files; one that lacks some
of them is as authentic as the whole, and over a serial line the difference is minutes against hours.
Never: trust in what it reads. The terminal verifies everything that is sent.
Rules: where a terminal runs the image that a delta was made from, it is sent the metadata and that delta; else the
smallest payload that needs no source. One fresh from the factory does not know its image's digest, but finds the delta
that is made for it: all of them are tried first where they are small. The same terminal always gets the same bytes, so
that an upload resumes.
"""

from __future__ import annotations

import hashlib
import json
import tarfile
import threading
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from posagent.core import manifest
from posagent.core.errors import BundleError, PosagentError
from posagent.core.manifest import Manifest

MEMBERS_MAX = 64
METADATA_BYTES_MAX = 512 * 1024
COPY_BYTES = 1 << 20
TRIAL_SHARE = 4
"""Deltas of which perhaps none is of use are a quarter of what needs no source at most."""
_BLOCK = 512


@dataclass(frozen=True, slots=True)
class _Member:
    name: str
    start: int
    end: int


class Parcels:
    """Of one bundle; parts of it are written into `folder`, once each. Raises BundleError `bundle_unreadable`,
    PosagentError `laptop_io`."""

    def __init__(self, bundle: Path, folder: Path) -> None:
        self.bundle = bundle
        self._folder = folder
        self._lock = threading.Lock()
        self._made: dict[str, Path] = {}
        try:
            with bundle.open("rb") as stream:
                self._members = list(_members(stream))
                found = _manifests(stream, self._members)
                self._manifests = manifest.leading(found)
                self._beside = [one.member for one in found if one not in self._manifests]
            self.size = bundle.stat().st_size
        except OSError as error:
            raise PosagentError("laptop_io", f"{bundle}: {error.strerror or error}") from None
        if not self._manifests:
            raise BundleError("bundle_unreadable", f"{bundle} is for no terminal")

    @property
    def version(self) -> str:
        return self._manifests[0].version

    def installs(self, digest: str, version: str) -> bool:
        """Whether the image with that digest is what the bundle brings. The one from the factory has no digest: it is
        known by its version."""
        return any(one.image_sha256 == digest for one in self._manifests) or (not digest and version == self.version)

    def label(self) -> dict[str, Any]:
        """For the visit report."""
        with self.bundle.open("rb") as stream:
            digest = hashlib.file_digest(stream, "sha256").hexdigest()
        return {"file": self.bundle.name, "version": self.version, "bytes": self.size, "sha256": digest}

    def for_terminal(self, digest: str) -> tuple[Path, ...]:
        """What a terminal that runs the image with that digest is sent, one after the other until one is enough."""
        if len(self._manifests) == 1:
            return (self.bundle,)
        deltas = [one for one in self._manifests if one.source_sha256]
        alone = min((one for one in self._manifests if not one.source_sha256), key=lambda one: one.length, default=None)
        for one in deltas:
            if one.source_sha256 == digest:
                return self._part(one), self.bundle
        if alone is None:
            return (self.bundle,)
        if not digest and 0 < sum(one.length for one in deltas) <= alone.length / TRIAL_SHARE:
            return self._part(*deltas), self._part(alone), self.bundle
        return self._part(alone), self.bundle

    def _part(self, *payloads: Manifest) -> Path:
        """The bundle with these payloads only."""
        name = "-".join(one.sha256[:16] for one in payloads)
        with self._lock:
            if name not in self._made:
                files = {f"targets/{member}" for member in (*(one.member for one in payloads), *self._beside)}
                kept = [one for one in self._members if one.name.startswith("metadata/") or one.name in files]
                self._made[name] = self._cut(kept, f"{name}.bundle")
            return self._made[name]

    def _cut(self, kept: Iterable[_Member], name: str) -> Path:
        path = self._folder / name
        try:
            with self.bundle.open("rb") as source, path.open("wb") as out:
                for member in kept:
                    source.seek(member.start)
                    left = member.end - member.start
                    while left and (data := source.read(min(left, COPY_BYTES))):
                        left -= out.write(data)
                out.write(bytes(2 * _BLOCK))
        except OSError as error:
            raise PosagentError("laptop_io", f"{path}: {error.strerror or error}") from None
        return path


def _members(stream: Any) -> Iterable[_Member]:
    try:
        with tarfile.open(fileobj=stream, mode="r:") as tar:
            for count, entry in enumerate(tar):
                if count >= MEMBERS_MAX:
                    raise BundleError("bundle_unreadable", "it has more files than a bundle has")
                end = entry.offset_data + -(-entry.size // _BLOCK) * _BLOCK
                yield _Member(entry.name, entry.offset, end)
    except tarfile.TarError as error:
        raise BundleError("bundle_unreadable", f"it is no bundle: {error}") from None


def _manifests(stream: Any, members: Iterable[_Member]) -> list[Manifest]:
    """The components in the metadata, as they are: nothing is verified here."""
    found: list[Manifest] = []
    for member in members:
        if not member.name.startswith("metadata/") or not member.name.endswith("targets.json"):
            continue
        stream.seek(member.start + _BLOCK)
        data = stream.read(min(member.end - member.start - _BLOCK, METADATA_BYTES_MAX)).rstrip(b"\0")
        try:
            targets = json.loads(data)["signed"]["targets"]
            for name, one in targets.items():
                if manifest.is_component(one.get("custom")):
                    known = {"length": one["length"], "sha256": one["hashes"]["sha256"]}
                    found.append(manifest.from_custom(name, custom=one["custom"], **known))
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
            raise BundleError("bundle_unreadable", f"{member.name}: {error}") from None
    return found
