"""Codes for the phone: the right one is understood however it is written, a wrong one is never another right one."""

from __future__ import annotations

import hashlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from posagent.core.spoken import ALPHABET, code_of, heard

DIGESTS = st.binary(min_size=32, max_size=32)


@given(DIGESTS)
def test_a_code_has_two_groups_of_four_and_is_understood_as_people_write_it(digest: bytes) -> None:
    code = code_of(digest)
    first, second = code.split("-")
    assert len(first) == len(second) == 4 and set(first + second) <= set(ALPHABET)
    sloppy = code.lower().replace("-", " ").replace("0", "o").replace("1", "l")
    assert heard(code) == heard(sloppy) == heard(code.replace("-", "")) == code


def test_every_single_wrong_character_and_every_swap_of_two_is_noticed() -> None:
    plain = code_of(hashlib.sha256(b"a bundle").digest()).replace("-", "")
    wrong = {plain[:at] + one + plain[at + 1 :] for at in range(8) for one in ALPHABET}
    for a in range(8):
        for b in range(a):
            swapped = list(plain)
            swapped[a], swapped[b] = swapped[b], swapped[a]
            wrong.add("".join(swapped))
    wrong.discard(plain)
    assert len(wrong) > 8 * 31
    for text in wrong:
        with pytest.raises(ValueError, match="wrong"):
            heard(text)


@pytest.mark.parametrize("text", ["", "7K3M", "7K3M-Q2XAA", "7K3M-Q2X*", "UUUU-UUUU", "７K3M-Q2XA"])
def test_what_is_no_code_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="eight letters"):
        heard(text)


@given(DIGESTS, DIGESTS)
def test_digests_that_differ_in_their_first_bits_have_different_codes(one: bytes, other: bytes) -> None:
    same_bits = int.from_bytes(one[:5], "big") >> 5 == int.from_bytes(other[:5], "big") >> 5
    assert (code_of(one) == code_of(other)) == same_bits
