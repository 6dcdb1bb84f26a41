"""The shop: its payment application takes payments by the true clock, and its merchant answers what the agent asks."""

from __future__ import annotations

from collections.abc import Mapping
from random import Random
from typing import Any

from posagent.core.hours import Zone
from posagent.core.ports import Message
from posagent.sim import shops
from posagent.sim.payment_app import DAY_S, PaymentApp
from posagent.sim.virtual import VirtualTime
from tests.days.clocks import TrueClock, World

ANSWER_S = (120.0, 4 * 3600.0)
LATER_SHARE, SILENT_SHARE = 0.25, 0.15
"""Of the questions: answered "later", and not answered at all."""


class Merchant(PaymentApp):
    """With the clock on the wall of its `zone`, whatever that clock does."""

    def __init__(
        self,
        *,
        zone: Zone,
        world: World,
        random: Random,
        shop: str,
        seed: int,
        time: VirtualTime,
        clock: TrueClock,
        settles_at_s: int | None,
    ) -> None:
        self._zone = zone
        self._world, self._random = world, random
        self._asked: set[tuple[str, int]] = set()
        self.shop = shop
        self.answers = {"yes": 0, "later": 0}
        super().__init__(shop=shop, seed=seed, clock=clock, timers=time, settles_at_s=settles_at_s)

    @property
    def unsettled(self) -> bool:
        return self._unsettled

    @property
    def holding(self) -> bool:
        """Somebody is served."""
        return bool(self._doing)

    def _local_s(self) -> float:
        true_s = self._clock.wall()
        return true_s + self._zone.offset_s(true_s)

    def busy(self) -> float:
        """Payments of this half hour, as the shop usually has."""
        return shops.SHOPS[self.shop][shops.half_hour_of_week(self._local_s())]

    def _hear(self, message: Message) -> None:
        super()._hear(message)
        question: Mapping[str, Any] | None = self.outlook.get("question")
        if question is None:
            return
        hour = int((self._clock.monotonic() + question["expires_s"]) // 1800)  # it is asked anew later on
        key = (question["id"], hour)
        if key in self._asked:
            return
        self._asked.add(key)
        if self._random.random() >= SILENT_SHARE:
            self._world.later(self._random.uniform(*ANSWER_S), lambda: self._answer(question["id"]))

    def _answer(self, question: str) -> None:
        """When somebody is there."""
        if self._call is None or not 8 * 3600 <= self._local_s() % DAY_S < 21 * 3600:
            self._world.later(1800.0, lambda: self._answer(question))
            return
        if (self.outlook.get("question") or {}).get("id") != question:
            return
        answer = "later" if self._random.random() < LATER_SHARE else "yes"
        self.answers[answer] += 1
        held = (*self._doing, "unsettled_batch") if self._unsettled else self._doing
        args = {
            "name": self._name,
            "lease_s": self._lease_s,
            "holds": [{"reason": reason} for reason in held],
            "answer": {"question": question, "answer": answer},
        }
        self._hang_up()
        self._hang_up = self._call("payment", args, self._hear, "uid 990")
