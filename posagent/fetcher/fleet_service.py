"""posagent-fleet: asks the fleet server. A composition root.

A process of its own beside the fetcher: a download must not keep a wish to cancel from being heard.
Rules: it keeps nothing. An exchange that lasts longer than connecting and a few silences may, ends.
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
from posagent.fetcher.credentials import credentials_of
from posagent.fetcher.ddi import Ddi
from posagent.fetcher.http import HttpClient


def _overdue(*_: object) -> None:
    raise FetchError("fetch_stalled", "the fleet server has not got on for too long")


def within(verb: Verb, step_s: int) -> Verb:
    """The verb; an operation of it that is not done after so many seconds ends."""

    def steps(args: Mapping[str, Any]) -> Iterator[Message]:
        messages = verb(args)
        signal.signal(signal.SIGALRM, _overdue)
        while True:
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
    step_s = config.fetch.connect_timeout_s + config.fetch.stall_timeout_s
    return {"exchange": within(lambda args: _exchange(config, args), step_s)}


def _exchange(config: Config, args: Mapping[str, Any]) -> Iterator[Message]:
    client = HttpClient(config.fetch, credentials_of(config.fleet))
    name = config.fleet.controller or config.terminal.id
    return Ddi(client, config.fleet.server_url, name).exchange(args)


def main(argv: Sequence[str] | None = None) -> int:
    return worker.main("posagent-fleet", _verbs, argv)


if __name__ == "__main__":
    sys.exit(main())
