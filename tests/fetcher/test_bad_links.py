"""Links that break all the time and power that goes away: what arrived stays, and what is fetched twice is little."""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest

from posagent.config import FetchConfig
from posagent.core.errors import FetchError
from posagent.core.ports import Message
from posagent.crash.medium import ALL, Medium, PowerCut
from posagent.fetcher.download import Fetcher
from posagent.fetcher.http import Asked

OPERATION_BYTES = 64 << 10


@dataclass(slots=True)
class Time:
    """core.ports.Clock that only the link and the fetcher's pauses move."""

    now: float = 0.0

    def monotonic(self) -> float:
        return self.now

    def wall(self) -> float:
        return self.now

    def pause(self, seconds: float) -> None:
        self.now += seconds


@dataclass(slots=True)
class Link:
    """fetcher.http.Client: a server with ranges, behind a link that brings so many bytes a second and breaks where
    `breaks` says: after so many more bytes, or never."""

    content: bytes
    time: Time
    bytes_per_s: float
    breaks: Iterator[int]
    chunk_bytes: int = 4096
    delivered: int = 0
    asked: int = 0
    ranges: bool = True
    """False for a proxy or server that sends the whole file whatever is asked for."""

    def get(self, asked: Asked) -> Any:
        self.asked += 1
        return Reply(self, asked, next(self.breaks, len(self.content)))


class Reply:
    """fetcher.http.Answer."""

    html, encoded, last_modified, etag = False, False, "", '"one"'

    def __init__(self, link: Link, asked: Asked, left: int) -> None:
        assert asked.length is not None
        self._link, self._left = link, left
        self.length, self.status = len(link.content), 206
        if not link.ranges:
            self.offset, self.end, self.status = 0, self.length, 200
            return
        self.offset, self.end = asked.offset, min(self.length, asked.offset + asked.length)

    def chunks(self, length_max: int) -> Iterator[bytes]:
        at = self.offset
        while at < self.end:
            size = min(length_max, self._link.chunk_bytes, self.end - at, self._left)
            if not size:
                raise FetchError("fetch_network", "the link broke")
            self._left -= size
            self._link.delivered += size
            self._link.time.now += size / self._link.bytes_per_s
            yield self._link.content[at : at + size]
            at += size

    def close(self) -> None:
        return None


def fetching(medium: Medium, link: Link, pieces: list[tuple[int, int]], **changes: Any) -> Iterator[Message]:
    settings = {"spool_dir": "/spool", "keep_free_bytes": 0, **changes}
    fetcher = Fetcher(
        FetchConfig(**settings),
        medium.files,
        link.time,
        lambda path: pytest.fail("no local file"),
        client=link,
        pause=link.time.pause,
    )
    return fetcher.fetch({"id": "u1", "source": "https://x/b", "pieces": pieces})


def kept(medium: Medium, result: Message, pieces: list[tuple[int, int]], content: bytes) -> bool:
    return bytes(medium.files.read(result["bundle"])) == b"".join(content[at : at + size] for at, size in pieces)


def test_a_hundred_broken_links_and_twenty_power_cuts_cost_less_than_an_operation_each() -> None:
    chosen = random.Random(17)
    content = chosen.randbytes(6 << 20)
    pieces = [(0, 64 << 10), (100_000, 1 << 20), (2 << 20, 3 << 20)]
    needed = sum(length for _, length in pieces)
    medium, time = Medium(), Time()
    link = Link(content, time, 5000.0, iter([chosen.randrange(1, 36_000) for _ in range(120)]))
    attempts = broken = cuts = 0
    result: dict[str, Any] = {}
    while not result:
        attempts += 1
        power = chosen.randrange(2) if attempts % 6 == 0 and cuts < 20 else None
        try:
            for number, message in enumerate(fetching(medium, link, pieces)):
                result = message.get("result", {})
                if number == power:
                    medium.cut()
        except PowerCut:
            medium.power_on(ALL)
            cuts += 1
        except FetchError as error:
            assert error.code == "fetch_network"
            broken += 1
    assert broken >= 100 and cuts >= 15, (broken, cuts)
    assert kept(medium, result, pieces, content)
    assert link.delivered - needed <= (broken + cuts) * OPERATION_BYTES
    assert result["bytes_refetched"] <= cuts * OPERATION_BYTES


def test_64_mb_over_40_kbit_a_second_with_a_break_every_five_minutes_come_to_an_end() -> None:
    content = random.Random(18).randbytes(1 << 20) * 61
    medium, time = Medium(), Time()
    every = 5 * 60 * 5000
    link = Link(content, time, 5000.0, iter(lambda: every, 0), chunk_bytes=16384)
    pieces, attempts = [(0, len(content))], 0
    while True:
        attempts += 1
        try:
            *_, last = fetching(medium, link, pieces)
            break
        except FetchError:
            time.pause(5.0)
    assert kept(medium, last["result"], pieces, content) and last["result"]["bytes_refetched"] == 0
    assert attempts == -(-len(content) // every)
    assert 3.5 * 3600 < time.now < 4 * 3600


def test_the_speed_is_limited_so_that_payments_get_through() -> None:
    time = Time()
    link = Link(bytes(500_000), time, 1e9, iter(()))
    *_, last = fetching(Medium(), link, [(0, 500_000)], bytes_per_s_max=10_000)
    assert last["result"]["length"] == 500_000 and 45 < time.now < 55


def test_on_a_metered_link_more_than_allowed_is_not_begun() -> None:
    link = Link(bytes(500_000), Time(), 1e6, iter(()))
    with pytest.raises(FetchError) as caught:
        list(fetching(Medium(), link, [(0, 300_000)], metered=True, metered_bytes_max=200_000))
    assert caught.value.code == "fetch_metered" and link.asked == 0
    *_, last = fetching(Medium(), link, [(0, 200_000)], metered=True, metered_bytes_max=200_000)
    assert last["result"]["length"] == 200_000


def test_what_was_fetched_counts_on_a_metered_link() -> None:
    medium, link = Medium(), Link(bytes(500_000), Time(), 1e6, iter(()))
    list(fetching(medium, link, [(0, 150_000)], metered=True, metered_bytes_max=200_000))
    with pytest.raises(FetchError, match="fetch_metered"):
        list(fetching(medium, link, [(0, 250_000)], metered=True, metered_bytes_max=200_000))


def test_a_proxy_that_sends_whole_files_costs_what_is_there_a_second_time_and_loses_nothing() -> None:
    content = random.Random(19).randbytes(1 << 20)
    medium, link = Medium(), Link(content, Time(), 5000.0, iter([300_000, 700_000]), ranges=False)
    pieces = [(100_000, 200_000), (400_000, 100_000), (800_000, 50_000)]
    for _ in range(2):
        with pytest.raises(FetchError, match="the link broke"):
            list(fetching(medium, link, pieces))
    *_, last = fetching(medium, link, pieces)
    assert kept(medium, last["result"], pieces, content)
    assert 300_000 <= last["result"]["bytes_refetched"] <= 500_000
    assert link.delivered < 300_000 + 700_000 + 850_000 + 65_536, "what is behind the last piece is not waited for"


def test_on_a_metered_link_a_proxy_that_sends_whole_files_is_refused_before_they_come() -> None:
    link = Link(bytes(500_000), Time(), 1e6, iter(()), ranges=False)
    with pytest.raises(FetchError) as caught:
        list(fetching(Medium(), link, [(400_000, 50_000)], metered=True, metered_bytes_max=200_000))
    assert caught.value.code == "fetch_metered" and link.delivered == 0
