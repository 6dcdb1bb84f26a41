"""The one AgentApi: what people and programs may ask of the agent, whichever way they come in.

Owns: the shape of every answer (docs/how-it-works.md shows them). The AF_UNIX socket, the serial console and later
the fleet server all call `call`.
Rules: answers are plain JSON values; a refusal is a PosagentError with code, remedy and, for a critical section, the
seconds until it ends. Whatever others have said is in them, and card numbers are taken out of it.
"""

from __future__ import annotations

import binascii
import hashlib
import secrets
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import posagent
from posagent.agent import answers, assessment, back, data_verb, power, status, why
from posagent.agent.audit import COUNT_MAX
from posagent.agent.engine import Engine, Progress
from posagent.agent.evidence import Evidence
from posagent.agent.inspection import Inspection
from posagent.agent.payment import Payments
from posagent.agent.support import Support
from posagent.agent.verbs import VERBS, Clean, Reply, whole
from posagent.core.errors import PosagentError, Refusal
from posagent.core.model import Event, Observation, Occurrence, State
from posagent.core.ports import Message, Worker

HangUp = Callable[[], None]

USB = "usb"
"""The source that is whatever stick is plugged in."""
_SOURCE_CHARACTERS_MAX = 2048
_OFFERED = ("conditions", "not_after", "contents", "reason", "action")
LOG_LINES_MAX = 200
DEFER_HOURS_MAX = 12


def _no_hang_up() -> None:
    return None


def _told(reply: Reply, result: Any) -> HangUp:
    reply({"result": result})
    return _no_hang_up


class AgentApi:
    """Answers verbs by reading the engine and posting events to it."""

    def __init__(
        self,
        *,
        engine: Engine,
        fetcher: Worker,
        terminal: str,
        new_id: Callable[[], str] = lambda: secrets.token_hex(6),
        payments: Payments | None = None,
        inspection: Inspection,
        evidence: Evidence | None = None,
        support: Support | None = None,
    ) -> None:
        self._engine = engine
        self._fetcher = fetcher
        self._terminal = terminal
        self._new_id = new_id
        self._evidence = evidence
        self._inspection = inspection
        self._watchers: list[Callable[[], None]] = []
        self._alarms: Callable[[], Sequence[PosagentError]] = lambda: ()
        self._payments = payments
        if payments is not None:
            self._payment, self._alarms = payments.line, payments.problems
        self.fleet: Callable[[], Mapping[str, Any]] | None = None
        """What is known of the fleet server, where there is one."""
        if support is not None:
            self._bundles, self._support = support, self._make_bundle

    def call(self, verb: str, args: Mapping[str, Any], reply: Reply, caller: str) -> HangUp:
        """Answer through `reply`: progress messages, then one result or error. Returns how to hang up."""
        reply = Clean(reply)
        if verb not in VERBS or not hasattr(self, f"_{verb}"):
            reply({"error": PosagentError("unknown_verb", f"no command {verb[:40]!r}").as_dict()})
            return _no_hang_up
        try:
            hang_up: HangUp = getattr(self, f"_{verb}")(args, reply, caller)
        except PosagentError as error:
            reply({"error": error.as_dict()})
            return _no_hang_up
        return hang_up

    def changed(self) -> None:
        """Tell the followers; called after every decision and while work proceeds."""
        self._inspection.give_way(critical=self._engine.critical, fetching=self._engine.fetching)
        for watcher in tuple(self._watchers):
            watcher()

    # what can be asked

    def status(self) -> dict[str, Any]:
        told = status.of(self._engine, self._terminal, self._alarms())
        return told if self.fleet is None else {**told, "fleet": self.fleet()}

    def _status(self, _: Mapping[str, Any], reply: Reply, __: str) -> HangUp:
        return _told(reply, self.status())

    def _help(self, _: Mapping[str, Any], reply: Reply, __: str) -> HangUp:
        return _told(reply, {"verbs": dict(VERBS)})

    def _history(self, args: Mapping[str, Any], reply: Reply, _: str) -> HangUp:
        count = whole(args, "count", 1, 1000, 20)
        return _told(reply, {"history": list(self._engine.situation.outcomes[-count:])})

    def _audit(self, args: Mapping[str, Any], reply: Reply, _: str) -> HangUp:
        count = whole(args, "count", 1, COUNT_MAX, 20)
        return _told(reply, self._evidence.answer(count) if self._evidence else {"records": [], "size": 0, "key": ""})

    def _slots(self, _: Mapping[str, Any], reply: Reply, __: str) -> HangUp:
        return _told(reply, back.slots(self._engine, self._seen()))

    def _power(self, _: Mapping[str, Any], reply: Reply, __: str) -> HangUp:
        return _told(reply, power.answer(self._engine))

    def _log(self, args: Mapping[str, Any], reply: Reply, _: str) -> HangUp:
        count = whole(args, "count", 1, LOG_LINES_MAX, 20)
        return _told(reply, {"lines": list(self._inspection.lines(count))})

    def _version(self, _: Mapping[str, Any], reply: Reply, __: str) -> HangUp:
        told = {"terminal": self._terminal, "version": posagent.__version__, "running": self._booted_version()}
        return _told(reply, told)

    def _network(self, _: Mapping[str, Any], reply: Reply, __: str) -> HangUp:
        if self._engine.fetching:
            raise Refusal("busy", "the fetcher is busy with the download")
        return self._inspection.network.ask(reply)

    def _selftest(self, args: Mapping[str, Any], reply: Reply, _: str) -> HangUp:
        suite = args.get("suite", "")
        if not isinstance(suite, str):
            raise PosagentError("bad_request", "suite must be a kind of checks")
        self._seen()
        if self._engine.critical:
            raise why.critical(self._engine)
        return self._inspection.tests.ask(reply, {"suite": suite} if suite else {})

    def _data(self, args: Mapping[str, Any], reply: Reply, _: str) -> HangUp:
        return data_verb.answer(self._engine, self._inspection.data, self._payments, args, reply)

    def _why(self, _: Mapping[str, Any], reply: Reply, __: str) -> HangUp:
        return _told(reply, self.why())

    def _estimate(self, _: Mapping[str, Any], reply: Reply, __: str) -> HangUp:
        return _told(reply, status.estimated(self._engine))

    def _watch(self, _: Mapping[str, Any], reply: Reply, __: str) -> HangUp:
        return self._subscribe(lambda: reply({"progress": self.status()}))

    def _subscribe(self, tell: Callable[[], None]) -> HangUp:
        self._watchers.append(tell)
        tell()

        def hang_up() -> None:
            if tell in self._watchers:
                self._watchers.remove(tell)

        return hang_up

    # what changes something

    def _check(self, args: Mapping[str, Any], reply: Reply, _: str) -> HangUp:
        source = args.get("source", "")
        if source not in ("", USB):
            raise PosagentError("bad_request", f"source must be {USB}, or nothing for the repository")
        if self._engine.situation.state is State.DOWNLOAD:
            raise Refusal("busy", "the fetcher is busy with the download")

        def answered(offer: Mapping[str, Any] | None) -> None:
            reply({"result": assessment.of(self._engine, offer)})

        return self._look(source, answered, reply)

    def _look(self, source: str, then: Callable[[Mapping[str, Any] | None], None], reply: Reply) -> HangUp:
        """Ask the fetcher what the repository or the stick offers; nothing but what runs here counts as nothing."""

        def notify(message: Message) -> None:
            try:
                offer = answers.read("look", message)
                if not isinstance(offer, Progress):
                    then(None if offer and offer["version"] == self._booted_version() else offer)
            except PosagentError as error:
                reply({"error": error.as_dict()})

        return self._fetcher.start("look", {"source": source} if source else {}, notify).cancel

    def _booted_version(self) -> str:
        seen = self._engine.observation
        return seen.slots[seen.booted].version if seen else ""

    def _update(self, args: Mapping[str, Any], reply: Reply, caller: str) -> HangUp:
        source, at_once = args.get("source", ""), args.get("now") is True
        if not isinstance(source, str) or len(source) > _SOURCE_CHARACTERS_MAX or not source.isprintable():
            raise PosagentError("bad_request", "source must be a URL or an absolute path")
        waiting = self._engine.situation.update
        if at_once and not source and waiting is not None and not (self._engine.critical or waiting.goes_back):
            self._ask(Occurrence(event=Event.CONSENT_GIVEN, data={"update": {"at_once": True}}))
            reply({"result": {"id": waiting.id, "version": waiting.version}})
            return _no_hang_up
        if source not in ("", USB):
            if not source.startswith(("/", "https://", "http://")):
                raise PosagentError("bad_request", f"source must be a URL, an absolute path or {USB}")
            return self._begin({"url": source, "at_once": at_once}, reply, caller)
        self._ask(
            Occurrence(event=Event.UPDATE_REQUESTED, data={"begins": self._beginning({"url": ""}, caller)}), dry=True
        )

        def offered(offer: Mapping[str, Any] | None) -> None:
            if offer is None:
                raise Refusal("no_update")
            self._begin({**offer, "at_once": at_once}, reply, caller)

        return self._look(source, offered, reply)

    def _beginning(self, offer: Mapping[str, Any], caller: str) -> dict[str, Any]:
        seen = self._seen()
        source, sha256 = str(offer["url"]), str(offer.get("sha256", ""))
        expected = (
            assessment.sizes(self._engine, offer, seen.slots[seen.booted].digest)[0] if "payloads" in offer else 0
        )
        return {
            "id": self._new_id(),
            "source": source,
            "spool": hashlib.sha256(f"{source} {sha256}".encode()).hexdigest()[:16],
            "length": offer.get("length"),
            "bytes_expected": expected,
            "sha256": sha256,
            "version": str(offer.get("version", "")),
            "from_version": self._booted_version(),
            "target": seen.spare,
            "previous": seen.booted,
            "requested_at": round(self._engine.now(), 3),
            "requested_by": caller,
            "at_once": bool(offer.get("at_once")),
            **{name: offer[name] for name in _OFFERED if name in offer},
        }

    def _seen(self) -> Observation:
        """What the hardware is known to be. Nothing is decided before: that would end the look at it for ever."""
        if self._engine.observation is None:
            raise Refusal(
                "busy",
                "the agent is looking at the hardware; try again in a moment",
                detail_zh="正在检测硬件，请稍后重试",
            )
        return self._engine.observation

    def begin(self, offer: Mapping[str, Any], caller: str) -> dict[str, Any]:
        """Ask for the update that is offered: `{id, version}`. Raises PosagentError."""
        begins = self._beginning(offer, caller)
        self._ask(Occurrence(event=Event.UPDATE_REQUESTED, data={"begins": begins}))
        return {"id": begins["id"], "version": begins["version"]}

    def cancel(self) -> None:
        """Raises PosagentError."""
        self._ask(Occurrence(event=Event.CANCEL_REQUESTED))

    def _begin(self, offer: Mapping[str, Any], reply: Reply, caller: str) -> HangUp:
        return _told(reply, self.begin(offer, caller))

    def _rollback(self, args: Mapping[str, Any], reply: Reply, caller: str) -> HangUp:
        """`{slot?, version?}`: where they are named, as by an engineer who signed for them, it goes nowhere else."""
        seen, name = self._seen(), self._new_id()
        asked = back.beginning(self._engine, seen, name, caller)
        slot, version = asked.data["begins"]["target"], asked.data["begins"]["version"]
        if (args.get("slot", slot), args.get("version", version)) != (slot, version):
            raise PosagentError("bad_request", f"it would go to {version or '?'} in slot {slot}")
        refusal = self._engine.would(asked).refusal
        if refusal in back.REFUSALS:
            raise back.refused(refusal, seen)
        self._ask(asked)
        return _told(reply, {"id": name, "version": version})

    def _follow(self, args: Mapping[str, Any], reply: Reply, _: str) -> HangUp:
        """Status after every change; the result is how this very update ended."""
        update_id = args.get("id")
        update = self._engine.situation.update
        if self._ended(update_id) is None and (update is None or update.id != update_id):
            raise PosagentError("bad_request", "no update of that id is under way or remembered")
        hang_up: HangUp = _no_hang_up

        def tell() -> None:
            outcome = self._ended(update_id)
            if outcome is None:
                reply({"progress": self.status()})
            else:
                hang_up()
                reply({"result": {"id": update_id, "outcome": outcome}})

        if self._ended(update_id) is not None:
            tell()
            return hang_up
        hang_up = self._subscribe(tell)
        return hang_up

    def _ended(self, update_id: object) -> Mapping[str, Any] | None:
        """How the update of that id ended, if it did."""
        return next((one for one in self._engine.situation.outcomes if one.get("id") == update_id), None)

    def _cancel(self, _: Mapping[str, Any], reply: Reply, __: str) -> HangUp:
        self.cancel()
        return _told(reply, {"cancelled": True})

    def _defer(self, args: Mapping[str, Any], reply: Reply, caller: str) -> HangUp:
        hours = whole(args, "hours", 1, DEFER_HOURS_MAX, 1)
        update = self._engine.situation.update
        until = round(self._engine.now() + hours * 3600, 3)
        changes = {"deferred_until": until, "deferrals": update.deferrals + 1 if update else 0}
        self._ask(Occurrence(event=Event.DEFER_REQUESTED, data={"update": {**changes, "deferred_by": caller}}))
        return _told(reply, {"deferred_until": until})

    def _confirm(self, _: Mapping[str, Any], reply: Reply, caller: str) -> HangUp:
        changes = {"consent_by": caller, "consent_at": round(self._engine.now(), 3)}
        self._ask(Occurrence(event=Event.CONSENT_GIVEN, data={"update": changes}))
        return _told(reply, {"confirmed": True})

    def _make_bundle(self, args: Mapping[str, Any], reply: Reply, _: str) -> HangUp:
        """`{file?: true, checks?}`: `{path, size, code, sha256, redacted}`, and the sealed file in base64 if wanted. It
        is kept, even where whoever asked does not wait for it."""

        def made(told: dict[str, Any], file: bytes) -> None:
            shown = {"file": binascii.b2a_base64(file, newline=False).decode()} if args.get("file") is True else {}
            reply({"result": {**told, **shown}})

        self._bundles.make(args.get("checks"), made, reply)
        return _no_hang_up

    def why(self) -> dict[str, Any]:
        return why.answer(self._engine, self._alarms())

    def _ask(self, occurrence: Occurrence, dry: bool = False) -> None:
        """Post a person's event; a refusal is raised. `dry` only asks whether it would be refused."""
        self._seen()
        decision = self._engine.would(occurrence) if dry else self._engine.post(occurrence)
        if decision is None:
            raise Refusal("busy")
        if decision.refusal == "critical_section":
            raise why.critical(self._engine)
        if decision.refusal is not None:
            raise Refusal(decision.refusal)
