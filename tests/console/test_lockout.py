"""The lock-out holds over power cuts: at every operation, on every kind of storage, whatever the cut may have left."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from posagent.console.auth import Gatekeeper
from posagent.core.errors import PosagentError
from posagent.crash.medium import Medium, PowerCut
from posagent.crash.units import PROFILES, Profile
from posagent.sim.virtual import VirtualTime

PATH = "/var/lib/posagent/console.json"


class Odometer:
    """crash.units.Chooser: takes every combination of fates, one a run."""

    def __init__(self) -> None:
        self._digits: list[tuple[int, int]] = []
        self._at = 0

    def choose(self, what: str, count: int) -> int:
        if self._at == len(self._digits):
            self._digits.append((0, count))
        self._at += 1
        return self._digits[self._at - 1][0]

    def runs(self) -> Iterator[None]:
        while True:
            self._at = 0
            yield
            while self._digits and self._digits[-1][0] + 1 == self._digits[-1][1]:
                self._digits.pop()
            if not self._digits:
                return
            digit, count = self._digits.pop()
            self._digits.append((digit + 1, count))


def keeper(medium: Medium, time: VirtualTime) -> Gatekeeper:
    return Gatekeeper(files=medium.files, path=PATH, clock=time, terminal="pos-0001", boot_id="boot")


def terminal(profile: Profile, cut_at: int | None = None, chooser: Odometer | None = None) -> Medium:
    medium = Medium(profile=profile, chooser=chooser)
    medium.files.make_dir("/var/lib/posagent")
    medium.cut_at = None if cut_at is None else len(medium.done) + cut_at
    return medium


class Stranger:
    """Answers wrongly, again and again; knows what the terminal owes him."""

    def __init__(self) -> None:
        self.looked_at = 0
        """Answers that the terminal began to look at."""
        self.counter = 0

    def try_on(self, medium: Medium, tries: int) -> None:
        time = VirtualTime()
        door = keeper(medium, time)
        for _ in range(tries):
            time.let_pass(400)
            self.counter = int(door.challenge("update").split()[3])
            door.take()
            self.looked_at += 1
            door.failed()


def waits_s(medium: Medium) -> float:
    """What a fresh start asks for before it gives a challenge."""
    try:
        keeper(medium, VirtualTime()).challenge("update")
    except PosagentError as error:
        return float(error.facts["expected_s"])
    return 0.0


@pytest.mark.parametrize("profile", PROFILES.values(), ids=PROFILES)
def test_no_power_cut_gives_back_a_try_or_a_challenge(profile: Profile) -> None:
    whole = terminal(profile)
    begun = len(whole.done)
    Stranger().try_on(whole, 3)
    operations = len(whole.done) - begun
    assert operations >= 3 * 2 * 4, "each challenge and each try is made durable"
    seen = set()
    for cut_at in range(1, operations + 1):
        chooser = Odometer()
        for _ in chooser.runs():
            medium, stranger = terminal(profile, cut_at, chooser), Stranger()
            with pytest.raises(PowerCut):
                stranger.try_on(medium, 3)
            medium.restore(medium.crashed())
            waited = waits_s(medium)
            assert waited >= (2.0**stranger.looked_at if stranger.looked_at else 0.0)
            assert waited <= 2.0 ** (stranger.looked_at + 1), "nor is anybody locked out for longer than he earned"
            time = VirtualTime()
            door = keeper(medium, time)
            time.let_pass(waited)
            assert int(door.challenge("look").split()[3]) > stranger.counter, "no number comes twice"
            seen.add((stranger.looked_at, waited))
    assert {looked_at for looked_at, _ in seen} == {0, 1, 2}


def test_an_endless_series_of_power_cuts_gives_one_try_a_delay() -> None:
    """Switching off and on does not shorten the delay, nor does it ever become longer than five minutes."""
    medium = terminal(PROFILES["raw"])
    for tries in range(1, 13):
        time = VirtualTime()
        door = keeper(medium, time)
        time.let_pass(waits_s(medium))
        door.challenge("update")
        door.take()
        medium.cut()
        medium.power_on()
        assert waits_s(medium) == min(2.0**tries, 300.0)
