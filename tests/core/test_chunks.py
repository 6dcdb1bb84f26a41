"""Sealed texts of any length open whole and in their order, or not at all."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from posagent.core.chunks import Stream, split
from posagent.core.errors import BundleError
from posagent.core.seal import Seal, locked, unlocked

SEAL = Seal(bytes(range(32)))


def closed(text: bytes, head: bytes = b"head") -> list[bytes]:
    stream = Stream(SEAL, head)
    return [stream.close(part, last) for part, last in split(text, 4)]


def opened(chunks: list[bytes], head: bytes = b"head") -> bytes:
    stream = Stream(SEAL, head)
    return b"".join(stream.open(chunk, at == len(chunks) - 1) for at, chunk in enumerate(chunks))


@given(st.binary(max_size=20))
def test_a_text_of_any_length_comes_back(text: bytes) -> None:
    assert opened(closed(text)) == text


def test_no_text_at_all_is_one_too() -> None:
    assert len(closed(b"")) == 1


@given(st.permutations(range(4)))
def test_no_other_order_opens(order: list[int]) -> None:
    chunks = closed(b"abcdefghijklmnop")
    if order == sorted(order):
        return
    with pytest.raises(BundleError):
        opened([chunks[at] for at in order])


@pytest.mark.parametrize("count", [1, 2, 3])
def test_a_beginning_alone_does_not_open(count: int) -> None:
    with pytest.raises(BundleError):
        opened(closed(b"abcdefghijklmnop")[:count])


def test_what_stands_before_them_is_bound_to_them() -> None:
    with pytest.raises(BundleError):
        opened(closed(b"abc"), b"another head")


def test_a_locked_key_opens_with_its_key_alone() -> None:
    key, other = bytes(32), bytes(range(32))
    wrapped = locked(key, other)
    assert unlocked(wrapped, other) == key
    for bad, with_key in ((wrapped, key), (wrapped[:-1] + b"\0", other), (b"", other), (wrapped[:24], other)):
        with pytest.raises(ValueError):
            unlocked(bad, with_key)
