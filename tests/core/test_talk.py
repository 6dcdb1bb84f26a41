"""Who calls whom on the serial line: versions, conversations that begin, go on, are forgotten and end."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from posagent.core.frames import Frame, Kind, Splitter, decode, encode
from posagent.core.talk import (
    ANSWER_BYTES_MAX,
    CALL,
    LOST_S,
    PING_S,
    REQUEST_BYTES_MAX,
    SILENCE_S,
    Ended,
    Guest,
    Happening,
    Host,
    Opened,
    Refused,
    Resumed,
    bulk_message,
    json_message,
    key_of,
    read,
)

RATE = 11_520.0


class Pair:
    """A terminal and a laptop on a line that is `cut` or not; what happened at either end."""

    def __init__(self, versions: tuple[int, int] = (1, 1)) -> None:
        self.now = 0.0
        self.cut = False
        self.numbers = itertools.count(1)
        self.at_host: list[Happening] = []
        self.at_guest: list[Happening] = []
        self.guest = Guest(number=b"laptop-1", bytes_per_s=RATE, versions=versions)
        self.restart()

    def restart(self) -> None:
        """The terminal starts anew."""
        self.host = Host(
            terminal="pos-0001",
            new_number=lambda: next(self.numbers).to_bytes(8, "big"),
            bytes_per_s=RATE,
            now=self.now,
        )

    def live(self, seconds: float) -> None:
        until = self.now + seconds
        while self.now <= until:
            for _ in range(6):
                up = self.guest.poll(self.now)
                if up and not self.cut:
                    self.at_host += self.host.feed(up, self.now)
                down = self.host.poll(self.now)
                if down and not self.cut:
                    self.at_guest += self.guest.feed(down, self.now)
            self.now += 0.1

    def say(self, message: bytes) -> None:
        assert self.guest.link is not None
        self.guest.link.send(message)


def test_a_laptop_that_calls_is_welcomed_and_talks() -> None:
    pair = Pair()
    pair.live(0.2)
    assert pair.at_host == [Opened(1, "pos-0001")] and pair.at_guest == [Opened(1, "pos-0001")]
    pair.say(b"Jhello")
    pair.live(0.2)
    assert pair.at_host[1:] == [b"Jhello"]


def test_a_call_says_first_in_words_what_it_wants() -> None:
    """A terminal that is in its mode for people understands those; the frame behind is for one that is not."""
    call = Guest(number=b"laptop-1", bytes_per_s=RATE).poll(0.0)
    assert call.startswith(CALL + b"\0")
    (piece,) = Splitter().feed(call[len(CALL) + 1 :])
    assert decode(piece) == Frame(Kind.HELLO, payload=b"\x01\x01laptop-1")


def test_nobody_there_is_called_again_and_again_but_not_all_the_time() -> None:
    guest = Guest(number=b"laptop-1", bytes_per_s=RATE)
    calls = sum(bool(guest.poll(tenths / 10)) for tenths in range(600))
    assert 30 <= calls <= 40


@pytest.mark.parametrize("versions", [(2, 9), (0, 0)], ids=["only newer ones", "only older ones"])
def test_ends_without_a_version_in_common_do_not_talk_and_say_why(versions: tuple[int, int]) -> None:
    pair = Pair(versions)
    pair.live(0.2)
    assert Refused(1, 1) in pair.at_guest and pair.at_host == []
    assert pair.host.link is None
    assert not pair.guest.connected


def test_a_laptop_that_speaks_newer_versions_too_is_understood() -> None:
    pair = Pair((1, 9))
    pair.live(0.2)
    assert pair.at_guest == [Opened(1, "pos-0001")]


def test_a_pulled_cable_is_noticed_and_nothing_is_forgotten_when_it_is_back() -> None:
    pair = Pair()
    pair.live(0.2)
    pair.cut = True
    pair.say(b"Jwhile it was cut")
    pair.live(LOST_S + 5)
    assert not pair.guest.connected
    pair.cut = False
    pair.live(3)
    assert pair.at_guest[1:] == [Resumed()]
    assert b"Jwhile it was cut" in pair.at_host and Opened(1, "pos-0001") not in pair.at_host[1:]


def test_an_opened_port_makes_sure_that_it_is_still_the_same_conversation() -> None:
    pair = Pair()
    pair.live(0.2)
    pair.guest.call(pair.now)
    assert pair.guest.poll(pair.now).startswith(CALL)
    pair.live(3)
    assert pair.at_guest[1:] == [Resumed()]


def test_a_terminal_that_started_anew_is_found_out_and_begins_from_nothing() -> None:
    pair = Pair()
    pair.live(0.2)
    pair.say(b"Jbefore")
    pair.live(0.2)
    pair.restart()
    pair.say(b"Jlost")
    pair.live(LOST_S + 3)
    assert pair.at_guest[1:] == [Opened(1, "pos-0001")]
    assert pair.at_host[2:] == [Opened(1, "pos-0001")], "what was said to the one before is noise to it"
    pair.say(b"Jafter")
    pair.live(0.2)
    assert pair.at_host[3:] == [b"Jafter"]


def test_a_terminal_whose_first_welcome_was_lost_is_not_taken_for_the_one_before() -> None:
    pair = Pair()
    pair.live(0.2)
    pair.restart()
    pair.guest.call(pair.now)
    pair.host.feed(pair.guest.poll(pair.now), pair.now)
    pair.host.poll(pair.now)  # is lost; the next call finds a terminal that knows the laptop's number already
    pair.live(3)
    assert pair.at_guest[1:] == [Opened(1, "pos-0001")]


def test_another_laptop_begins_anew_and_the_first_is_not_heard_any_more() -> None:
    pair, other = Pair(), Guest(number=b"laptop-2", bytes_per_s=RATE)
    pair.live(0.2)
    assert pair.host.feed(other.poll(0.0), pair.now) == [Opened(1, "pos-0001")]
    pair.host.poll(pair.now)
    pair.say(b"Jstill me")
    assert pair.host.feed(pair.guest.poll(pair.now), pair.now) == []


def test_a_goodbye_ends_it_at_once_and_only_those_who_talk_can_say_it() -> None:
    pair = Pair()
    pair.live(0.2)
    assert pair.guest.link is not None
    assert pair.host.feed(b"\0" + encode(Frame(Kind.BYE), 1), pair.now) == []
    assert pair.host.feed(pair.guest.link.bye(), pair.now) == [Ended()]
    assert pair.host.link is None


def test_pings_keep_a_conversation_without_words_alive() -> None:
    pair = Pair()
    pair.live(10 * SILENCE_S)
    assert pair.at_host == [Opened(1, "pos-0001")] and pair.guest.connected
    assert pair.host.silent_at >= pair.now + SILENCE_S - PING_S - 1


def test_silence_is_what_has_no_valid_frame() -> None:
    pair = Pair()
    pair.live(0.2)
    silent_at, noise = pair.host.silent_at, b"\0" + encode(Frame(Kind.PING), key=12345) + b"machine 1\r" * 50
    assert pair.host.feed(noise, pair.now + 20) == []
    assert pair.host.silent_at == silent_at
    assert pair.host.next_wake() <= silent_at


@pytest.mark.parametrize("length", [0, 9, 11, 200])
def test_calls_and_welcomes_of_other_lengths_are_ignored(length: int) -> None:
    pair = Pair()
    assert pair.host.feed(b"\0" + encode(Frame(Kind.HELLO, payload=b"\x01" * length)), 0.0) == []
    assert pair.guest.feed(b"\0" + encode(Frame(Kind.WELCOME, payload=b"\x01" * min(length, 16))), 0.0) == []
    assert pair.guest.feed(b"\0" + encode(Frame(Kind.REFUSED, payload=b"\x01" * length)), 0.0) == []


def test_a_welcome_for_another_laptop_or_of_another_version_is_ignored() -> None:
    guest = Guest(number=b"laptop-1", bytes_per_s=RATE)
    for version, number in ((1, b"laptop-2"), (2, b"laptop-1")):
        payload = bytes([version]) + number + b"terminal" + b"pos-0001"
        assert guest.feed(b"\0" + encode(Frame(Kind.WELCOME, payload=payload)), 0.0) == []
    assert not guest.connected


def test_the_key_comes_of_both_numbers() -> None:
    assert key_of(b"laptop-1", b"terminal") == 0xD46B1915
    assert len({key_of(one, other) for one in (b"a" * 8, b"b" * 8) for other in (b"c" * 8, b"d" * 8)}) == 4


@pytest.mark.parametrize(
    ("message", "said"),
    [
        (json_message({"id": 1, "verb": "状态"}), {"id": 1, "verb": "状态"}),
        (bulk_message(2**40, b"x"), (2**40, b"x")),
        (b"", None),
        (b"J", None),
        (b"J[]", None),
        (b'J"x"', None),
        (b"J{", None),
        (b"J\xff", None),
        (b"J" + b"[" * 20_000, None),
        (b"J{" + b'"a":{' * 3_000, None),
        (b'J{"id":' + b"9" * 10_000 + b"}", None),
        (b"B", None),
        (b"B12345678", None),
        (b"Xyz", None),
    ],
)
def test_what_messages_say(message: bytes, said: object) -> None:
    assert read(message) == said


@given(st.binary(max_size=400))
def test_reading_never_fails(message: bytes) -> None:
    read(message)
    read(b"J" + message)


def test_each_end_takes_messages_of_its_own_length_only() -> None:
    pair = Pair()
    pair.live(0.2)
    assert pair.host.link is not None
    pair.say(b"J" * (REQUEST_BYTES_MAX + 1))
    pair.host.link.send(b"J" * ANSWER_BYTES_MAX)
    pair.live(60)
    assert pair.at_host[1:] == [b""] and pair.at_guest[1:] == [b"J" * ANSWER_BYTES_MAX]
