"""The ladder of help: what is tried, one step after the other, before anybody has to come.

    1 network    the network is checked before the next attempt     the terminal
    2 resume     the download goes on where it stopped              the terminal
    3 again      what was fetched is given up and fetched again     the terminal
    4 other_way  another link, a USB stick, the serial line         who stands there; the terminal goes on trying
    5 ticket     a support bundle, and its code for the phone       service

Owns: which trouble leads to which step, and the words of each step. The table (core.states) has the attempts, the
waiting and the downloading again; a step is a name for where these stand, kept in the trouble that led to it.
Rules: no step makes another one impossible: what was fetched is only given up where it may be what is wrong.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from enum import StrEnum
from typing import Any

from posagent.core.words import OutcomeKind


class Step(StrEnum):
    """In the order in which they are climbed."""

    NETWORK = "network"
    RESUME = "resume"
    AGAIN = "again"
    OTHER_WAY = "other_way"
    TICKET = "ticket"


STEPS = tuple(Step)
LINK = frozenset(
    {"fetch_network", "fetch_stalled", "fetch_timeout", "fetch_tls", "fetch_portal", "fetch_proxy", "fetch_status"}
)
"""Trouble on the way to the server."""
STALE = frozenset({"fetch_length", "fetch_changed"})
"""Trouble that fetching the rest mends, or fetching all of it again."""
CORRUPT = frozenset({"payload_corrupt", "bundle_unreadable"})
DEAR = frozenset({"fetch_metered"})
AGAIN_AFTER, OTHER_WAY_AFTER = 3, 5
"""Attempts in a row that brought nothing."""
BY_HAND = frozenset({"bundle_partial", "fetch_source", "slot_changed"})
"""Ends that say by themselves what is to be done, and need no service."""


def step(code: str, attempts: int, downloads: int) -> Step | None:
    """What follows on a download's trouble; None where the ladder does not help. `attempts` is how many were begun
    since it last got on, `downloads` how many were given up before."""
    if not downloads and suspect(code, attempts):
        return Step.AGAIN
    if code in LINK and attempts <= 1:
        return Step.NETWORK
    if code in LINK | STALE:
        return Step.RESUME if attempts < OTHER_WAY_AFTER else Step.OTHER_WAY
    return Step.OTHER_WAY if code in DEAR else None


def suspect(code: str, attempts: int) -> bool:
    """Whether what was fetched so far may be what is wrong."""
    return code in CORRUPT or (code in STALE and attempts >= AGAIN_AFTER)


def checks_network(failure: Mapping[str, Any] | None) -> bool:
    """Whether the network is looked at before the next attempt."""
    found = failure or {}
    return found.get("code") in LINK and found.get("step") in (Step.NETWORK, Step.OTHER_WAY)


def climbed(tried: tuple[str, ...], now: Step) -> tuple[str, ...]:
    """What was tried, each step once, the last one last."""
    return (*(one for one in tried if one != now), now.value)


def wants_ticket(outcome: Mapping[str, Any] | None) -> bool:
    """Whether service has to hear of this end and does not yet."""
    if outcome is None or outcome.get("ticket"):
        return False
    return outcome["outcome"] in (OutcomeKind.FAILED, OutcomeKind.ROLLED_BACK) and outcome["code"] not in BY_HAND


@dataclass(frozen=True, slots=True, kw_only=True)
class Help:
    """One step as people see it: the `step`th `of` all; `who` acts is `terminal`, `merchant` or `service`."""

    step: int
    name: str
    who: str
    text: str
    text_zh: str
    of: int = len(STEPS)

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)


_WORDS: Mapping[Step, tuple[str, str, str]] = {
    Step.NETWORK: ("terminal", "the network is checked, then the download goes on", "先检查网络，再继续下载"),
    Step.RESUME: ("terminal", "the download goes on where it stopped", "从中断处继续下载"),
    Step.AGAIN: ("terminal", "what was fetched may be damaged: it comes again", "已下载内容可能损坏，正在重新下载"),
    Step.OTHER_WAY: (
        "merchant",
        "connect the terminal to another network (cable, Wi-Fi, SIM), or bring the update on a USB stick; "
        "meanwhile it goes on trying",
        "请改用其他网络（网线、Wi-Fi、SIM 卡），或用 U 盘提供升级包；终端会继续尝试",
    ),
    Step.TICKET: ("service", "call service with the code {}", "请联系服务商并告知代码 {}"),
}


_NAMES: Mapping[str, tuple[str, str]] = {
    Step.NETWORK: ("network check", "检查网络"),
    Step.RESUME: ("going on", "断点续传"),
    Step.AGAIN: ("downloading again", "重新下载"),
    Step.OTHER_WAY: ("another way in", "其他途径"),
    Step.TICKET: ("report for service", "服务报告"),
}


def step_names(steps: Iterable[str], lang: str) -> list[str]:
    """In few words, for an outcome."""
    return [_NAMES[one][lang == "zh"] for one in steps if one in _NAMES]


def help_on(now: Step, code: str = "", found: str = "") -> Help:
    """The step in words; `code` is what service is told, `found` is what was wrong with the network."""
    who, text, text_zh = _WORDS[now]
    noted = found and now in (Step.NETWORK, Step.RESUME, Step.OTHER_WAY)
    return Help(
        step=STEPS.index(now) + 1,
        name=now.value,
        who=who,
        text=text.format(code) + (f" ({found})" if noted else ""),
        text_zh=text_zh.format(code) + (f"（{found}）" if noted else ""),
    )


def under_way(failure: Mapping[str, Any] | None, found: str) -> Help | None:
    """While the update goes on; None where nothing is wrong, or nothing that the ladder is for."""
    name = (failure or {}).get("step")
    return help_on(Step(name), found=found) if name in STEPS else None


def ended(outcome: Mapping[str, Any] | None) -> Help | None:
    """After its end: service is called with the ticket's code, or with that of the trouble where there is no ticket."""
    if outcome is None or not (outcome.get("ticket") or wants_ticket(outcome)):
        return None
    return help_on(Step.TICKET, code=str(outcome.get("ticket", outcome)["code"]))
