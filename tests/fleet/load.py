"""Thousands of protocol-true light terminals and the real hawkBit server on this machine -> build/fleet.json, `load`.

A light terminal is the fetcher's own client and the agent's own letters and polls, without an update: it registers,
tells its attributes, hears of a deployment, says that it goes on, closes it, and is asked no more. `p99_ms` is of all
requests.
"""

from __future__ import annotations

import argparse
import heapq
import itertools
import json
import random
import sys
import tempfile
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from posagent.agent import mailbox
from posagent.config import FetchConfig
from posagent.core import fleet, polling
from posagent.core.errors import FetchError
from posagent.core.fleet import Heard, Letter
from posagent.fetcher.ddi import Ddi
from posagent.fetcher.http import Credentials, HttpClient, Reply
from tests.fleet.hawkbit import HawkBit, lacks

TOKEN = "gateway-token-of-the-load-test"
OUT = Path("build/fleet.json")
THREADS = 8
SLEEP_S = 20.0
TIMEOUT_S = 900.0


@dataclass
class Seen:
    """Of all requests: seconds each took, and those that went wrong."""

    took_s: list[float] = field(default_factory=list)
    errors: list[str] = field(default_factory=list)
    closed: int = 0


class Timed:
    """fetcher.ddi.Caller that is looked at."""

    def __init__(self, client: HttpClient, seen: Seen) -> None:
        self._client, self._seen = client, seen

    def call(self, method: str, url: str, body: Mapping[str, Any] | None = None) -> Reply:
        began = time.monotonic()
        try:
            answer = self._client.call(method, url, body)
        except FetchError as error:
            self._seen.errors.append(f"{error.code}: {error.detail}")
            raise
        self._seen.took_s.append(time.monotonic() - began)
        if answer.status >= 400:
            self._seen.errors.append(f"{method} {answer.status}")
        return answer


@dataclass
class Light:
    """One terminal."""

    name: str
    letters: list[Letter] = field(default_factory=list)
    known: bool = False
    step: int = 0
    failures: int = 0

    @property
    def done(self) -> bool:
        return self.step >= 2 and not self.letters

    def exchange(self, ddi: Ddi) -> None:
        """One poll and what follows on it. Raises FetchError."""
        args = {
            "letters": [
                {"key": one.key, "kind": one.kind, "action": one.action, "body": one.body} for one in self.letters
            ],
            "attributes": {"version": "1.0.0", "hardware": "sim-pos"},
            "known": self.known,
        }
        heard: Heard | None = None
        for message in ddi.exchange(args):
            told = mailbox.read(message)
            if isinstance(told, Heard):
                heard = told
            else:
                self.letters = [one for one in self.letters if one.key != told.key]
        self.known = True
        if heard is not None and heard.deployment is not None and self.step < 2:
            action = heard.deployment.action
            if self.step == 0:
                body = {"status": {"execution": "download", "result": {"finished": "none"}, "details": ["fetching"]}}
                self.letters.append(Letter(key=f"{action}/going", kind=fleet.GOING, action=action, body=body))
            else:
                self.letters.append(fleet.closing(action, True, ("2.0.0 is confirmed",)))
            self.step += 1


def run(server: HawkBit, count: int) -> Seen:
    """Until every terminal has closed its action. Raises TimeoutError."""
    seen, dice = Seen(), random.Random(1)
    terminals = [Light(f"light-{number:05}") for number in range(count)]
    began, lock, numbers = time.monotonic(), threading.Lock(), itertools.count()
    due = [(began + polling.first_s(SLEEP_S, dice.random()), next(numbers), one) for one in terminals]
    heapq.heapify(due)
    config = FetchConfig(allow_http=True)

    def work() -> None:
        caller = Timed(HttpClient(config, Credentials(url=server.url, authorization=f"GatewayToken {TOKEN}")), seen)
        while True:
            with lock:
                if not due or time.monotonic() - began > TIMEOUT_S:
                    return
                at, _, one = heapq.heappop(due)
            time.sleep(max(0.0, at - time.monotonic()))
            try:
                one.exchange(Ddi(caller, server.url, one.name))
                one.failures = 0
            except FetchError:
                one.failures += 1
            with lock:
                if one.done:
                    seen.closed += 1
                else:
                    wait_s = polling.next_s(SLEEP_S, dice.random(), failures=one.failures)
                    heapq.heappush(due, (time.monotonic() + wait_s, next(numbers), one))

    threads = [threading.Thread(target=work) for _ in range(THREADS)]
    for thread in threads:
        thread.start()
    assign(server, count, began)
    for thread in threads:
        thread.join()
    return seen


def assign(server: HawkBit, count: int, began: float) -> None:
    """When all have registered, a distribution set for each."""
    deadline = began + TIMEOUT_S / 2
    while server.ask("GET", "targets?limit=1")["total"] < count:
        if time.monotonic() > deadline:
            raise TimeoutError("not all terminals have registered")
        time.sleep(1)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "load.bundle"
        path.write_bytes(b"a bundle that nobody fetches")
        distribution = server.distribution("2.0.0", path)
    names = [f"light-{number:05}" for number in range(count)]
    for at in range(0, count, 500):
        told = [{"id": name, "type": "forced"} for name in names[at : at + 500]]
        server.ask("POST", f"distributionsets/{distribution}/assignedTargets", told)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--terminals", type=int, default=2000)
    count = parser.parse_args().terminals
    if why := lacks():
        print(f"skipped: {why}")
        return 0
    with tempfile.TemporaryDirectory() as folder:
        server = HawkBit(Path(folder), more=("--hawkbit.server.security.dos.filter.enabled=false",))
        try:
            server.start()
            server.setting("authentication.gatewaytoken.enabled", True)
            server.setting("authentication.gatewaytoken.key", TOKEN)
            server.setting("pollingTime", "00:00:20")
            began = time.monotonic()
            seen = run(server, count)
            seconds = time.monotonic() - began
        finally:
            server.kill()
    took = sorted(seen.took_s)
    told = json.loads(OUT.read_text()) if OUT.exists() else {}
    told["load"] = {
        "terminals": seen.closed,
        "requests": len(took),
        "errors": len(seen.errors),
        "seconds": round(seconds, 1),
        "p50_ms": round(1000 * took[len(took) // 2], 1),
        "p99_ms": round(1000 * took[len(took) * 99 // 100], 1),
    }
    OUT.parent.mkdir(exist_ok=True)
    OUT.write_text(json.dumps(told, indent=1, sort_keys=True))
    print(json.dumps(told["load"]), *sorted(set(seen.errors))[:5], sep="\n")
    return 0 if seen.closed == count and not seen.errors else 1


if __name__ == "__main__":
    sys.exit(main())
