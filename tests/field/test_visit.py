"""Visits to one terminal, from the first question to the record, over the real line and in virtual time."""

from __future__ import annotations

import hashlib
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from posagent.console import auth
from posagent.console.access import SessionLimits
from posagent.core.errors import PosagentError
from posagent.core.ports import Message
from posagent.field.parcel import Parcels
from posagent.field.signing import Engineer
from posagent.field.visit import PATIENCE_S, Plan
from posagent.release import bundle
from posagent.sim import layout
from posagent.sim.inprocess import InProcessTerminal
from tests.conftest import HARDWARE, Desk
from tests.console.engineers import certify, make_key
from tests.field.bench import Bench


@pytest.fixture
def bench(in_process: Callable[..., InProcessTerminal]) -> Bench:
    return Bench(in_process())


@pytest.fixture
def plan(desk: Desk, tmp_path: Path) -> Callable[..., Plan]:
    """To version 2.0.0, or with another bundle, by an engineer for the role update only."""
    key = certify(desk.keys / "engineer-ca", make_key(tmp_path / "engineer"))

    def make(path: Path | None = None, **how: object) -> Plan:
        parcels = Parcels(path or desk.bundles["2.0.0"], tmp_path)
        return Plan(**{"engineer": Engineer(key), "out": tmp_path, "parcels": parcels, **how})  # type: ignore[arg-type]

    return make


def outcomes(bench: Bench) -> list[tuple[str, str]]:
    return [(str(one["outcome"]), str(one["version"])) for one in bench.terminal.ask("history")["history"]]


def test_a_visit_updates_a_terminal_and_writes_it_down(bench: Bench, plan: Callable[..., Plan], desk: Desk) -> None:
    record = bench.visit(plan())
    assert (record["outcome"], record["before"], record["after"]) == ("committed", "1.0.0", "2.0.0")
    assert outcomes(bench) == [("committed", "2.0.0")]
    assert record["bytes_sent"] == desk.bundles["2.0.0"].stat().st_size
    assert bench.visit(plan())["outcome"] == "committed", "an ending is final"


def test_a_terminal_that_runs_the_version_is_not_even_unlocked(bench: Bench, plan: Callable[..., Plan]) -> None:
    bench.visit(plan())
    bench.new_diary()
    record = bench.visit(plan())
    assert (record["outcome"], record["after"], record["bytes_sent"]) == ("current", "2.0.0", 0)
    assert [phase["phase"] for phase in record["phases"]] == ["looking", "assessing"]
    assert len(outcomes(bench)) == 1


def test_an_engineer_of_another_house_is_refused(bench: Bench, plan: Callable[..., Plan], tmp_path: Path) -> None:
    stranger = certify(make_key(tmp_path / "other-ca"), make_key(tmp_path / "stranger"))
    record = bench.visit(plan(engineer=Engineer(stranger)))
    assert (record["outcome"], record["code"]) == ("refused", "unlock_refused")
    assert outcomes(bench) == [] and bench.terminal.situation.update is None


def test_a_bundle_for_other_hardware_fails_and_says_so(
    bench: Bench, plan: Callable[..., Plan], desk: Desk, tmp_path: Path
) -> None:
    other = bundle.build(
        desk.images["2.0.0"], version="2.0.0", compatible=["other"], keys_dir=desk.keys, out=tmp_path / "other"
    )
    record = bench.visit(plan(other))
    assert (record["outcome"], record["code"], record["after"]) == ("failed", "wrong_hardware", "1.0.0")


def test_a_version_that_fails_its_self_test_is_written_down_as_rolled_back(
    bench: Bench, plan: Callable[..., Plan], desk: Desk
) -> None:
    record = bench.visit(plan(desk.bundles["3.0.0"]))
    assert (record["outcome"], record["code"], record["after"]) == ("rolled_back", "selftest_failed", "1.0.0")
    assert record["support"].keys() == {"code"}, "of the terminal's own ticket; the certificate is not for the file"


def test_an_update_that_begun_before_is_followed_and_not_sent(
    bench: Bench, plan: Callable[..., Plan], desk: Desk
) -> None:
    bench.terminal.ask("update", source=str(desk.bundles["2.0.0"]))
    record = bench.visit(plan())
    assert (record["outcome"], record["after"], record["bytes_sent"]) == ("committed", "2.0.0", 0)
    assert len(outcomes(bench)) == 1


def test_another_update_under_way_refuses_ours(bench: Bench, plan: Callable[..., Plan], desk: Desk) -> None:
    bench.terminal.silent.add("write")
    bench.terminal.ask("update", source=str(desk.bundles["3.0.0"]))
    bench.terminal.run_until(lambda one: one.state.value == "install")
    record = bench.visit(plan())
    assert (record["outcome"], record["code"]) == ("refused", "busy")


def test_a_terminal_that_loses_its_power_as_the_update_begins_is_updated_once(
    bench: Bench, plan: Callable[..., Plan]
) -> None:
    cuts: list[float] = []

    def out() -> bool:
        if bench.terminal.situation.update is not None and not cuts:
            cuts.append(bench.monotonic())
            bench.terminal.boot()  # the answer is lost with all that the terminal knew of the conversation
        return False

    bench.out = out
    record = bench.visit(plan())
    assert cuts and (record["outcome"], record["after"]) == ("committed", "2.0.0")
    assert outcomes(bench) == [("committed", "2.0.0")]


@pytest.mark.parametrize("stage", ["sending", "download", "install", "activate", "selftest"])
def test_a_cable_that_is_out_for_minutes_costs_nothing_but_time(
    bench: Bench, plan: Callable[..., Plan], stage: str
) -> None:
    pulled: list[float] = []

    def out() -> bool:
        row = bench.diary.row()
        if not pulled and (bench.terminal.state.value == stage or (row.stage == stage and (row.part or 0) > 0.3)):
            pulled.append(bench.monotonic())
        return bool(pulled) and bench.monotonic() < pulled[0] + 300

    bench.out = out
    record = bench.visit(plan())
    assert pulled, "it was never in that stage"
    assert (record["outcome"], record["after"]) == ("committed", "2.0.0")
    assert outcomes(bench) == [("committed", "2.0.0")]


def test_a_terminal_that_waits_for_long_is_not_lost(bench: Bench, plan: Callable[..., Plan]) -> None:
    layout.set_power(bench.terminal.layout, battery=20, mains=False)
    began = bench.monotonic()

    def out() -> bool:
        if bench.monotonic() > began + 1500:
            layout.set_power(bench.terminal.layout, battery=80, mains=True)
        return False

    bench.out = out
    record = bench.visit(plan())
    assert (record["outcome"], record["after"]) == ("committed", "2.0.0")
    (gate,) = record["gates"]
    assert gate["gate"] == "power_install" and 1200 < gate["seconds"] < 1800


def test_a_session_that_is_over_before_the_file_is_there_is_unlocked_again(
    in_process: Callable[..., InProcessTerminal], plan: Callable[..., Plan]
) -> None:
    bench = Bench(in_process(), limits=SessionLimits(session_s_max=5.0))
    record = bench.visit(plan())
    spent = {phase["phase"]: phase["seconds"] for phase in record["phases"]}
    assert spent["sending"] > 10 and (record["outcome"], record["problems"]) == ("committed", [])


def test_a_terminal_that_never_comes_back_is_lost(bench: Bench, plan: Callable[..., Plan]) -> None:
    bench.out = lambda: bench.diary.row().stage == "install" or bench.diary.row().ended
    record = bench.visit(plan())
    assert (record["outcome"], record["code"]) == ("lost", "line_lost")
    assert bench.monotonic() > PATIENCE_S
    bench.terminal.run_until(lambda one: one.state.value == "idle")
    assert outcomes(bench) == [("committed", "2.0.0")], "it goes on without the laptop"


def test_where_a_delta_that_fits_is_not_enough_all_of_the_bundle_is_sent(
    bench: Bench, plan: Callable[..., Plan], desk: Desk, tmp_path: Path
) -> None:
    bench.terminal.ask("update", source=str(desk.bundles["2.0.0"]))
    bench.terminal.run_to_idle()
    both = bundle.build(
        desk.images["1.0.0"],
        version="5.0.0",
        compatible=[HARDWARE],
        keys_dir=desk.keys,
        sources=[desk.images["2.0.0"]],
        out=tmp_path / "5.bundle",
    )
    noise = (desk.tree / "application").read_bytes()
    for name in "ab":  # what is made from, and what lies in the other slot already
        slot = bench.terminal.layout.slot(name)
        worn = slot.read_bytes()
        at = worn.index(noise[:4096])
        slot.write_bytes(worn[: at + 5000] + bytes([worn[at + 5000] ^ 1]) + worn[at + 5001 :])
    record = bench.visit(plan(both))
    assert [problem["code"] for problem in record["problems"]] == ["bundle_partial"]
    assert (record["outcome"], record["bytes_sent"]) == ("committed", both.stat().st_size)


def test_a_terminal_from_the_factory_for_which_no_delta_is_made_is_sent_more(
    bench: Bench, plan: Callable[..., Plan], desk: Desk, tmp_path: Path
) -> None:
    foreign = tmp_path / "foreign"
    image = desk.images["2.0.0"].read_bytes()
    foreign.write_bytes(image[:-4096] + bytes(4095) + b"x")
    path = bundle.build(
        desk.images["2.0.0"],
        version="2.0.0",
        compatible=[HARDWARE],
        keys_dir=desk.keys,
        sources=[foreign],
        out=tmp_path / "2.bundle",
    )
    record = bench.visit(plan(path))
    assert [problem["code"] for problem in record["problems"]] == ["bundle_partial"]
    assert (record["outcome"], record["before"], record["after"]) == ("committed", "1.0.0", "2.0.0")
    assert record["bytes_sent"] < path.stat().st_size


class Supporting:
    """The terminal's API, with a verb that makes support bundles of these bytes."""

    def __init__(self, terminal: InProcessTerminal, path: Path) -> None:
        self._terminal = terminal
        self._path = path
        self.busy = 2
        """So many times a bundle is being made already."""

    def call(
        self, verb: str, args: dict[str, Any], reply: Callable[[Message], None], caller: str
    ) -> Callable[[], None]:
        if verb != "support":
            return self._terminal.api.call(verb, args, reply, caller)
        if self.busy:
            self.busy -= 1
            reply({"error": PosagentError("busy").as_dict()})
        else:
            sha256 = hashlib.sha256(self._path.read_bytes()).hexdigest()
            made = {"path": str(self._path), "size": self._path.stat().st_size, "sha256": sha256, "code": "7K3F-9QTN"}
            reply({"result": made})
        return lambda: None


@pytest.mark.parametrize(("size", "busy_s"), [(300, 0.5), (40_000, 0.0)])
def test_where_it_did_not_end_well_a_support_bundle_is_fetched(
    in_process: Callable[..., InProcessTerminal],
    plan: Callable[..., Plan],
    desk: Desk,
    engineer: Engineer,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    size: int,
    busy_s: float,
) -> None:
    monkeypatch.setitem(auth.ROLES, "support", frozenset({"support"}))
    (tmp_path / "sealed").write_bytes(random.Random(size).randbytes(size))
    terminal = in_process()
    bench = Bench(terminal, api=Supporting(terminal, tmp_path / "sealed"))
    bench.busy_s = busy_s  # all of a small one may come at once
    record = bench.visit(plan(desk.bundles["3.0.0"], engineer=engineer, out=tmp_path / "out"))
    assert (record["outcome"], record["problems"]) == ("rolled_back", [])
    assert record["support"] == {"code": "7K3F-9QTN", "file": "t-support.bin"}
    assert (tmp_path / "out/t-support.bin").read_bytes() == (tmp_path / "sealed").read_bytes()
