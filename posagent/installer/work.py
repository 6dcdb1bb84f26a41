"""What is left to do until the new image is in the spare slot, and what of the bundle that takes.

A delta for the running image is preferred; where blocks of the running slot are not what it was made from, the full
payload fills in for those extents only. A delta whose codec packs into other bytes here is not used. Without a delta,
operations of the full payload are copied from the running slot where their bytes lie in it anywhere; where most of what
one large operation of the whole payload makes is in neither slot, that is fewer bytes than the small ones, and taken
where it saves enough of them (core.packing).
Rules: the slots' content is the truth, nothing else is remembered: what an earlier attempt left in the spare slot is
found by its digests, so that a write can be interrupted anywhere and planned again at any time.
"""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import cached_property
from typing import TYPE_CHECKING, NamedTuple

from posagent.core import packing
from posagent.core.bundle import Bundle, Missing
from posagent.core.codec import Codec, Codecs, CodecSpec, no_codecs, spec_of
from posagent.core.errors import BundleError
from posagent.core.extents import BLOCK_BYTES, Extent, spans
from posagent.core.manifest import Manifest
from posagent.core.payload import Header, Kind, Operation, read_header
from posagent.core.pieces import Piece
from posagent.core.ports import Medium
from posagent.installer.elsewhere import Elsewhere, anchor_of
from posagent.installer.groups import Group, Member, Payload, grouped, in_turns, missing
from posagent.installer.operations import READ_BYTES, Bytes, is_made, made, read, source_of

if TYPE_CHECKING:
    from posagent.core.seal import Seal

LOOKED_AT = 8
"""One of so many operations is, after so many that began unlike the slot."""


class Step(NamedTuple):
    """One operation: its extents in bytes, what it makes (empty where that is known to be there), and its digest; and
    whether its first block is another than the slot's, or probably."""

    places: list[tuple[int, int]]
    wanted: Bytes
    sha256: bytes
    begins_unlike: bool = False


class Work:
    """`manifests` are of one image; `running` and `spare` are the slots, `digest` the running image's where it is
    known; `unseal` opens encrypted payloads, `codecs` finds what packs the pieces of compressed images. Raises
    BundleError, OSError, and Missing for parts of the bundle that are not there. Without `whole`, only small operations
    are planned."""

    def __init__(
        self,
        bundle: Bundle,
        manifests: Sequence[Manifest],
        *,
        running: Medium,
        spare: Medium,
        digest: str,
        unseal: Callable[[Mapping[str, str]], Seal],
        codecs: Codecs = no_codecs,
        whole: bool = True,
    ) -> None:
        self._bundle, self._unseal, self._codecs = bundle, unseal, codecs
        self._running, self.spare = running, spare
        self.manifest = manifests[0]
        self._opened: list[Payload] = []
        self.refused = ""
        """The code of why a delta that was made from the running image is not used."""
        self.large = self.small = 0
        """Bytes of the image that the planned operations of either kind make."""
        self._digests: dict[int, str] = {}
        """Of the running image's first so many bytes."""
        alone = sorted((one for one in manifests if not one.source_sha256), key=lambda one: one.whole)
        self._full = alone[0] if alone else None
        self._whole = alone[-1] if whole and alone and alone[-1].whole else None
        self._delta = next((one for one in manifests if one.source_sha256 and self._runs(one, digest)), None)
        if self._full is None and self._delta is None:
            raise BundleError("source_differs", "the bundle has no payload for the image that runs here")

    @property
    def tables(self) -> list[Piece]:
        """The parts of the bundle that were needed to plan, and will be again."""
        return [*self._bundle.walked, *((one.data.start, one.header.length) for one in self._opened)]

    def _runs(self, delta: Manifest, digest: str) -> bool:
        """Whether the delta was made from the running image; one that nobody wrote here is known by its bytes."""
        if digest:
            return digest == delta.source_sha256
        size = min(delta.source_size, self._running.size)
        if size not in self._digests:
            found = hashlib.sha256()
            for at in range(0, size, READ_BYTES):
                found.update(self._running.pread(at, min(READ_BYTES, size - at)))
            self._digests[size] = found.hexdigest()
        return self._digests[size] == delta.source_sha256

    @property
    def kind(self) -> str:
        """How the image comes here: `delta` or `full`."""
        return "full" if self._delta is None else "delta"

    def plan(self, wanted: list[Piece], price: float = packing.FEWEST) -> Iterator[int]:
        """Add to `wanted` the parts of the bundle that are needed, whether they are there or not; yields bytes of the
        image looked at. A large operation has to save the `price`, unless it is there."""
        bad: list[Extent] = []
        for small, large in self._groups(bad, planned=True):
            needed = [one for one in small if self._is_needed(*one, bad)]
            if large is not None and _pays(large, needed, price):
                needed = [large]
                self.large += large[0].header.size(large[1])
            elif self._delta is None:
                self.small += sum(payload.header.size(operation) for payload, operation in needed)
            wanted += [(payload.data.start + operation.offset, operation.length) for payload, operation in needed]
            yield sum(payload.header.size(operation) for payload, operation in small)

    def _is_needed(self, payload: Payload, operation: Operation, bad: list[Extent]) -> bool:
        """Whether its stored bytes are; where the source is another one, its extents are `bad`."""
        header = payload.header
        if operation.kind is not Kind.ZERO and not self._is_there(operation, header):
            try:
                source_of(operation, header, self._running)
            except BundleError:
                bad.extend(operation.target)
            else:
                return operation.length > 0 and self._elsewhere(operation, header) is None
        return False

    def check(self) -> Iterator[int]:
        """Make everything once that is not there; yields bytes of the image."""
        bad: list[Extent] = []
        for payload, operation, _, _ in self._made(self._chosen(bad), bad):
            yield payload.header.size(operation)

    def parts(self, *, partial: bool = False, most: int = 1, turn_bytes: int = READ_BYTES) -> list[Iterator[Step]]:
        """Every operation, in parts that may be made at the same time: by turns, each of so many bytes or a little
        more. Together they make the image; a `partial` one leaves out what was not fetched. More than one only where
        all are small, because large ones take much memory: the zeros, which mostly are only read, and up to `most`."""
        bad: list[Extent] = []
        chosen = self._chosen(bad)
        if most > 1 and not partial and (self._delta is None or self._delta_payload is None):
            members = list(chosen)
            if all(operation.kind is not Kind.DENSE for _, operation in members):
                self._found  # noqa: B018 - one for all parts; it reads when the first of them asks
                zeros = [one for one in members if one[1].kind is Kind.ZERO]
                others = [one for one in members if one[1].kind is not Kind.ZERO]
                parts = (zeros, *in_turns(others, most, turn_bytes))
                return [self._steps(part, bad, partial) for part in parts if part]
            chosen = iter(members)
        return [self._steps(chosen, bad, partial)]

    def _steps(self, chosen: Iterable[Member], bad: list[Extent], partial: bool) -> Iterator[Step]:
        for payload, operation, result, begins_unlike in self._made(chosen, bad, partial):
            places = list(spans(operation.target, payload.header.image_size))
            step = Step(places, result, operation.sha256, begins_unlike)
            del result  # or it would live on while the next is made
            yield step
            del step

    def _chosen(self, bad: list[Extent]) -> Iterator[Member]:
        """The operations to do. Large ones where they were fetched and not all of their small ones, which unpack
        faster, are there."""
        for small, large in self._groups(bad):
            yield from small if large is None or missing(large) or not any(map(missing, small)) else (large,)

    def _made(
        self, chosen: Iterable[Member], bad: list[Extent], partial: bool = False
    ) -> Iterator[tuple[Payload, Operation, Bytes, bool]]:
        """Each operation with the bytes it makes, or none where its stored bytes are not needed, because those that it
        makes are there; and whether it begins unlike the slot. Where some in a row do, only few of the next are looked
        at; where the last one was there, a small one is read at once. The extents of those whose source is another one
        are `bad`.
        """
        unlike, alike = 0, False
        for payload, operation in chosen:
            begins_unlike = False
            if operation.kind is not Kind.ZERO:
                settled = unlike >= LOOKED_AT and unlike % LOOKED_AT > 0  # a copy is large: it is always looked at
                passed_over = settled and operation.length > 0 and not missing((payload, operation))
                if alike and operation.kind is Kind.DATA:
                    there = read(self.spare, operation.target, payload.header.image_size)
                    alike = is_made(operation, there)
                    begins_unlike = not alike and anchor_of(memoryview(there)[:BLOCK_BYTES]) != operation.anchor
                else:
                    begins_unlike = passed_over or not self._begins_like(operation)
                    alike = not begins_unlike and self._is_whole(operation, payload.header)
                unlike = unlike + 1 if begins_unlike else 0
                if alike:
                    yield payload, operation, b"", False
                    continue
            try:
                result = self._result(payload, operation)
            except Missing:
                if not partial:
                    raise
                continue
            except BundleError as error:
                if error.code != "source_differs" or self._full is None:
                    raise
                bad.extend(operation.target)
                continue
            made_now = (payload, operation, result, begins_unlike)
            del result
            yield made_now
            del made_now

    def _result(self, payload: Payload, operation: Operation) -> Bytes:
        """What the operation makes; found in the running slot where its stored bytes were not fetched."""
        try:
            return made(operation, payload.header, payload.data, self._running, payload.seal, payload.codecs)
        except Missing:
            found = self._elsewhere(operation, payload.header)
            if found is None:
                raise
            return found

    def _groups(self, bad: list[Extent], planned: bool = False) -> Iterator[Group]:
        """The operations of the delta, then those of the full payload for the extents that were found `bad`; without a
        delta all of the full payload, together with the large ones of the whole payload, which is there, or must be
        for it to be `planned`."""
        delta = self._delta_payload if self._delta is not None else None
        if delta is None:
            yield from grouped(self._full_payload, self._whole_payload(planned))
            return
        yield from grouped(delta)
        if bad:
            full = self._full_payload
            hurt = {number for start, count in bad for number in range(start, start + count)}
            for operation in full.header.operations:
                if any(number in hurt for start, count in operation.target for number in range(start, start + count)):
                    yield Group([(full, operation)])

    @cached_property
    def _delta_payload(self) -> Payload | None:
        """None, and no delta from then on, where its codecs are not to be had here, or it was left out."""
        assert self._delta is not None
        if self._full is not None and self._bundle.target(self._delta.member) is None:
            self._delta = None
            return None
        try:
            return self._open(self._delta)
        except BundleError as error:
            if error.code != "codec_differs" or self._full is None:
                raise
            self._delta, self.refused = None, error.code
            return None

    @cached_property
    def _full_payload(self) -> Payload:
        """The whole one instead, where the full one was left out (field.parcel)."""
        if self._full is None:
            raise BundleError("source_differs", "the bundle has nothing else for what the delta cannot make here")
        if self._whole not in (None, self._full) and self._bundle.target(self._full.member) is None:
            self._full = self._whole
        return self._open(self._full)

    def _whole_payload(self, planned: bool) -> Payload | None:
        if self._whole is None or self._whole is self._full:
            return None
        full = self._full_payload.data
        if not planned and not full.missing(0, full.size):
            return None  # small operations unpack faster
        try:
            if self._bundle.target(self._whole.member) is None:
                return None  # it was left out
            return self._open(self._whole)
        except Missing:
            if planned:
                raise
            return None  # a plan without it was made

    def _open(self, manifest: Manifest) -> Payload:
        data = self._bundle.target(manifest.member)
        if data is None:
            raise BundleError("bundle_partial", f"the bundle lacks {manifest.target}")
        seal = self._unseal(manifest.sealed) if manifest.sealed else None
        header = read_header(data, manifest)
        payload = Payload(data, header, seal, ())
        self._opened.append(payload)  # whatever comes of it, its table was needed
        return dataclasses.replace(payload, codecs=tuple(map(self._codec, header.codecs)))

    def _codec(self, spec: CodecSpec) -> Codec:
        """The codec that packs here like there. Raises BundleError `codec_differs`."""
        codec = self._codecs(spec.kind, spec.level)
        if codec is None:
            raise BundleError("codec_differs", f"the delta needs {spec}, which is not here")
        try:
            here = spec_of(spec.kind, spec.level, codec)
        except ValueError:
            raise BundleError("codec_differs", f"the delta needs {spec}, which fails here") from None
        if here != spec:
            raise BundleError("codec_differs", f"the delta needs {spec}; here is {here}, perhaps another build")
        return codec

    def _is_there(self, operation: Operation, header: Header) -> bool:
        """Whether its extents of the spare slot hold what it makes; of most others the first block tells."""
        return self._begins_like(operation) and self._is_whole(operation, header)

    def _begins_like(self, operation: Operation) -> bool:
        first = self.spare.pread(operation.target[0].start * BLOCK_BYTES, BLOCK_BYTES)
        if operation.kind is Kind.COPY:
            return first == self._running.pread(operation.source[0].start * BLOCK_BYTES, BLOCK_BYTES)
        return anchor_of(first) == operation.anchor

    def _is_whole(self, operation: Operation, header: Header) -> bool:
        return is_made(operation, read(self.spare, operation.target, header.image_size))

    @cached_property
    def _found(self) -> Elsewhere:
        return Elsewhere(self._running, self._full_payload.header.operations)

    def _elsewhere(self, operation: Operation, header: Header) -> Bytes | None:
        """What the operation makes, found in the running slot where there is no delta."""
        return self._found.find(operation, header) if operation.kind is Kind.DATA and self._delta is None else None


def _pays(large: Member, small: Sequence[Member], price: float) -> bool:
    payload, operation = large
    left = missing(large)
    image_bytes = payload.header.size(operation) if left else 0  # one that is there is not fetched again as small ones
    return packing.pays(sum(map(missing, small)) - left, image_bytes, price)
