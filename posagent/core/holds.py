"""What payment applications have to say about an update: holds ("not now, because …") and the gate they make.

Owns: which holds stop what, and the words for a closed gate. agent.payment keeps the sessions, docs/payment.md has the
protocol.
Rules: who says nothing any more keeps the gate closed, whatever he said last; only a connection that ended releases.
Times are seconds of the monotonic clock.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from enum import StrEnum

from posagent.core.model import Gate, State


class Reason(StrEnum):
    """Why an application holds, most pressing first."""

    TRANSACTION = "transaction"
    CARD_IN_READER = "card_in_reader"
    PRINTING = "printing"
    OFFLINE_QUEUE = "offline_queue"
    UNSETTLED_BATCH = "unsettled_batch"


ALWAYS = frozenset({Reason.TRANSACTION, Reason.CARD_IN_READER, Reason.PRINTING})
"""Somebody stands there and waits."""
RECONCILE = frozenset({Reason.OFFLINE_QUEUE, Reason.UNSETTLED_BATCH})
"""They survive an update as data, so they only stop one that demands reconciliation first (ISO 20022: RCNC)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Hold:
    reason: Reason
    since_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Session:
    """One connected payment application; `heard_s` is when its last line came, `lease_s` how long that counts."""

    name: str
    heard_s: float
    lease_s: int
    holds: tuple[Hold, ...] = ()

    @property
    def silent_from_s(self) -> float:
        return self.heard_s + self.lease_s

    def silent(self, now_s: float) -> bool:
        return now_s >= self.silent_from_s


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """What the person at the terminal is asked through the payment application; `expires_at_s` is monotonic."""

    id: str
    text: str
    text_zh: str
    expires_at_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Outlook:
    """What an application is told: whether a payment may begin now, and how long whatever is under way will take."""

    state: State = State.IDLE
    may_hold: bool = True
    expected_s: float | None = None
    question: Question | None = None


def may_hold(state: State, *, waits: bool) -> bool:
    """Whether a payment may begin: not from the moment the restart is decided until the new version is committed or the
    old one is back. `waits` is True while the present work waits for a gate (Engine.waits_for)."""
    if state is State.ACTIVATE:
        return waits
    return state not in (State.SELFTEST, State.COMMIT, State.ROLLBACK)


@dataclass(frozen=True, slots=True, kw_only=True)
class Words:
    """A closed gate's reason and remedy; `{name}` is the application, `{seconds}` how long it has been so."""

    reason: str
    reason_zh: str
    remedy: str
    remedy_zh: str


SILENT, ABSENT, UNTOLD = "silent", "absent", "untold"

WORDS: Mapping[str, Words] = {
    Reason.TRANSACTION: Words(
        reason="a payment is under way",
        reason_zh="正在进行付款",
        remedy="Wait until the payment has ended.",
        remedy_zh="请等待付款结束。",
    ),
    Reason.CARD_IN_READER: Words(
        reason="a card is in the reader",
        reason_zh="读卡器中有卡",
        remedy="Take the card out of the reader.",
        remedy_zh="请取出卡片。",
    ),
    Reason.PRINTING: Words(
        reason="a receipt is being printed",
        reason_zh="正在打印小票",
        remedy="Wait for the receipt; if none comes, put in paper.",
        remedy_zh="请等待小票打印完成；如未打印请装入纸卷。",
    ),
    Reason.OFFLINE_QUEUE: Words(
        reason="offline payments must be sent before this update",
        reason_zh="升级前须先上送离线交易",
        remedy="Connect the terminal to the network, so that it can send them.",
        remedy_zh="请接通网络，以便上送离线交易。",
    ),
    Reason.UNSETTLED_BATCH: Words(
        reason="the batch must be settled before this update",
        reason_zh="升级前须先结算当前批次",
        remedy="Settle the batch on the terminal (end of day).",
        remedy_zh="请在终端上进行结算（日结）。",
    ),
    SILENT: Words(
        reason="the payment application {name} has said nothing for {seconds} s",
        reason_zh="支付应用 {name} 已 {seconds} 秒无响应",
        remedy="Start the payment application again; if this stays, call service.",
        remedy_zh="请重新启动支付应用；如仍有问题请联系服务商。",
    ),
    ABSENT: Words(
        reason="no payment application is connected to the agent",
        reason_zh="没有支付应用连接到升级程序",
        remedy="Start the payment application; if this stays, call service.",
        remedy_zh="请启动支付应用；如仍有问题请联系服务商。",
    ),
    UNTOLD: Words(
        reason="this update needs a settled batch, and no payment application says whether it is",
        reason_zh="此升级要求先结算，但没有支付应用报告结算状态",
        remedy="Start the payment application and settle the batch (end of day).",
        remedy_zh="请启动支付应用并进行结算（日结）。",
    ),
}
"""By reason of a hold, or `silent`, `absent`, `untold`."""


def gate(
    sessions: Collection[Session],
    now_s: float,
    *,
    required: bool,
    reconcile_first: bool,
    needed_for: State,
    name: str = "payment",
) -> Gate:
    """The gate of all connected applications. `required` closes it where there is none; `reconcile_first` is the
    bundle's condition that the batch is settled and nothing is queued."""
    found = _obstacle(sessions, now_s, required, reconcile_first)
    if found is None:
        return Gate(
            name=name,
            needed_for=needed_for,
            open=True,
            reason="no payment is under way" if sessions else "no payment application is connected, none is required",
            reason_zh="没有正在进行的付款" if sessions else "未连接支付应用，也不要求连接",
        )
    key, facts = found
    words = WORDS[key]
    return Gate(
        name=name,
        needed_for=needed_for,
        open=False,
        reason=words.reason.format_map(facts),
        reason_zh=words.reason_zh.format_map(facts),
        remedy=words.remedy,
        remedy_zh=words.remedy_zh,
    )


def _obstacle(
    sessions: Collection[Session], now_s: float, required: bool, reconcile_first: bool
) -> tuple[str, Mapping[str, object]] | None:
    """What stands in the way, most pressing first, and the facts of its words."""
    silent = [session for session in sessions if session.silent(now_s)]
    if silent:
        longest = min(silent, key=lambda session: session.heard_s)
        return SILENT, {"name": longest.name, "seconds": int(now_s - longest.heard_s)}
    if not sessions and required:
        return ABSENT, {}
    stops = ALWAYS | RECONCILE if reconcile_first else ALWAYS
    held = {hold.reason for session in sessions for hold in session.holds} & stops
    for reason in Reason:
        if reason in held:
            return reason, {}
    if not sessions and reconcile_first:
        return UNTOLD, {}
    return None
