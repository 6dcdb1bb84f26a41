"""One line of a payment application, read strictly: what is not understood is refused as a whole.

Rules: an unknown key is an error, because `"hold"` written for `"holds"` would let an update into a payment.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from posagent.core.errors import PosagentError
from posagent.core.holds import Hold, Reason

HOLDS_MAX = 16
LEASE_S_MIN = 5
PAYMENTS_MAX = 10_000
SINCE_S_MAX = 366 * 86400.0
SEQ_MAX = 2**53 - 1
"""The largest whole number that every JSON library keeps."""
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,39}")
QUESTION = re.compile(r"[A-Za-z0-9._:-]{1,40}")
ANSWERS = {"yes": True, "later": False}
KEYS = ("name", "lease_s", "holds", "payments", "answer", "seq")


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """`holds` are reasons with the seconds they have been held for, where the application says; `payments` were taken
    since its last line; `answer` is a question's id and whether it was yes; `seq` comes back with the answer."""

    name: str
    lease_s: int
    holds: tuple[tuple[Reason, float | None], ...]
    payments: int = 0
    answer: tuple[str, bool] | None = None
    seq: int | None = None

    def holds_at(self, now_s: float, before: Sequence[Hold]) -> tuple[Hold, ...]:
        """As seen now; a hold that does not say since when began when that reason was first heard of."""
        earlier = {hold.reason: hold.since_s for hold in before}
        return tuple(
            Hold(reason=reason, since_s=earlier.get(reason, now_s) if held_s is None else now_s - held_s)
            for reason, held_s in self.holds
        )


def _bad(detail: str) -> PosagentError:
    return PosagentError("bad_request", detail)


def _whole(args: Mapping[str, Any], key: str, low: int, high: int) -> int:
    value = args.get(key)
    if type(value) is not int or not low <= value <= high:
        raise _bad(f"{key} must be a whole number from {low} to {high}")
    return value


def read(args: Mapping[str, Any], lease_s_max: int) -> Line:
    """The line with these args. Raises PosagentError `bad_request`, naming the key."""
    unknown = next((key for key in args if key not in KEYS), None)
    if unknown is not None:
        raise _bad(f"{unknown[:40]!r} is not known here; known: {', '.join(KEYS)}")
    name = args.get("name")
    if not isinstance(name, str) or not NAME.fullmatch(name):
        raise _bad("name must be 1 to 40 letters, digits, dots, dashes or underscores")
    return Line(
        name=name,
        lease_s=_whole(args, "lease_s", LEASE_S_MIN, lease_s_max),
        holds=_holds(args.get("holds")),
        payments=_whole(args, "payments", 0, PAYMENTS_MAX) if "payments" in args else 0,
        answer=_answer(args["answer"]) if "answer" in args else None,
        seq=_whole(args, "seq", 0, SEQ_MAX) if "seq" in args else None,
    )


def _holds(value: object) -> tuple[tuple[Reason, float | None], ...]:
    if not isinstance(value, list) or len(value) > HOLDS_MAX:
        raise _bad(f"holds must be a list of at most {HOLDS_MAX}")
    return tuple(_hold(one) for one in value)


def _hold(value: object) -> tuple[Reason, float | None]:
    if not isinstance(value, dict) or not value.keys() <= {"reason", "since_s"}:
        raise _bad("a hold has a reason and, if it likes, since_s")
    try:
        reason = Reason(str(value.get("reason")))
    except ValueError:
        raise _bad(f"the reason of a hold must be one of {', '.join(Reason)}") from None
    if "since_s" not in value:
        return reason, None
    since_s = value["since_s"]
    # compared before it becomes a float, which a huge whole number cannot
    if type(since_s) not in (int, float) or not 0 <= since_s <= SINCE_S_MAX or not math.isfinite(since_s):
        raise _bad("since_s must be the seconds that it has been held for")
    return reason, float(since_s)


def _answer(value: object) -> tuple[str, bool]:
    if not isinstance(value, dict) or value.keys() != {"question", "answer"}:
        raise _bad("an answer has a question and an answer")
    question, answer = value["question"], value["answer"]
    if not isinstance(question, str) or not QUESTION.fullmatch(question):
        raise _bad("the question of an answer must be its id")
    if not isinstance(answer, str) or answer not in ANSWERS:
        raise _bad(f"an answer must be one of {', '.join(ANSWERS)}")
    return question, ANSWERS[answer]
