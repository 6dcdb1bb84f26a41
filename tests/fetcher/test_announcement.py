"""The repository's announcement: read, bounded, and never a way out of the repository."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar
from urllib.parse import urljoin, urlsplit

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from posagent.core.errors import FetchError
from posagent.fetcher.announcement import offer as _offer
from tests.fetcher.test_against_nginx import fetcher, refusal
from tests.fetcher.test_bad_servers import Scripted, reply


@pytest.fixture
def server() -> Iterator[Scripted]:
    made = Scripted()
    yield made
    made.close()


class TestAnnouncement:
    GOOD: ClassVar[dict[str, Any]] = {
        "format": 1,
        "version": "2.0.0",
        "bundle": "bundles/x.bundle",
        "length": 5,
        "sha256": "a" * 64,
    }

    def test_it_is_read(self) -> None:
        offer = _offer(json.dumps(self.GOOD).encode(), "https://x/r")
        told = {"payloads": [], "conditions": [], "not_after": 0, "contents": [], "reason": ""}
        found = {"version": "2.0.0", "url": "https://x/r/bundles/x.bundle", "length": 5, "sha256": "a" * 64}
        assert offer == {**found, **told}

    def test_what_is_announced_of_the_payloads_is_kept_as_far_as_it_is_known(self) -> None:
        payloads = [{"from": "b" * 64, "bytes": 5, "image_bytes": 9, "more": 1}]
        told = {"payloads": payloads, "conditions": ["confirm"], "contents": ["system"], "reason": "security"}
        offer = _offer(json.dumps({**self.GOOD, **told}).encode(), "https://x/r")
        assert offer["payloads"] == [{"from": "b" * 64, "bytes": 5, "image_bytes": 9}]
        assert (offer["conditions"], offer["reason"]) == (["confirm"], "security")

    @pytest.mark.parametrize(
        "change",
        [
            {"format": 2},
            {"version": ""},
            {"version": "x" * 65},
            {"bundle": "../x"},
            {"bundle": "/x"},
            {"bundle": "https://elsewhere/x"},
            {"bundle": "a//b"},
            {"bundle": "a\\b"},
            {"length": 0},
            {"length": True},
            {"length": "5"},
            {"sha256": "A" * 64},
            {"sha256": None},
            {"payloads": {}},
            {"payloads": [{"from": "x", "bytes": 1, "image_bytes": 1}]},
            {"payloads": [{"from": "", "bytes": 0, "image_bytes": 1}]},
            {"payloads": [{"from": "", "bytes": 1}]},
            {"payloads": [[]]},
            {"conditions": ["faith"]},
            {"contents": "all"},
            {"reason": "because"},
            {"not_after": -1},
        ],
    )
    def test_a_strange_one_is_refused(self, change: dict[str, Any]) -> None:
        with pytest.raises(FetchError, match="fetch_pointer"):
            _offer(json.dumps({**self.GOOD, **change}).encode(), "https://x")

    @settings(max_examples=200)
    @given(
        st.binary(max_size=200)
        | st.recursive(st.none() | st.integers() | st.text(), st.lists).map(lambda value: json.dumps(value).encode())
    )
    def test_no_bytes_crash_the_reader(self, data: bytes) -> None:
        with pytest.raises(FetchError, match="fetch_pointer"):
            _offer(data, "https://x")

    @given(
        st.fixed_dictionaries(
            {
                "format": st.just(1) | st.integers(),
                "version": st.text(max_size=70) | st.none(),
                "bundle": st.text("./\\:ab%?#@\n", max_size=12) | st.text(max_size=12),
                "length": st.integers(-1, 5) | st.floats() | st.booleans(),
                "sha256": st.just("a" * 64) | st.text("aF0", min_size=63, max_size=65),
            }
        )
    )
    def test_whatever_is_accepted_lies_inside_the_repository(self, pointer: dict[str, Any]) -> None:
        pointer = {**self.GOOD, **{name: value for name, value in pointer.items() if value is not None}}
        try:
            offer = _offer(json.dumps(pointer).encode(), "https://host/r")
        except FetchError as error:
            assert error.code == "fetch_pointer"
            return
        inside = urlsplit(urljoin(offer["url"], "."))
        assert (inside.scheme, inside.netloc, inside.query, inside.fragment) == ("https", "host", "", "")
        assert inside.path.startswith("/r/") and type(offer["length"]) is int and offer["length"] > 0

    def test_an_endless_one_is_refused(self, server: Scripted, tmp_path: Path) -> None:
        server.answers = [reply("200 OK", b"ENDLESS")]
        looking = fetcher(tmp_path, repository_url=server.url)
        assert refusal(looking.look({})).code == "fetch_pointer"
