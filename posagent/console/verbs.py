"""The commands of the line: what each is for, its words, an example, and the API's arguments in what was typed.

Owns: the one table that help, completion and the reading of a typed line are made of. Who may use a verb is said in
auth.ROLES and access.OPEN_VERBS alone.
"""

from __future__ import annotations

import shlex
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from posagent.config_selftest import SUITES
from posagent.console.access import OPEN_VERBS
from posagent.console.auth import ROLES
from posagent.console.wording import say
from posagent.core.errors import PosagentError

JSON = "--json"
PLAIN = "--plain"
_USAGE_WIDTH = 17
_COUNT_MAX = 100
"""Of lines and records that a slow line is asked to carry at once."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Command:
    verb: str
    words: tuple[str, ...]
    json: bool


Args = Callable[[Sequence[str]], dict[str, Any]]


def _none(words: Sequence[str]) -> dict[str, Any]:
    if words:
        raise ValueError
    return {}


def _count(words: Sequence[str]) -> dict[str, Any]:
    return {"count": _number(words[0], _COUNT_MAX)} if words else {}


def _update(words: Sequence[str]) -> dict[str, Any]:
    sources = [word for word in words if word not in ("--now", PLAIN)]
    if len(sources) > 1 or any(word.startswith("--") for word in sources):
        raise ValueError
    return {"source": "".join(sources), "now": "--now" in words}


def _followed(words: Sequence[str]) -> dict[str, Any]:
    return _none([word for word in words if word != PLAIN])


def _defer(words: Sequence[str]) -> dict[str, Any]:
    return {"hours": _number(words[0], 9999)} if words else {}


def _network(words: Sequence[str]) -> dict[str, Any]:
    return _none([] if list(words) == ["test"] else words)


def _allow(words: Sequence[str]) -> dict[str, Any]:
    if not words:
        raise ValueError
    return {"bundle": words[0]}


def _selftest(words: Sequence[str]) -> dict[str, Any]:
    return {"suite": words[0]} if words else {}


def _data(words: Sequence[str]) -> dict[str, Any]:
    """On the line a restore is always a dry run."""
    left = [word for word in words if word != "--dry-run"]
    if left in ([], ["verify"]):
        return {}
    if len(left) != 2 or left[0] != "restore":
        raise ValueError
    return {"restore": left[1], "dry_run": True}


def _number(word: str, most: int) -> int:
    if not (word.isascii() and word.isdecimal() and len(word) < 10):
        raise ValueError
    return min(int(word), most)


@dataclass(frozen=True, slots=True, kw_only=True)
class Verb:
    """`words` stand behind the verb, at most `words_max` of them; `choices` are what completion offers for them. One
    that is not `listed` is for programs. What it does is told in wording.WORDS, under `verb_NAME`."""

    words: str = ""
    words_max: int = 0
    example: str = ""
    choices: tuple[str, ...] = ()
    args: Args = field(default=_none)
    listed: bool = True


VERBS: Mapping[str, Verb] = {
    "status": Verb(),
    "why": Verb(),
    "estimate": Verb(),
    "version": Verb(),
    "help": Verb(words="[VERB]", words_max=1, example="help update"),
    "lang": Verb(words="en|zh", words_max=1, example="lang zh", choices=("en", "zh")),
    "unlock": Verb(words="ROLE", words_max=1, example="unlock update", choices=tuple(ROLES)),
    "logout": Verb(),
    "check": Verb(),
    "history": Verb(words="[COUNT]", words_max=1, example="history 3", args=_count),
    "slots": Verb(),
    "power": Verb(),
    "network": Verb(words="[test]", words_max=1, example="network test", choices=("test",), args=_network),
    "log": Verb(words="[COUNT]", words_max=1, example="log 50", args=_count),
    "audit": Verb(words="[COUNT]", words_max=1, example="audit 50", args=_count),
    "update": Verb(
        words="[SOURCE] [--now] [--plain]",
        words_max=3,
        example="update https://updates.example/2.0.0.bundle --now",
        choices=("usb", "--now", PLAIN),
        args=_update,
    ),
    "cancel": Verb(),
    "defer": Verb(words="[HOURS]", words_max=1, example="defer 3", args=_defer),
    "confirm": Verb(),
    "upload": Verb(words="[SIZE] [--resume]", words_max=2, example="upload 2.5M", choices=("--resume",)),
    "allow": Verb(words="sha256:DIGEST", words_max=1, example="allow sha256:DIGEST", args=_allow),
    "selftest": Verb(words="[SUITE]", words_max=1, example="selftest security", choices=SUITES, args=_selftest),
    "data": Verb(
        words="[restore BACKUP]",
        words_max=3,
        example="data verify",
        choices=("verify", "restore", "--dry-run"),
        args=_data,
    ),
    "rollback": Verb(words="[--plain]", words_max=1, choices=(PLAIN,), args=_followed),
    "support": Verb(),
    "machine": Verb(words="1", words_max=1, example="machine 1", listed=False),
}


def command_of(text: str) -> Command | None:
    """The command in a line; None for an empty one. Raises ValueError for an open quote."""
    words = shlex.split(text, comments=False, posix=True)
    json = JSON in words
    words = [word for word in words if word != JSON]
    return Command(verb=words[0].lower(), words=tuple(words[1:]), json=json) if words else None


def args_of(command: Command) -> dict[str, Any]:
    """The API's arguments in a command's words. Raises PosagentError `bad_request`, `unknown_verb`."""
    verb = VERBS.get(command.verb)
    if verb is None:
        raise PosagentError("unknown_verb", f"no command {command.verb[:40]!r}")
    try:
        if len(command.words) > verb.words_max:
            raise ValueError
        return verb.args(command.words)
    except ValueError:
        raise PosagentError("bad_request", f"usage: {usage(command.verb)}") from None


def usage(name: str) -> str:
    return f"{name} {VERBS[name].words}".rstrip()


def candidates(before: str, may: Callable[[str], bool]) -> list[str]:
    """What the last word of `before` may become, for whoever may use the verbs that `may` says."""
    *words, begun = before.split(" ")
    words = [word for word in words if word]
    if not words:
        offered = [name for name in VERBS if may(name)]
    elif (name := words[0].lower()) not in VERBS or not may(name):
        return []
    else:
        offered = [name for name in VERBS if may(name)] if name == "help" else list(VERBS[name].choices)
        offered = [word for word in (*offered, JSON) if word not in words[1:]]
        if not begun.startswith("-") and len(words) > 1:
            offered = [word for word in offered if word.startswith("-")]
    return [word for word in offered if word.startswith(begun)]


def help_lines(role: str, may: Callable[[str], bool], lang: str) -> list[str]:
    """What whoever is there may do, in a line each; while locked also what the roles are for, and how to unlock."""
    lines = [_line(name, lang) for name in VERBS if may(name) and VERBS[name].listed]
    if not role:
        lines += [f"{say('with_role', lang, one)} {', '.join(_own(one, lang))}" for one in ROLES]
        lines += [say("how_to_unlock", lang), f"  {say('sign_command', lang)}"]
    return [*lines, say("json_behind", lang)]


def verb_lines(name: str, lang: str) -> list[str]:
    """One verb in three lines. Raises PosagentError `unknown_verb`."""
    if name not in VERBS:
        raise PosagentError("unknown_verb", f"no command {name[:40]!r}")
    roles = [role for role, verbs in ROLES.items() if name in verbs]
    who = say("everybody", lang) if name in OPEN_VERBS else say("roles", lang, ", ".join(roles) or "-")
    example = say("example", lang, VERBS[name].example or name)
    return [f"{usage(name)}    ({who})", say(f"verb_{name}", lang), example]


def _line(name: str, lang: str) -> str:
    shown = usage(name)
    return f"{shown if len(shown) <= _USAGE_WIDTH else name:{_USAGE_WIDTH}} {say(f'verb_{name}', lang)}"


def _own(role: str, lang: str) -> list[str]:
    """What the role may do, in short where it may do all that another one may."""
    less = max((one for one in ROLES if ROLES[one] < ROLES[role]), key=lambda one: len(ROLES[one]), default="")
    own = [name for name in VERBS if name in ROLES[role] - ROLES.get(less, frozenset())]
    return [say("all_of", lang, less), *own] if less else own
