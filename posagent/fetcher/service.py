"""posagent-fetcher: the only process with a network; moves bytes into the spool. A composition root.

Rules: no operation lasts longer than connecting and one silence may. A socket's time-outs only see silence, but a
peer can send for ever what is no byte of the file: a header letter by letter, 1xx answers, trailers.
"""

from __future__ import annotations

import signal
import sys
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from posagent import worker
from posagent.config import Config
from posagent.core.errors import FetchError
from posagent.core.ports import Message, Verb
from posagent.fetcher.download import Fetcher
from posagent.platform.host import LinuxClock, pause
from posagent.platform.storage import LinuxFiles, open_inside


def _overdue(*_: object) -> None:
    raise FetchError("fetch_stalled", "the download has not got on for too long")


def _in_time(verb: Verb, step_s: int) -> Verb:
    """The verb; an operation of it that is not done after `step_s` seconds ends with `fetch_stalled`."""

    def steps(args: Mapping[str, Any]) -> Iterator[Message]:
        messages = verb(args)
        while True:
            # repeated, because an exception raised during some callback of the interpreter's is lost
            signal.setitimer(signal.ITIMER_REAL, step_s, step_s)
            try:
                message = next(messages, None)
            finally:
                signal.setitimer(signal.ITIMER_REAL, 0)
            if message is None:
                return
            yield message

    return steps


def _verbs(config: Config) -> dict[str, Verb]:
    fetcher = Fetcher(config.fetch, LinuxFiles(), LinuxClock(), lambda path: open_inside("/", path), pause=pause)
    step_s = config.fetch.connect_timeout_s + config.fetch.stall_timeout_s
    signal.signal(signal.SIGALRM, _overdue)
    verbs = {"look": fetcher.look, "fetch": fetcher.fetch, "discard": fetcher.discard}
    return {name: _in_time(verb, step_s) for name, verb in verbs.items()}


def main(argv: Sequence[str] | None = None) -> int:
    return worker.main("posagent-fetcher", _verbs, argv)


if __name__ == "__main__":
    sys.exit(main())
