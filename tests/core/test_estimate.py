"""How long it takes: from what this terminal has measured, what the model's profile says, and cautious defaults."""

from __future__ import annotations

import itertools
import math
from dataclasses import replace
from random import Random
from statistics import median

import pytest
from hypothesis import given
from hypothesis import strategies as st

from posagent.core.estimate import (
    AHEAD,
    CRITICAL,
    FORWARD,
    OUTAGE,
    PHASES,
    Running,
    critical_s,
    forecast,
    link_of,
    of_both_passes,
    refined,
)
from posagent.core.manifest import RATES_MAX
from posagent.core.model import Situation, State, Update, fold
from posagent.core.spread import Spread
from posagent.core.states import SPECS

MB = 1e6
UPDATE = Update(
    id="u1", source="https://x/b", spool="s1", target="b", previous="a", length=15_000_000, image_size=100_000_000
)
PROFILE = {"verify_bytes_per_s": 30_000_000, "install_bytes_per_s": 8_000_000, "restart_s": 35, "selftest_s": 20}


def situation(state: State = State.INSTALL, **measurements: list[tuple[float, float]]) -> Situation:
    update = None if state is State.IDLE else UPDATE
    return Situation(state=state, update=update, measurements={k: tuple(v) for k, v in measurements.items()})


def test_every_phase_is_foretold_in_both_measures() -> None:
    found = forecast(situation(State.IDLE), work={"download": 15e6, "verify": 15e6, "install": 100e6})
    assert list(found.phases) == ["rollback", *FORWARD] and set(found.phases) == set(PHASES)
    for span in (*found.phases.values(), found.total, found.outage):
        assert 0 < span.p50 < span.p90
    assert found.total.p50 == pytest.approx(sum(found.phases[name].p50 for name in FORWARD))
    assert found.outage.p50 == pytest.approx(sum(found.phases[name].p50 for name in OUTAGE))
    assert found.total.p90 < sum(found.phases[name].p90 for name in FORWARD), "not everything is slow at once"


def test_own_measurements_are_trusted_more_than_the_profile_and_that_more_than_defaults() -> None:
    by_default = forecast(situation()).phases["install"]
    by_profile = forecast(situation(), profile=PROFILE).phases["install"]
    by_itself = forecast(situation(install=[(50.0, 100 * MB)] * 4), profile=PROFILE).phases["install"]
    assert by_default.p50 == pytest.approx(20.0) and by_profile.p50 == pytest.approx(12.5)
    assert by_itself.p50 == pytest.approx(50.0, rel=0.3) and by_itself.p50 > 40
    ratios = [one.p90 / one.p50 for one in (by_default, by_profile, by_itself)]
    assert ratios == sorted(ratios, reverse=True)


def test_measured_bytes_are_a_rate_and_measured_restarts_are_not() -> None:
    small = replace(UPDATE, image_size=10_000_000)
    measured = {"install": ((50.0, 100 * MB),) * 8, "activate": ((33.0, 0.0),) * 8}
    found = forecast(Situation(state=State.INSTALL, update=small, measurements=measured))
    assert found.phases["install"].p50 == pytest.approx(5.0, rel=0.2)
    assert found.phases["activate"].p50 == pytest.approx(33.0, rel=0.05)


def test_an_install_of_this_size_says_more_than_one_of_another() -> None:
    """The small ones have more of what does not depend on bytes."""
    mixed = situation(install=[(10.0, 1 * MB), (50.0, 100 * MB), (10.0, 1 * MB), (50.0, 100 * MB)])
    assert forecast(mixed).phases["install"].p50 < 70.0


def test_going_back_is_a_restart_like_those_seen() -> None:
    slow = situation(activate=[(200.0, 0.0)] * 8)
    assert forecast(slow).phases["rollback"].p50 > 150.0
    assert forecast(slow, profile={"rollback_s": 90}).phases["rollback"].p50 == pytest.approx(90.0)


def test_a_later_release_may_put_anything_into_the_profile() -> None:
    strange = {f"novelty{number}": number for number in range(RATES_MAX - 1)} | {"restart_s": 0}
    assert forecast(situation(), profile=strange) == forecast(situation())


def test_a_download_of_unknown_size_is_foretold_with_doubt() -> None:
    unknown, known = forecast(Situation()), forecast(Situation(), work={"download": 30e6, "install": 30e6})
    for name in ("download", "install"):
        assert unknown.phases[name].p90 / unknown.phases[name].p50 > known.phases[name].p90 / known.phases[name].p50


def test_the_link_of_other_times_foretells_the_download() -> None:
    known = situation(State.IDLE, download=[(600.0, 15 * MB)] * 6)
    found = forecast(known, work={"download": 30 * MB}, link=link_of(known))
    assert found.phases["download"].p50 == pytest.approx(1200.0, rel=0.05)
    assert found.bytes_left == 30 * MB


def test_a_running_download_is_refined_by_its_link() -> None:
    known = situation(State.DOWNLOAD, download=[(600.0, 15 * MB)] * 2)
    link = link_of(known)
    for second in range(121):
        link.note(float(second), 10_000 * second)
    done = Running(elapsed_s=120.0, units_done=1.2 * MB, units_total=15 * MB)
    found = forecast(known, running=done, link=link)
    assert found.bytes_left == 13.8 * MB and 1100 < found.phases["download"].p50 < 1500


# what only the phases ahead are


@pytest.mark.parametrize("state", State)
def test_only_what_is_ahead_counts(state: State) -> None:
    found = forecast(situation(state))
    ahead = AHEAD[state]
    assert set(found.phases) == {*ahead, "rollback"}
    assert found.total.p50 == pytest.approx(sum(found.phases[name].p50 for name in ahead))
    assert (found.outage.p50 == 0.0) == (state is State.ROLLBACK)


@pytest.mark.parametrize("state", State)
def test_seconds_until_the_critical_section_ends_are_told_in_it_only(state: State) -> None:
    assert (state in CRITICAL) == SPECS[state].critical
    seconds = critical_s(situation(state))
    assert (seconds is not None and seconds > 0) if SPECS[state].critical else seconds is None


def test_after_a_power_cut_only_the_rest_of_the_slot_is_to_be_written() -> None:
    half = replace(UPDATE, bytes_done=50_000_000, bytes_total=100_000_000)
    measured = {"install": ((100.0, 100 * MB),) * 8}
    whole = forecast(Situation(state=State.INSTALL, update=UPDATE, measurements=measured)).phases["install"].p50
    rest = forecast(Situation(state=State.INSTALL, update=half, measurements=measured)).phases["install"].p50
    assert rest == pytest.approx(whole / 2)


def test_measurements_reach_the_estimate_through_the_journal() -> None:
    known = situation(State.IDLE)
    for _ in range(8):
        known = fold(known, {"state": "idle", "measured": {"selftest": {"seconds": 7.0, "bytes": 0.0}}})
    assert forecast(known).phases["selftest"].p50 == pytest.approx(7.0, rel=0.05)


def test_what_the_battery_has_to_last_for() -> None:
    found = forecast(situation())
    span = found.together("install", "activate", "selftest", "rollback")
    parts = [found.phases[name] for name in ("install", "activate", "selftest", "rollback")]
    assert max(one.p90 for one in parts) < span.p90 < sum(one.p90 for one in parts)
    assert found.together("migration").p90 == 0.0, "a phase that this release does not know"


# a phase that is under way

WHOLE = Spread(centre=math.log(100.0), sd=0.3)


def test_a_phase_as_fast_as_foretold_counts_down() -> None:
    left = [refined(WHOLE, Running(elapsed_s=at, units_done=at, units_total=100.0)).p50 for at in range(100)]
    assert all(one == pytest.approx(100.0 - at, abs=12) for at, one in enumerate(left))


def test_a_slow_run_is_seen_soon_and_believed_at_its_end() -> None:
    at_20, at_80 = (
        refined(WHOLE, Running(elapsed_s=4 * done, units_done=done, units_total=100.0)) for done in (20, 80)
    )
    assert 120 < at_20.p50 < 320 and at_80.p50 == pytest.approx(80.0, rel=0.15)
    assert at_80.p90 / at_80.p50 < at_20.p90 / at_20.p50


def test_what_another_run_has_done_is_no_pace_of_this_one() -> None:
    resumed = Running(elapsed_s=10.0, units_done=60.0, units_total=100.0, units_before=50.0)
    assert refined(WHOLE, resumed).p50 == pytest.approx(40.0, rel=0.1)


def test_a_run_that_finds_all_done_is_soon_over_or_overdue() -> None:
    left = [
        refined(WHOLE, Running(elapsed_s=at, units_done=9.0, units_total=9.0, units_before=9.0)).p50
        for at in (0.0, 100.0, 1000.0)
    ]
    assert left[0] == pytest.approx(1.0) and left[1] > 10 and left[2] > 100


@given(st.floats(0, 0.999), st.floats(-3, 10), st.floats(0.01, 2), st.lists(st.floats(0, 1e5), min_size=2, max_size=9))
def test_a_phase_that_has_stopped_takes_longer_and_longer(
    done: float, centre: float, sd: float, moments: list[float]
) -> None:
    whole = Spread(centre=centre, sd=sd)
    left = [
        refined(whole, Running(elapsed_s=at, units_done=done, units_total=1.0)).p50
        for at in sorted(moments)
        if at > 1e-3
    ]
    assert all(later >= earlier * (1 - 1e-9) for earlier, later in itertools.pairwise(left))


@given(st.floats(0, 1e7), st.floats(-10, 1e12), st.floats(-10, 1e12), st.floats(0, 1e12), st.sampled_from(State))
def test_whatever_is_reported_what_is_left_is_sound(
    elapsed_s: float, done: float, of: float, before: float, state: State
) -> None:
    running = Running(elapsed_s=elapsed_s, units_done=done, units_total=of, units_before=before)
    found = forecast(situation(state), running=running)
    for span in (*found.phases.values(), found.total, found.outage):
        assert 0 <= span.p50 <= span.p90 < math.inf


# whole updates of many terminals


STEPS = {"verify": 15e6, "install": 5e6, "activate": 60.0, "selftest": 60.0, "commit": 5.0}


def whole_updates(places: float, times: float, common: float) -> tuple[float, float]:
    """Share within p90 and median error over terminals, 0 to 8 updates old, whose speeds differ from the defaults by
    `places` and from time to time by `times`, of which `common` is the terminal's as a whole (logarithms)."""
    random, errors, within = Random(11), [], []
    for number in range(900):
        own = {name: usual * math.exp(random.gauss(0, places)) for name, usual in STEPS.items()}
        *seen, actual = (_one_update(own, times, common, random) for _ in range(number % 9 + 1))
        found = forecast(
            Situation(state=State.VERIFY, measurements={name: tuple(one[name] for one in seen) for name in own}),
            work={name: size for name, (_, size) in actual.items() if size},
        )
        seconds = sum(one for one, _ in actual.values())
        within.append(seconds <= found.total.p90)
        errors.append(abs(found.total.p50 - seconds) / seconds)
    return sum(within) / len(within), median(errors)


def _one_update(own: dict[str, float], times: float, common: float, random: Random) -> dict[str, tuple[float, float]]:
    size, slow = math.exp(random.uniform(math.log(20e6), math.log(200e6))), random.gauss(0, common)
    return {
        name: (
            (size / usual if PHASES[name].by_bytes else usual) * math.exp(slow + random.gauss(0, times)),
            size if PHASES[name].by_bytes else 0.0,
        )
        for name, usual in own.items()
    }


def test_whole_updates_end_within_p90_nine_times_of_ten() -> None:
    within, error = whole_updates(places=0.7, times=0.25, common=0.15)
    assert 0.85 <= within <= 0.95 and error <= 0.20


def test_terminals_unlike_those_that_the_defaults_were_made_for_are_not_far_off() -> None:
    """Steadier ones than expected end within p90 more often, rougher ones a little less."""
    assert whole_updates(places=0.3, times=0.15, common=0.05)[0] >= 0.95
    assert whole_updates(places=0.7, times=0.35, common=0.2)[0] >= 0.82


def test_reading_back_goes_on_where_writing_ended() -> None:
    told = [of_both_passes(done, 100, back) for back in (False, True) for done in (0, 50, 100)]
    assert told == sorted(told) and told[0] == 0 and told[-1] == pytest.approx(100) and told[2] == told[3]
