"""One conversation on the serial line: prompt, commands, unlocking, progress; locked again in the end.

Rules: without an unlocked session only status, why, estimate and help answer. A session ends by time, idleness, number
of actions, logout or hang-up, and that never touches an update under way; a question that is not answered yet ends with
it, so that no answer reaches whoever comes next. Output is lines with \\r\\n.
"""

from __future__ import annotations

import json
from collections.abc import Callable

from posagent import texts
from posagent.console.access import Access
from posagent.console.auth import CHALLENGE_S, ROLES
from posagent.console.grammar import HELP, Command, Echo, Editor, Key, Line, args_of, command_of
from posagent.console.question import Api, Question
from posagent.console.screen import Progress, answer_lines
from posagent.core.deadline import Deadline
from posagent.core.errors import PosagentError
from posagent.core.ports import Clock, Message, Timers

PROMPT = b"posagent> "
ANSWER_BYTES_MAX = 8192
_BEGIN, _END = "-----BEGIN SSH SIGNATURE-----", "-----END SSH SIGNATURE-----"


class Session:
    """The line's conversation; `write` gets bytes for the other end."""

    def __init__(
        self,
        *,
        api: Api,
        write: Callable[[bytes], None],
        timers: Timers,
        clock: Clock,
        access: Access,
        lang: str = "en",
    ) -> None:
        self._api = api
        self._write = write
        self._clock = clock
        self._access = access
        access.on_over = self._over
        self._lang = lang
        self._editor = Editor()
        self._paste = Deadline(timers, clock, self._paste_over)
        self._answer: str | None = None
        self._questions: list[Question] = []
        self._followed: Question | None = None
        self.on_machine: Callable[[], None] | None = None
        """What the line `machine 1` does, where there is a mode for programs."""

    # what comes in

    def feed(self, data: bytes) -> None:
        """Bytes from the line."""
        if over := self._access.touch():
            self._forget(over)
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

    def greet(self) -> None:
        """A program has gone: people find a prompt."""
        self._prompt()

    def _machine(self, command: Command) -> None:
        if self.on_machine is None:
            raise PosagentError("unknown_verb", "this line has no machine mode")
        if command.words != ("1",):
            raise PosagentError("machine_version", "the machine mode here has the version 1: machine 1")
        self.on_machine()

    def _end_session(self, why: str) -> None:
        self._lock(why)
        self._prompt()

    def _over(self, why: str) -> None:
        """It was locked while nobody typed."""
        self._forget(why)
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
            self._access.permit(command.verb)
            match command.verb:
                case "unlock":
                    self._challenge(command)
                case "logout":
                    self._end_session("logged out")
                case "machine":
                    self._machine(command)
                case "help":
                    self._print([json.dumps({"help": HELP})] if command.json else HELP.splitlines())
                    self._prompt()
                case _:
                    self._ask(command)
        except PosagentError as error:
            self._error(error, command.json)

    def _ask(self, command: Command) -> None:
        """A verb of the API; `update` is followed until a key is pressed."""
        args = args_of(command)
        if command.verb == "cancel":
            self._give_up()  # an update that still asks for its offer must not begin after this
        question = Question(
            self._api, command.verb, args, lambda message: self._answered(command, message), self._access.caller
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

        self._followed = Question(self._api, "follow", {"id": started["id"]}, reply, self._access.caller)

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
        line = self._access.challenge(command.words[0])
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
        def checked(found: PosagentError | str) -> None:
            if isinstance(found, PosagentError):
                self._error(found)
            else:
                self._print([f"unlocked: {found}"])
                self._prompt()

        self._access.answer(answer, checked)

    def _lock(self, why: str) -> None:
        self._forget(why if self._access.lock() else "")

    def _forget(self, why: str) -> None:
        """Nothing of this session reaches whoever comes next."""
        self._end_answer()
        self._give_up()
        if self._followed is not None:
            self._followed.give_up()
        if why:
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
