"""What the agent has to do with its fleet server: it asks now and then, carries out what is wanted, and tells how that
went until it is heard.

Owns: `STATE/fleet.json`, the mailbox (core.fleet), and when the server is asked (core.polling). What is to be done goes
to the engine like anybody else's wish, and is refused like theirs.
Rules: a letter is durable before it is sent, and forgotten when the server has it. An update carries the action that it
is for, in the journal and in its outcome: one that has an outcome is not begun again, whatever became of the mailbox.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Callable, Mapping
from typing import Any

from posagent.agent import mailbox
from posagent.agent.engine import Engine
from posagent.agent.errand import Errand
from posagent.agent.fleet_words import REMEDY, WORDS, attributes_of
from posagent.core import fleet, polling
from posagent.core.deadline import Deadline
from posagent.core.errors import PosagentError
from posagent.core.fleet import Deployment, Heard, Letter, Mailbox
from posagent.core.model import Event, Gate, Occurrence, OutcomeKind, State, Update
from posagent.core.ports import Clock, Files, Job, Message, Timer, Timers, Worker

DEADLINE_S = 300.0
SOON_S = 4.0
"""What has happened is told about so soon: on the way it may be followed by something else."""
LETTERS_AT_ONCE = 16
HEARD_S = 3600.0
"""How far the moment in the mailbox at which the deployment was heard of may lag behind."""
CALLER = "fleet"


class Fleet:
    """`begin` asks for an update as AgentApi.begin, `cancel` ends the one under way; both raise PosagentError.
    `hardware` is the model and its revision; `draw` gives numbers from 0 to 1. Figures are made from `status`, where
    that is given."""

    def __init__(
        self,
        *,
        engine: Engine,
        worker: Worker,
        begin: Callable[[Mapping[str, Any], str], Any],
        cancel: Callable[[], Any],
        timers: Timers,
        clock: Clock,
        files: Files,
        path: str,
        hardware: tuple[str, int],
        draw: Callable[[], float],
        poll_s: float,
        distribution: str = "",
        status: Callable[[], Mapping[str, Any]] | None = None,
    ) -> None:
        self._engine, self._worker, self._begin, self._cancel = engine, worker, begin, cancel
        self._timers, self._clock, self._files, self._path = timers, clock, files, path
        self._hardware, self._draw, self._distribution = hardware, draw, distribution
        self._status = status
        self._figures: Job | None = None
        self._box = mailbox.load(files, path)
        self._sleep_s, self._failures = poll_s, 0
        self._code, self._heard_at = "", 0.0
        self._timer: Timer | None = None
        self._due_at = 0.0
        self._errand: Errand | None = None

    def start(self) -> None:
        """When the hardware is known."""
        self._ask_in(polling.first_s(self._sleep_s, self._draw()))
        self.changed()
        if self._box.letters:
            self._soon()

    def told(self) -> dict[str, Any]:
        """For the status: when the server was last heard of, how many letters wait, and what is wrong."""
        found = self._box.deployment
        return {
            "heard_at": round(self._heard_at, 3),
            "failures": self._failures,
            "code": self._code,
            "letters": len(self._box.letters),
            "action": found.action if found is not None else "",
            "sleep_s": self._sleep_s,
        }

    def gate(self, update: Update) -> Gate | None:
        """Whether the server lets it be installed now; None for what it did not ask for."""
        if not update.action:
            return None
        found, is_open = self._box.deployment, fleet.may_install(self._box, update, self._engine.now())
        reason, reason_zh = WORDS["open"]
        if not is_open:
            mine = found if found is not None and fleet.fulfils(update, found.action) else None
            asks, closed = mine is not None and mine.asks, mine is not None and mine.window == fleet.CLOSED
            reason, reason_zh = WORDS["asks" if asks else "window" if closed else "download"]
        return Gate(
            name="fleet",
            needed_for=State.INSTALL,
            open=is_open,
            reason=reason,
            reason_zh=reason_zh,
            remedy="" if is_open else REMEDY[0],
            remedy_zh="" if is_open else REMEDY[1],
        )

    # what happens here

    def changed(self) -> None:
        """After every decision. Cheap, call it as often as you like."""
        if self._engine.observation is None:
            return
        box = self._written(self._box)
        if box != self._box:
            self._keep(box)
            self._soon()

    def _written(self, box: Mailbox) -> Mailbox:
        situation, found = self._engine.situation, box.deployment
        if found is None:
            return self._local(box)
        update, done = situation.update, fleet.outcomes_of(situation, found.action)
        if found.asks:
            by = update.consent_by if update is not None and fleet.fulfils(update, found.action) else ""
            if (by or done) and box.said != fleet.CONSENT:
                letter = fleet.consent(found.action, agreed=bool(by), by=by or str(done[-1].get("code", "")))
                return dataclasses.replace(box.writing(letter), said=fleet.CONSENT)
            return box
        last = fleet.close(situation, found, self._running())
        if last is None:
            return fleet.going_on(box, situation, self._engine.waits_for)
        known = found.action in box.closed or any(one.key == last.key for one in box.letters)
        return box if known else box.writing(last)

    def _local(self, box: Mailbox) -> Mailbox:
        """A version that somebody else has installed."""
        last = self._engine.situation.last_outcome
        if not self._distribution or last is None or last.get("action") or last["id"] == box.local:
            return box
        if last["outcome"] != OutcomeKind.COMMITTED:
            return box
        letter = fleet.installed(self._distribution, str(last["version"]))
        return dataclasses.replace(box.writing(letter), local=str(last["id"]))

    def _running(self) -> str:
        seen = self._engine.observation
        return seen.slots[seen.booted].version if seen is not None else ""

    # asking

    def _soon(self) -> None:
        due_in = self._due_at - self._clock.monotonic()
        if self._failures == 0 and due_in > SOON_S:
            self._ask_in(SOON_S * (0.5 + self._draw()))

    def _ask_in(self, seconds: float) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._due_at = self._clock.monotonic() + seconds
        self._timer = self._timers.call_later(seconds, self._ask)

    def _ask(self) -> None:
        self._timer = None
        if self._errand is not None:
            return
        attributes = attributes_of(self._engine, *self._hardware)
        digest = hashlib.sha256(json.dumps(attributes, sort_keys=True).encode()).hexdigest()
        letters = self._box.letters[:LETTERS_AT_ONCE]
        sent: list[Letter] = []
        known: list[str] = []

        def notify(message: Message) -> None:
            if not errand.open:
                return
            try:
                told = mailbox.read(message)
            except PosagentError as error:
                self._ended(errand, sent, known)
                self._failed(error)
                return
            if isinstance(told, Heard):
                self._ended(errand, sent, known)
                self._hear(told)
            elif told.key:
                sent.extend(one for one in letters if one.key == told.key)
                errand.put_off()
            else:
                known.append(digest)
                errand.put_off()

        def stalled() -> None:
            self._ended(errand, sent, known)
            self._failed(PosagentError("worker_stalled", f"exchange: nothing for {DEADLINE_S:.0f} s"))

        errand = self._errand = Errand(self._clock, Deadline(self._timers, self._clock, stalled), DEADLINE_S)
        args = {
            "letters": [dataclasses.asdict(one) for one in letters],
            "attributes": attributes,
            "known": digest == self._box.attributes,
            "seen": self._box.seen,
        }
        if self._figures is not None:
            self._figures.cancel()
        errand.given_to(self._worker.start("exchange", args, notify))

    def _ended(self, errand: Errand, sent: list[Letter], known: list[str]) -> None:
        errand.end()
        self._errand = None
        box = self._box.without(sent)
        self._keep(dataclasses.replace(box, attributes=known[-1]) if known else box)

    def _failed(self, error: PosagentError) -> None:
        self._failures += 1
        self._code = error.code
        wait_s = error.facts.get("retry_after_s", 0)
        retry_after_s = float(wait_s) if type(wait_s) in (int, float) and wait_s >= 0 else 0.0
        self._ask_in(polling.next_s(self._sleep_s, self._draw(), failures=self._failures, retry_after_s=retry_after_s))

    def _hear(self, told: Heard) -> None:
        self._failures, self._code, self._heard_at = 0, "", self._engine.now()
        self._sleep_s = told.sleep_s
        if told.seen != self._box.seen:
            self._keep(dataclasses.replace(self._box, seen=told.seen))
        self._tell_figures()
        self._ask_in(polling.next_s(self._sleep_s, self._draw()))
        if self._engine.observation is None:
            return
        if told.cancel:
            self._end(told.cancel, told.cancels)
        elif told.deployment is None or told.deployment.action not in self._box.closed:
            box = self._box.with_deployment(told.deployment)
            # written when it says more than the file does: each poll would wear the flash
            late = self._heard_at - box.heard_at > HEARD_S or self._heard_at < box.heard_at
            self._keep(
                dataclasses.replace(box, heard_at=self._heard_at) if told.deployment is not None and late else box
            )
            if told.deployment is not None:
                self._carry_out(told.deployment)
        elif told.deployment.standing:
            self._keep(self._box.with_deployment(None))  # this one has ended here, and no other is wanted any more
        self._engine.look_again()
        self.changed()
        if self._box.letters:
            self._soon()

    def _tell_figures(self) -> None:
        """Whatever becomes of them."""
        if self._status is not None:
            args = {"status": self._status(), "now": round(self._engine.now(), 3)}
            self._figures = self._worker.start("figures", args, lambda _: None)

    # carrying out

    def _end(self, cancel: str, action: str) -> None:
        """The server wants the action to end."""
        situation = self._engine.situation
        update = situation.update
        box = self._box
        if fleet.fulfils(update, action):
            try:
                self._cancel()
                letter = fleet.cancelled(cancel)
            except PosagentError as error:
                letter = fleet.not_cancelled(cancel, f"{error.code}: {error.detail or error.spec.meaning}")
        elif fleet.outcomes_of(situation, action) and action not in box.closed:
            letter = fleet.not_cancelled(cancel, "it has ended already")
        else:
            letter = fleet.cancelled(cancel, ("it was not begun",))
        box = self._box.writing(letter)
        if letter.body["status"]["execution"] == "closed":
            gone = {f"{action}/{kind}" for kind in (fleet.GOING, fleet.CLOSE, fleet.CONSENT)}
            box = dataclasses.replace(
                box,
                deployment=None,
                letters=tuple(one for one in box.letters if one.key not in gone),
                closed=(*box.closed, action)[-fleet.CLOSED_MAX :],
            )
        self._keep(box)

    def _carry_out(self, found: Deployment) -> None:
        situation = self._engine.situation
        update, part = situation.update, fleet.next_part(situation, found)
        if part is None:
            if not found.artifacts and not found.asks:
                why = ("there is no bundle among its artifacts",)
                self._keep(self._box.writing(fleet.closing(found.action, False, why)))
            return
        if update is not None:
            if fleet.fulfils(update, found.action):
                self._hurry(found, update)
            elif update.action and situation.state is State.READY:
                self._cancel_quietly()  # one of ours that the server knows as fetched, and asks for anew
            return
        if found.download == fleet.SKIP or fleet.rests(situation, found, self._engine.now()):
            return
        if not part and len(found.artifacts) == 1 and found.version == self._running() and not found.asks:
            letter = fleet.closing(found.action, True, (f"{found.version} runs already",))
            self._keep(self._box.writing(letter))
            return
        self._request(found, part)

    def _cancel_quietly(self) -> None:
        try:
            self._cancel()
        except PosagentError:
            pass  # the next time that the server says so

    def _hurry(self, found: Deployment, update: Update) -> None:
        """What began as local conditions like has become urgent."""
        before = (State.DOWNLOAD, State.VERIFY, State.READY)
        if found.update == fleet.FORCED and not update.at_once and self._engine.situation.state in before:
            self._engine.post(Occurrence(event=Event.CONSENT_GIVEN, data={"update": {"at_once": True}}))

    def _request(self, found: Deployment, part: int) -> None:
        one = found.artifacts[part]
        offer = {
            "url": one.url,
            "length": one.length,
            "sha256": one.sha256,
            "version": found.version if not part else "",
            "at_once": found.update == fleet.FORCED,
            "action": fleet.part_of(found.action, part),
            **({"conditions": ["confirm"]} if found.asks else {}),
        }
        try:
            self._begin(offer, CALLER)
        except PosagentError:
            pass  # the server says it again

    def _keep(self, box: Mailbox) -> None:
        if box == self._box:
            return
        try:
            mailbox.store(self._files, self._path, box)
        except OSError as error:
            self._engine.report_problem(PosagentError("journal_io", f"{self._path}: {error.strerror or error}"))
        self._box = box
