"""Support bundles and the ladder of help on a simulated terminal: what the person in front of it is told, and when."""

from __future__ import annotations

import base64
import errno
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from posagent import texts
from posagent.agent.support import KEPT_MAX
from posagent.core import envelope
from posagent.core.errors import PosagentError
from posagent.core.model import State
from posagent.core.ports import Message
from posagent.core.spoken import heard
from posagent.platform.storage import LinuxFiles
from posagent.release import keys
from posagent.sim.inprocess import InProcessTerminal
from posagent.sim.layout import set_power
from tests.agent.conftest import Lies
from tests.conftest import Desk

Make = Callable[..., InProcessTerminal]
NO_ROUTE: Message = {"error": {"code": "fetch_network", "detail": "no route to host"}}


def bundles(terminal: InProcessTerminal) -> list[Path]:
    return sorted((terminal.layout.state / "support").glob("*"))


def contents(path: Path, desk: Desk) -> dict[str, Any]:
    text = envelope.opened(path.read_bytes(), keys.vendor_pem(desk.keys / "vendor.pem"))
    value: dict[str, Any] = json.loads(text)
    return value


def asked(terminal: InProcessTerminal, **args: Any) -> dict[str, Any]:
    """The answer to `support`."""
    told: list[Message] = []
    terminal.api.call("support", args, told.append, "somebody")
    terminal.run_until(lambda _: bool(told))
    if "error" in told[0]:
        raise PosagentError.from_dict(told[0]["error"])
    answer: dict[str, Any] = told[0]["result"]
    return answer


def ticket(terminal: InProcessTerminal) -> Any:
    terminal.settle()
    outcome = terminal.situation.last_outcome
    assert outcome is not None
    return outcome.get("ticket")


# asked for


def test_whoever_asks_gets_a_file_and_a_code_that_can_be_read_out(in_process: Make, desk: Desk) -> None:
    terminal = in_process()
    terminal.settle()
    answer = asked(terminal, file=True, checks=[{"check": "power.battery", "level": "fault", "detail": "no battery"}])
    path = Path(answer["path"])
    assert heard(answer["code"]) == answer["code"] and answer["code"] in path.name
    assert path.read_bytes() == base64.b64decode(answer["file"]) and answer["size"] == path.stat().st_size
    parts = contents(path, desk)["parts"]
    assert json.loads(parts["status.json"])["booted"] == "a" and json.loads(parts["slots.json"])["order"] == ["a"]
    assert json.loads(parts["checks.json"])["findings"][0]["check"] == "power.battery"
    assert json.loads(parts["power.json"])["battery_percent"] == 80
    assert "file" not in asked(terminal)


def test_the_last_three_are_kept_and_leftovers_are_removed(in_process: Make) -> None:
    terminal = in_process()
    terminal.settle()
    codes = [asked(terminal)["code"]]
    (terminal.layout.state / "support/000009-AAAA-AAAA.bundle.new").write_bytes(b"cut off")
    codes += [asked(terminal)["code"] for _ in range(KEPT_MAX)]
    assert [path.name[7:16] for path in bundles(terminal)] == codes[-KEPT_MAX:]


def test_one_bundle_at_a_time(in_process: Make) -> None:
    terminal, told = in_process(), list[Message]()
    terminal.settle()
    terminal.api.call("support", {}, told.append, "somebody")
    with pytest.raises(PosagentError) as caught:
        terminal.ask("support")
    assert caught.value.code == "busy"
    terminal.run_until(lambda _: bool(told))
    assert "result" in told[0] and "code" in asked(terminal)


def test_a_bundle_is_made_in_the_middle_of_an_update_and_does_not_disturb_it(in_process: Make, desk: Desk) -> None:
    terminal = in_process()
    terminal.ask("update", source=str(desk.bundles["2.0.0"]))
    terminal.run_until(lambda one: one.state is State.INSTALL)
    path = Path(asked(terminal)["path"])
    assert json.loads(contents(path, desk)["parts"]["status.json"])["state"] in ("install", "activate")
    assert terminal.run_to_idle()["outcome"] == "committed"


def test_checks_without_end_are_refused(in_process: Make) -> None:
    terminal = in_process()
    with pytest.raises(PosagentError) as caught:
        asked(terminal, checks=["x" * 50_000])
    assert caught.value.code == "bad_request"


NO_ANSWERS: tuple[Any, ...] = ({}, [], None, {"file": "?", "code": "7K3M-Q2XA", "sha256": "", "redacted": 0})
NONSENSE: tuple[Message, ...] = (
    *({"result": answer} for answer in NO_ANSWERS),
    {"result": {"file": "", "code": "../../../etc", "sha256": "", "redacted": 0}},
    {"result": {"file": "", "code": "7K3M-Q2XA", "sha256": "", "redacted": True}},
    {"error": {"code": "worker_lost", "detail": "gone"}},
)


@pytest.mark.parametrize("nonsense", NONSENSE)
def test_a_worker_that_talks_nonsense_makes_no_bundle(nonsense: Message, lies: Lies, in_process: Make) -> None:
    terminal = in_process()
    terminal.settle()
    lies["make"] = nonsense
    with pytest.raises(PosagentError) as caught:
        asked(terminal)
    assert caught.value.code == "support_failed" and bundles(terminal) == []
    lies.clear()
    assert asked(terminal)["code"]


def test_a_worker_that_hangs_is_given_up(in_process: Make) -> None:
    terminal = in_process()
    terminal.settle()
    terminal.silent.add("make")
    with pytest.raises(PosagentError, match="not done after 60 s"):
        asked(terminal)
    terminal.silent.clear()
    assert asked(terminal)["code"]


class FullDisk(LinuxFiles):
    full = False

    def write(self, path: str, offset: int, data: bytes) -> None:
        if self.full and "/support/" in path:
            raise OSError(errno.ENOSPC, "No space left on device")
        super().write(path, offset, data)


def test_a_full_disk_costs_the_bundle_and_nothing_else(in_process: Make, desk: Desk) -> None:
    files = FullDisk()
    terminal = in_process(files)
    terminal.settle()
    files.full = True
    with pytest.raises(PosagentError, match="No space left"):
        asked(terminal)
    terminal.ask("update", source=str(desk.bundles["3.0.0"]))
    assert terminal.run_to_idle()["outcome"] == "rolled_back"
    assert ticket(terminal) is None and "support_failed" in terminal._engine.problems
    told = terminal.ask("status")["help"]
    assert told["step"] == 5 and "selftest_failed" in told["text"], "service can still be called"
    files.full = False
    terminal.start_agent()
    assert ticket(terminal) is not None and terminal.ask("status")["problems"] == []


# tickets


def test_an_update_that_failed_has_a_ticket_by_itself_and_everybody_is_told_its_code(
    in_process: Make, desk: Desk
) -> None:
    terminal = in_process()
    terminal.ask("update", source=str(desk.bundles["3.0.0"]))
    outcome = terminal.run_to_idle()
    made = ticket(terminal)
    assert (made["reason"], made["id"]) == ("selftest_failed", outcome["id"]) and made["at"] > outcome["at"]
    (path,) = bundles(terminal)
    assert made["code"] in path.name
    parts = contents(path, desk)["parts"]
    assert "missing parameters" in parts["situation.json"] or "Connection refused" in parts["situation.json"]
    for answer in (terminal.ask("status"), terminal.ask("why")):
        assert (answer["help"]["name"], answer["help"]["who"]) == ("ticket", "service")
        assert made["code"] in answer["help"]["text"] and answer["last_outcome"]["ticket"] == made
    for lang in ("en", "zh"):
        for lines in (
            texts.status_lines(terminal.ask("status"), lang),
            texts.why_lines(terminal.ask("why"), lang),
            texts.history_lines(terminal.ask("history"), lang),
        ):
            assert any(made["code"] in line for line in lines)


def test_a_ticket_is_made_once_and_stays_over_restarts_and_the_next_update(in_process: Make, desk: Desk) -> None:
    terminal = in_process()
    terminal.ask("update", source=str(desk.bundles["3.0.0"]))
    terminal.run_to_idle()
    made = ticket(terminal)
    terminal.boot()
    terminal.settle()
    assert ticket(terminal) == made and len(bundles(terminal)) == 1
    terminal.ask("update", source=str(desk.bundles["4.0.0"]))
    assert terminal.ask("status")["help"] is None, "another update is under way"
    assert terminal.run_to_idle()["outcome"] == "rolled_back"
    assert ticket(terminal)["reason"] == "boot_failed" and ticket(terminal)["code"] != made["code"]
    assert terminal.ask("history")["history"][0]["ticket"] == made and len(bundles(terminal)) == 2


def test_a_ticket_that_a_power_cut_took_is_made_at_the_next_start(in_process: Make, desk: Desk) -> None:
    terminal = in_process()
    terminal.ask("update", source=str(desk.bundles["3.0.0"]))
    terminal.run_to_idle()
    assert terminal._support.busy
    terminal.boot()
    assert ticket(terminal)["reason"] == "selftest_failed"
    assert len(bundles(terminal)) == 1


def test_a_ticket_waits_for_a_bundle_that_somebody_asked_for(in_process: Make, desk: Desk) -> None:
    terminal, told = in_process(), list[Message]()
    terminal.ask("update", source=str(desk.bundles["3.0.0"]))
    terminal.run_to_idle()
    terminal.silent.add("make")
    terminal.api.call("support", {}, told.append, "somebody")
    terminal.silent.clear()
    terminal.run_until(lambda _: bool(told))
    assert told[0]["error"]["code"] == "support_failed"
    assert ticket(terminal)["reason"] == "selftest_failed"


@pytest.mark.parametrize("what", ["cancelled", "missing file", "committed"])
def test_what_needs_no_service_has_no_ticket(what: str, in_process: Make, desk: Desk) -> None:
    terminal = in_process()
    set_power(terminal.layout, battery=80 if what == "committed" else 20, mains=False)
    terminal.ask("update", source=str(desk.bundles["2.0.0"]) if what != "missing file" else "/none/2.bundle")
    if what == "cancelled":
        terminal.run_until(lambda one: one.state is State.READY)
        terminal.ask("cancel")
    terminal.run_to_idle()
    assert ticket(terminal) is None and terminal.ask("status")["help"] is None and bundles(terminal) == []


def test_without_a_vendors_key_there_are_no_tickets_and_asking_says_why(in_process: Make, desk: Desk) -> None:
    terminal = in_process()
    text = terminal.layout.config.read_text()
    terminal.layout.config.write_text(text.replace('vendor_key_file = "', 'vendor_key_file = ""\n# "'))
    bare = InProcessTerminal(terminal.layout)
    bare.boot()
    bare.ask("update", source=str(desk.bundles["3.0.0"]))
    bare.run_to_idle()
    assert ticket(bare) is None and bundles(bare) == [] and bare.ask("status")["problems"] == []
    told = bare.ask("why")["help"]
    assert told["step"] == 5 and "selftest_failed" in told["text"]
    with pytest.raises(PosagentError) as caught:
        asked(bare)
    assert caught.value.code == "support_no_key"
    bare.time.end()


# the ladder


def test_a_terminal_without_network_climbs_the_ladder_step_by_step_and_ends_with_a_ticket(
    in_process: Make, desk: Desk, lies: Lies
) -> None:
    terminal = in_process()
    lies["fetch"] = NO_ROUTE
    lies["probe"] = {
        "result": {
            "steps": [
                {"step": "link", "ok": True, "detail": "eth0", "ms": 1},
                {"step": "dns", "ok": False, "detail": "updates.example.com: no answer", "ms": 5},
            ]
        }
    }
    told: list[dict[str, Any]] = []
    terminal.api.call("watch", {}, lambda message: told.append(message["progress"]), "somebody")
    terminal.ask("update", source=str(desk.bundles["2.0.0"]))
    outcome = terminal.run_to_idle()
    steps = [status["help"] for status in told if status["help"] is not None]
    assert list(dict.fromkeys(one["step"] for one in steps)) == [1, 2, 4, 5]
    assert "no answer" not in steps[0]["text"], "not looked at yet"
    assert all("dns: updates.example.com: no answer" in one["text"] for one in steps if one["step"] in (2, 4))
    assert (outcome["code"], outcome["steps"]) == ("fetch_network", ["network", "resume", "other_way"])
    assert ticket(terminal)["reason"] == "fetch_network"
    for lang in ("en", "zh"):
        lines = texts.why_lines(terminal.ask("why"), lang)
        assert any(ticket(terminal)["code"] in line for line in lines)
        assert any(name in line for line in lines for name in ("another way in", "其他途径"))


def test_the_network_is_not_looked_at_while_all_is_well(in_process: Make, desk: Desk, lies: Lies) -> None:
    terminal = in_process()
    lies["probe"] = {"error": {"code": "internal", "detail": "must not be asked"}}
    terminal.ask("update", source=str(desk.bundles["2.0.0"]))
    told: list[Any] = []
    terminal.api.call("watch", {}, lambda message: told.append(message["progress"]["help"]), "somebody")
    assert terminal.run_to_idle()["outcome"] == "committed"
    assert set(told) == {None}


@pytest.mark.parametrize(
    "probe",
    [
        None,
        {"result": {"steps": []}},
        {"result": {"steps": "x"}},
        {"result": {}},
        {"error": {"code": "worker_lost"}},
        {"result": {"steps": [{"step": "link", "ok": True, "detail": "", "ms": 1}]}},
        {"result": {"steps": [{"step": "dns", "ok": False, "code": "fetch_pointer", "detail": "none", "ms": 1}]}},
    ],
)
def test_whatever_comes_of_looking_at_the_network_the_next_attempt_is_made(
    probe: Message | None, in_process: Make, desk: Desk, lies: Lies
) -> None:
    terminal = in_process()
    if probe is not None:
        lies["probe"] = probe
    lies["fetch"] = NO_ROUTE
    terminal.ask("update", source=str(desk.bundles["2.0.0"]))
    terminal.run_until(lambda one: one.situation.attempts.get("fetch", 0) == 2)
    terminal.run_until(lambda one: one.situation.attempts.get("fetch", 0) == 3)
    assert "(" not in terminal.ask("status")["help"]["text"], "nothing is known to be wrong"
    del lies["fetch"]
    assert terminal.run_to_idle()["outcome"] == "committed"
    assert terminal.situation.last_outcome is not None and "steps" not in terminal.situation.last_outcome


def test_a_download_that_does_not_get_on_gives_way_to_a_stick_and_not_before(
    in_process: Make, desk: Desk, lies: Lies
) -> None:
    terminal = in_process()
    lies["fetch"] = NO_ROUTE
    first = terminal.ask("update", source="https://updates.example.com/2.bundle")["id"]
    terminal.run_until(lambda one: one.situation.attempts.get("fetch", 0) == 3)
    with pytest.raises(PosagentError) as caught:
        terminal.ask("update", source=str(desk.bundles["2.0.0"]))
    assert caught.value.code == "busy"
    terminal.run_until(lambda one: (one.situation.failure or {}).get("step") == "other_way")
    for same in ("", "https://updates.example.com/2.bundle"):
        with pytest.raises(PosagentError) as caught:
            terminal.ask("update", source=same)
        assert caught.value.code == "busy"
    lies.clear()
    terminal.ask("update", source=str(desk.bundles["2.0.0"]))
    assert terminal.ask("status")["help"] is None
    assert terminal.run_to_idle()["outcome"] == "committed"
    (given_up, _) = terminal.ask("history")["history"]
    assert (given_up["id"], given_up["outcome"], given_up["code"]) == (first, "cancelled", "superseded")


def test_a_bundle_that_came_damaged_is_fetched_again_and_the_merchant_is_told(
    in_process: Make, desk: Desk, lies: Lies
) -> None:
    terminal = in_process()
    lies["plan"] = {"error": {"code": "bundle_unreadable", "detail": "not a tar file"}}
    terminal.ask("update", source=str(desk.bundles["2.0.0"]))
    terminal.run_until(lambda one: one.situation.failure is not None)
    told = terminal.ask("status")["help"]
    assert (told["step"], told["name"], told["who"]) == (3, "again", "terminal")
    assert "step 3 of 5" in texts.progress_line(terminal.ask("status"), "en")
    lies.clear()
    assert terminal.run_to_idle()["outcome"] == "committed"
