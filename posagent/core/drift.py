"""What became of an estimate: why it has moved, in words, and how wrong it was.

Rules: a forecast is told once; a later one is compared with what the told one would have left by now. Whoever tells
the reason keeps the new forecast to compare with.
"""

from __future__ import annotations

from dataclasses import dataclass

from posagent.core.estimate import DOWNLOAD, FORWARD, PHASES, ROLLBACK, Forecast
from posagent.core.spread import NONE

MOVED_SHARE = 0.25
MOVED_S_MIN = 10.0
"""Nobody plans by less; near the end everything is more than a quarter."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Prediction:
    """Foretold at the moment `at` (seconds since 1970): so many seconds from then on."""

    at: float
    p50: float
    p90: float


def scored(prediction: Prediction, actual_s: float) -> dict[str, float | bool]:
    """What a prediction was worth: `error` is above 0 where less time was needed than foretold."""
    return {
        "error": round((prediction.p50 - actual_s) / max(actual_s, 1.0), 4),
        "within_p50": actual_s <= prediction.p50,
        "within_p90": actual_s <= prediction.p90,
    }


def moved(before: Forecast, after: Forecast) -> tuple[str, str] | None:
    """Why the whole takes more than a quarter longer or shorter than was told, in English and Chinese; or None."""
    passed_s = max(after.at_s - before.at_s, 0.0)
    expected_s = max(before.total.p50 - passed_s, 0.0)
    by_s = after.total.p50 - expected_s
    if abs(by_s) <= max(MOVED_SHARE * expected_s, MOVED_S_MIN):
        return None
    if ROLLBACK in _ahead(after) and ROLLBACK not in _ahead(before):
        return "the new version did not hold: the terminal goes back", "新版本未通过，终端正在回退"
    changes = _changes(before, after, passed_s)
    name = max(changes, key=lambda one: changes[one] if by_s > 0 else -changes[one])
    if name == DOWNLOAD and DOWNLOAD in after.phases:
        return _link_words(before, after, by_s)
    return _words(name, before, after, changes[name])


def _ahead(forecast: Forecast) -> tuple[str, ...]:
    """The phases that its total is made of."""
    return tuple(name for name in FORWARD if name in forecast.phases) or (ROLLBACK,)


def _changes(before: Forecast, after: Forecast, passed_s: float) -> dict[str, float]:
    """By how many seconds each phase differs from what was told. Those that have ended had the time that the one under
    way did not take; what cannot be told apart any more is the last one's."""
    still, changes = _ahead(after), {}
    over = [name for name in _ahead(before) if name not in still]
    now_s = min(after.elapsed_s, passed_s) if over else passed_s
    unspent = passed_s - now_s
    for name in over:
        told = before.phases[name].p50
        spent = unspent if name == over[-1] else min(unspent, told)
        changes[name], unspent = spent - told, unspent - spent
    for name in still:
        changes[name] = after.phases[name].p50 - before.phases.get(name, NONE).p50
    changes[still[0]] += now_s
    return changes


def _link_words(before: Forecast, after: Forecast, by_s: float) -> tuple[str, str]:
    if after.stalled_s and by_s > 0:
        return (
            f"the link has stalled: nothing has come for {after.stalled_s:.0f} s",
            f"网络停滞：已有 {after.stalled_s:.0f} 秒未收到数据",
        )
    if after.bytes_left > before.bytes_left > 0 and by_s > 0:
        now, told = size(after.bytes_left), size(before.bytes_left)
        return f"there is more to fetch: {now} instead of {told}", f"需下载的内容增多：{now}，原为 {told}"
    now, told = _rate(after), _rate(before)
    if now == told and by_s < 0:
        return f"less is left to fetch: {size(after.bytes_left)}", f"剩余下载量减少：{size(after.bytes_left)}"
    slower, slower_zh = ("slower", "慢") if by_s > 0 else ("faster", "快")
    return f"the link is {slower}: {now} instead of {told}", f"网络变{slower_zh}：{now}，原为 {told}"


def _rate(forecast: Forecast) -> str:
    """The rate by which the forecast was made."""
    seconds = forecast.phases.get(DOWNLOAD, NONE).p50
    return f"{size(forecast.bytes_left / seconds)}/s" if seconds > 0 else "0 kB/s"


def size(count: float) -> str:
    """900 B, 4 kB, 1.2 MB, 35 MB."""
    if count < 999.5:
        return f"{count:.0f} B"
    unit, scale = ("kB", 1e3) if count < 999.5e3 else ("MB", 1e6)
    value = round(count / scale, 0 if count >= 9.95 * scale else 1)
    return f"{value:g} {unit}"


def _words(name: str, before: Forecast, after: Forecast, change_s: float) -> tuple[str, str]:
    phase, phase_zh = PHASES[name].words
    told = before.phases.get(name, NONE).p50
    more = change_s > 0
    seconds, seconds_zh = (
        f"{told + change_s:.0f} s instead of {told:.0f} s",
        f"{told + change_s:.0f} 秒，原预计 {told:.0f} 秒",
    )
    if name in after.phases:
        return (
            f"{phase} takes {'longer' if more else 'less time'} than foretold: {seconds}",
            f"{phase_zh}比预计{'慢' if more else '快'}：{seconds_zh}",
        )
    return (
        f"{phase} took {'longer' if more else 'less time'} than foretold: {seconds}",
        f"{phase_zh}用时比预计{'长' if more else '短'}：{seconds_zh}",
    )
