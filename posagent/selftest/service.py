"""posagent-selftest: the unprivileged worker that tests a freshly booted system. A composition root."""

from __future__ import annotations

import sys
from collections.abc import Sequence

from posagent import worker
from posagent.config import Config
from posagent.core.ports import Verb
from posagent.platform.health import LinuxProbes
from posagent.platform.host import LinuxClock
from posagent.selftest import checks


def _verbs(config: Config) -> dict[str, Verb]:
    clock = LinuxClock()
    return {"run": lambda args: checks.run(config.selftest, LinuxProbes(clock), clock, str(args.get("suite", "")))}


def main(argv: Sequence[str] | None = None) -> int:
    return worker.main("posagent-selftest", _verbs, argv)


if __name__ == "__main__":
    sys.exit(main())
