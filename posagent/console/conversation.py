"""What a program on the serial line asks, and what it is answered: one conversation of the machine mode.

A request is `{"id", "verb", "args"}`; its answers are `{"id", "progress"}` any number of times, then one `{"id",
"result"}` or `{"id", "error"}`. `{"event"}` comes unasked. Verbs are those of the API, as far as the role of whoever
unlocked may use them, and those of the line: `_LINE_VERBS`.
Rules: what a slow line cannot take is not queued without end: of the statuses of a followed update the latest counts,
at most one in THINNED_S. When the session ends by itself, so does whatever needed it; a file that is on its way comes
to its end, because what it has to be was said with the key.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from posagent.console.access import OPEN_VERBS, Access, Granted
from posagent.console.question import Api, Question
from posagent.console.transfer import Receiving, Sending
from posagent.console.upload import Announced, Inbox
from posagent.core.arq import Link
from posagent.core.errors import PosagentError, Refusal
from posagent.core.ports import Clock, Files, Message
from posagent.core.talk import ANSWER_BYTES_MAX, json_message, read

QUESTIONS_MAX = 8
BACKLOG_BYTES_MAX = 64 * 1024
"""Of answers that the line has not taken; with more, nothing is asked any more."""
SIGNATURE_CHARACTERS_MAX = 8192
THINNED_S = 0.5
WATCHING = frozenset({"watch", "follow"})
"""They show what `status` shows, which everybody may see."""


class _Asked:
    """A question to the agent that is not answered yet; `latest` is the status that the line had no room for."""

    def __init__(self, verb: str) -> None:
        self.verb = verb
        self.question: Question | None = None
        self.latest: Any = None
        self.due = 0.0

    def give_up(self) -> None:
        if self.question is not None:
            self.question.give_up()


class Conversation:
    """Over `link`, until `close`. `tell` is called when there is something to send; `files` are the agent's."""

    def __init__(
        self,
        *,
        link: Link,
        api: Api,
        access: Access,
        inbox: Inbox,
        files: Files,
        clock: Clock,
        introduction: Mapping[str, Any],
        tell: Callable[[], None],
    ) -> None:
        self._link, self._api, self._access, self._inbox = link, api, access, inbox
        self._files, self._clock = files, clock
        self._introduction = introduction
        self._tell = tell
        self._asked: dict[int, _Asked] = {}
        self._receiving: tuple[int, Receiving] | None = None
        self._sending: Sending | None = None
        self._proving: int | None = None
        self._made: Message = {}
        """The support bundle that was made last."""
        self._line_verbs: Mapping[str, Callable[[int, Message], None]] = {
            "hello": self._introduce,
            "unlock": self._challenge,
            "answer": self._prove,
            "logout": self._log_out,
            "hang_up": self._hang_up,
            "upload": self._upload,
            "download": self._download,
        }

    # what comes in, what goes out

    def message(self, message: bytes) -> None:
        """A message of the other end; an empty one was too long."""
        if over := self._access.touch():
            self.over(over)
        said = read(message)
        if isinstance(said, tuple):
            if self._receiving is not None:
                self._receiving[1].take(*said)
        elif said is None:
            self._fail(None, PosagentError("bad_request" if message else "line_too_long"))
        else:
            self._request(said)

    def tick(self, now: float) -> float | None:
        """Send what is due, as far as there is room for it; when to do so again, if not before."""
        if self._sending is not None and not self._sending.go_on(self._link):
            self._sending = None
        waiting = [(number, asked) for number, asked in self._asked.items() if asked.latest is not None]
        for number, asked in waiting:
            if now >= asked.due and not self._link.backlog:
                self._say({"id": number, "progress": asked.latest})
                asked.latest, asked.due = None, now + THINNED_S
        return min((asked.due for _, asked in waiting if asked.latest is not None and asked.due > now), default=None)

    def over(self, why: str) -> None:
        """The session has ended by itself; the line is locked."""
        self._end_keyed(Refusal("not_allowed", f"locked: {why}"))
        self._say({"event": "locked", "why": why})
        self._tell()

    def close(self) -> None:
        """Nobody is there any more."""
        for asked in self._asked.values():
            asked.give_up()
        self._asked.clear()
        self._receiving, self._sending, self._proving = None, None, None
        self._inbox.pause()

    def _say(self, value: Mapping[str, Any]) -> None:
        message = json_message(value)
        if len(message) > ANSWER_BYTES_MAX:
            error = PosagentError("bad_request", "the answer is too long for this line; ask for less")
            message = json_message({"id": value.get("id"), "error": error.as_dict()})
        self._link.send(message)

    def _fail(self, number: int | None, error: PosagentError) -> None:
        self._say({"id": number, "error": error.as_dict()})

    # requests

    def _request(self, said: Message) -> None:
        number, verb, args = said.get("id"), said.get("verb"), said.get("args", {})
        if (
            type(number) is not int
            or not 0 <= number < 2**31
            or not isinstance(verb, str)
            or not isinstance(args, dict)
        ):
            self._fail(None, PosagentError("bad_request", "a request has an id, a verb and an object of args"))
            return
        try:
            if self._link.backlog > BACKLOG_BYTES_MAX:
                raise Refusal("busy", "the line has not taken the earlier answers yet")
            if verb in self._line_verbs:
                self._line_verbs[verb](number, args)
            else:
                if verb not in WATCHING:
                    self._access.permit(verb)
                if verb == "cancel":  # an update that still asks for its offer must not begin after this
                    self._end(PosagentError("cancelled"), lambda asked: asked.verb == "update")
                self._ask(number, verb, args, lambda message: self._answered(number, message))
        except PosagentError as error:
            self._fail(number, error)

    def _ask(self, number: int, verb: str, args: Message, reply: Callable[[Message], None]) -> None:
        if number in self._asked or len(self._asked) >= QUESTIONS_MAX:
            raise Refusal("busy", f"at most {QUESTIONS_MAX} questions at a time, each with an id of its own")
        asked = self._asked[number] = _Asked(verb)
        question = asked.question = Question(self._api, verb, args, reply, self._access.caller)
        if not question.open:  # it was answered at once
            self._asked.pop(number, None)

    def _answered(self, number: int, message: Message) -> None:
        asked = self._asked.get(number)
        if "progress" not in message or asked is None:
            self._asked.pop(number, None)
            self._say({"id": number, **message})
        elif asked.verb in WATCHING:
            asked.latest = message["progress"]
        elif self._link.backlog <= BACKLOG_BYTES_MAX:
            self._say({"id": number, **message})
        self._tell()

    def _end(self, error: PosagentError, which: Callable[[_Asked], bool]) -> None:
        """Give those questions up, and say so."""
        for number, asked in [(number, asked) for number, asked in self._asked.items() if which(asked)]:
            del self._asked[number]
            asked.give_up()
            self._fail(number, error)

    def _end_keyed(self, error: PosagentError) -> None:
        """What needed the key."""
        self._end(error, lambda asked: asked.verb not in OPEN_VERBS | WATCHING)
        self._end_proof(error)
        self._sending = None

    # verbs of the line

    def _introduce(self, number: int, _: Message) -> None:
        session = self._access.session
        who = None if session is None else dict(zip(("name", "role", "session_s"), session, strict=True))
        self._say({"id": number, "result": {**self._introduction, "session": who}})

    def _challenge(self, number: int, args: Message) -> None:
        self._say({"id": number, "result": {"challenge": self._access.challenge(str(args.get("role", ""))[:40])}})

    def _prove(self, number: int, args: Message) -> None:
        signature = args.get("signature")
        if not isinstance(signature, str) or len(signature) > SIGNATURE_CHARACTERS_MAX:
            most = SIGNATURE_CHARACTERS_MAX
            raise PosagentError("bad_request", f"signature must be a text of at most {most} characters")
        self._end_proof(PosagentError("unlock_expired", "another answer came"))
        self._proving = number

        def looked_at(found: PosagentError | Granted) -> None:
            self._proving = None
            session = self._access.session
            if isinstance(found, PosagentError):
                self._fail(number, found)
            elif session is not None:
                name, role, left_s = session
                self._say({"id": number, "result": {"name": name, "role": role, "session_s": round(left_s)}})
            self._tell()

        self._access.answer(signature, looked_at)

    def _end_proof(self, error: PosagentError) -> None:
        number, self._proving = self._proving, None
        if number is not None:
            self._fail(number, error)

    def _log_out(self, number: int, _: Message) -> None:
        self._access.lock("logged out")
        self._end_keyed(Refusal("not_allowed", "locked: logged out"))
        self._say({"id": number, "result": {}})

    def _hang_up(self, number: int, args: Message) -> None:
        asked = self._asked.pop(args["id"], None) if type(args.get("id")) is int else None
        if asked is not None:
            asked.give_up()
        if self._receiving is not None and self._receiving[0] == args.get("id"):
            self._receiving = None
            self._inbox.pause()
        self._say({"id": number, "result": {}})

    def _upload(self, number: int, args: Message) -> None:
        self._access.permit("upload")
        announced = Announced.of(args)
        upload = self._inbox.begin(announced)
        if self._receiving is not None:
            self._fail(self._receiving[0], PosagentError("cancelled", "another upload took its place"))

        def ended() -> None:
            self._receiving = None

        def say(answer: Message) -> None:
            if "progress" not in answer:
                hear("upload", told, answer["error"]["code"] if "error" in answer else "ok")
            self._say({"id": number, **answer})
            self._tell()

        hear, told = self._access.ear(), {name: args.get(name) for name in ("name", "size", "sha256")}
        hear("upload", told, "begun")
        self._receiving = number, Receiving(upload, say=say, clock=self._clock, on_end=ended)

    def _download(self, number: int, args: Message) -> None:
        """`{"what": "support", "offset"?, "sha256"?}`: goes on with the bundle of that digest if it is the latest."""
        self._access.permit("support")
        if args.get("what") != "support":
            raise PosagentError("bad_request", "what must be support")
        if self._made and args.get("sha256") == self._made["sha256"]:
            offset = args.get("offset")
            self._send(number, offset if type(offset) is int and 0 <= offset <= self._made["size"] else 0)
            return

        def made(message: Message) -> None:
            if "result" not in message:
                self._answered(number, message)
                return
            self._asked.pop(number, None)
            self._made = message["result"]
            self._send(number, 0)
            self._tell()

        self._ask(number, "support", {}, made)

    def _send(self, number: int, offset: int) -> None:
        known = {key: self._made[key] for key in ("size", "sha256", "code") if key in self._made}
        self._say({"id": number, "progress": {**known, "offset": offset}})

        def ended(error: PosagentError | None) -> None:
            self._say({"id": number, **({"result": known} if error is None else {"error": error.as_dict()})})

        path, size = self._made["path"], self._made["size"]
        self._sending = Sending(self._files, path, offset=offset, size=size, on_end=ended)
