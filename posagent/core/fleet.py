"""What a fleet server wants of this terminal, and what it is told: pure.

Owns: the mailbox, which is durable: the deployment as the server had it last, letters that the server has not
acknowledged, and how much of its patience is used up. The update itself is the journal's; it carries the action that it
is for, and so does its outcome: whatever is lost here, no action is carried out twice.
Rules: a deployment is closed by the update's outcome and by nothing else, success only after the commit. Of an action
only the newest word is kept until it is sent, and so few are sent that there is always room for the last one. Texts for
the server have no tags and are short.
Source: Eclipse hawkBit's Direct Device Integration API.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from posagent.core.errors import CATALOGUE, Retry
from posagent.core.model import Gate, OutcomeKind, Situation, State, Update

SKIP, ATTEMPT, FORCED = "skip", "attempt", "forced"
HOW = (SKIP, ATTEMPT, FORCED)
OPEN, CLOSED, NO_WINDOW = "available", "unavailable", ""
ARTIFACTS_MAX = 8
DETAILS_MAX, DETAIL_CHARACTERS_MAX = 10, 500
WORDS_MAX = 200
"""Status messages of one action that are not the last: hawkBit takes 1000."""
CLOSED_MAX = 32
REST_S = 86400.0
"""Before a standing deployment begins again that was spoilt."""
CLOSE, CANCEL, CONSENT, INSTALLED, GOING = "close", "cancel", "consent", "installed", "going"


@dataclass(frozen=True, slots=True, kw_only=True)
class Artifact:
    """One bundle of a deployment; `length` in bytes, `sha256` in hexadecimal."""

    name: str
    url: str
    length: int
    sha256: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Deployment:
    """`action` is the server's number for it. `download` and `update` are skip, attempt (as local conditions like) or
    forced; `window` is available, unavailable, or nothing where there is none. One that still has to be agreed to by
    the merchant `asks`. One of a server that nobody looks after is `standing`: only a verdict on the version ends it,
    what else has spoilt it begins again a day later, and it counts for `lasts_s` after it was heard of."""

    action: str
    version: str
    artifacts: tuple[Artifact, ...]
    download: str = ATTEMPT
    update: str = ATTEMPT
    window: str = NO_WINDOW
    asks: bool = False
    standing: bool = False
    lasts_s: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Letter:
    """One message to the server. `kind` says where it goes; a newer one of the same `key` takes its place."""

    key: str
    kind: str
    action: str
    body: Mapping[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Mailbox:
    """`words` counts the messages about the deployment that were not the last, `said` is the newest of them; `closed`
    has actions that the server knows to have ended; `attributes` is the digest of those it was told; `local` is the
    last update that it had not asked for, and was told of; `seen` is what it shall be reminded of; the deployment was
    heard of last at `heard_at`, by the clock on the wall."""

    deployment: Deployment | None = None
    letters: tuple[Letter, ...] = ()
    words: int = 0
    said: str = ""
    closed: tuple[str, ...] = ()
    attributes: str = ""
    local: str = ""
    seen: str = ""
    heard_at: float = 0.0

    def writing(self, letter: Letter) -> Mailbox:
        """With one letter more."""
        others = (one for one in self.letters if one.key != letter.key)
        return dataclasses.replace(self, letters=(*others, letter))

    def without(self, sent: Collection[Letter]) -> Mailbox:
        """What the server has acknowledged, or will never take, is forgotten; not what was written in its place since
        it was sent."""
        ended = [one.action for one in self.letters if one in sent and one.kind == CLOSE]
        return dataclasses.replace(
            self,
            letters=tuple(one for one in self.letters if one not in sent),
            closed=(*self.closed, *ended)[-CLOSED_MAX:],
        )

    def with_deployment(self, found: Deployment | None) -> Mailbox:
        """As the server has it now."""
        same = found is not None and self.deployment is not None and found.action == self.deployment.action
        return dataclasses.replace(
            self, deployment=found, words=self.words if same else 0, said=self.said if same else ""
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Heard:
    """What the server said. `cancels` is the action that it wants to end, by the message `cancel`. With the next
    request it gets back what has been `seen` of it."""

    sleep_s: float
    deployment: Deployment | None = None
    cancel: str = ""
    cancels: str = ""
    seen: str = ""


def part_of(action: str, number: int) -> str:
    """What an update is for: a deployment's artifact of that number."""
    return f"{action}.{number}"


def action_of(update_action: str) -> str:
    return update_action.rpartition(".")[0]


def fulfils(update: Update | None, action: str) -> bool:
    """Whether that is what the update is for."""
    return update is not None and action_of(update.action) == action


def outcomes_of(situation: Situation, action: str) -> list[Mapping[str, Any]]:
    """How the updates for that action ended, oldest first."""
    return [one for one in situation.outcomes if action_of(str(one.get("action", ""))) == action]


def ended(situation: Situation, deployment: Deployment) -> list[Mapping[str, Any]]:
    """The outcomes that count: of a standing deployment only verdicts on the version."""
    found = outcomes_of(situation, deployment.action)
    return [one for one in found if not deployment.standing or _is_verdict(one)]


def _is_verdict(outcome: Mapping[str, Any]) -> bool:
    """Not what people, peripherals, a full medium or the network did."""
    kind, spec = outcome.get("outcome"), CATALOGUE.get(str(outcome.get("code", "")))
    if kind == OutcomeKind.FAILED:
        return spec is not None and spec.retry is Retry.NEVER
    return kind in (OutcomeKind.COMMITTED, OutcomeKind.ROLLED_BACK)


def rests(situation: Situation, deployment: Deployment, now: float) -> bool:
    """Whether a standing deployment was spoilt less than a day ago."""
    found = outcomes_of(situation, deployment.action)
    return deployment.standing and bool(found) and 0 <= now - float(found[-1].get("at", 0.0)) < REST_S


def next_part(situation: Situation, deployment: Deployment) -> int | None:
    """The number of the artifact that is to be installed next; None where there is none, or one has failed."""
    done = ended(situation, deployment)
    if any(one["outcome"] != OutcomeKind.COMMITTED for one in done) or len(done) >= len(deployment.artifacts):
        return None
    return len(done)


def close(situation: Situation, deployment: Deployment, running: str) -> Letter | None:
    """The last word about the deployment, or None while it goes on."""
    if deployment.asks or next_part(situation, deployment) is not None:
        return None
    done = ended(situation, deployment)
    if not done:
        return None
    last = done[-1]
    good = last["outcome"] == OutcomeKind.COMMITTED
    return closing(deployment.action, good, (_told(last), *_figures(last, running)))


def closing(action: str, good: bool, details: Iterable[str]) -> Letter:
    return Letter(key=f"{action}/{CLOSE}", kind=CLOSE, action=action, body=_body("closed", good, details))


def cancelled(cancel: str, details: Iterable[str] = ()) -> Letter:
    """The server's wish to cancel was fulfilled."""
    return Letter(key=f"{cancel}/{CANCEL}", kind=CANCEL, action=cancel, body=_body("closed", True, details))


def not_cancelled(cancel: str, why: str) -> Letter:
    """It cannot be: the deployment goes on, or has ended already."""
    return Letter(key=f"{cancel}/{CANCEL}", kind=CANCEL, action=cancel, body=_body("rejected", None, (why,)))


def consent(action: str, *, agreed: bool, by: str) -> Letter:
    body = {"confirmation": "confirmed" if agreed else "denied", "code": 200 if agreed else -1, "details": [_short(by)]}
    return Letter(key=f"{action}/{CONSENT}", kind=CONSENT, action=action, body=body)


def installed(name: str, version: str) -> Letter:
    """An update that the server had not asked for."""
    return Letter(key=INSTALLED, kind=INSTALLED, action="", body={"name": name, "version": version})


def going_on(box: Mailbox, situation: Situation, waits: Iterable[Gate]) -> Mailbox:
    """The newest word about the deployment that is under way, where it is another one than the last."""
    found, update = box.deployment, situation.update
    if found is None or found.asks or box.words >= WORDS_MAX:
        return box
    mine = fulfils(update, found.action)
    execution, text = _phase(found, situation, update, tuple(waits)) if mine else ("scheduled", "")
    if not mine and update is not None:
        text = "another update is under way on the terminal"
    elif not mine and found.download == SKIP:
        text = "waits for the server's window"
    said = f"{execution}: {text}"
    if not text or said == box.said:
        return box
    key = f"{found.action}/{GOING}"
    # what closes the action at the server is never replaced by a later word
    kept = next(
        (one for one in box.letters if one.key == key and one.body["status"]["execution"] == "downloaded"), None
    )
    if kept is not None:
        return box
    body = _body(execution, None, (text,))
    new = box.writing(Letter(key=key, kind=GOING, action=found.action, body=body))
    return dataclasses.replace(new, words=box.words + 1, said=said)


def _phase(found: Deployment, situation: Situation, update: Update | None, waits: tuple[Gate, ...]) -> tuple[str, str]:
    match situation.state:
        case State.DOWNLOAD:
            return "download", "fetching the bundle"
        case State.VERIFY:
            return "download", "checking signatures and content"
        case State.READY if only_download(found):
            return "downloaded", "fetched and verified; not to be installed yet"
        case State.READY:
            why = next((gate.reason for gate in waits), "")
            return "scheduled", f"ready to be installed; waits: {why}" if why else "ready to be installed"
        case State.ROLLBACK:
            return "proceeding", "going back to the old version"
        case state:
            again = update is not None and update.power_cycles > 0
            return "resumed" if again else "proceeding", f"{state.value}" + (" after a power loss" if again else "")


def only_download(found: Deployment) -> bool:
    return found.update == SKIP and found.window == NO_WINDOW


def may_install(box: Mailbox, update: Update, now: float) -> bool:
    """Whether the server's matrix and window let this update be installed now; one that it did not ask for always."""
    if not update.action:
        return True
    found = box.deployment
    if found is not None and found.lasts_s and now - box.heard_at > found.lasts_s:
        return False  # it may have been stopped meanwhile; by a clock that was set back it lasts until the next word
    return found is not None and fulfils(update, found.action) and not found.asks and found.update != SKIP


def _told(outcome: Mapping[str, Any]) -> str:
    if outcome["outcome"] == OutcomeKind.COMMITTED:
        return f"{outcome.get('version', '')} is confirmed"
    return f"{outcome['outcome']}: {outcome.get('code', '')}: {outcome.get('detail', '')}"


def _figures(outcome: Mapping[str, Any], running: str) -> Iterable[str]:
    record = outcome.get("record", {})
    yield f"running: {running}, before: {outcome.get('from_version', '')}"
    if outcome.get("cause"):
        yield f"cause: {outcome['cause']}, last stage: {outcome.get('stage', '')}"
    if record.get("phases"):
        yield "seconds: " + ", ".join(f"{name} {seconds:g}" for name, seconds in record["phases"].items())
    if record.get("power_cycles"):
        yield f"starts after a power loss: {record['power_cycles']}"
    if outcome.get("ticket"):
        yield f"support: {outcome['ticket'].get('code', '')}"


def _body(execution: str, good: bool | None, details: Iterable[str]) -> dict[str, Any]:
    finished = "none" if good is None else "success" if good else "failure"
    shown = [_short(one) for one in details if one][:DETAILS_MAX]
    return {"status": {"execution": execution, "result": {"finished": finished}, "details": shown}}


def _short(text: str) -> str:
    """What the server takes: printable, without tags."""
    plain = "".join(one if one.isprintable() else " " for one in str(text)[: 2 * DETAIL_CHARACTERS_MAX])
    return plain.replace("<", "(").replace(">", ")")[:DETAIL_CHARACTERS_MAX]
