"""The place of terminals in a roll-out, and what a channel's file says of it."""

from __future__ import annotations

import json
from typing import Any

import pytest

from posagent.core import channel
from posagent.core.channel import Rollout

COUNT = 20_000
ONE, OTHER = "a" * 64, "b" * 64


def rollout(**more: Any) -> Rollout:
    return Rollout(channel="stable", serial=1, signed_at_s=1000, expires_at_s=2000, **more)


def reached(percent: float, sha256: str = ONE) -> set[int]:
    stage = rollout(percent=percent)
    return {number for number in range(COUNT) if stage.reaches(f"pos-{number:05}", sha256)}


def test_as_many_terminals_are_reached_as_was_said_and_none_is_left_out_again() -> None:
    before: set[int] = set()
    for percent in (0, 0.5, 1, 10, 50, 99.5, 100):
        now = reached(percent)
        assert abs(len(now) / COUNT * 100 - percent) <= 1.0, percent
        assert before <= now
        before = now
    assert len(before) == COUNT and not reached(0)


def test_each_bundle_has_other_canaries() -> None:
    both = reached(10) & reached(10, OTHER)
    assert abs(len(both) / COUNT * 100 - 1) < 0.5, "as many as by chance"


def test_one_that_is_stopped_reaches_nobody() -> None:
    assert not rollout(stopped=True).reaches("pos-1", ONE)


def test_what_is_signed_does_not_depend_on_the_order_of_words_and_has_no_signature_in_it() -> None:
    told = {"version": "2.0.0", "rollout": rollout(percent=12.5).as_dict()}
    again = json.loads(json.dumps(dict(reversed(told.items())) | {"signatures": {"x": "y"}}))
    assert channel.signed_part(again) == channel.signed_part(told)
    assert channel.rollout_of(again) == rollout(percent=12.5)


@pytest.mark.parametrize(
    "wrong",
    [
        {"percent": 101},
        {"percent": True},
        {"percent": "10"},
        {"percent": float("nan")},
        {"serial": 0},
        {"serial": 1.5},
        {"serial": 1 << 60},
        {"stopped": 1},
        {"forced": None},
        {"channel": 7},
        {"poll_s": 0},
        {"expires_at_s": -1},
    ],
)
def test_what_is_no_roll_out_is_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises((ValueError, TypeError)):
        channel.rollout_of({"rollout": rollout().as_dict() | wrong})


@pytest.mark.parametrize("told", [{}, {"rollout": []}, {"rollout": None}, {"rollout": {"percent": 1}}])
def test_a_file_without_one_is_refused(told: dict[str, Any]) -> None:
    with pytest.raises((KeyError, TypeError)):
        channel.rollout_of(told)
