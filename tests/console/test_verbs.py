"""The table of commands: complete, and what help, completion and the reading of a line make of it."""

from __future__ import annotations

import pytest

from posagent.console.access import OPEN_VERBS
from posagent.console.auth import ROLES
from posagent.console.columns import COLUMNS, width
from posagent.console.verbs import VERBS, Command, args_of, candidates, command_of, help_lines, usage, verb_lines
from posagent.core.errors import PosagentError


def may(role: str) -> frozenset[str]:
    return OPEN_VERBS | ROLES.get(role, frozenset())


def test_the_table_has_what_somebody_may_use_and_nothing_else() -> None:
    assert set(VERBS) == OPEN_VERBS.union(*ROLES.values())


@pytest.mark.parametrize(
    ("text", "command"),
    [
        ("status", Command(verb="status", words=(), json=False)),
        ("  STATUS   --json ", Command(verb="status", words=(), json=True)),
        ("--json why", Command(verb="why", words=(), json=True)),
        ("update '/media/my stick/2.bundle'", Command(verb="update", words=("/media/my stick/2.bundle",), json=False)),
        ('update "a b"c', Command(verb="update", words=("a bc",), json=False)),
        ("update https://x/y#z", Command(verb="update", words=("https://x/y#z",), json=False)),
        ("''", Command(verb="", words=(), json=False)),
    ],
)
def test_words_and_quotes(text: str, command: Command) -> None:
    assert command_of(text) == command


@pytest.mark.parametrize("text", ["", "   ", "--json"])
def test_a_line_without_words_is_no_command(text: str) -> None:
    assert command_of(text) is None


@pytest.mark.parametrize("text", ["update 'a", 'why "', "why \\"])
def test_an_open_quote_is_an_error_of_whoever_typed(text: str) -> None:
    with pytest.raises(ValueError):
        command_of(text)


@pytest.mark.parametrize(
    ("text", "args"),
    [
        ("status", {}),
        ("update", {"source": "", "now": False}),
        ("update usb --now", {"source": "usb", "now": True}),
        ("update --plain /x.bundle", {"source": "/x.bundle", "now": False}),
        ("defer", {}),
        ("defer 3", {"hours": 3}),
        ("history 5", {"count": 5}),
        ("history", {}),
        ("log 99999", {"count": 100}),
        ("network", {}),
        ("network test", {}),
        ("selftest", {}),
        ("selftest payment", {"suite": "payment"}),
        ("rollback --plain", {}),
        ("audit 7", {"count": 7}),
    ],
)
def test_words_become_arguments(text: str, args: dict[str, object]) -> None:
    command = command_of(text)
    assert command is not None and args_of(command) == args


@pytest.mark.parametrize(
    "text",
    [
        *(
            "status now",
            "why why",
            "defer x",
            "defer -1",
            "defer 1 2",
            "defer ²",
            "history many",
            "log 5 5",
            "network up",
        ),
        *("update a b", "update --later", "rollback --now", "selftest a b", "support me", "cancel all", "slots a"),
        "log 99999999999999999999999",
    ],
)
def test_words_that_do_not_belong_there_are_answered_with_how_to_write_it(text: str) -> None:
    command = command_of(text)
    assert command is not None
    with pytest.raises(PosagentError) as caught:
        args_of(command)
    assert caught.value.code == "bad_request" and usage(command.verb) in caught.value.detail


@pytest.mark.parametrize("lang", ["en", "zh"])
@pytest.mark.parametrize("name", VERBS)
def test_one_verb_is_told_in_three_lines_with_an_example_that_is_understood(name: str, lang: str) -> None:
    first, _, example = verb_lines(name, lang)
    assert first.startswith(usage(name))
    assert all(width(line) <= COLUMNS for line in verb_lines(name, lang))
    command = command_of(example.partition(": " if lang == "en" else "：")[2])
    assert command is not None and command.verb == name
    assert name in ("help", "lang", "unlock", "machine", "upload") or args_of(command) is not None


def test_help_for_what_is_no_verb_says_so() -> None:
    with pytest.raises(PosagentError, match="unknown_verb"):
        verb_lines("sh", "en")


@pytest.mark.parametrize("lang", ["en", "zh"])
@pytest.mark.parametrize("role", ["", *ROLES])
def test_help_shows_just_what_the_role_may_do_in_lines_that_fit(role: str, lang: str) -> None:
    lines = help_lines(role, lambda name: name in may(role), lang)
    named = {line.split()[0] for line in lines} & set(VERBS)
    assert named == {name for name in may(role) if VERBS[name].listed}
    assert all(width(line) <= COLUMNS for line in lines if not line.startswith(("with role", "角色")))


def test_locked_help_tells_what_the_roles_are_for_and_how_to_unlock() -> None:
    text = "\n".join(help_lines("", lambda name: name in OPEN_VERBS, "en"))
    assert "ssh-keygen -Y sign" in text
    told: dict[str, set[str]] = {}
    for role, verbs in ROLES.items():
        [line] = [line for line in text.splitlines() if line.startswith(f"with role {role}: ")]
        words = line.removeprefix(f"with role {role}: ").split(", ")
        less = {verb for word in words if word.startswith("all of ") for verb in told[word.removeprefix("all of ")]}
        told[role] = less | {word for word in words if not word.startswith("all of ")}
        assert told[role] == verbs


@pytest.mark.parametrize(
    ("before", "role", "offered"),
    [
        ("st", "", ["status"]),
        ("s", "", ["status"]),
        ("s", "look", ["status", "slots"]),
        ("up", "look", []),
        ("up", "update", ["update", "upload"]),
        ("unlock ", "", [*ROLES, "--json"]),
        ("unlock u", "", ["update"]),
        ("lang ", "", ["en", "zh", "--json"]),
        ("update ", "update", ["usb", "--now", "--plain", "--json"]),
        ("update usb ", "update", ["--now", "--plain", "--json"]),
        ("update --now ", "update", ["--plain", "--json"]),
        ("update ", "look", []),
        ("help sl", "look", ["slots"]),
        ("help up", "", []),
        ("status ", "", ["--json"]),
        ("status --json ", "", []),
        ("nonsense ", "update", []),
        ("  sta", "", ["status"]),
    ],
)
def test_completion_offers_what_the_role_may_say_next(before: str, role: str, offered: list[str]) -> None:
    assert candidates(before, lambda name: name in may(role)) == offered
