"""A few days of a few terminals, and a judge that sees what is wrong."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

from tests.days import campaign, report
from tests.days.battery import Battery
from tests.days.cast import Role, cast
from tests.days.judge import FLOOR, WallClock, judged_energy


def role(number: int, days: float) -> Role:
    return dataclasses.replace(cast(1008, 1)[number], days=days)


def test_days_in_a_shop_go_by_without_a_fault_and_repeat_themselves(tmp_path: Path) -> None:
    lives = [campaign.live(role(0, 2.5)), campaign.live(role(7, 2.5))]
    found = campaign.together(lives, 1, 1.0)
    assert campaign.sound(found) == [] and found["terminal_days"] == 5
    assert found["payments"] > 100 and found["installs_begun"] >= 1
    assert campaign.live(role(0, 2.5)) == lives[0]
    report.write(found, lives, tmp_path / "days.html")
    assert (tmp_path / "days.html").read_text().count("<svg") == 4


def test_the_cast_has_everything_in_it() -> None:
    roles = cast(1000, 1)
    assert sum(one.days for one in roles) == pytest.approx(1000)
    for name, count in (("link", 6), ("battery", 4), ("shop", 6)):
        assert len({getattr(one, name) for one in roles}) == count


def test_the_judge_reads_the_clock_on_the_wall_in_the_night_it_is_changed() -> None:
    wall = WallClock("Europe/Berlin", ["22:00-02:30"], [])
    second_two = 1_792_890_000.0  # 25 October 2026, 02:00 for the second time
    assert wall.local(second_two).hour == 2 and wall.inside(second_two)
    assert not wall.inside(second_two - 1500) and wall.inside(second_two - 3600)
    assert wall.end_s(second_two) == second_two + 1800
    weekend = WallClock("America/New_York", ["sat,sun 20:00-08:00"], ["2026-10-18..2026-10-18"])
    saturday = 1_792_288_800.0  # 17 October 2026, 22:00
    assert weekend.local(saturday).hour == 22 and weekend.inside(saturday)
    assert weekend.end_s(saturday) == saturday + 2 * 3600, "the blackout begins at midnight"


@pytest.mark.parametrize(("percent", "plugged", "enough"), [(29, False, False), (31, False, True), (20, True, True)])
def test_the_judge_does_not_believe_in_energy_that_is_not_there(percent: int, plugged: bool, enough: bool) -> None:
    battery = Battery(
        "new",
        charger_w=5.0,
        gauge_error=1.0,
        now_s=lambda: 0.0,
        plugged=lambda _: plugged,
        load_w=lambda: 0.2,
        payments=lambda: 0,
    )
    battery.level_wh = percent / 100 * battery.age.full_wh - 0.12  # the gauge is a percent too high
    assert (judged_energy(battery, 300.0, FLOOR) == "") is enough
    assert judged_energy(battery, 20_000.0, FLOOR) != ""
