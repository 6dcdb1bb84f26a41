"""Does a piece of work in a child process, so that the memory and the libraries it takes are given back.

Checking signatures costs 15 MiB that would stay for the whole installation; a terminal may have 128 MB. What comes back
is JSON; trouble of the child's is raised in the parent.
"""

from __future__ import annotations

import gc
import json
import os
from collections.abc import Callable
from typing import Any

from posagent.core.errors import PosagentError

ANSWER_BYTES_MAX = 1 << 20


def apart(work: Callable[[], Any]) -> Callable[[], Any]:
    """Begin the work; what is returned waits for it, once, and returns the JSON value that `work` did, or raises
    PosagentError: the child's own, or `internal`. No thread may run."""
    reading, writing = os.pipe()
    gc.freeze()  # or the child's collector would touch, and so copy, all that is there already
    child = os.fork()
    if not child:
        os.close(reading)
        _answer(work, writing)
    gc.unfreeze()
    os.close(writing)
    return lambda: _answered(child, reading)


def _answered(child: int, reading: int) -> Any:
    with os.fdopen(reading, "rb") as stream:
        answer = stream.read(ANSWER_BYTES_MAX)
    os.waitpid(child, 0)
    try:
        told = json.loads(answer)
    except ValueError:
        raise PosagentError("internal", "a child process ended without an answer") from None
    if "error" in told:
        raise PosagentError.from_dict(told["error"])
    return told["result"]


def _answer(work: Callable[[], Any], writing: int) -> None:
    """In the child: never returns, whatever happens."""
    try:
        try:
            told = {"result": work()}
        except PosagentError as error:
            told = {"error": error.as_dict()}
        with os.fdopen(writing, "wb") as stream:
            stream.write(json.dumps(told).encode())
    finally:
        os._exit(0)
