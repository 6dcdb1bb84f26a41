"""What a stick offers: the newest bundle for this terminal on any that is plugged in (`look` with the source `usb`).

Rules: like an announcement it is advice, as unsigned as it comes: the installer judges the bundle when it is fetched.
Newest is the one whose metadata was signed last, as the bundles themselves count (TUF's timestamp version): an older
one would be refused as a rollback of the repository. What cannot be read is passed over.

A bundle is called by what its metadata says, not by its path: a stick that is put back may get another name, and the
download goes on from it, or from another stick with a copy.
"""

from __future__ import annotations

import errno
import hashlib
import json
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Protocol

from posagent.core import manifest
from posagent.core.bundle import Bundle
from posagent.core.errors import BundleError, FetchError
from posagent.core.manifest import Manifest
from posagent.core.ports import ByteSource

USB = "usb"
CONTENT = USB + ":"
"""Before the digest, in the source of an update from a stick."""
TARGETS_MAX = 64


class Opened(ByteSource, Protocol):
    def close(self) -> None: ...


class Media:
    """`paths` finds bundles, `open_local` opens one or raises OSError; `hardware` and `revision` are the terminal's."""

    def __init__(
        self,
        paths: Callable[[], Sequence[str]],
        open_local: Callable[[str], Opened],
        *,
        hardware: str,
        revision: int,
    ) -> None:
        self._paths, self._open_local = paths, open_local
        self._hardware, self._revision = hardware, revision

    def newest(self) -> dict[str, Any]:
        """An offer as fetcher.announcement makes it; its `url` is what `open` takes. Raises FetchError
        `fetch_no_stick`."""
        paths = self._paths()
        fitting = [one for one in map(self._offer, paths) if one is not None]
        if not fitting:
            seen = f"{len(paths)} bundles are there, none for {self._hardware}" if paths else "no bundle is there"
            raise FetchError("fetch_no_stick", seen)
        return max(fitting, key=lambda one: one[0])[1]

    def open(self, content: str) -> Opened:
        """The bundle that was offered so, on whatever stick it is now. Raises OSError."""
        for path in self._paths():
            try:
                source = self._open_local(path)
            except OSError:
                continue
            try:
                if _content(Bundle(source), source.size) == content:
                    return source
            except (OSError, BundleError):
                pass
            source.close()
        raise OSError(errno.ENOENT, "no stick has this bundle")

    def _offer(self, path: str) -> tuple[int, dict[str, Any]] | None:
        """How new it is, and what it offers; None where it is not for this terminal, or nothing that can be read."""
        try:
            source = self._open_local(path)
        except OSError:
            return None
        try:
            bundle = Bundle(source)
            timestamp = _signed(bundle, "timestamp.json")
            snapshot = f"{timestamp['meta']['snapshot.json']['version']}.snapshot.json"
            targets = f"{_signed(bundle, snapshot)['meta']['targets.json']['version']}.targets.json"
            images = manifest.leading(one for one in _components(_signed(bundle, targets)) if self._fits(one))
            if not images:
                return None
            return int(timestamp["version"]), _told(images, _content(bundle, source.size), source.size)
        except (OSError, BundleError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
            return None
        finally:
            source.close()

    def _fits(self, image: Manifest) -> bool:
        return self._hardware in image.hw_ids and image.min_hw_rev <= self._revision


def _content(bundle: Bundle, size: int) -> str:
    """Each build signs a timestamp of its own, over all that is in it; the size tells a part of it from the whole."""
    return CONTENT + hashlib.sha256((bundle.metadata("timestamp.json") or b"") + b"%d" % size).hexdigest()


def _signed(bundle: Bundle, name: str) -> dict[str, Any]:
    """What a metadata file says, unchecked."""
    signed = json.loads(bundle.metadata(name) or b"")["signed"]
    if not isinstance(signed, dict):
        raise TypeError(name)
    return signed


def _components(signed: dict[str, Any]) -> Iterator[Manifest]:
    for name, target in list(signed["targets"].items())[:TARGETS_MAX]:
        if manifest.is_component(target.get("custom")):
            sha256 = target["hashes"]["sha256"]
            yield manifest.from_custom(name, length=target["length"], sha256=sha256, custom=target["custom"])


def _told(images: Sequence[Manifest], content: str, size: int) -> dict[str, Any]:
    payloads = [{"from": one.source_sha256, "bytes": one.length, "image_bytes": one.image_size} for one in images]
    told = {"version": images[0].version, "url": content, "length": size, "sha256": "", "payloads": payloads}
    return told | images[0].terms
