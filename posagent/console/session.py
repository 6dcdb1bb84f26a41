"""One conversation on the serial line: prompt, commands, unlocking, progress; locked again in the end.

Rules: without an unlocked session only status, why, estimate and help answer. A session ends by time, idleness, number
of actions, logout or hang-up, and that never touches an update under way; a question that is not answered yet ends with
it, so that no answer reaches whoever comes next. Output is lines with \\r\\n.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass

from posagent import texts
from posagent.console.auth import CHALLENGE_S, ROLES, Gatekeeper, proven
from posagent.console.grammar import HELP, Command, Echo, Editor, Key, Line, args_of, command_of
from posagent.console.question import Api, Question
from posagent.console.screen import Progress, answer_lines
from posagent.core.deadline import Deadline
from posagent.core.errors import PosagentError, Refusal
from posagent.core.ports import Clock, Job, Message, Timers, Worker

PROMPT = b"posagent> "
ANSWER_BYTES_MAX = 8192
PROOF_S = 10.0  # the installer has no time for an answer while it writes a slot
OPEN_VERBS = frozenset({"status", "why", "estimate", "help", "unlock", "logout"})
_BEGIN, _END = "-----BEGIN SSH SIGNATURE-----", "-----END SSH SIGNATURE-----"


@dataclass(frozen=True, slots=True, kw_only=True)
class SessionLimits:
    """When an unlocked session ends; seconds and number of commands."""

    session_s_max: float = 900.0
    idle_s_max: float = 120.0
    actions_max: int = 20


@dataclass(slots=True, kw_only=True)
class _Unlocked:
    role: str
    name: str
    until: float
    actions: int


class Session:
    """The line's conversation; `write` gets bytes for the other end."""

    def __init__(
        self,
        *,
        api: Api,
        write: Callable[[bytes], None],
        timers: Timers,
        clock: Clock,
        engineer: Worker,
        gatekeeper: Gatekeeper,
        limits: SessionLimits,
        lang: str = "en",
    ) -> None:
        self._api = api
        self._write = write
        self._timers = timers
        self._clock = clock
        self._engineer = engineer
        self._gatekeeper = gatekeeper
        self._limits = limits
        self._lang = lang
        self._editor = Editor()
        self._unlocked: _Unlocked | None = None
        self._idle = Deadline(timers, clock, self._time_over)
        self._paste = Deadline(timers, clock, self._paste_over)
        self._answer: str | None = None
        self._job: Job | None = None
        self._questions: list[Question] = []
        self._followed: Question | None = None

    # what comes in

    def feed(self, data: bytes) -> None:
        """Bytes from the line."""
        self._touch()
        for item in self._editor.feed(data):
            if self._following and item is not Key.INTERRUPT:
                self._stop_following()
            match item:
                case Echo(shown):
                    self._write(shown)
                case Line(text):
                    self._line(text)
                case Key.INTERRUPT:
                    self._interrupt()
                case Key.LOGOUT:
                    self._end_session("logged out")
                case Key.TOO_LONG:
                    self._error(PosagentError("line_too_long"))
                case Key.GARBAGE:
                    self._error(PosagentError("bad_request", "not readable: is the speed right?"))

    def hang_up(self) -> None:
        """The line is gone; the next who comes finds it locked and clean."""
        self._lock("")
        self._editor.forget()

    def _touch(self) -> None:
        """Somebody is there. An unlocked session that is over ends before anything is done."""
        unlocked = self._unlocked
        if unlocked is None:
            return
        now = self._clock.monotonic()
        if now >= unlocked.until:
            self._lock("session over")
            return
        self._idle.set(min(now + self._limits.idle_s_max, unlocked.until))

    def _time_over(self) -> None:
        over = self._unlocked is not None and self._clock.monotonic() >= self._unlocked.until
        self._end_session("session over" if over else "idle")

    def _end_session(self, why: str) -> None:
        self._lock(why)
        self._prompt()

    def _interrupt(self) -> None:
        """^C: give up what is pasted, watched or waited for, else ask to cancel like anybody would."""
        if self._answer is not None:
            self._end_answer()
            self._prompt()
        elif self._following:
            self._stop_following()
        elif any(question.open for question in self._questions):
            self._give_up()
            self._print(["^C"])
            self._prompt()
        else:
            self._print(["^C"])
            self._run(Command(verb="cancel", words=(), json=False))

    def _line(self, text: str) -> None:
        if self._answer is not None or text.strip() == _BEGIN:
            self._collect(text.strip())
            return
        try:
            command = command_of(text)
        except ValueError:
            self._error(PosagentError("bad_request", "a quote is not closed"))
            return
        if command is None:
            self._prompt()
        else:
            self._run(command)

    # commands

    def _run(self, command: Command) -> None:
        try:
            self._permit(command.verb)
            match command.verb:
                case "unlock":
                    self._challenge(command)
                case "logout":
                    self._end_session("logged out")
                case "help":
                    self._print([json.dumps({"help": HELP})] if command.json else HELP.splitlines())
                    self._prompt()
                case _:
                    self._ask(command)
        except PosagentError as error:
            self._error(error, command.json)

    def _permit(self, verb: str) -> None:
        if verb in OPEN_VERBS:
            return
        if not any(verb in verbs for verbs in ROLES.values()):
            raise PosagentError("unknown_verb", f"no command {verb[:40]!r}")
        unlocked = self._unlocked
        if unlocked is None:
            raise Refusal("not_allowed", "locked; unlock with an engineer's key first (see help)")
        if verb not in ROLES[unlocked.role]:
            raise Refusal("not_allowed", f"the role {unlocked.role} may not {verb}")
        unlocked.actions -= 1
        if unlocked.actions < 0:
            self._lock("")
            raise Refusal("not_allowed", "the session's number of commands is used up; unlock again")

    def _ask(self, command: Command) -> None:
        """A verb of the API; `update` is followed until a key is pressed."""
        args = args_of(command)
        if command.verb == "cancel":
            self._give_up()  # an update that still asks for its offer must not begin after this
        question = Question(
            self._api, command.verb, args, lambda message: self._answered(command, message), self._caller()
        )
        self._questions = [one for one in (*self._questions, question) if one.open]

    def _answered(self, command: Command, message: Message) -> None:
        if "error" in message:
            self._error(PosagentError.from_dict(message["error"]), command.json)
            return
        if command.verb == "update" and not command.json:
            self._follow(message["result"])
            return
        answer = message["result"]
        self._print([json.dumps(answer)] if command.json else answer_lines(command.verb, answer, self._lang))
        self._prompt()

    def _give_up(self) -> None:
        """Whoever asked does not wait for the answers any longer."""
        for question in self._questions:
            question.give_up()

    def _caller(self) -> str:
        return "console" if self._unlocked is None else f"console {self._unlocked.name}"

    # following an update

    def _follow(self, started: Message) -> None:
        self._print([texts.say("started", self._lang, started["id"], started["version"] or "?")])
        progress = Progress(self._clock, self._lang)

        def reply(message: Message) -> None:
            if "progress" in message:
                self._print(progress.lines(message["progress"]))
                return
            if "error" in message:
                self._error(PosagentError.from_dict(message["error"]))
                return
            self._print([texts.outcome_line(message["result"]["outcome"], self._lang)])
            self._prompt()

        self._followed = Question(self._api, "follow", {"id": started["id"]}, reply, self._caller())

    @property
    def _following(self) -> bool:
        return self._followed is not None and self._followed.open

    def _stop_following(self) -> None:
        if self._followed is not None:
            self._followed.give_up()
        self._print([texts.say("goes_on", self._lang)])
        self._prompt()

    # unlocking

    def _challenge(self, command: Command) -> None:
        if len(command.words) != 1:
            raise PosagentError("bad_request", f"unlock ROLE; roles are {', '.join(ROLES)}")
        line = self._gatekeeper.challenge(command.words[0])
        self._print([json.dumps({"challenge": line}) if command.json else line])
        self._prompt()

    def _collect(self, text: str) -> None:
        """A pasted signature, line by line, not echoed."""
        if self._answer is None:
            self._answer = ""
            self._editor.echo = False
            self._paste.set(self._clock.monotonic() + CHALLENGE_S)
        self._answer += text + "\n"
        if len(self._answer) > ANSWER_BYTES_MAX:
            self._end_answer()
            self._error(PosagentError("line_too_long", "the signature is too long"))
        elif text == _END:
            self._check(self._end_answer())

    def _end_answer(self) -> str:
        answer, self._answer = self._answer or "", None
        self._editor.echo = True
        self._paste.clear()
        return answer

    def _paste_over(self) -> None:
        """The end of the signature was lost on the line: without this the next engineer would type unheard."""
        self._end_answer()
        self._editor.forget()
        self._error(PosagentError("unlock_expired", "the end of the signature did not come"))

    def _check(self, answer: str) -> None:
        try:
            challenge, role = self._gatekeeper.take()
        except PosagentError as error:
            self._error(error)
            return

        def checked(message: Message) -> None:
            if "progress" in message:
                return
            deadline.cancel()
            self._job = None
            try:
                name = proven(message)
            except PosagentError as error:
                if error.code in ("unlock_refused", "unlock_expired"):
                    self._gatekeeper.failed()
                self._error(error)
                return
            self._gatekeeper.succeeded()
            self._unlock(role, name)
            self._prompt()

        def too_late() -> None:
            if self._job is job:
                job.cancel()
                checked({"error": Refusal("busy", "the installer is at work; unlock when it has ended").as_dict()})

        if self._job is not None:
            self._job.cancel()
        deadline = self._timers.call_later(PROOF_S, too_late)
        args = {"challenge": challenge, "answer": answer, "role": role}
        self._job = job = self._engineer.start("engineer", args, checked)

    def _unlock(self, role: str, name: str) -> None:
        limits = self._limits
        until = self._clock.monotonic() + limits.session_s_max
        self._unlocked = _Unlocked(role=role, name=name, until=until, actions=limits.actions_max)
        self._touch()
        self._print([f"unlocked: {name} as {role}, {limits.session_s_max / 60:.0f} min"])

    def _lock(self, why: str) -> None:
        was_unlocked, self._unlocked = self._unlocked is not None, None
        if self._job is not None:
            self._job.cancel()
        self._job = None
        self._idle.clear()
        self._end_answer()
        self._give_up()
        if self._followed is not None:
            self._followed.give_up()
        if was_unlocked and why:
            self._print(["", f"locked: {why}"])

    # what goes out

    def _print(self, lines: list[str]) -> None:
        if lines:
            self._write("".join(f"{line}\r\n" for line in lines).encode("utf-8", "replace"))

    def _prompt(self) -> None:
        self._write(PROMPT)

    def _error(self, error: PosagentError, json_wanted: bool = False) -> None:
        """The answer to a command that ends with it."""
        answer = error.as_dict()
        self._print([json.dumps(answer)] if json_wanted else texts.error_lines(answer, self._lang))
        self._prompt()
