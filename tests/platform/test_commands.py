"""External commands: bounded in time and output, never through a shell, with an error a person can act on."""

from __future__ import annotations

import os
import select
import shlex

import pytest

from posagent.platform.commands import CommandFailed, run


def test_a_command_gets_its_input_and_gives_its_output() -> None:
    assert run(["/bin/cat", "/dev/stdin"], timeout_s=5, stdin=b"x" * 50_000) == b"x" * 50_000
    assert run(["/bin/cat"], timeout_s=5) == b""


def test_words_are_passed_as_they_are() -> None:
    assert run(["/bin/echo", "$HOME; `id`"], timeout_s=5) == b"$HOME; `id`\n"


def test_nothing_of_our_environment_is_passed_on(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SECRET_TOKEN", "hunter2")
    assert b"hunter2" not in run(["/usr/bin/env"], timeout_s=5)


def test_the_error_has_the_line_to_paste_and_what_the_command_said() -> None:
    command = ["/bin/sh", "-c", "echo out; echo 'it is broken' >&2; exit 3"]
    with pytest.raises(CommandFailed, match="ended with 3: it is broken") as caught:
        run(command, timeout_s=5)
    assert shlex.split(caught.value.line) == command


def test_a_command_that_does_not_exist_is_an_error() -> None:
    with pytest.raises(CommandFailed, match="/none/such: No such file"):
        run(["/none/such"], timeout_s=5)


def test_a_command_that_hangs_is_killed_with_its_children() -> None:
    with pytest.raises(CommandFailed, match=r"no end after 2 s: (\d+)") as caught:
        run(["/bin/sh", "-c", "sleep 60 & echo $!; wait"], timeout_s=2)
    child = int(str(caught.value).rpartition(" ")[2])
    try:
        process = os.pidfd_open(child)
    except ProcessLookupError:
        return
    try:
        assert select.select([process], [], [], 10)[0], "still running"
    finally:
        os.close(process)


def test_a_command_that_says_too_much_is_killed() -> None:
    with pytest.raises(CommandFailed, match="more than 1000 bytes"):
        run(["/usr/bin/yes"], timeout_s=5, output_bytes_max=1000)
