"""When an update begins: windows, people, power before the restart; and what was foretold of it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from posagent.agent.conditions import Conditions
from posagent.agent.habits import Habits
from posagent.core.energy import EnergyLimits
from posagent.core.errors import PosagentError
from posagent.core.estimate import Running
from posagent.core.hours import Calendar, FixedZone, parse_window
from posagent.core.model import Situation, State, Update
from posagent.core.window import Why
from posagent.platform.storage import LinuxFiles
from posagent.release import bundle
from posagent.sim import layout
from posagent.sim.inprocess import InProcessTerminal
from posagent.sim.layout import Settings, set_power
from posagent.sim.virtual import VirtualTime
from tests.conftest import HARDWARE, Desk

AT_NIGHT = Calendar(zone=FixedZone(east_s=3600), windows=(parse_window("22:00-06:00"),))


class Scheduled(InProcessTerminal):
    """A terminal with a calendar."""

    calendar: Calendar | None = AT_NIGHT

    def _conditions(self) -> Conditions:
        return Conditions(
            clock=self.time, power=self._parts.power, limits=EnergyLimits(), calendar=self.calendar, terminal="t"
        )

    @property
    def hour(self) -> float:
        """On the wall of its place."""
        return (self.time.wall() + 3600) % 86400 / 3600


@pytest.fixture
def scheduled(desk: Desk, short_path: Path) -> Iterator[Callable[..., Scheduled]]:
    made: list[Scheduled] = []

    def make(calendar: Calendar | None = AT_NIGHT) -> Scheduled:
        directory = short_path / f"s{len(made)}"
        settings = Settings(hardware=HARDWARE)
        terminal = Scheduled(
            layout.create(directory, image=desk.images["1.0.0"], keys_dir=desk.keys, settings=settings)
        )
        terminal.calendar = calendar
        made.append(terminal)
        terminal.boot()
        terminal.run_until(lambda one: one.boots == 1)
        return terminal

    yield make
    for terminal in made:
        terminal.time.end()


@pytest.fixture(scope="module")
def confirmed(desk: Desk, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A bundle that the merchant must agree to."""
    return bundle.build(
        desk.images["2.0.0"],
        version="2.0.0",
        compatible=[HARDWARE],
        keys_dir=desk.keys,
        out=tmp_path_factory.mktemp("confirmed") / "2.0.0.bundle",
        terms={"conditions": ["confirm"], "contents": ["system"], "reason": "security"},
    )


def ready(terminal: InProcessTerminal, source: Path, **args: object) -> None:
    terminal.ask("update", source=str(source), **args)
    terminal.run_until(lambda one: one.state is State.READY)


def test_an_update_waits_for_its_window_and_says_until_when(scheduled: Callable[..., Scheduled], desk: Desk) -> None:
    terminal = scheduled()
    assert terminal.hour == pytest.approx(9, abs=0.1)
    ready(terminal, desk.bundles["2.0.0"])
    terminal.step()
    (gate,) = [one for one in terminal.ask("status")["gates"] if one["gate"] == "window"]
    assert not gate["open"] and "it begins at 22:" in gate["reason"] and "22:" in gate["reason_zh"]
    assert terminal.ask("estimate")["begins_at"] == pytest.approx(terminal.time.wall() + 13 * 3600, abs=7200)
    terminal.run_until(lambda one: one.state is State.INSTALL)
    assert 22 <= terminal.hour < 24
    assert terminal.run_to_idle()["outcome"] == "committed"


def test_while_only_the_window_is_awaited_the_terminal_is_asked_four_times_an_hour(
    scheduled: Callable[..., Scheduled], desk: Desk
) -> None:
    terminal = scheduled()
    ready(terminal, desk.bundles["2.0.0"])
    asked = 0
    while terminal.state is State.READY:
        terminal.step()
        asked += 1
    assert asked < 13 * 4 + 12


def test_who_stands_there_need_not_wait_for_the_window(scheduled: Callable[..., Scheduled], desk: Desk) -> None:
    terminal = scheduled()
    terminal.ask("update", source=str(desk.bundles["2.0.0"]), now=True)
    assert terminal.run_to_idle()["outcome"] == "committed"
    assert terminal.hour < 10


def test_an_engineer_who_goes_back_need_not_wait_for_the_window(
    scheduled: Callable[..., Scheduled], desk: Desk
) -> None:
    terminal = scheduled()
    terminal.ask("update", source=str(desk.bundles["2.0.0"]), now=True)
    terminal.run_to_idle()
    terminal.settle()
    set_power(terminal.layout, battery=20, mains=False)
    terminal.ask("rollback")
    assert terminal.ask("status")["estimate"]["begins_at"] is None, "as soon as it is on its charger"
    terminal.time.let_pass(30)
    set_power(terminal.layout, battery=80, mains=True)
    outcome = terminal.run_to_idle()
    assert (outcome["outcome"], outcome["kind"]) == ("committed", "rollback") and terminal.hour < 10


def test_an_update_that_waits_already_can_be_told_to_begin(scheduled: Callable[..., Scheduled], desk: Desk) -> None:
    terminal = scheduled()
    ready(terminal, desk.bundles["2.0.0"])
    terminal.ask("update", now=True)
    assert terminal.run_to_idle()["outcome"] == "committed"
    assert terminal.hour < 10


@pytest.mark.parametrize("calendar", [None, AT_NIGHT])
def test_putting_off_is_counted_and_bounded(
    scheduled: Callable[..., Scheduled], desk: Desk, calendar: Calendar | None
) -> None:
    terminal = scheduled(calendar)
    terminal.ask("update", source=str(desk.bundles["2.0.0"]))
    terminal.ask("defer", hours=12)
    terminal.run_until(lambda one: one.state is State.READY)
    terminal.ask("defer", hours=12)
    until = terminal.ask("defer", hours=12)["deferred_until"]
    with pytest.raises(PosagentError, match="defer_spent"):
        terminal.ask("defer", hours=1)
    said = "put off by a person" if calendar is None else "the maintenance window"  # which begins later anyway
    assert any(said in reason["detail"] for reason in terminal.ask("why")["why"])
    terminal.run_until(lambda one: one.state is State.INSTALL)
    assert terminal.time.wall() >= until
    with pytest.raises(PosagentError, match="critical_section"):
        terminal.ask("defer")


@pytest.mark.parametrize("hours", [0, 13, "1", True, 1.5])
def test_only_some_hours_can_be_asked_for(scheduled: Callable[..., Scheduled], hours: object) -> None:
    with pytest.raises(PosagentError, match="bad_request"):
        scheduled().ask("defer", hours=hours)


def test_nothing_to_put_off_and_nothing_to_agree_to_is_said(scheduled: Callable[..., Scheduled]) -> None:
    terminal = scheduled()
    for verb, code in (("defer", "nothing_to_cancel"), ("confirm", "nothing_asked")):
        with pytest.raises(PosagentError, match=code):
            terminal.ask(verb)


def test_a_bundle_may_demand_that_the_merchant_agrees(scheduled: Callable[..., Scheduled], confirmed: Path) -> None:
    terminal = scheduled(None)
    ready(terminal, confirmed)
    for _ in range(50):
        terminal.step()
    assert terminal.state is State.READY, "no answer is no yes"
    (gate,) = [one for one in terminal.ask("status")["gates"] if one["gate"] == "consent"]
    assert not gate["open"] and "posagent confirm" in gate["remedy"]
    terminal.ask("confirm")
    update = terminal.situation.update
    assert update is not None and update.consent_by == "test" and update.consent_at > 0
    terminal.boot()  # who agreed, is known after a power cut
    assert terminal.run_to_idle()["outcome"] == "committed"


def test_a_battery_that_sank_while_the_slot_was_written_keeps_the_restart_waiting(
    scheduled: Callable[..., Scheduled], desk: Desk
) -> None:
    terminal = scheduled(None)
    ready(terminal, desk.bundles["2.0.0"])
    terminal.run_until(lambda one: one.state is State.INSTALL)
    set_power(terminal.layout, battery=3, mains=False)
    terminal.run_until(lambda one: one.state is State.ACTIVATE)
    for _ in range(20):
        terminal.step()
    update = terminal.situation.update
    assert terminal.state is State.ACTIVATE and update is not None and not update.armed
    status = terminal.ask("status")
    assert status["expected_s"] is None and status["booted"] == "a"
    with pytest.raises(PosagentError, match=r"critical_section.*waiting for: battery 3 %"):
        terminal.ask("cancel")
    set_power(terminal.layout, battery=60, mains=True)
    assert terminal.run_to_idle()["outcome"] == "committed"


def test_what_was_foretold_is_held_against_what_it_took(scheduled: Callable[..., Scheduled], desk: Desk) -> None:
    terminal = scheduled(None)
    terminal.ask("update", source=str(desk.bundles["2.0.0"]))
    outcome = terminal.run_to_idle()
    assert {"install", "selftest", "commit", "outage"} <= outcome["estimates"].keys()
    for one in outcome["estimates"].values():
        assert 0 < one["p50"] <= one["p90"] and one["took_s"] >= 0
    before = terminal.ask("history")["history"][-1]
    assert before["estimates"] == outcome["estimates"]


def test_with_a_clock_that_cannot_be_right_a_while_without_payments_is_enough(tmp_path: Path) -> None:
    time = VirtualTime(wall=1000.0)
    habits = Habits(LinuxFiles(), str(tmp_path / "quiet.json"), time, FixedZone())
    conditions = Conditions(
        clock=time,
        power=None,  # type: ignore[arg-type]
        limits=EnergyLimits(),
        calendar=AT_NIGHT,
        habits=habits,
        floor_s=1.8e9,
    )
    plan = conditions.plan(Situation(), Running())
    assert plan is not None and plan.why is Why.CLOCK_UNKNOWN
    assert plan.start_s == pytest.approx(1000 + 1800)
    time.let_pass(1795)
    nearly = conditions.plan(Situation(), Running())
    assert nearly is not None and nearly.start_s == pytest.approx(1000 + 1800)
    habits.note(1)
    time.let_pass(6)
    again = conditions.plan(Situation(), Running())
    assert again is not None and again.start_s is not None and again.start_s > time.wall() + 1700, "somebody has paid"


def test_quiet_hours_are_kept_across_restarts_and_damage_is_forgotten(tmp_path: Path) -> None:
    time, path = VirtualTime(), tmp_path / "quiet.json"
    habits = Habits(LinuxFiles(), str(path), time, FixedZone())
    habits.note(3)
    assert not path.exists(), "flash wears: once an hour is enough"
    time.let_pass(3601)
    habits.note(10**9)
    assert habits.idle_s == 0
    again = Habits(LinuxFiles(), str(path), time, FixedZone())
    assert again.quiet == habits.quiet
    path.write_text('{"cells": [1]}')
    assert Habits(LinuxFiles(), str(path), time, FixedZone()).quiet == Habits.NOTHING


def test_until_quiet_hours_are_learned_the_night_is_quiet(tmp_path: Path) -> None:
    time = VirtualTime()
    conditions = Conditions(
        clock=time,
        power=None,  # type: ignore[arg-type]
        limits=EnergyLimits(),
        calendar=Calendar(),
        quiet_hours=True,
    )
    plan = conditions.plan(Situation(), Running())
    assert plan is not None and plan.start_s is not None and plan.why is Why.WINDOW
    assert 22 <= plan.start_s % 86400 / 3600 < 24


def test_without_a_clock_a_deferral_still_counts(tmp_path: Path) -> None:
    time = VirtualTime(wall=1000.0)
    conditions = Conditions(
        clock=time,
        power=None,  # type: ignore[arg-type]
        limits=EnergyLimits(),
        calendar=AT_NIGHT,
    )
    waiting = Update(id="u1", source="s", spool="s", target="b", previous="a", deferred_until=1000.0 + 7200)
    plan = conditions.plan(Situation(state=State.READY, update=waiting), Running())
    assert plan is not None and plan.why is Why.CLOCK_UNKNOWN and plan.start_s == 1000 + 7200
    assert not conditions.clock_known(Situation())
