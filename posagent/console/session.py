"""One conversation on the serial line: prompt, commands, unlocking, progress; locked again in the end.

Rules: without an unlocked session only access.OPEN_VERBS answer. A session ends by time, idleness, number of actions,
logout or hang-up, and that never touches an update under way; a question that is not answered yet ends with it, so that
no answer reaches whoever comes next, nor what was typed before.
"""

from __future__ import annotations

import json
from collections.abc import Callable

from posagent import texts
from posagent.console.access import Access, Granted
from posagent.console.auth import ROLES
from posagent.console.display import Display
from posagent.console.following import Following
from posagent.console.grammar import PROMPT, Echo, Editor, Key, Line, Stroke
from posagent.console.paste import BEGIN, Paste
from posagent.console.question import Api, Question
from posagent.console.receive import Receive, Receiver
from posagent.console.screen import Progress, answer_lines, step_lines
from posagent.console.verbs import PLAIN, Command, args_of, candidates, command_of, help_lines, verb_lines
from posagent.console.wording import say
from posagent.core.errors import PosagentError
from posagent.core.ports import Clock, Message, Timers

LANGUAGES = ("en", "zh")
FOLLOWED = ("update", "rollback")


class Session:
    """The line's conversation; `write` gets bytes for the other end, and `receiver` files that it sends."""

    def __init__(
        self,
        *,
        api: Api,
        write: Callable[[bytes], None],
        timers: Timers,
        clock: Clock,
        access: Access,
        lang: str = "en",
        baud: int = 115200,
        receiver: Receiver | None = None,
    ) -> None:
        self._api = api
        self._clock = clock
        self._access = access
        access.on_over = self._over
        self._lang = self._first_lang = lang
        self._baud = baud
        self._editor = Editor(lambda before: candidates(before, access.may))
        self._display = Display(write, self._single)
        self._paste = Paste(timers=timers, clock=clock, on_whole=self._check, on_trouble=self._no_answer)
        self._receive = Receive(receiver, display=self._display, baud=baud, on_progress=self._proceeds)
        self._over_meanwhile = ""
        """Why the session ended while the line belonged to a file."""
        self._questions: list[Question] = []
        self._followed: Following | None = None
        self._unsigned: Command | None = None
        """What is carried out when the challenge that it was answered with is signed."""
        self.on_machine: Callable[[], None] | None = None
        """What the line `machine 1` does, where there is a mode for programs."""

    # what comes in

    def feed(self, data: bytes) -> None:
        """Bytes from the line."""
        if over := self._access.touch():
            self._forget(over)
        for item in self._editor.feed(data):
            if stops := self._following and item is not Key.INTERRUPT:
                self._stop_following()
            match item:
                case Echo(shown):
                    if not stops:  # else it stands behind the prompt already
                        self._display.echo(shown)
                case Line(text):
                    self._line(text)
                case Stroke(key):
                    self._display.key(key)
                case Key.INTERRUPT:
                    self._interrupt()
                case Key.LOGOUT:
                    self._end_session("logged out")
                case Key.TOO_LONG:
                    self._error(PosagentError("line_too_long"))
                case Key.GARBAGE:
                    self._error(
                        PosagentError("bad_request", "not readable: is the speed right?", detail_zh="请检查波特率")
                    )

    def hang_up(self) -> None:
        """The line is gone; the next who comes finds it locked and clean."""
        self._receive.give_up()
        self._over_meanwhile = ""
        self._lock("hung up", shown=False)
        self._lang = self._first_lang

    def _single(self, wanted: bool) -> None:
        """Single keys are wanted, or lines again."""
        self._editor.single = wanted

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
        if self._receive.open:
            self._over_meanwhile = why
            return
        self._forget(why)
        self._prompt()

    def _interrupt(self) -> None:
        """^C: give up what is pasted, watched or waited for, else ask to cancel like anybody would."""
        if self._paste.open:
            self._end_paste()
            self._prompt()
        elif self._following:
            self._stop_following()
        elif any(question.open for question in self._questions):
            self._give_up()
            self._display.echo(b"^C\r\n")
            self._prompt()
        else:
            self._display.echo(b"^C\r\n")
            self._run(Command(verb="cancel", words=(), json=False))

    def _line(self, text: str) -> None:
        if self._paste.open or text.strip() == BEGIN:
            self._editor.echo = False
            self._paste.take(text.strip())
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
                    self._help(command)
                case "lang":
                    self._speak(command)
                case "upload":
                    self._upload(command)
                case _:
                    self._ask(command)
        except PosagentError as error:
            self._error(error, command.json)

    def _help(self, command: Command) -> None:
        if command.words:
            lines = verb_lines(command.words[0].lower(), self._lang)
        else:
            lines = help_lines(self._access.role, self._access.may, self._lang)
        self._answer({"help": "\n".join(lines)}, lines, command)

    def _speak(self, command: Command) -> None:
        """`lang`: of this line, until it is hung up."""
        if command.words:
            if command.words[0] not in LANGUAGES:
                raise PosagentError("bad_request", f"languages are {', '.join(LANGUAGES)}")
            self._lang = command.words[0]
        self._answer({"lang": self._lang}, [say("lang_now", self._lang)], command)

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
        if "progress" in message:
            if not command.json:
                self._display.text(step_lines(command.verb, message["progress"], self._lang))
        elif "error" in message:
            self._refused(command, PosagentError.from_dict(message["error"]))
        elif command.verb in FOLLOWED and not command.json:
            self._follow(command, message["result"])
        else:
            answer = message["result"]
            self._answer(answer, [] if command.json else answer_lines(command.verb, answer, self._lang), command)

    def _refused(self, command: Command, error: PosagentError) -> None:
        """Perhaps only until it is signed for again."""
        self._unsigned = command if error.code == "sign_again" else None
        if self._unsigned is not None and not command.json:
            self._display.verbatim(str(error.facts.get("challenge", "")))
        self._error(error, command.json)

    def _give_up(self) -> None:
        """Whoever asked does not wait for the answers any longer."""
        for question in self._questions:
            question.give_up()

    # following an update

    def _follow(self, command: Command, started: Message) -> None:
        self._display.text([texts.say("started", self._lang, started["id"], started["version"] or "?")])
        self._followed = Following(
            api=self._api,
            caller=self._access.caller,
            update_id=started["id"],
            display=self._display,
            progress=Progress(self._clock, self._lang, baud=self._baud, plain=PLAIN in command.words),
            lang=self._lang,
            on_end=self._ended,
        )

    @property
    def _following(self) -> bool:
        return self._followed is not None and self._followed.open

    def _stop_following(self) -> None:
        if self._followed is not None:
            self._followed.give_up()
        self._display.text([say("goes_on", self._lang)])
        self._prompt()

    # files

    def _upload(self, command: Command) -> None:
        self._give_up()  # nothing may be written while the file comes

        def ended(trouble: PosagentError | None) -> None:
            self._access.hear("upload", self._receive.brought, "ok" if trouble is None else trouble.code)
            self._ended(trouble)

        self._receive.begin(command, self._lang, ended)

    def _proceeds(self) -> None:
        """Bytes of the file have come: somebody is there."""
        self._over_meanwhile = self._access.touch() or self._over_meanwhile

    def _ended(self, trouble: PosagentError | None) -> None:
        """What took its time on the screen is over."""
        if over := self._over_meanwhile:
            self._over_meanwhile = ""
            self._forget(over)
        if trouble is None:
            self._prompt()
        else:
            self._error(trouble)

    # unlocking

    def _challenge(self, command: Command) -> None:
        if len(command.words) != 1:
            raise PosagentError("bad_request", f"unlock ROLE; roles are {', '.join(ROLES)}")
        line = self._access.challenge(command.words[0])
        self._unsigned = None
        self._display.verbatim(json.dumps({"challenge": line}) if command.json else line)
        self._prompt()

    def _check(self, answer: str) -> None:
        def checked(found: PosagentError | Granted) -> None:
            if isinstance(found, PosagentError):
                self._error(found)
            elif unsigned is not None:
                self._display.text([say("signed", self._lang, *found)])
                self._run(unsigned)
            else:
                self._display.text([say("unlocked", self._lang, *found)])
                self._prompt()

        unsigned, self._unsigned = self._unsigned, None
        self._end_paste()
        self._access.answer(answer, checked)

    def _no_answer(self, trouble: PosagentError) -> None:
        self._end_paste()
        self._editor.forget()
        self._error(trouble)

    def _end_paste(self) -> None:
        self._paste.give_up()
        self._editor.echo = True

    def _lock(self, why: str, *, shown: bool = True) -> None:
        locked = self._access.lock(why)
        self._forget(why if shown and locked else "")

    def _forget(self, why: str) -> None:
        """Nothing of this session reaches whoever comes next."""
        self._end_paste()
        self._unsigned = None
        self._give_up()
        self._editor.forget()
        self._editor.forget_history()
        self._display.forget()
        if self._followed is not None:
            self._followed.give_up()
        if why:
            self._display.text([say("locked", self._lang, say(why, self._lang))])

    # what goes out

    def _answer(self, answer: Message, lines: list[str], command: Command) -> None:
        if command.json:
            self._display.verbatim(json.dumps(answer))
        else:
            self._display.text(lines)
        self._prompt()

    def _prompt(self) -> None:
        if not self._receive.open:
            self._display.prompt(PROMPT + self._editor.shown())

    def _error(self, error: PosagentError, json_wanted: bool = False) -> None:
        """The answer to a command that ends with it."""
        answer = error.as_dict()
        if json_wanted:
            self._display.verbatim(json.dumps(answer))
        else:
            self._display.text(texts.error_lines(answer, self._lang))
        self._prompt()
