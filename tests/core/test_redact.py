"""What is found in texts and what is spared: a leak is worse than a gap, a report without digests is of no use."""

from __future__ import annotations

import hashlib
import json
import re
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from posagent.core.redact import Redactor, cards, clean, luhn
from tests.planted import CARDS, card_numbers

PEM = "-----BEGIN PRIVATE KEY-----\nMC4CAQAwBQYDK2VuBCIEIPjq\n-----END PRIVATE KEY-----"


def digits(number: str) -> str:
    return re.sub(r"\D", "", number)


@pytest.mark.parametrize("number", CARDS)
@pytest.mark.parametrize(
    "around", ["{}", "pan {} end", "x{}x", "abc{}def", '{{"n":"{}"}}', "file-{}.bundle", "0{}", "{}\n"]
)
def test_a_card_number_is_found_wherever_it_stands(number: str, around: str) -> None:
    text = around.format(number)
    assert "[card]" in cards(text), text
    assert card_numbers(cards(text)) == []
    assert "[card]" in Redactor().text(text)


@given(
    st.integers(1, 9),
    st.text("0123456789", min_size=11, max_size=17),
    st.lists(st.sampled_from(["", "", "", " ", "-"]), min_size=20, max_size=20),
    st.sampled_from(["", "a", "f", " ", ": ", "-x", "/", '"', "Ω"]),
)
def test_every_number_that_passes_luhn_goes_however_it_is_split(
    first: int, rest: str, gaps: list[str], beside: str
) -> None:
    body = f"{first}{rest}"
    number = next(body + str(check) for check in range(10) if luhn(body + str(check)))
    split = "".join(digit + gap for digit, gap in zip(number, gaps, strict=False)).rstrip(" -")
    if re.fullmatch(r"20\d{12}", number):
        return  # may be a moment
    assert "[card]" in cards(beside + split + beside)


@pytest.mark.parametrize(
    "track",
    [
        "%B4111111111111111^DOE/JOHN^25121010000000000000?",
        ";4111111111111111=25121010000000000000?",
        "4111111111111111=2512",
        "4111111111111111D25121010000000000000F",
        "4111111111111111d25121010000000f",
    ],
)
def test_track_data_goes_as_a_whole(track: str) -> None:
    shown = cards(f"read {track} from the head")
    assert "[track]" in shown and "2512" not in shown and "DOE" not in shown


SPARED = (
    hashlib.sha256(b"").hexdigest(),
    hashlib.sha1(b"abc").hexdigest(),
    "4111111111111111" + hashlib.sha256(b"4").hexdigest()[16:],
    "20261128235959",
    "2026-11-28 23-59-59",
    "v1.20261128235959-rc1",
    "1073741824 of 1099511627775 bytes",
    "at 1800000000.123",
    "2026-11-28T22:29:30.123456+00:00",
    "00000000-0000-0000-0000-000000000000",
    "posagent-installer.service: slot b, 3 tries left",
    "电量 80 %，需要 15 %",
    "/usr/lib/python3/dist-packages/posagent/installer/service.py:117",
)


@pytest.mark.parametrize("text", SPARED)
def test_digests_moments_and_plain_words_stay(text: str) -> None:
    redactor = Redactor()
    assert cards(text) == text == redactor.text(text)
    assert not redactor.counts


@pytest.mark.parametrize(
    ("text", "secret", "kept"),
    [
        (f"found {PEM} there", "MC4CAQ", "there"),
        (f"cut {PEM[:40]}", "MC4C", "cut"),
        (json.dumps({"k": PEM}), "MC4CAQ", '{"k"'),
        ("https://user:hunter2@host/path/file", "hunter2", "host/path/file"),
        ("GET https://host/path?sig=abc&x=1 HTTP/1.1", "sig=abc", "host/path"),
        ("Authorization: Bearer abc.def-ghi", "abc.def", "Authorization"),
        ("curl -H 'X: Basic dXNlcjpwYXNzd29yZA=='", "dXNlc", "curl"),
        ("password=hunter2, user=li", "hunter2", "user=li"),
        ('{"api_key": "hunter2"}', "hunter2", "api_key"),
        ("WIFI_PASSPHRASE = hunter2", "hunter2", "WIFI"),
        ("pin: 1234", "1234", "pin"),
        ("token eyJhbGciOiJIUzI1NiJ9eyJzdWIiOiIxMjM0 end", "eyJhb", "end"),
    ],
)
def test_secrets_go_and_are_counted(text: str, secret: str, kept: str) -> None:
    redactor = Redactor()
    shown = redactor.text(text)
    assert secret not in shown and kept in shown
    assert sum(redactor.counts.values()) >= 1


def test_a_number_as_long_as_a_cards_is_one_and_sizes_are_not() -> None:
    redactor = Redactor()
    assert redactor.number(4111111111111111) == "[card]" == redactor.number(float(4111111111111111)).replace(".0", "")
    assert redactor.number(512 << 20) == 512 << 20 and redactor.number(1.5) == 1.5 and redactor.number(-3) == -3
    assert redactor.counts == {"[card]": 2}


def test_values_are_cleaned_to_the_last_name() -> None:
    dirty = {"a": [CARDS[0], {"b " + CARDS[0]: 7}], "n": 4111111111111111, "t": (None, True, "ok")}
    shown = clean(dirty)
    assert shown == {"a": ["[card]", {"b [card]": 7}], "n": 4111111111111111, "t": [None, True, "ok"]}


@pytest.mark.parametrize(
    "unit", ["1", "1 ", "4-", "a", "-----BEGIN A-----", "://", "aA1-", "secret_", "B1 ", "%B1^", "k="]
)
def test_no_text_takes_long(unit: str) -> None:
    text = unit * (100_000 // len(unit))
    began = time.process_time()
    Redactor().text(text)
    assert time.process_time() - began < 5.0


@given(st.text(max_size=300))
def test_any_text_is_taken_and_what_is_clean_stays_clean(text: str) -> None:
    once = cards(text)
    assert cards(once) == once
    Redactor().text(text)
