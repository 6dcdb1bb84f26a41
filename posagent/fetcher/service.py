"""posagent-fetcher: the only process with a network; moves bytes into the spool. A composition root.

Rules: no operation lasts longer than connecting and one silence may, nor over a link that went away. A socket's
time-outs only see silence, but a peer can send for ever what is no byte of the file: a header letter by letter, 1xx
answers, trailers.
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
from posagent.fetcher.download import Fetcher
from posagent.fetcher.http import Credentials, HttpClient
from posagent.fetcher.media import Media
from posagent.fetcher.probe import Probe
from posagent.platform import links
from posagent.platform.host import LinuxClock, pause
from posagent.platform.media import bundles
from posagent.platform.net import LinuxNet
from posagent.platform.storage import FileSource, LinuxFiles, open_inside


class _Guard:
    """Ends an operation of a verb from outside, by raising in the midst of it."""

    def __init__(self, step_s: int) -> None:
        self._step_s = step_s
        self._over_network = False
        signal.signal(signal.SIGALRM, self._overdue)
        self._links = links.watch(self._changed)

    @staticmethod
    def _overdue(*_: object) -> None:
        raise FetchError("fetch_stalled", "the download has not got on for too long")

    def _changed(self) -> None:
        if self._over_network:
            self._over_network = False  # once: what follows tidies up
            raise FetchError("fetch_link_changed")

    def over(self, verb: Verb) -> Verb:
        """The verb; an operation of it that is not done after so many seconds ends with `fetch_stalled`, one over the
        network whose link changes with `fetch_link_changed`."""

        def steps(args: Mapping[str, Any]) -> Iterator[Message]:
            messages = verb(args)
            while True:
                # repeated, because an exception raised during some callback of the interpreter's is lost
                signal.setitimer(signal.ITIMER_REAL, self._step_s, self._step_s)
                self._over_network = str(args.get("source", "")).startswith("http")
                try:
                    message = next(messages, None)
                finally:
                    self._over_network = False
                    signal.setitimer(signal.ITIMER_REAL, 0)
                if message is None:
                    return
                yield message

        return steps


def _open_local(path: str) -> FileSource:
    return open_inside("/", path)


def _credentials(config: Config) -> Credentials | None:
    """None where they cannot be read: other sources than the fleet server need none."""
    try:
        return credentials_of(config.fleet)
    except FetchError:
        return None


def _verbs(config: Config) -> dict[str, Verb]:
    clock, client = LinuxClock(), HttpClient(config.fetch, _credentials(config))
    media = Media(
        lambda: bundles(config.fetch.media_dir),
        _open_local,
        hardware=config.terminal.hardware,
        revision=config.terminal.hardware_revision,
    )
    fetcher = Fetcher(config.fetch, LinuxFiles(), clock, _open_local, client, pause=pause, media=media)
    guard = _Guard(config.fetch.connect_timeout_s + config.fetch.stall_timeout_s)
    probe = Probe(config.fetch, client, LinuxNet(), clock)
    verbs = {"look": fetcher.look, "fetch": fetcher.fetch, "discard": fetcher.discard, "probe": probe.probe}
    return {name: guard.over(verb) for name, verb in verbs.items()}


def main(argv: Sequence[str] | None = None) -> int:
    return worker.main("posagent-fetcher", _verbs, argv)


if __name__ == "__main__":
    sys.exit(main())
