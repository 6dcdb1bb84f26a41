"""A repository without a server in place of a fleet server: the same exchange, against a web server's plain files.

Owns: what a channel's signed file becomes for the agent: a deployment where the roll-out has reached this terminal, and
nothing where it has not, or is stopped. Letters have nobody who reads them: they count as delivered.
Rules: a file counts only with the release desk's signature, as long as it is fresh, and not below the serial number
that this terminal has seen of the same channel and keys, nor under an older root than it has seen. Of the repository
and its mirrors the newest file counts, so that none of them can hold back a stop alone; the bundle comes from the first
that has all of it, in an order of each terminal's own, so that they share the work.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from posagent.core import channel, fleet, signed
from posagent.core.channel import SIGNATURES, Rollout
from posagent.core.errors import FetchError
from posagent.core.fleet import Artifact, Deployment, Heard
from posagent.core.ports import Clock, Message
from posagent.fetcher import announcement, signers
from posagent.fetcher.ddi import told
from posagent.fetcher.http import Asked, Client

ROOT_BYTES_MAX = 64 << 10
_SEEN = re.compile(r"([0-9a-f]{16}) ([0-9]{1,16}) ([0-9]{1,9})")


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
        """The verb `exchange` as of fetcher.ddi, with what was `seen`. Raises FetchError."""
        for letter in list(args.get("letters", ())):
            yield {"progress": {"acknowledged": letter["key"]}}
        running = str((args.get("attributes") or {}).get("version", ""))
        yield {"result": told(self._heard(running, Seen.of(str(args.get("seen", "")))))}

    def _heard(self, running: str, seen: Seen) -> Heard:
        word = self._newest(seen)
        found, deployment = word.rollout, None
        if word.offer["version"] != running and found.reaches(self._terminal, word.offer["sha256"]):
            base = self._with_bundle(word)
            deployment = _deployment(word, base, self._now_s())
        return Heard(sleep_s=float(found.poll_s), seen=str(word.seen), deployment=deployment)

    def _newest(self, seen: Seen) -> Word:
        """What the repository and its mirrors say, the newest of it. Raises FetchError where none says anything that
        counts."""
        words: list[Word] = []
        trouble = FetchError("fetch_pointer", "no repository is configured (fetch.repository_url)")
        for base in self._bases:
            try:
                words.append(self._word(base, seen))
            except FetchError as error:
                trouble = error
        if not words:
            raise trouble
        return max(words, key=lambda word: word.rollout.serial)  # of equals the first in this terminal's order

    def _word(self, base: str, seen: Seen) -> Word:
        data = self._read(f"{base}/channels/{self._name}.json", announcement.BYTES_MAX)
        offer = announcement.offer(data or b"", base)
        pointer, now_s = json.loads(data or b""), self._now_s()
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
        own = Seen(realm=realm_of(self._name, signers.keys_of(root)), serial=found.serial, root=root.version)
        if own.root < seen.root or (own.realm == seen.realm and own.serial < seen.serial):
            detail = f"the channel's file {own.serial}, root {own.root}, is older than what this terminal has seen"
            raise FetchError("repository_rollback", f"{detail}: {seen.serial}, {seen.root}")
        if found.expires_at_s <= now_s:
            detail = f"the channel's file was good until {found.expires_at_s}; the terminal believes {int(now_s)}"
            raise FetchError("repository_stale", detail)
        return Word(offer, found, own, str(pointer["bundle"]))

    def _now_s(self) -> float:
        return signed.reference_s(self._clock.wall(), float(self._built_at_s))

    def _read(self, url: str, bytes_max: int) -> bytes | None:
        """A small file; None where there is none. Object storage that may not be listed says 403 then."""
        answer = self._client.get(Asked(url=url))
        try:
            if answer.status in (403, 404, 410):
                return None
            if answer.status != 200:
                raise answer.trouble()
            if answer.html:
                raise FetchError("fetch_portal")
            return announcement.bounded(answer, self._clock, self._stall_s, bytes_max)
        finally:
            answer.close()

    def _with_bundle(self, word: Word) -> str:
        """The first of the addresses that has the whole bundle. Raises FetchError."""
        trouble = FetchError("fetch_status", "no repository has the bundle")
        for base in self._bases:
            try:
                answer = self._client.get(Asked(url=f"{base}/{word.path}", offset=0, length=1))
                answer.close()
            except FetchError as error:
                trouble = error
                continue
            if answer.status in (200, 206) and answer.length == word.offer["length"]:
                return base
            trouble = answer.trouble() if answer.status >= 300 else FetchError("fetch_length", f"{base}/{word.path}")
        raise trouble


@dataclass(frozen=True, slots=True)
class Seen:
    """What this terminal has seen of a channel: whose it is (`realm`), its newest serial number, and the root's."""

    realm: str = ""
    serial: int = 0
    root: int = 0

    def __str__(self) -> str:
        return f"{self.realm} {self.serial} {self.root}"

    @staticmethod
    def of(text: str) -> Seen:
        """Nothing was seen where that is not understood."""
        found = _SEEN.fullmatch(text)
        return Seen() if found is None else Seen(found[1], int(found[2]), int(found[3]))


@dataclass(frozen=True, slots=True)
class Word:
    """What one address says: `path` is where the bundle is on all of them."""

    offer: Mapping[str, Any]
    rollout: Rollout
    seen: Seen
    path: str


def realm_of(name: str, keyids: Sequence[str]) -> str:
    """Serial numbers of another channel, or of keys that were exchanged since, count for nothing: whoever had a key
    that was stolen must not be able to make terminals deaf for good."""
    return hashlib.sha256("\n".join([name, *sorted(keyids)]).encode()).hexdigest()[:16]


def in_order(bases: Sequence[str], terminal: str) -> list[str]:
    """The addresses in a terminal's own order, the same each time."""
    return sorted(bases, key=lambda base: hashlib.sha256(f"{base}\n{terminal}".encode()).digest())


def _deployment(word: Word, base: str, now_s: float) -> Deployment:
    offer, found = word.offer, word.rollout
    how = fleet.FORCED if found.forced else fleet.ATTEMPT
    one = Artifact(name=offer["version"], url=f"{base}/{word.path}", length=offer["length"], sha256=offer["sha256"])
    left_s = found.expires_at_s - now_s
    step_s = 3600 if left_s >= 3600 else 60  # so that not each poll says something else
    return Deployment(
        action=f"{offer['sha256'][:16]}-{found.attempt}",
        version=offer["version"],
        artifacts=(one,),
        download=how,
        update=how,
        standing=True,
        lasts_s=float(max(left_s // step_s * step_s, 60)),
    )
