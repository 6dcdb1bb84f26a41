"""The gates that people and the clock make: maintenance window, deferral, consent, with words for the person there.

Owns: the texts of each reason to wait (`WORDS`, shown in docs/gates.md). When the moment is, core.window decides.
Rules: what a person or the calendar decided waits; it never becomes a failure, and every text says what helps.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from posagent.core.model import Gate, State, Update
from posagent.core.window import Plan, Why

Text = tuple[str, str]
"""English and Chinese."""

_AT_ONCE = ("`posagent update --now` does not wait for it.", "如需立即升级请使用 posagent update --now。")

WORDS: Mapping[str, tuple[Text, Text]] = {
    Why.NOW: (("a quiet moment comes at {at}", "{at} 为空闲时段"), _AT_ONCE),
    Why.WINDOW: (("the maintenance window: it begins at {at}", "维护时段：{at} 开始"), _AT_ONCE),
    Why.DAILY_RESTART: (("joins the daily restart: it begins at {at}", "与每日重启合并：{at} 开始"), _AT_ONCE),
    Why.QUIET: (("the quietest time of this terminal: it begins at {at}", "终端最空闲时段：{at} 开始"), _AT_ONCE),
    Why.DEADLINE: (("no later than its deadline: it begins at {at}", "最迟于截止时间 {at} 开始"), _AT_ONCE),
    Why.DEFERRED: (("put off by a person: it begins at {at}", "已被推迟：{at} 开始"), _AT_ONCE),
    Why.BLACKOUT: (("no updates on these days: it begins at {at}", "该日期禁止升级：{at} 开始"), _AT_ONCE),
    Why.NO_WINDOW_FITS: (
        (
            "no maintenance window is long enough: it needs {needed} min, the longest has {longest}",
            "维护时段过短：需要 {needed} 分钟，最长时段 {longest} 分钟",
        ),
        (
            "Configure a longer window (window.install), or use `posagent update --now`.",
            "请配置更长的维护时段（window.install），或使用 posagent update --now。",
        ),
    ),
    Why.CLOCK_UNKNOWN: (
        (
            "the clock cannot be right: it begins after a while without payments",
            "时钟不可信：一段时间无付款后开始",
        ),
        ("Set the clock, or wait until nobody pays for half an hour.", "请校准时钟，或等待半小时内无付款。"),
    ),
    "confirm": (
        ("the merchant must agree to this update", "此升级需要商户确认"),
        (
            "Confirm it on the terminal (`posagent confirm`), or put it off (`posagent defer`).",
            "请在终端上确认（posagent confirm）或推迟（posagent defer）。",
        ),
    ),
}
"""Reason and remedy by why it waits."""


def _gate(
    name: str,
    key: str,
    is_open: bool,
    values: Mapping[str, object],
    said: Text | None = None,
    opens_at: float | None = None,
) -> Gate:
    reason, remedy = WORDS[key]
    said = said or (reason[0].format_map(values), reason[1].format_map(values))
    return Gate(
        name=name,
        needed_for=State.INSTALL,
        open=is_open,
        reason=said[0],
        reason_zh=said[1],
        remedy="" if is_open else remedy[0],
        remedy_zh="" if is_open else remedy[1],
        opens_at=opens_at,
    )


def window(plan: Plan, now_s: float, shown: Callable[[float], str]) -> Gate:
    """Open once the planned moment has come; `shown` says a moment as the clock on the wall does."""
    start_s = plan.start_s
    is_open = start_s is not None and start_s <= now_s
    values = {
        "at": "?" if start_s is None else shown(start_s),
        "needed": round(plan.needed_s / 60),
        "longest": round((plan.longest_s or 0) / 60),
    }
    said = ("the time has come", "时间已到") if is_open else None
    return _gate("window", plan.why, is_open, values, said, None if is_open else start_s)


def at_once() -> Gate:
    """Somebody who stands there wants it now."""
    return _gate("window", Why.NOW, True, {}, ("asked for at once", "已要求立即升级"))


def deferral(update: Update, now_s: float, shown: Callable[[float], str]) -> Gate | None:
    """For terminals without windows; None where nobody put it off, or its deadline has passed."""
    if update.deferred_until <= now_s or 0 < update.not_after <= now_s:
        return None
    until = update.deferred_until
    return _gate("window", Why.DEFERRED, False, {"at": shown(until)}, opens_at=until)


def consent(update: Update) -> Gate | None:
    """None where the bundle does not ask for it."""
    if "confirm" not in update.conditions:
        return None
    agreed = bool(update.consent_by)
    said = (f"agreed to by {update.consent_by}", f"{update.consent_by} 已确认")
    return _gate("consent", "confirm", agreed, {}, said if agreed else None)
