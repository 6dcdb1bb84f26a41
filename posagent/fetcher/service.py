"""posagent-fetcher: the only process with a network; moves bytes into the spool. A composition root."""

from __future__ import annotations

import sys
from collections.abc import Sequence

from posagent import worker
from posagent.config import Config
from posagent.core.ports import Verb
from posagent.fetcher.download import Fetcher
from posagent.platform.host import LinuxClock
from posagent.platform.storage import LinuxFiles, open_inside


def _verbs(config: Config) -> dict[str, Verb]:
    fetcher = Fetcher(config.fetch, LinuxFiles(), LinuxClock(), lambda path: open_inside("/", path))
    return {"look": fetcher.look, "fetch": fetcher.fetch, "discard": fetcher.discard}


def main(argv: Sequence[str] | None = None) -> int:
    return worker.main("posagent-fetcher", _verbs, argv)


if __name__ == "__main__":
    sys.exit(main())
