"""Parts of a file: which are there, which are missing, and how few requests fetch them."""

from __future__ import annotations

import itertools
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from posagent.core import pieces
from posagent.core.pieces import Pieces, joined


def test_what_is_there_is_found_in_the_order_it_was_fetched() -> None:
    there = Pieces([(100, 50), (0, 10), (150, 10)], 70)
    assert list(there.find(100, 60)) == [(True, 0, 50), (True, 60, 10)]
    assert list(there.find(5, 10)) == [(True, 55, 5), (False, 10, 5)]
    assert there.missing([(0, 200)]) == [(10, 90), (160, 40)]


def test_the_last_piece_may_be_there_in_part() -> None:
    assert Pieces([(0, 10), (50, 10)], 13).missing([(50, 10)]) == [(53, 7)]


@given(st.lists(st.tuples(st.integers(0, 60), st.integers(1, 20)), max_size=6), st.integers(0, 80), st.integers(0, 40))
def test_every_byte_is_there_or_missing_exactly_once(chosen: list[tuple[int, int]], offset: int, length: int) -> None:
    file, spool = bytes(range(120)), b""
    parts: list[tuple[int, int]] = []
    for at, size in chosen:
        for begin, count in Pieces(parts, len(spool)).missing([(at, size)]):
            parts.append((begin, count))
            spool += file[begin : begin + count]
    there, at, held = (
        Pieces(parts, len(spool)),
        offset,
        {byte for begin, count in parts for byte in file[begin:][:count]},
    )
    for is_there, place, count in there.find(offset, length):
        assert count > 0
        for step in range(count):
            assert is_there == (file[at + step] in held)
            assert not is_there or spool[place + step] == file[at + step]
            assert is_there or place + step == at + step
        at += count
    assert at == offset + length


@given(st.lists(st.tuples(st.integers(0, 10**6), st.integers(1, 5000)), max_size=40), st.integers(1, 10))
def test_joined_pieces_hold_all_that_was_wanted_in_few_requests(wanted: list[tuple[int, int]], most: int) -> None:
    found = joined(wanted, 0, most)
    assert len(found) <= most and found == sorted(found)
    assert all(first[0] + first[1] < second[0] for first, second in itertools.pairwise(found))
    for offset, length in wanted:
        assert any(at <= offset and offset + length <= at + size for at, size in found)


def test_neighbours_with_a_small_gap_are_fetched_in_one() -> None:
    assert joined([(0, 10), (15, 5), (40, 5)], 5) == [(0, 20), (40, 5)]
    assert joined([(0, 10), (11, 5)], 0) == [(0, 10), (11, 5)]


@pytest.mark.parametrize(
    "value", [None, {}, [1], [[1]], [[1, 2, 3]], [[1, -1]], [[1, "2"]], [[True, 1]], [[1, 2]] * 5000]
)
def test_what_is_no_list_of_pieces_is_none(value: Any) -> None:
    assert pieces.of(value) is None


def test_pieces_come_back_from_json() -> None:
    assert pieces.of([[0, 5], [9, 1]]) == [(0, 5), (9, 1)]
