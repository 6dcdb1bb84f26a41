"""An estimate that moves says why, in both languages; one that is over says how wrong it was."""

from __future__ import annotations

import pytest

from posagent.core.drift import Prediction, moved, scored, size
from posagent.core.estimate import OUTAGE, Forecast
from posagent.core.spread import Span, total

TOLD = {"download": 250.0, "verify": 5.0, "install": 60.0, "activate": 40.0, "selftest": 30.0, "commit": 5.0}


def forecast(
    at_s: float = 0.0, *, elapsed_s: float = 0.0, bytes_left: float = 0.0, stalled_s: float = 0.0, **seconds: float
) -> Forecast:
    spans = {name: Span(p50=one, p90=1.3 * one) for name, one in seconds.items()}
    return Forecast(
        phases={"rollback": Span(p50=60.0, p90=90.0), **spans},
        total=total(spans.values()),
        outage=total(span for name, span in spans.items() if name in OUTAGE),
        at_s=at_s,
        elapsed_s=elapsed_s,
        bytes_left=bytes_left,
        stalled_s=stalled_s,
    )


def rest(*names: str, **changed: float) -> dict[str, float]:
    return {**{name: TOLD[name] for name in names}, **changed}


AFTER_IT = ("verify", "install", "activate", "selftest", "commit")
BEFORE = forecast(bytes_left=3e6, **TOLD)


def test_time_that_passes_as_foretold_is_no_news() -> None:
    assert moved(BEFORE, BEFORE) is None
    assert moved(BEFORE, forecast(100.0, bytes_left=1.8e6, **rest(*AFTER_IT, download=150.0))) is None
    assert moved(BEFORE, forecast(265.0, elapsed_s=10.0, **rest(*AFTER_IT[2:], install=50.0))) is None


def test_a_quarter_more_or_less_is_news_and_less_is_not() -> None:
    assert moved(BEFORE, forecast(bytes_left=3e6, **rest(*AFTER_IT, download=250.0 + 96.0))) is None
    assert moved(BEFORE, forecast(bytes_left=3e6, **rest(*AFTER_IT, download=250.0 + 99.0))) is not None
    assert moved(BEFORE, forecast(bytes_left=3e6, **rest(*AFTER_IT, download=250.0 - 99.0))) is not None


def test_a_slower_link_is_told_with_its_rates() -> None:
    slower = forecast(10.0, bytes_left=2.96e6, **rest(*AFTER_IT, download=740.0))
    assert moved(BEFORE, slower) == ("the link is slower: 4 kB/s instead of 12 kB/s", "网络变慢：4 kB/s，原为 12 kB/s")


def test_a_faster_link_is_told_too() -> None:
    faster = forecast(10.0, bytes_left=2.8e6, **rest(*AFTER_IT, download=2.0))
    assert moved(BEFORE, faster) == (
        "the link is faster: 1.4 MB/s instead of 12 kB/s",
        "网络变快：1.4 MB/s，原为 12 kB/s",
    )


def test_a_stalled_link_is_told_as_such() -> None:
    stalled = forecast(90.0, bytes_left=2.4e6, stalled_s=40.0, **rest(*AFTER_IT, download=400.0))
    assert moved(BEFORE, stalled) == (
        "the link has stalled: nothing has come for 40 s",
        "网络停滞：已有 40 秒未收到数据",
    )


def test_more_to_fetch_is_not_the_links_fault() -> None:
    whole = forecast(10.0, bytes_left=35e6, **rest(*AFTER_IT, download=2900.0))
    assert moved(BEFORE, whole) == (
        "there is more to fetch: 35 MB instead of 3 MB",
        "需下载的内容增多：35 MB，原为 3 MB",
    )


def test_the_phase_that_is_slower_is_named() -> None:
    before = forecast(1000.0, **rest(*AFTER_IT[1:]))
    after = forecast(1030.0, elapsed_s=30.0, **rest(*AFTER_IT[2:], install=100.0))
    assert moved(before, after) == (
        "installing takes longer than foretold: 130 s instead of 60 s",
        "安装比预计慢：130 秒，原预计 60 秒",
    )


def test_a_phase_that_has_ended_is_named_with_what_it_took() -> None:
    before = forecast(1000.0, **rest(*AFTER_IT[1:]))
    after = forecast(1120.0, elapsed_s=5.0, **rest("selftest", "commit", activate=35.0))
    assert moved(before, after) == (
        "installing took longer than foretold: 115 s instead of 60 s",
        "安装用时比预计长：115 秒，原预计 60 秒",
    )


def test_a_download_that_ended_early_is_named() -> None:
    after = forecast(50.0, elapsed_s=0.0, **rest(*AFTER_IT))
    assert moved(BEFORE, after) == (
        "the download took less time than foretold: 50 s instead of 250 s",
        "下载用时比预计短：50 秒，原预计 250 秒",
    )


def test_going_back_is_a_reason_of_its_own() -> None:
    before = forecast(0.0, selftest=30.0, commit=5.0)
    after = Forecast(phases={"rollback": Span(p50=60.0, p90=90.0)}, total=Span(p50=60.0, p90=90.0), outage=total([]))
    found = moved(before, after)
    assert found is not None and found[0].startswith("the new version did not hold")


def test_the_last_seconds_are_no_news() -> None:
    assert moved(forecast(commit=2.0), forecast(2.0, elapsed_s=2.0, commit=6.0)) is None


@pytest.mark.parametrize(
    ("count", "words"),
    [(900, "900 B"), (4000, "4 kB"), (1440, "1.4 kB"), (12_345, "12 kB"), (999_600, "1 MB"), (35.2e6, "35 MB")],
)
def test_sizes_in_words(count: float, words: str) -> None:
    assert size(count) == words


def test_a_prediction_is_scored_when_it_is_over() -> None:
    told = Prediction(at=1.7e9, p50=100.0, p90=150.0)
    assert scored(told, 80.0) == {"error": 0.25, "within_p50": True, "within_p90": True}
    assert scored(told, 125.0) == {"error": -0.2, "within_p50": False, "within_p90": True}
    assert scored(told, 200.0) == {"error": -0.5, "within_p50": False, "within_p90": False}
    assert scored(told, 0.0)["error"] == 100.0, "in seconds, where nothing was left to foretell"
