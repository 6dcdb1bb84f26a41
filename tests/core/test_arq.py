"""A line that loses nothing, over one that loses a lot: everything arrives, once, in order."""

from __future__ import annotations

import math
import random
from collections.abc import Callable

import pytest

from posagent.core.arq import PAYLOAD_BYTES_MIN, UNDER_WAY_BYTES_MAX, UNDER_WAY_FRAMES_MAX, Link
from posagent.core.frames import PAYLOAD_BYTES_MAX, Frame, Kind, Splitter, decode, encode
from posagent.sim.fieldline import Direction, Noise

KEY = 7
BAUD = 115200
MESSAGE_BYTES_MAX = 20_000
HARD = Noise(bit_errors=1e-4, drops=1e-3, doubles=1e-3, stalls_per_s=0.5)


class End:
    """A link, what it hears, and what it was told."""

    def __init__(self, baud: int = BAUD, message_bytes_max: int = MESSAGE_BYTES_MAX) -> None:
        self.link = Link(KEY, bytes_per_s=baud / 10, message_bytes_max=message_bytes_max)
        self.splitter = Splitter()
        self.got: list[bytes] = []

    def hear(self, data: bytes, now: float) -> None:
        for piece in self.splitter.feed(data):
            if (frame := decode(piece, KEY)) is not None:
                self.got += self.link.take(frame, now)


class Cable:
    """Two ends, the bytes between them, and the time."""

    def __init__(self, noise: Noise | None = None, baud: int = BAUD, seed: int = 1) -> None:
        self.ends = End(baud), End(baud)
        noise = noise or Noise()
        self.ways = Direction(noise, baud, 2 * seed), Direction(noise, baud, 2 * seed + 1)
        self.now = 0.0
        self.cut = False
        self.sent = 0

    def live(self, until: Callable[[], bool], seconds: float = 3600.0) -> float:
        """Until it holds; how long that took. Raises TimeoutError."""
        begun = self.now
        while not until():
            for end, way in zip(self.ends, self.ways, strict=True):
                data = end.link.poll(self.now)
                self.sent += len(data)
                if data and not self.cut:
                    way.send(data, self.now)
            wakes = [wake for end in self.ends if (wake := end.link.next_wake()) is not None]
            at = min([way.next_at for way in self.ways] + wakes)
            if at == math.inf or at > begun + seconds:
                raise TimeoutError(f"after {self.now - begun:.1f} s")
            self.now = max(self.now, at)
            for way, other in zip(self.ways, reversed(self.ends), strict=True):
                if way.next_at <= self.now:
                    other.hear(way.take(), self.now)
        return self.now - begun


def messages(count: int, seed: int = 1, most: int = 3000) -> list[bytes]:
    made = random.Random(seed)
    return [made.randbytes(made.randrange(1, most)) for _ in range(count)]


@pytest.mark.parametrize("seed", range(8))
def test_everything_arrives_once_and_in_order_both_ways_over_a_bad_line(seed: int) -> None:
    cable = Cable(HARD, seed=seed)
    one, other = messages(40, seed), messages(40, seed + 100)
    for message in one:
        cable.ends[0].link.send(message)
    for message in other:
        cable.ends[1].link.send(message)
    cable.live(lambda: len(cable.ends[1].got) == len(one) and len(cable.ends[0].got) == len(other))
    assert cable.ends[1].got == one and cable.ends[0].got == other


def test_a_clean_line_is_used_to_its_limit_and_nothing_is_sent_twice() -> None:
    cable, sent = Cable(), messages(50, most=8000)
    for message in sent:
        cable.ends[0].link.send(message)
    took_s = cable.live(lambda: len(cable.ends[1].got) == len(sent))
    size = sum(map(len, sent))
    assert size / took_s / (BAUD / 10) > 0.93
    assert cable.sent < size * 1.12


@pytest.mark.parametrize("baud", [1200, 9600, 115200, 921600])
def test_what_is_under_way_is_bounded_so_that_nothing_waits_for_long(baud: int) -> None:
    cable = Cable(baud=baud)
    for message in messages(30):
        cable.ends[0].link.send(message)
    first = cable.ends[0].link.poll(0.0)
    assert len(first) <= UNDER_WAY_BYTES_MAX and first.count(0) - 1 <= UNDER_WAY_FRAMES_MAX
    assert len(first) / (baud / 10) < 1.1, "seconds"
    assert cable.ends[0].link.poll(0.0) == b""


def test_a_line_that_stands_still_for_half_a_second_is_not_filled_with_repetitions() -> None:
    cable, sent = Cable(Noise(stalls_per_s=1.0)), messages(60, most=4000)
    for message in sent:
        cable.ends[0].link.send(message)
    cable.live(lambda: len(cable.ends[1].got) == len(sent))
    assert cable.sent < sum(map(len, sent)) * 1.25


def test_one_lost_frame_is_repeated_as_soon_as_the_next_has_arrived() -> None:
    cable = Cable()
    end, other = cable.ends
    end.link.send(b"x" * 3000)
    first, second, *_ = end.link.poll(0.0).strip(b"\0").split(b"\0")
    other.hear(second + b"\0", 0.1)
    end.hear(other.link.poll(0.1), 0.2)
    assert end.link.poll(0.2).strip(b"\0").split(b"\0")[0][:3] == first[:3], "kind and number"


def test_silence_is_asked_with_one_frame_and_less_and_less_often() -> None:
    link = End().link
    link.send(b"x" * 4000)
    link.poll(0.0)
    asked, now = [], 0.0
    while now < 60.0:
        now = link.next_wake() or 0.0
        asked.append((now, link.poll(now).count(0) - 1))
    assert all(count == 1 for _, count in asked)
    assert 8 < len(asked) < 20
    assert asked[-1][0] - asked[-2][0] > 4 > asked[1][0] - asked[0][0]


def test_a_line_that_comes_back_after_a_minute_goes_on_at_once() -> None:
    cable, sent = Cable(), messages(30)
    for message in sent:
        cable.ends[0].link.send(message)
    cable.live(lambda: len(cable.ends[1].got) > 10)
    cable.cut = True
    for way in cable.ways:
        way.forget()
    before = len(cable.ends[1].got)
    with pytest.raises(TimeoutError):
        cable.live(lambda: len(cable.ends[1].got) > before + 5, 60.0)
    cable.cut = False
    cable.ends[0].link.revive(cable.now)
    assert cable.live(lambda: cable.ends[1].got == sent) < 8


def test_frames_are_as_long_as_the_line_bears() -> None:
    lengths = []
    for bit_errors in (0.0, 1e-5, 1e-4):
        cable = Cable(Noise(bit_errors=bit_errors))
        for message in messages(150, most=6000):
            cable.ends[0].link.send(message)
        cable.live(lambda: len(cable.ends[1].got) == 150)  # noqa: B023
        lengths.append(cable.ends[0].link.payload_bytes)
    assert lengths[0] == PAYLOAD_BYTES_MAX > lengths[1] > 200 > lengths[2] >= PAYLOAD_BYTES_MIN


def test_the_rate_is_what_the_line_carries() -> None:
    cable = Cable(baud=9600)
    assert cable.ends[0].link.rate is None
    for message in messages(20):
        cable.ends[0].link.send(message)
    cable.live(lambda: len(cable.ends[1].got) == 20)
    assert cable.ends[0].link.rate == pytest.approx(900, rel=0.1)


def test_a_message_that_is_too_long_leaves_an_empty_one_in_its_place() -> None:
    cable = Cable()
    for message in (b"a", b"b" * (MESSAGE_BYTES_MAX + 1), b"c" * MESSAGE_BYTES_MAX):
        cable.ends[0].link.send(message)
    cable.live(lambda: len(cable.ends[1].got) == 3)
    assert cable.ends[1].got == [b"a", b"", b"c" * MESSAGE_BYTES_MAX]


def test_numbers_begin_again_after_the_last_and_nothing_is_lost() -> None:
    cable = Cable(HARD)
    for one, other in (cable.ends, reversed(cable.ends)):
        one.link._next = other.link._expected = 65_500  # as after an hour
    sent = messages(100)
    for message in sent:
        for end in cable.ends:
            end.link.send(message)
    cable.live(lambda: all(len(end.got) == len(sent) for end in cable.ends))
    assert cable.ends[0].got == cable.ends[1].got == sent
    assert cable.ends[0].link._next < 5000


def test_a_frame_heard_again_acknowledges_nothing_that_was_sent_since() -> None:
    cable = Cable()
    end, other = cable.ends
    end.link.send(b"first")
    other.hear(end.link.poll(0.0), 0.1)
    told = other.link.poll(0.1)
    end.hear(told, 0.2)
    for number in range(4):
        end.link.send(b"message %d" % number)
        other.hear(end.link.poll(0.3), 0.4)
        end.hear(other.link.poll(0.4), 0.5)
    end.link.send(b"lost")
    end.link.poll(0.6)
    end.hear(told, 0.7)
    assert end.link.next_wake() is not None, "it is still waited for"
    other.hear(end.link.poll(10.0), 10.1)
    assert other.got[-1] == b"lost"


@pytest.mark.parametrize(("bit_errors", "least"), [(1e-6, 0.95), (1e-5, 0.87), (1e-4, 0.69)])
def test_a_bad_line_is_used_nearly_as_well_as_it_can_be(bit_errors: float, least: float) -> None:
    """make bench-console has the figures with stalls and all."""
    cable, size, begun = Cable(Noise(bit_errors=bit_errors)), 8000, 20
    for count in range(100):
        cable.ends[0].link.send(bytes(size))
        if count == begun:
            cable.live(lambda: len(cable.ends[1].got) == begun)  # until it knows the line
    took_s = cable.live(lambda: len(cable.ends[1].got) == 100)
    assert size * (100 - begun) / took_s / (BAUD / 10) > least


@pytest.mark.parametrize("seed", range(5))
def test_frames_that_nobody_would_send_neither_break_it_nor_fill_the_memory(seed: int) -> None:
    """Whoever knows the key may say what he wants."""
    made, end = random.Random(seed), End()
    for _ in range(3000):
        end.link.send(b"x" * made.randrange(1, 2000)) if made.random() < 0.1 else None
        frame = Frame(
            made.choice([Kind.ACK, Kind.PING, Kind.PART, Kind.LAST]),
            made.choice([0, 1, 31, 32, 33, 65535, made.randrange(65536)]),
            made.choice([0, 1, 2, 3, 65535, made.randrange(65536)]),
            made.getrandbits(32),
            made.randbytes(made.randrange(1024)),
        )
        end.hear(b"\0" + encode(frame, KEY), made.random() * 10)
        end.link.poll(made.random() * 10)
        assert len(end.link._held) <= 33 and len(end.link._sent) <= 32
        assert 0 <= end.link._under_way <= UNDER_WAY_BYTES_MAX + 1100
