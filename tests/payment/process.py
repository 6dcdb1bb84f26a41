"""An agent's payment side in a process of its own, which tests can stop, freeze and ask what it was told."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parent.parent.parent


class AgentProcess:
    def __init__(self, path: Path) -> None:
        self.path = str(path)
        self.heard: list[dict[str, Any]] = []
        self._process: subprocess.Popen[str] | None = None

    def up(self) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.payment.host", self.path],
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self.hear(lambda one: "up" in one)

    def hear(self, wanted: Callable[[dict[str, Any]], bool]) -> dict[str, Any]:
        """The next thing it says that is wanted; pytest's time-out ends a wait for nothing."""
        assert self._process is not None and self._process.stdout is not None
        for line in self._process.stdout:
            self.heard.append(json.loads(line))
            if wanted(self.heard[-1]):
                return self.heard[-1]
        raise AssertionError(f"it ended; it said {self.heard}")

    def held(self, *reasons: str) -> dict[str, Any]:
        """Wait until exactly these holds are in force."""
        return self.hear(lambda one: one.get("holds") == sorted(reasons))

    def tell(self, **outlook: Any) -> None:
        """Change what applications are told, and wait until they have been."""
        assert self._process is not None and self._process.stdin is not None
        print(json.dumps(outlook), file=self._process.stdin, flush=True)
        self.hear(lambda one: "told" in one)

    def freeze(self) -> None:
        self._signal(signal.SIGSTOP)

    def thaw(self) -> None:
        self._signal(signal.SIGCONT)

    def _signal(self, number: signal.Signals) -> None:
        assert self._process is not None
        self._process.send_signal(number)

    def down(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.communicate()
            self._process = None
