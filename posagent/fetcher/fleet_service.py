"""posagent-fleet: asks the fleet server, or the repository where there is none. A composition root.

A process of its own beside the fetcher: a download must not keep a wish to cancel from being heard.
Rules: it keeps nothing. An exchange that lasts longer than connecting and a few silences may, ends.
"""

from __future__ import annotations

import signal
import sys
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from posagent import worker
from posagent.config import Config
from posagent.core import metrics
from posagent.core.errors import FetchError
from posagent.core.ports import Message, Verb
from posagent.fetcher.credentials import credentials_of
from posagent.fetcher.ddi import Ddi
from posagent.fetcher.http import HttpClient
from posagent.platform.host import LinuxClock

if TYPE_CHECKING:
    from posagent.fetcher.channel import Channel


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
    verbs = {"exchange": _exchange, "figures": _figures}
    return {name: within(partial(verb, config), step_s) for name, verb in verbs.items()}


def _exchange(config: Config, args: Mapping[str, Any]) -> Iterator[Message]:
    if config.fleet.kind == "repository":
        yield from _channel(config).exchange(args)
        return
    client = HttpClient(config.fetch, credentials_of(config.fleet))
    name = config.fleet.controller or config.terminal.id
    yield from Ddi(client, config.fleet.server_url, name).exchange(args)


def _figures(config: Config, args: Mapping[str, Any]) -> Iterator[Message]:
    """The verb `figures`: `{status, now}` become figures, which are told without any credentials. What fails is said in
    the log only: the next ones are newer."""
    url = config.fleet.metrics_url.replace("{terminal}", quote(config.terminal.id, safe=""))
    code = ""
    try:
        answer = HttpClient(config.fetch).call("POST", url, metrics.text(args["status"], float(args["now"])))
        if answer.status >= 300:
            code = "fetch_status"
    except FetchError as error:
        code = error.code  # its detail may have the address, and that a token
    if code:
        worker.report("metrics_failed", code=code)
    yield {"result": {}}


def _channel(config: Config) -> Channel:
    from posagent.fetcher.channel import Channel  # the trust library, which hawkBit's terminals do not need

    try:
        root = Path(config.trust.root_file).read_bytes()
    except OSError as error:
        raise FetchError("trust_store_damaged", f"{config.trust.root_file}: {error.strerror or error}") from None
    return Channel(
        HttpClient(config.fetch),
        LinuxClock(),
        bases=config.fetch.repositories,
        name=config.fetch.channel,
        terminal=config.terminal.id,
        root=root,
        built_at_s=config.trust.image_built_at,
        stall_s=config.fetch.stall_timeout_s,
    )


def main(argv: Sequence[str] | None = None) -> int:
    return worker.main("posagent-fleet", _verbs, argv)


if __name__ == "__main__":
    sys.exit(main())
