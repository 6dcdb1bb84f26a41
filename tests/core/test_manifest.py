"""What the terminal believes about a system image, and what it refuses to read."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from posagent.core import manifest
from posagent.core.errors import BundleError
from posagent.core.manifest import Manifest

GOOD: dict[str, Any] = {
    "format": 1,
    "component": "system",
    "version": "2026.11-rc1",
    "security_counter": 3,
    "hw_ids": ["pos-a", "pos-b"],
    "min_hw_rev": 2,
    "header_sha256": "a" * 64,
    "image_size": 1 << 20,
    "image_sha256": "b" * 64,
    "profile": {"write_bytes_per_s": 5_000_000},
}
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=80),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=10), inner, max_size=4),
    max_leaves=8,
)


def read(custom: Any = GOOD, *, target: str = "system.payload", length: Any = 10, sha256: Any = "c" * 64) -> Manifest:
    return manifest.from_custom(target, length=length, sha256=sha256, custom=custom)


def test_what_the_builder_signs_is_what_the_terminal_reads() -> None:
    found = read()
    assert found.hw_ids == ("pos-a", "pos-b")
    assert found.member == "c" * 64 + ".system.payload"
    assert read(found.as_custom()) == found
    assert not found.whole and read({**GOOD, "whole": True}).whole
    assert read(read({**GOOD, "whole": True}).as_custom()).whole


def test_fields_of_a_later_release_are_ignored() -> None:
    assert read({**GOOD, "migration": {"steps": 3}}) == read()


@pytest.mark.parametrize(
    "change",
    [
        {"format": 2},
        {"component": "printer"},
        {"version": ""},
        {"version": "a b"},
        {"version": "x" * 65},
        {"version": "1\n"},
        {"version": "../1"},
        {"security_counter": -1},
        {"security_counter": True},
        {"security_counter": 1 << 31},
        {"security_counter": "3"},
        {"hw_ids": []},
        {"hw_ids": "pos-a"},
        {"hw_ids": ["x"] * 65},
        {"hw_ids": [1]},
        {"min_hw_rev": 65536},
        {"header_sha256": "A" * 64},
        {"image_size": 0},
        {"image_sha256": None},
        {"whole": 1},
        {"profile": []},
        {"profile": {"a": 1.5}},
        {"profile": {str(n): n for n in range(33)}},
    ],
    ids=str,
)
def test_a_manifest_out_of_bounds_is_unreadable(change: dict[str, Any]) -> None:
    with pytest.raises(BundleError) as caught:
        read({**GOOD, **change})
    assert caught.value.code == "bundle_unreadable"


@pytest.mark.parametrize("target", ["", "../x", "a/b", "x" * 28, "a b"])
def test_a_target_whose_name_could_not_lie_in_a_bundle_is_unreadable(target: str) -> None:
    with pytest.raises(BundleError):
        read(target=target)


@given(st.dictionaries(st.sampled_from(sorted(GOOD)), VALUES), VALUES, VALUES)
def test_any_manifest_is_read_or_refused_with_a_code(change: dict[str, Any], length: Any, sha256: Any) -> None:
    try:
        read({**GOOD, **change}, length=length, sha256=sha256)
    except BundleError as error:
        assert error.code == "bundle_unreadable"


@given(VALUES)
def test_any_custom_field_is_read_or_refused_with_a_code(custom: Any) -> None:
    with pytest.raises(BundleError):
        read(custom)
