"""Work in a child process: its answer, its trouble, its end without either."""

from __future__ import annotations

import gc
import os
import signal
import threading
from collections.abc import Callable
from typing import Any

import pytest

from posagent.core.errors import BundleError, PosagentError
from posagent.platform.apart import apart


def test_the_answer_comes_from_another_process_that_is_gone_afterwards() -> None:
    answer = apart(lambda: {"pid": os.getpid(), "parts": [1, "two"]})()
    assert gc.get_freeze_count() == 0, "here garbage is collected as before"
    assert answer["pid"] != os.getpid() and answer["parts"] == [1, "two"]
    with pytest.raises(ChildProcessError):
        os.waitpid(answer["pid"], os.WNOHANG)


def test_work_goes_on_here_meanwhile() -> None:
    """The child waits for what is only said after it was asked: nothing waits for it before."""
    reading, writing = os.pipe()
    answer = apart(lambda: os.read(reading, 9).decode())
    os.write(writing, b"meanwhile")
    assert answer() == "meanwhile"
    os.close(reading)
    os.close(writing)


def test_trouble_of_the_childs_is_raised_here_with_its_code() -> None:
    def work() -> Any:
        raise BundleError("bundle_too_large", "more than enough", at=7)

    with pytest.raises(PosagentError) as caught:
        apart(work)()
    assert (caught.value.code, caught.value.detail) == ("bundle_too_large", "more than enough")
    assert caught.value.facts["at"] == 7


@pytest.mark.parametrize(
    "work",
    [lambda: os.kill(os.getpid(), signal.SIGKILL), lambda: 1 / 0, threading.Lock],
    ids=["killed", "bug", "no json"],
)
def test_a_child_that_ends_without_an_answer_is_an_internal_error(
    work: Callable[[], Any], capfd: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(PosagentError) as caught:
        apart(work)()
    assert caught.value.code == "internal"
