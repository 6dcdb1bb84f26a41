"""posagent-selftest: the unprivileged worker that tests a freshly booted system. A composition root."""

from __future__ import annotations

import sys
from collections.abc import Sequence

from posagent import worker
from posagent.config import Config
from posagent.core.ports import Verb
from posagent.platform.health import LinuxProbes
from posagent.platform.host import LinuxClock
from posagent.platform.system import LinuxSystem
from posagent.selftest import checks
from posagent.selftest.finding import given_of
from posagent.selftest.looks import Looks


def _verbs(config: Config) -> dict[str, Verb]:
    clock = LinuxClock()
    probes = LinuxProbes(clock)
    looks = Looks(LinuxSystem(clock), probes)
    tests = config.selftest
    return {
        "run": lambda args: checks.run(
            tests, probes, clock, str(args.get("suite", "")), look=looks.look, given=given_of(args)
        ),
        "baseline": lambda _: checks.baseline(tests, clock, looks.figures),
    }


def main(argv: Sequence[str] | None = None) -> int:
    return worker.main("posagent-selftest", _verbs, argv)


if __name__ == "__main__":
    sys.exit(main())
