"""A repository in place of a fleet server: what counts as its word, whom a roll-out reaches, what mirrors are for."""

from __future__ import annotations

import http.server
import io
import json
import shutil
import subprocess
import sys
import threading
import zlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from posagent.agent import mailbox
from posagent.core.channel import place
from posagent.core.errors import FetchError, PosagentError
from posagent.core.fleet import Heard
from posagent.fetcher.channel import Channel, in_order
from posagent.fetcher.http import Asked
from posagent.release import keys, repository
from posagent.sim.lab import Lab, SimulatedTerminal
from tests.conftest import Desk
from tests.integration.conftest import lab as lab
from tests.integration.conftest import noisy

DAY_S = 86400
BASE, MIRROR = "https://one.example", "https://two.example"
TERMINAL = "pos-0001"


class Clock:
    """As the terminal has it."""

    def __init__(self, now_s: float) -> None:
        self.now_s = now_s

    def wall(self) -> float:
        return self.now_s

    def monotonic(self) -> float:
        return 0.0


class Given:
    """An answer with that body."""

    def __init__(self, body: bytes | None, *, html: bool = False, missing: int = 404) -> None:
        self.status, self.html = (missing, False) if body is None else (200, html)
        self.length = len(body or b"")
        self._body = io.BytesIO(body or b"")

    def chunks(self, length_max: int = 4096) -> Iterator[bytes]:
        while data := self._body.read(length_max):
            yield data

    def close(self) -> None:
        pass

    def trouble(self) -> FetchError:
        return FetchError("fetch_status", f"the server answered {self.status}")


class Web:
    """Directories as web servers have them; some may be `away`."""

    def __init__(self, served: Mapping[str, Path]) -> None:
        self.served, self.away, self.asked = served, set[str](), list[str]()
        self.portal, self.missing = False, 404

    def get(self, asked: Asked) -> Any:
        base = next(base for base in self.served if asked.url.startswith(base))
        self.asked.append(asked.url)
        if base in self.away:
            raise FetchError("fetch_network", "nobody is there")
        if self.portal:
            return Given(b"<html>pay for the network</html>", html=True)
        path = self.served[base] / asked.url.removeprefix(base + "/")
        return Given(path.read_bytes() if path.exists() else None, missing=self.missing)


class Repository:
    """A repository on the web, its keys, and a terminal that follows it."""

    def __init__(self, folder: Path, desk: Desk) -> None:
        self.keys = folder / "keys"
        shutil.copytree(desk.keys, self.keys)  # versions are counted in it
        self.root = (self.keys / "1.root.json").read_bytes()
        self.path, self.other = folder / "repository", folder / "mirror"
        self.web = Web({BASE: self.path, MIRROR: self.other})
        self.clock = Clock(0.0)
        self.seen = ""

    def publish(self, bundle: Path, **more: Any) -> dict[str, Any]:
        told = repository.publish(bundle, self.path, keys_dir=self.keys, **more)
        self.clock.now_s = told["rollout"]["signed_at_s"] + 60.0
        return told

    def change(self, **more: Any) -> dict[str, Any]:
        return repository.change(self.path, keys_dir=self.keys, **more)

    def mirror(self) -> None:
        shutil.rmtree(self.other, ignore_errors=True)
        shutil.copytree(self.path, self.other)

    @property
    def pointer(self) -> Path:
        return self.path / "channels/stable.json"

    def edit(self, **words: Any) -> None:
        self.pointer.write_text(json.dumps(json.loads(self.pointer.read_text()) | words))

    def ask(self, *, running: str = "1.0.0", bases: tuple[str, ...] = (BASE,), built_at_s: int = 0) -> Heard:
        """What the agent hears. Raises PosagentError."""
        channel = Channel(
            self.web,
            self.clock,
            bases=bases,
            name="stable",
            terminal=TERMINAL,
            root=self.root,
            built_at_s=built_at_s,
            stall_s=60.0,
        )
        letters = [{"key": "7/close", "kind": "close", "action": "7", "body": {}}]
        args = {"letters": letters, "attributes": {"version": running}, "seen": self.seen}
        *delivered, last = (mailbox.read(message) for message in channel.exchange(args))
        assert delivered == [mailbox.Delivered("7/close")] and isinstance(last, Heard)
        self.seen = last.seen
        return last


@pytest.fixture
def repo(tmp_path: Path, desk: Desk) -> Repository:
    return Repository(tmp_path, desk)


def test_what_is_offered_becomes_a_deployment_for_terminals_that_have_not_got_it(repo: Repository, desk: Desk) -> None:
    told = repo.publish(desk.bundles["2.0.0"], poll_s=600)
    heard = repo.ask()
    assert heard.deployment is not None and heard.sleep_s == 600
    assert (heard.deployment.version, heard.deployment.update, heard.deployment.standing) == ("2.0.0", "attempt", True)
    (one,) = heard.deployment.artifacts
    assert (one.url, one.length, one.sha256) == (f"{BASE}/{told['bundle']}", told["length"], told["sha256"])
    assert repo.ask(running="2.0.0").deployment is None


def test_a_roll_out_reaches_a_terminal_when_it_has_got_that_far_and_a_stop_takes_it_back(
    repo: Repository, desk: Desk
) -> None:
    told = repo.publish(desk.bundles["2.0.0"], percent=0)
    mine = place(TERMINAL, told["sha256"])
    assert repo.ask().deployment is None
    repo.change(percent=max(mine - 0.01, 0))
    assert repo.ask().deployment is None
    repo.change(percent=min(mine + 0.01, 100))
    first = repo.ask().deployment
    assert first is not None
    repo.change(stopped=True)
    assert repo.ask().deployment is None
    repo.change(stopped=False, forced=True)
    again = repo.ask().deployment
    assert again is not None and (again.action, again.update) == (first.action, "forced")
    repo.change(again=True)
    new = repo.ask().deployment
    assert new is not None and new.action != first.action
    repo.publish(desk.bundles["3.0.0"])
    other = repo.ask().deployment
    assert other is not None and (other.version, other.update) == ("3.0.0", "attempt"), "each bundle begins anew"


def unsigned(repo: Repository) -> None:
    told = json.loads(repo.pointer.read_text())
    del told["signatures"]
    repo.pointer.write_text(json.dumps(told))


def further(repo: Repository) -> None:
    told = json.loads(repo.pointer.read_text())
    repo.edit(rollout=told["rollout"] | {"percent": 100})


def of_a_thief(repo: Repository) -> None:
    thief = repo.path.parent / "thief"
    keys.init(thief)
    repository.publish(next((repo.path / "bundles").iterdir()), repo.path, keys_dir=thief)
    shutil.copy(repo.keys / "1.root.json", repo.path / "roots/1.root.json")


def of_another_channel(repo: Repository) -> None:
    repository.publish(next((repo.path / "bundles").iterdir()), repo.path, keys_dir=repo.keys, channel="canary")
    shutil.copy(repo.path / "channels/canary.json", repo.pointer)


def held_back(repo: Repository) -> None:
    repo.clock.now_s += 8 * DAY_S


def older(repo: Repository) -> None:
    old = repo.pointer.read_bytes()
    repo.change(stopped=True)
    repo.ask()
    repo.pointer.write_bytes(old)


def another_root(repo: Repository) -> None:
    thief = repo.path.parent / "thief"
    keys.init(thief)
    shutil.copy(thief / "1.root.json", repo.path / "roots/2.root.json")


def root_of_another_role(repo: Repository) -> None:
    (repo.path / "roots/2.root.json").write_text('{"signatures": [], "signed": {"_type": "timestamp"}}')


def nonsense_of_a_roll_out(repo: Repository) -> None:
    told = json.loads(repo.pointer.read_text())
    told["rollout"]["percent"] = "all"
    repo.pointer.write_text(json.dumps(told))


def no_channel(repo: Repository) -> None:
    repo.pointer.unlink()


def no_bundle(repo: Repository) -> None:
    shutil.rmtree(repo.path / "bundles")


def half_a_bundle(repo: Repository) -> None:
    (bundle,) = (repo.path / "bundles").iterdir()
    bundle.write_bytes(bundle.read_bytes()[:1000])


def endless(repo: Repository) -> None:
    repo.edit(more="x" * (1 << 20))


def portal(repo: Repository) -> None:
    repo.web.portal = True


@pytest.mark.parametrize(
    ("wrong", "code"),
    [
        (unsigned, "signature_invalid"),
        (further, "signature_invalid"),
        (of_a_thief, "signature_invalid"),
        (of_another_channel, "signature_invalid"),
        (another_root, "signature_invalid"),
        (root_of_another_role, "signature_invalid"),
        (nonsense_of_a_roll_out, "signature_invalid"),
        (held_back, "repository_stale"),
        (older, "repository_rollback"),
        (no_channel, "fetch_pointer"),
        (no_bundle, "fetch_status"),
        (half_a_bundle, "fetch_length"),
        (endless, "fetch_pointer"),
        (portal, "fetch_portal"),
    ],
)
def test_what_is_not_the_desks_fresh_word_counts_for_nothing_and_a_mirror_helps(
    repo: Repository, desk: Desk, wrong: Any, code: str
) -> None:
    repo.publish(desk.bundles["2.0.0"], percent=99.9999)
    repo.mirror()
    wrong(repo)
    with pytest.raises(PosagentError) as caught:
        repo.ask()
    assert caught.value.code == code
    if wrong is held_back or wrong is older or wrong is portal:
        return
    heard = repo.ask(bases=(BASE, MIRROR))
    assert heard.deployment is not None
    if wrong in (no_bundle, half_a_bundle):
        assert heard.deployment.artifacts[0].url.startswith(MIRROR)


def test_a_root_that_ended_signs_nothing(repo: Repository, desk: Desk) -> None:
    repo.publish(desk.bundles["2.0.0"], days=90)
    repo.clock.now_s += 89 * DAY_S
    assert repo.ask().deployment is not None
    repo.clock.now_s += keys.ROOT_DAYS * DAY_S
    with pytest.raises(PosagentError, match="repository_expired"):
        repo.ask()


def test_a_clock_that_is_behind_or_absurd_strands_nobody(repo: Repository, desk: Desk) -> None:
    told = repo.publish(desk.bundles["2.0.0"])
    now = told["rollout"]["signed_at_s"]
    for wall in (0.0, now + 40 * 365 * DAY_S):
        repo.clock.now_s = wall
        assert repo.ask(built_at_s=now - DAY_S).deployment is not None


def test_keys_may_be_exchanged_and_a_stolen_one_counts_for_nothing_any_more(repo: Repository, desk: Desk) -> None:
    repo.publish(desk.bundles["2.0.0"])
    old = repo.pointer.read_bytes()
    keys.renew(repo.keys, replace=["timestamp"])
    repo.change()
    assert repo.ask().deployment is not None, "the terminal's own image has only the first root"
    repo.seen = ""
    repo.pointer.write_bytes(old)
    with pytest.raises(PosagentError, match="signature_invalid"):
        repo.ask()


def test_terminals_share_the_mirrors_and_pass_over_one_that_is_away(repo: Repository, desk: Desk) -> None:
    bases = (BASE, MIRROR)
    firsts = [in_order(bases, f"pos-{number}")[0] for number in range(1000)]
    assert 400 < firsts.count(BASE) < 600
    repo.publish(desk.bundles["2.0.0"])
    repo.mirror()
    for base in bases:
        repo.web.away = {base}
        heard = repo.ask(bases=bases)
        assert heard.deployment is not None and not heard.deployment.artifacts[0].url.startswith(base)
    repo.web.away = set(bases)
    with pytest.raises(PosagentError, match="fetch_network"):
        repo.ask(bases=bases)


def test_a_mirror_that_lags_behind_does_not_hold_back_a_stop(repo: Repository, desk: Desk) -> None:
    repo.publish(desk.bundles["2.0.0"])
    repo.mirror()
    repo.change(stopped=True)
    for bases in ((BASE, MIRROR), (MIRROR, BASE)):
        repo.seen = ""
        assert repo.ask(bases=bases).deployment is None
    assert repo.seen
    repo.web.away = {BASE}
    with pytest.raises(PosagentError, match="repository_rollback"):
        repo.ask(bases=(BASE, MIRROR))


def test_object_storage_that_may_not_be_listed_says_403_of_what_it_has_not(repo: Repository, desk: Desk) -> None:
    repo.web.missing = 403
    repo.publish(desk.bundles["2.0.0"])
    assert repo.ask().deployment is not None


def test_a_withdrawn_key_stays_withdrawn_where_the_new_root_is_held_back(repo: Repository, desk: Desk) -> None:
    repo.publish(desk.bundles["2.0.0"])
    old = repo.pointer.read_bytes()
    keys.renew(repo.keys, replace=["timestamp"])
    repo.change()
    repo.ask()
    repo.pointer.write_bytes(old)
    (repo.path / "roots/2.root.json").unlink()
    with pytest.raises(PosagentError, match="repository_rollback"):
        repo.ask()


def test_another_channel_and_exchanged_keys_count_anew(repo: Repository, desk: Desk) -> None:
    repo.publish(desk.bundles["2.0.0"])
    first = repo.ask().seen
    keys.renew(repo.keys, replace=["timestamp"])
    repo.change()
    realm, serial, root = repo.ask().seen.split()
    assert (realm != first.split()[0], root) == (True, "2")
    repo.seen = f"{'0' * 16} {1 << 52} 2"
    assert repo.ask().seen == f"{realm} {serial} 2"


def test_what_somebody_has_put_into_the_repository_is_never_signed(repo: Repository, desk: Desk) -> None:
    told = repo.publish(desk.bundles["2.0.0"], percent=5)
    repo.edit(version="6.6.6", rollout=told["rollout"] | {"percent": 100, "forced": True, "serial": 1 << 52})
    signed = repo.change(stopped=True)
    assert (signed["version"], signed["rollout"]["percent"], signed["rollout"]["forced"]) == ("2.0.0", 5, False)
    assert signed["rollout"]["serial"] < 1 << 40
    with pytest.raises(PosagentError, match="has not signed"):
        repo.change(channel="canary")


def test_a_repository_that_was_lost_is_published_anew_and_heard(repo: Repository, desk: Desk) -> None:
    repo.publish(desk.bundles["2.0.0"])
    repo.ask()
    shutil.rmtree(repo.path)
    for own in repo.keys.glob("channel-*"):
        own.unlink()
    repo.publish(desk.bundles["2.0.0"])
    assert repo.ask().deployment is not None


def test_a_channel_that_terminals_follow_is_not_left_unsigned(repo: Repository, desk: Desk) -> None:
    repo.publish(desk.bundles["2.0.0"])
    with pytest.raises(PosagentError, match="signed"):
        repository.publish(desk.bundles["3.0.0"], repo.path)


@pytest.mark.parametrize("changes", [{"percent": 101.0}, {"days": 0}, {"days": 91}, {"poll_s": 0}, {"percent": "x"}])
def test_a_roll_out_that_cannot_be_is_refused_at_the_desk(
    repo: Repository, desk: Desk, changes: dict[str, Any]
) -> None:
    repo.publish(desk.bundles["2.0.0"])
    with pytest.raises(PosagentError, match="bad_request"):
        repo.change(**changes)


# whole terminals


class Collector(http.server.ThreadingHTTPServer):
    """Takes figures; the newest of each address."""

    def __init__(self) -> None:
        self.figures: dict[str, str] = {}
        super().__init__(("127.0.0.1", 0), _Taker)
        threading.Thread(target=self.serve_forever, daemon=True).start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"


class _Taker(http.server.BaseHTTPRequestHandler):
    server: Collector

    def log_message(self, *_: object) -> None:
        return None

    def do_POST(self) -> None:
        self.server.figures[self.path] = self.rfile.read(int(self.headers["Content-Length"])).decode()
        self.send_response(204)
        self.end_headers()


@pytest.fixture
def collector() -> Iterator[Collector]:
    made = Collector()
    yield made
    made.shutdown()
    made.server_close()


@pytest.fixture
def terminal(lab: Lab, collector: Collector, request: pytest.FixtureRequest) -> Iterator[SimulatedTerminal]:
    made = lab.terminal(
        f"c{zlib.crc32(request.node.name.encode())}",
        fleet_kind="repository",
        metrics_url=f"{collector.url}/import?extra_label=terminal={{terminal}}",
    )
    yield made
    made.down()


def outcomes(terminal: SimulatedTerminal) -> list[Any]:
    return [(one["outcome"], one["version"]) for one in terminal.ask("history")["history"]]


@pytest.mark.real
def test_a_terminal_follows_its_channel_through_a_roll_out_a_stop_and_a_version_that_fails(
    lab: Lab, terminal: SimulatedTerminal, collector: Collector
) -> None:
    name = terminal.layout.settings.terminal
    good = lab.bundle("2.4.0", noisy(lab, "2.4.0"))
    told = repository.publish(good, lab.repository, keys_dir=lab.keys, percent=0, poll_s=1)
    heard = terminal.wait(lambda status: status["fleet"]["heard_at"] and not status["fleet"]["code"], 30)
    assert heard["fleet"]["sleep_s"] == 1 and outcomes(terminal) == []
    repository.change(lab.repository, keys_dir=lab.keys, percent=place(name, told["sha256"]) + 0.01)
    terminal.wait(lambda status: (status["last_outcome"] or {}).get("version") == "2.4.0", 60)
    assert outcomes(terminal) == [("committed", "2.4.0")]
    bad = lab.bundle("2.4.1", noisy(lab, "2.4.1", broken="a fault"))
    repository.publish(bad, lab.repository, keys_dir=lab.keys)
    terminal.wait(lambda status: (status["last_outcome"] or {}).get("version") == "2.4.1", 60)
    polled = terminal.ask("status")["fleet"]["heard_at"]
    status = terminal.wait(lambda status: status["fleet"]["heard_at"] > polled + 3, 60)
    assert status["state"] == "idle", "what has failed is not tried again"
    assert outcomes(terminal) == [("committed", "2.4.0"), ("rolled_back", "2.4.1")]
    repository.change(lab.repository, keys_dir=lab.keys, again=True)
    terminal.wait(lambda _: len(outcomes(terminal)) == 3, 60)
    mine = f"/import?extra_label=terminal={name}"
    line = (
        'posagent_last_update_info{outcome="rolled_back",code="selftest_failed",version="2.4.1",from_version="2.4.0"} 1'
    )
    terminal.wait(lambda _: line in collector.figures[mine], 30)
    assert list(collector.figures) == [mine]
    words = [sys.executable, "-m", "posagent.cli", "--socket", str(terminal.layout.api), "metrics"]
    assert line in subprocess.run(words, capture_output=True, text=True, check=True).stdout
