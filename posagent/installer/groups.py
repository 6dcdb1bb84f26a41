"""In which order a payload's operations are done, which small ones a large one of another payload makes as well, and
what of them lies in the spool.

A small operation of the full payload need not be fetched where its bytes are in a slot; a large one of the whole
payload takes fewer bytes than all of its small ones together. Which way costs less is decided for each group.
"""

from __future__ import annotations

import heapq
from bisect import bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import accumulate
from operator import itemgetter
from typing import TYPE_CHECKING, NamedTuple

from posagent.core.bundle import Window
from posagent.core.codec import Codec
from posagent.core.extents import Extent
from posagent.core.payload import Header, Kind, Operation

if TYPE_CHECKING:
    from posagent.core.seal import Seal


@dataclass(frozen=True, slots=True)
class Payload:
    """One payload of the bundle, with its authentic header, what opens it where it is encrypted, and its codecs."""

    data: Window
    header: Header
    seal: Seal | None
    codecs: Sequence[Codec]


Member = tuple[Payload, Operation]


class Group(NamedTuple):
    """Small operations, and the large one that makes all that they make, if there is one."""

    small: Sequence[Member]
    large: Member | None = None


def grouped(payload: Payload, whole: Payload | None = None) -> Iterator[Group]:
    """The operations of the payload, those that one of the whole payload makes all of as a group. The zeros come evenly
    among the others: mostly they are there and are only read, which takes no time while others are written."""
    groups = list(_in_groups(payload, whole))
    zeros = [one for one in groups if one.small[0][1].kind is Kind.ZERO]
    others = [one for one in groups if one.small[0][1].kind is not Kind.ZERO]
    for _, group in heapq.merge(_with_shares(zeros), _with_shares(others), key=itemgetter(0)):
        yield group


def _with_shares(groups: Sequence[Group]) -> Iterator[tuple[float, Group]]:
    """Each with how much of what they all make is made before it."""
    sizes = [sum(payload.header.size(operation) for payload, operation in group.small) for group in groups]
    total = sum(sizes)
    return ((before / total, group) for before, group in zip(accumulate(sizes, initial=0), groups, strict=False))


def _in_groups(payload: Payload, whole: Payload | None) -> Iterator[Group]:
    large = [one for one in whole.header.operations if one.length] if whole is not None else []
    extents = sorted((*extent, number) for number, one in enumerate(large) for extent in one.target)
    groups: dict[int, list[Member]] = {}
    for operation in payload.header.operations:
        number = _within(extents, operation.target) if operation.length else None
        if number is None:
            yield Group([(payload, operation)])
        else:
            groups.setdefault(number, []).append((payload, operation))
    for number, small in groups.items():
        assert whole is not None
        yield Group(small, (whole, large[number]))


def _within(extents: Sequence[tuple[int, int, int]], target: Sequence[Extent]) -> int | None:
    """The number that belongs to the extents in which all of the target lies."""
    found = set()
    for start, count in target:
        begin, length, number = (
            extents[max(0, bisect_right(extents, (start, 1 << 62, 0)) - 1)] if extents else (0, 0, 0)
        )
        found.add(number if begin <= start and start + count <= begin + length else None)
    return found.pop() if len(found) == 1 else None


def in_turns(members: Sequence[Member], parts: int, turn_bytes: int) -> list[list[Member]]:
    """The first so many bytes, or a little more, for the first part, the next for the next: cut as the writer cuts what
    it takes at once, so that taking by turns keeps the order."""
    found: list[list[Member]] = [[] for _ in range(parts)]
    turn = size = 0
    for payload, operation in members:
        found[turn % parts].append((payload, operation))
        size += payload.header.size(operation)
        if size >= turn_bytes:
            turn, size = turn + 1, 0
    return found


def missing(one: Member) -> int:
    """How many of its stored bytes were not fetched."""
    payload, operation = one
    return payload.data.missing(operation.offset, operation.length)
