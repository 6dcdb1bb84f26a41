"""A repository without a server in place of a fleet server: the same exchange, against a web server's plain files.

Owns: what a channel's signed file becomes for the agent: a deployment where the roll-out has reached this terminal, and
nothing where it has not, or is stopped. Letters have nobody who reads them: they count as delivered.
Rules: a file counts only with the release desk's signature, as long as it is fresh, and not below the serial number
that this terminal has seen. Mirrors are asked in an order of each terminal's own, so that they share the work; one that
is away, old, or lacks the bundle, is passed over.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, TypeVar

from posagent.core import channel, fleet
from posagent.core.channel import SIGNATURES, Rollout
from posagent.core.errors import FetchError
from posagent.core.fleet import Artifact, Deployment, Heard
from posagent.core.ports import Clock, Message
from posagent.fetcher import announcement, signers
from posagent.fetcher.ddi import told
from posagent.fetcher.http import Asked, Client

T = TypeVar("T")
ROOT_BYTES_MAX = 64 << 10
CLOCK_AHEAD_S_MAX = 20 * 365 * 86400
"""A clock further than that above the time at which the image was built is not believed (as in installer.trust)."""


class Channel:
    """`bases` are the addresses of the repository and its mirrors, `root` is the one in the system image, which was
    built at `built_at_s`; nothing may take longer than `stall_s`."""

    def __init__(
        self,
        client: Client,
        clock: Clock,
        *,
        bases: Sequence[str],
        name: str,
        terminal: str,
        root: bytes,
        built_at_s: int,
        stall_s: float,
    ) -> None:
        self._client, self._clock, self._name, self._terminal = client, clock, name, terminal
        self._bases = in_order([base.rstrip("/") for base in bases], terminal)
        self._root, self._built_at_s, self._stall_s = root, built_at_s, stall_s

    def exchange(self, args: Mapping[str, Any]) -> Iterator[Message]:
        """The verb `exchange` as of fetcher.ddi, with the `serial` that was seen. Raises FetchError."""
        for letter in list(args.get("letters", ())):
            yield {"progress": {"acknowledged": letter["key"]}}
        running = str((args.get("attributes") or {}).get("version", ""))
        seen = args.get("serial", 0)
        yield {"result": told(first_that(self._bases, lambda base: self._heard(base, running, seen)))}

    def _heard(self, base: str, running: str, seen: int) -> Heard:
        data = self._read(f"{base}/channels/{self._name}.json", announcement.BYTES_MAX)
        offer = announcement.offer(data or b"", base)
        found = self._signed(base, json.loads(data or b""), seen)
        new = offer["version"] != running and found.reaches(self._terminal, offer["sha256"])
        if new:
            self._look_for(offer["url"])
        return Heard(
            sleep_s=float(found.poll_s), serial=found.serial, deployment=_deployment(offer, found) if new else None
        )

    def _signed(self, base: str, pointer: Mapping[str, Any], seen: int) -> Rollout:
        now_s = self._now_s()
        root = signers.newest_root(self._root, lambda n: self._read(f"{base}/roots/{n}.root.json", ROOT_BYTES_MAX))
        signatures = pointer.get(SIGNATURES)
        if not isinstance(signatures, dict):
            raise FetchError(
                "signature_invalid", "the channel's file is not signed (posagent-release repo publish --keys)"
            )
        signers.check(root, channel.signed_part(pointer), signatures, now_s)
        try:
            found = channel.rollout_of(pointer)
        except (KeyError, TypeError, ValueError):
            raise FetchError(
                "fetch_pointer", "what the channel's file says of the roll-out is not understood"
            ) from None
        if found.channel != self._name:
            raise FetchError("signature_invalid", f"it was signed for the channel {found.channel[:40]!r}")
        if found.serial < seen:
            detail = f"the channel's file {found.serial} is older than {seen}, which this terminal has seen"
            raise FetchError("repository_rollback", detail)
        if found.expires_at_s <= now_s:
            detail = f"the channel's file was good until {found.expires_at_s}; the terminal believes {int(now_s)}"
            raise FetchError("repository_stale", detail)
        return found

    def _now_s(self) -> float:
        wall = self._clock.wall()
        if self._built_at_s and wall > self._built_at_s + CLOCK_AHEAD_S_MAX:
            return float(self._built_at_s)
        return max(wall, float(self._built_at_s))

    def _read(self, url: str, bytes_max: int) -> bytes | None:
        """A small file; None where there is none."""
        answer = self._client.get(Asked(url=url))
        try:
            if answer.status == 404:
                return None
            if answer.status != 200:
                raise answer.trouble()
            if answer.html:
                raise FetchError("fetch_portal")
            return announcement.bounded(answer, self._clock, self._stall_s, bytes_max)
        finally:
            answer.close()

    def _look_for(self, url: str) -> None:
        """Raises FetchError where the bundle is not there."""
        answer = self._client.get(Asked(url=url, offset=0, length=1))
        answer.close()
        if answer.status not in (200, 206):
            raise answer.trouble()


def in_order(bases: Sequence[str], terminal: str) -> list[str]:
    """The addresses in which a terminal asks: its own order, the same each time."""
    return sorted(bases, key=lambda base: hashlib.sha256(f"{base}\n{terminal}".encode()).digest())


def first_that(bases: Sequence[str], ask: Callable[[str], T]) -> T:
    """What the first of them answers that can. Raises FetchError, of the last."""
    trouble = FetchError("fetch_pointer", "no repository is configured (fetch.repository_url)")
    for base in bases:
        try:
            return ask(base)
        except FetchError as error:
            trouble = error
    raise trouble


def _deployment(offer: Mapping[str, Any], found: Rollout) -> Deployment:
    how = fleet.FORCED if found.forced else fleet.ATTEMPT
    one = Artifact(name=offer["version"], url=offer["url"], length=offer["length"], sha256=offer["sha256"])
    return Deployment(
        action=f"{offer['sha256'][:16]}-{found.attempt}",
        version=offer["version"],
        artifacts=(one,),
        download=how,
        update=how,
        standing=True,
    )
