"""Dense data makes what it was made from, and anything else is refused within bounds."""

from __future__ import annotations

import lzma
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from posagent.core import dense
from posagent.core.dense import FILTERS, PACKING, unpacked
from posagent.core.errors import BundleError
from posagent.release.dense import filter_for, packed

CALL = b"\xe8\x00\x10\x00\x00some code "


def refusal(stored: bytes, size: int) -> str:
    with pytest.raises(BundleError) as caught:
        unpacked(stored, size)
    return caught.value.code


@given(st.binary(max_size=300), st.integers(0, len(FILTERS) - 1), st.sampled_from([1, 19]))
def test_what_is_packed_comes_back(part: bytes, number: int, level: int) -> None:
    raw = part * 400 + CALL * 30
    assert unpacked(packed(raw, number, level), len(raw)) == raw


@given(st.binary(max_size=200), st.integers(0, 200))
def test_other_bytes_are_corrupt(stored: bytes, size: int) -> None:
    try:
        assert len(unpacked(stored, size)) == size
    except BundleError as error:
        assert error.code == "payload_corrupt"


def test_sizes_must_be_exact() -> None:
    raw = random.Random(1).randbytes(3 * dense.PIECE_BYTES)
    stored = packed(raw, 0, 1)
    for wrong in (stored[:-1], stored[: len(stored) // 2], stored + b"\0", b"", b"\xff" + stored[1:]):
        assert refusal(wrong, len(raw)) == "payload_corrupt"
    for size in (0, len(raw) - 1, len(raw) + 1):
        assert refusal(stored, size) == "payload_corrupt"


def test_few_bytes_cannot_become_many() -> None:
    bomb = b"\0" + lzma.compress(bytes(1 << 26), lzma.FORMAT_RAW, filters=[PACKING])
    assert refusal(bomb, 1000) == "payload_corrupt"


def test_the_filter_is_that_of_most_programs() -> None:
    def program(machine: int) -> bytes:
        return (b"\x7fELF" + bytes(14) + machine.to_bytes(2, "little")).ljust(4096, b"\0")

    assert filter_for(program(62) + bytes(4096) + program(62) + program(40)) == 1
    assert filter_for(program(40)) == 3
    assert filter_for(program(183)) == 0  # AArch64: Python's liblzma has none for it
    assert filter_for(bytes(8192)) == 0


def test_code_that_calls_the_same_from_many_places_packs_better_with_the_filter() -> None:
    code = b"".join(
        bytes([number % 7]) * 3 + b"\xe8" + ((1 << 20) - number * 8 - 8).to_bytes(4, "little") for number in range(4000)
    )
    assert len(packed(code, 1, 19)) < 0.7 * len(packed(code, 0, 19))
