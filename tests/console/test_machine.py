"""Programs on the serial line: what they may ask, when it is locked, and what is left when they go."""

from __future__ import annotations

import tracemalloc
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from posagent.console.access import OPEN_VERBS, SessionLimits
from posagent.console.auth import ROLES, Proof
from posagent.console.conversation import QUESTIONS_MAX, WATCHING
from posagent.console.machine import BACKLOG_BYTES_END
from posagent.core.errors import PosagentError
from posagent.core.frames import Frame, Kind, encode
from posagent.core.model import State
from posagent.core.ports import Message
from posagent.core.talk import REQUEST_BYTES_MAX, SILENCE_S, bulk_message, json_message, read
from posagent.field.link import LineLost
from posagent.sim.inprocess import InProcessTerminal
from posagent.sim.layout import set_power
from tests.conftest import Desk
from tests.console.visit import Visit

Visits = Callable[..., Visit]

# into the mode and out of it


def test_a_line_of_text_leads_into_the_mode_and_says_which_terminal_it_is(visit: Visit) -> None:
    assert "machine 1 pos-0001\r\n" in visit.human("machine 1\r")
    assert visit.human("status\r") == "", "it is deaf for words now"


def test_another_version_in_the_line_of_text_is_refused_in_words(visit: Visit) -> None:
    for text in ("machine\r", "machine 2\r", "machine 1 2\r"):
        assert "[machine_version]" in visit.human(text)
    assert "terminal: t" in visit.human("status\r")


def test_a_session_for_people_does_not_unlock_programs_nor_the_other_way_round(visit: Visit) -> None:
    visit.unlock()
    assert visit.code("history") == ""
    visit.laptop.close()
    assert "locked" in visit.human("history\r")


def test_a_program_that_says_goodbye_leaves_a_locked_prompt(visit: Visit) -> None:
    visit.unlock()
    visit.laptop.close()
    visit.line.sleep(0.5)
    assert visit.locked()
    assert visit.human("") == "posagent> "


def test_a_program_that_is_silent_for_half_a_minute_leaves_a_locked_prompt(visit: Visit) -> None:
    visit.unlock()
    visit.line.sleep(SILENCE_S - 1)
    assert not visit.locked() and visit.human("why\r") == ""
    visit.line.sleep(2)
    assert visit.locked()
    assert visit.human("\r").endswith("posagent> ")
    assert "locked" in visit.human("history\r")


def test_without_a_program_behind_it_the_line_of_text_costs_half_a_minute(visit: Visit) -> None:
    visit.human("machine 1\r")
    visit.line.sleep(SILENCE_S)
    assert "terminal: t" in visit.human("status\r")


def test_whoever_unlocked_by_hand_locks_by_going_over_to_a_program(visit: Visit) -> None:
    visit.human("\r")
    visit.line.console.human._access._unlock("look", Proof(name="Li Wei"))
    assert "no update yet" in visit.human("history\r")
    visit.laptop.connect()
    assert visit.line.console.human._access.session is None
    visit.laptop.close()
    assert "locked" in visit.human("history\r")


def test_what_a_person_has_pasted_half_does_not_reach_the_program_nor_whoever_comes_after(visit: Visit) -> None:
    visit.human("stat")
    assert visit.laptop.call("hello")["terminal"] == "pos-0001"
    visit.laptop.close()
    assert "[unknown_verb]" in visit.human("us\r")


# what may be asked


def test_locked_it_shows_what_everybody_may_see(visit: Visit) -> None:
    assert visit.laptop.call("status")["terminal"] == "t"
    assert visit.laptop.call("why")["why"] == []
    assert "status" in visit.laptop.call("help")["verbs"]
    assert visit.laptop.call("hello") == {"terminal": "pos-0001", "version": 1, "session": None}
    assert (visit.laptop.terminal_id, visit.laptop.version) == ("pos-0001", 1)


def test_locked_it_refuses_everything_else(visit: Visit, desk: Desk) -> None:
    asked: Mapping[str, dict[str, Any]] = {
        **{verb: {} for verb in ("check", "history", "cancel", "defer", "confirm")},
        "update": {"source": str(desk.bundles["2.0.0"])},
        "upload": {"name": "x", "size": 1, "sha256": "0" * 64},
    }
    assert {verb: visit.code(verb, **args) for verb, args in asked.items()} == dict.fromkeys(asked, "not_allowed")
    assert visit.terminal.state is State.IDLE
    assert not Path(visit.line.console.inbox.directory).exists()


def test_what_is_no_verb_here_is_refused(visit: Visit) -> None:
    for unlocked in (False, True):
        if unlocked:
            visit.unlock()
        for verb in ("payment", "reboot", "sh", "machine", "_lock", "__init__", "", "x" * 500):
            assert visit.code(verb) == "unknown_verb", (unlocked, verb)


def test_an_engineer_unlocks_with_the_key_and_may_what_the_role_may(visit: Visit) -> None:
    assert visit.unlock("look") == {"name": "Li Wei", "role": "look", "session_s": 900}
    assert visit.laptop.call("history") == {"history": []}
    assert visit.code("update", source="/x") == "not_allowed"
    assert visit.laptop.call("hello")["session"]["role"] == "look"
    visit.laptop.call("logout")
    assert visit.code("history") == "not_allowed"


def test_a_wrong_signature_unlocks_nothing_and_the_next_challenge_waits(visit: Visit) -> None:
    with pytest.raises(PosagentError, match="unlock_refused"):
        visit.laptop.unlock("update", visit.sign("look"))
    assert visit.locked() and visit.code("unlock", role="update") == "unlock_wait"
    for args in ({}, {"role": 7}, {"role": "root"}):
        visit.line.sleep(3)
        assert visit.code("unlock", **args) == "bad_request"
    for signature in (None, 7, "x" * 9000):
        assert visit.code("answer", signature=signature) == "bad_request"
    assert visit.code("answer", signature="x") == "unlock_expired"


def test_the_session_ends_by_time_although_the_program_stays(visits: Visits) -> None:
    visit = visits(limits=SessionLimits(session_s_max=60, idle_s_max=40))
    visit.unlock()
    visit.laptop.tend(41)
    assert visit.locked() and visit.states[-1] == "locked"
    assert visit.code("history") == "not_allowed"
    visit.unlock()
    for _ in range(7):
        visit.laptop.tend(9)
        visit.laptop.call("status")
    assert visit.locked() and visit.states[-1] == "locked"


def test_the_number_of_commands_is_bounded(visits: Visits) -> None:
    visit = visits(limits=SessionLimits(actions_max=2))
    visit.unlock()
    assert [visit.code("history") for _ in range(4)] == ["", "", "not_allowed", "not_allowed"]


def test_an_update_is_named_after_the_engineer(visit: Visit, desk: Desk) -> None:
    visit.unlock()
    visit.laptop.call("update", {"source": str(desk.bundles["2.0.0"])})
    update = visit.terminal.situation.update
    assert update is not None and update.requested_by == "console Li Wei"


# a whole visit


def test_a_bundle_is_uploaded_installed_and_followed_through_the_restart(visit: Visit, desk: Desk) -> None:
    visit.unlock()
    path = visit.laptop.upload(desk.bundles["2.0.0"])["path"]
    seen: list[dict[str, Any]] = []
    started = visit.laptop.call("update", {"source": path})
    found = visit.laptop.follow(started["id"], seen.append)
    assert found["outcome"]["outcome"] == "committed" and found["outcome"]["version"] == "2.0.0"
    assert {"download", "install"} <= {status["state"] for status in seen}
    assert visit.terminal.ask("status")["booted"] == "b"
    assert not list(Path(path).parent.glob("*.bundle")), "it was moved into the spool, not copied"
    assert visit.locked(), "the new version knows of no session"


def test_cancelling_is_refused_while_the_slot_is_written(visit: Visit, desk: Desk) -> None:
    visit.unlock()
    visit.laptop.call("update", {"source": str(desk.bundles["2.0.0"])})
    visit.run_until(State.INSTALL)
    with pytest.raises(PosagentError) as caught:
        visit.laptop.call("cancel")
    assert caught.value.code == "critical_section" and caught.value.facts["expected_s"] > 0


# hang-up


ARGS: Mapping[str, dict[str, Any]] = {
    "follow": {"id": "u1"},
    "update": {"source": ""},
    "unlock": {"role": "update"},
    "answer": {"signature": "x"},
    "allow": {"bundle": f"sha256:{'0' * 64}"},
    "hang_up": {"id": 1},
    "upload": {"name": "x.bundle", "size": 50_000, "sha256": "0" * 64},
    "download": {"what": "support"},
}
VERBS = sorted({*OPEN_VERBS, *WATCHING, *ARGS, "hello", *(verb for verbs in ROLES.values() for verb in verbs)})


class Unhurried:
    """question.Api of the terminal, whose answers come half a second later: time to hang up in between."""

    def __init__(self, terminal: InProcessTerminal) -> None:
        self._terminal = terminal

    def call(
        self, verb: str, args: dict[str, Any], reply: Callable[[Message], None], caller: str
    ) -> Callable[[], None]:
        hang_ups: list[Callable[[], None]] = []

        def begin() -> None:
            hang_ups.append(self._terminal.api.call(verb, args, reply, caller))

        hang_ups.append(self._terminal.time.call_later(0.5, begin).cancel)

        def hang_up() -> None:
            for one in hang_ups:
                one()

        return hang_up


@pytest.mark.parametrize(("after_s", "noticed"), [(0.001, False), (0.6, True)], ids=["at once", "an adapter, later"])
@pytest.mark.parametrize("verb", VERBS)
def test_a_hang_up_in_the_midst_of_a_verb_leaves_a_clean_locked_line_and_no_trace_in_an_update(
    visits: Visits, desk: Desk, verb: str, after_s: float, noticed: bool
) -> None:
    visit = visits(api=Unhurried)
    set_power(visit.terminal.layout, battery=20, mains=False)
    started: str = visit.terminal.ask("update", source=str(desk.bundles["2.0.0"]))["id"]
    visit.run_until(State.READY)
    visit.unlock("support" if verb in ("support", "download") else "rollback")
    visit.laptop._ask(verb, ARGS.get(verb, {}), 5.0)
    if verb == "upload":
        visit.laptop._cable.send(bulk_message(0, bytes(9_000)))
    visit.laptop._cable.turn(after_s)
    before = visit.terminal.situation.update
    visit.line.pull(noticed=noticed)
    visit.line.sleep(SILENCE_S + 1)
    visit.line.plug_in()
    assert visit.locked()
    assert visit.human("\r").endswith("posagent> ") and "locked" in visit.human("history\r")
    now = visit.terminal.situation.update
    if verb == "cancel" and now is None:
        assert visit.terminal.situation.outcomes[-1]["outcome"] == "cancelled"  # it had arrived
        return
    assert before is not None and now is not None and (now.id, now.source) == (before.id, before.source)
    other = visit.another_laptop()
    assert other.call("hello")["session"] is None
    assert visit.code("history", other) == "not_allowed"
    set_power(visit.terminal.layout, battery=90, mains=True)
    if now.deferred_until:
        visit.terminal.time.let_pass(3700)
    assert other.follow(started, lambda _: None)["outcome"]["outcome"] == "committed"


def test_a_hang_up_while_the_slot_is_written_changes_nothing(visit: Visit, desk: Desk) -> None:
    visit.unlock()
    name = visit.laptop.call("update", {"source": str(desk.bundles["2.0.0"])})["id"]
    visit.run_until(State.INSTALL)
    visit.line.pull()
    visit.line.sleep(5)
    visit.line.plug_in()
    assert visit.laptop.follow(name, lambda _: None)["outcome"]["outcome"] == "committed"


# cables and resets


@pytest.mark.parametrize("noticed", [False, True], ids=["a bare line", "an adapter"])
def test_a_cable_pulled_for_less_than_half_a_minute_leaves_the_session_as_it_is(visit: Visit, noticed: bool) -> None:
    visit.unlock()
    visit.line.pull(noticed=noticed)
    visit.line.sleep(20)
    visit.line.plug_in()
    assert visit.code("history") == ""
    assert visit.states[-2:] == ["connecting", "resumed"]


def test_a_cable_pulled_for_longer_leaves_it_locked(visit: Visit) -> None:
    visit.unlock()
    visit.line.pull()
    visit.line.sleep(SILENCE_S + 1)
    visit.line.plug_in()
    assert visit.code("history") == "not_allowed"
    assert visit.states[-2:] == ["connecting", "connected"]


def test_another_laptop_on_the_cable_finds_it_locked_at_once(visit: Visit) -> None:
    visit.unlock()
    other = visit.another_laptop()
    assert visit.code("history", other) == "not_allowed" and visit.locked()


def test_an_answer_that_was_on_its_way_when_the_cable_was_pulled_comes_when_it_is_back(visit: Visit) -> None:
    visit.unlock()
    _, call = visit.laptop._ask("history", {}, 5.0)
    visit.laptop._cable.turn(0.001)
    visit.line.pull()
    visit.line.sleep(15)
    visit.line.plug_in()
    assert visit.laptop._next(call, None, 10.0) == {"history": []}


def test_a_terminal_that_starts_anew_is_found_again_and_what_looks_is_asked_again(visit: Visit) -> None:
    visit.unlock()
    visit.terminal.start_agent()
    assert visit.laptop.call("status")["state"] == "idle"
    assert visit.code("history") == "not_allowed"
    visit.terminal.start_agent()
    with pytest.raises(LineLost, match="forgotten"):
        visit.laptop.call("cancel")


def test_a_laptop_that_starts_anew_is_let_in_at_once_and_locked(visit: Visit) -> None:
    visit.unlock()
    other = visit.another_laptop()
    begun = visit.line.monotonic()
    assert visit.code("history", other) == "not_allowed"
    assert visit.line.monotonic() - begun < 1


def test_halves_of_frames_and_noise_in_between_are_ignored(visit: Visit) -> None:
    visit.unlock()
    end = visit.line.open()
    for data in (b"\0\x05half", b"\xff" * 5000, b"machine 1\r\rlogout\r", b"\0\0\0", bytes(range(256)) * 9):
        end.write(data)
        assert visit.code("history") == ""


def test_a_laptop_without_a_common_version_is_told_so(visit: Visit) -> None:
    newer = visit.another_laptop(versions=(2, 3))
    with pytest.raises(PosagentError) as caught:
        newer.connect()
    assert caught.value.code == "machine_version"
    assert "1 to 1" in caught.value.detail and "2 to 3" in caught.value.detail
    assert visit.laptop.call("status")["state"] == "idle"


# bounds


def raw(visit: Visit, value: dict[str, Any] | bytes, seconds: float = 1.0) -> list[Any]:
    """Send anything; whatever comes back."""
    heard: list[Any] = []
    visit.laptop.connect()
    cable = visit.laptop._cable
    before, cable._on_message = cable._on_message, lambda message: heard.append(read(message))
    try:
        cable.send(value if isinstance(value, bytes) else json_message(value))
        visit.laptop.tend(seconds)
    finally:
        cable._on_message = before
    return heard


@pytest.mark.parametrize(
    ("message", "code"),
    [
        (b"J{", "bad_request"),
        (b"J[1]", "bad_request"),
        (b"X", "bad_request"),
        (b"J" + b"[" * 5000, "bad_request"),
        (b"J" + b"x" * REQUEST_BYTES_MAX, "line_too_long"),
        ({}, "bad_request"),
        ({"id": 1}, "bad_request"),
        ({"id": -1, "verb": "status"}, "bad_request"),
        ({"id": True, "verb": "status"}, "bad_request"),
        ({"id": 1.5, "verb": "status"}, "bad_request"),
        ({"id": 2**31, "verb": "status"}, "bad_request"),
        ({"id": 1, "verb": 7}, "bad_request"),
        ({"id": 1, "verb": "status", "args": []}, "bad_request"),
        ({"id": 1, "verb": "follow", "args": {"id": []}}, "bad_request"),
        ({"id": 1, "verb": "follow", "args": {"id": {"a": None}}}, "bad_request"),
    ],
)
def test_what_is_no_request_is_answered_with_a_code(visit: Visit, message: Any, code: str) -> None:
    (answer,) = raw(visit, message, 3.0)
    assert answer["error"]["code"] == code
    assert visit.laptop.call("status")["state"] == "idle"


def test_pieces_of_a_file_that_nobody_announced_are_ignored(visit: Visit) -> None:
    assert raw(visit, bulk_message(0, b"x" * 5000)) == []
    visit.unlock()
    assert raw(visit, bulk_message(2**60, b"x" * 5000)) == []
    assert not Path(visit.line.console.inbox.directory).exists()


@pytest.mark.parametrize("baud", [9600, 921600])
def test_statuses_are_thinned_and_only_the_latest_waits_for_a_slow_line(visits: Visits, baud: int) -> None:
    visit = visits(baud=baud)
    _, call = visit.laptop._ask("watch", {}, 5.0)
    terminal, begun = visit.terminal, visit.line.monotonic()
    status = terminal.api.status
    terminal.api.status = lambda: {**status(), "told_at": visit.line.monotonic()}  # type: ignore[method-assign]
    heard: list[float] = []
    ages: list[float] = []
    while visit.line.monotonic() < begun + 20:
        terminal.api.changed()
        visit.laptop._cable.turn(0.01)
        while call.answers:
            told = call.answers.popleft()["progress"]
            heard.append(visit.line.monotonic())
            ages.append(heard[-1] - told.get("told_at", heard[-1]))
    on_the_line_s = len(json_message({"id": 1, "progress": terminal.api.status()})) * 10 / baud
    assert 20 / max(on_the_line_s, 0.5) * 0.5 < len(heard) <= 41, "the line is used, at most two a second"
    assert max(ages) < on_the_line_s + 1.0, "nothing older waits before the latest"


def test_the_outcome_comes_at_once_whatever_was_thinned(visit: Visit, desk: Desk) -> None:
    visit.unlock()
    set_power(visit.terminal.layout, battery=20, mains=False)
    name = visit.laptop.call("update", {"source": str(desk.bundles["2.0.0"])})["id"]
    visit.run_until(State.READY)
    _, call = visit.laptop._ask("follow", {"id": name}, 5.0)
    visit.laptop.call("cancel")
    while (found := visit.laptop._next(call, None, 5.0)) is None:
        pass
    assert found["outcome"]["outcome"] == "cancelled"


class Endless:
    """question.Api that answers nothing, or far too much."""

    def __init__(self, _: InProcessTerminal) -> None:
        self.open = 0

    def call(
        self, verb: str, args: dict[str, Any], reply: Callable[[Message], None], caller: str
    ) -> Callable[[], None]:
        if verb == "status":
            reply({"result": {"text": "x" * args.get("size", 1)}})
            return lambda: None
        self.open += 1
        return self._hung_up

    def _hung_up(self) -> None:
        self.open -= 1


def test_questions_are_bounded_and_can_be_given_up(visits: Visits) -> None:
    visit = visits(api=Endless)
    api: Any = visit.line.console._other_api
    numbers = [visit.laptop._ask("watch", {}, 5.0)[0] for _ in range(QUESTIONS_MAX)]
    assert visit.code("why") == "busy" and api.open == QUESTIONS_MAX
    visit.laptop.call("hang_up", {"id": numbers[0]})
    visit.laptop.call("hang_up", {"id": 12345})
    visit.laptop.call("hang_up", {"id": []})
    assert api.open == QUESTIONS_MAX - 1
    visit.laptop.close()
    visit.line.sleep(0.5)
    assert api.open == 0


def test_an_answer_too_long_for_the_line_is_an_error_and_not_a_flood(visits: Visits) -> None:
    visit = visits(api=Endless)
    assert visit.code("status", size=300_000) == "bad_request"
    assert len(visit.laptop.call("status", {"size": 50_000})["text"]) == 50_000


def test_whoever_asks_and_does_not_listen_is_told_to_wait_and_in_the_end_left_alone(visits: Visits) -> None:
    visit = visits(api=Endless)
    visit.laptop.connect()
    console = visit.line.console.current()
    machine, key = console.machine, visit.laptop._cable._guest._key
    backlogs = [0]
    tracemalloc.start()
    try:
        for number in range(5000):
            request = json_message({"id": number, "verb": "status", "args": {"size": 60_000}})
            console.feed(b"\0" + encode(Frame(Kind.LAST, number, payload=request), key))
            if machine._host is None or machine._host.link is None:
                break
            backlogs.append(machine._host.link.backlog)
        assert tracemalloc.get_traced_memory()[1] < 6 * BACKLOG_BYTES_END
    finally:
        tracemalloc.stop()
    assert 500 < number < 4999 and not machine.open
    assert BACKLOG_BYTES_END * 0.9 < max(backlogs) <= BACKLOG_BYTES_END + 70_000
    assert backlogs[3] - backlogs[2] < 1000, "it was told to wait after two"


# what ends with the session


class Slow:
    """question.Api of an agent whose repository takes its time: `check` and `update` are answered by `arrives`."""

    def __init__(self, terminal: InProcessTerminal) -> None:
        self._terminal = terminal
        self.waiting: list[str] = []
        self.begun: list[str] = []

    def call(
        self, verb: str, args: dict[str, Any], reply: Callable[[Message], None], caller: str
    ) -> Callable[[], None]:
        if verb not in ("check", "update", "watch"):
            return self._terminal.api.call(verb, args, reply, caller)
        self.waiting.append(verb)
        return lambda: self.waiting.remove(verb)


def test_what_needs_the_key_ends_with_the_session_and_what_does_not_goes_on(visits: Visits) -> None:
    visit = visits(api=Slow, limits=SessionLimits(idle_s_max=30))
    visit.unlock()
    calls = {verb: visit.laptop._ask(verb, {}, 5.0)[1] for verb in ("check", "update", "watch")}
    visit.laptop.tend(1)
    api: Any = visit.line.console._other_api
    assert sorted(api.waiting) == ["check", "update", "watch"]
    visit.laptop.tend(31)
    assert api.waiting == ["watch"]
    for verb in ("check", "update"):
        with pytest.raises(PosagentError, match="not_allowed: locked: idle"):
            visit.laptop._next(calls[verb], None, 1.0)
    assert not calls["watch"].over


def test_a_request_that_comes_before_the_timer_of_a_session_that_is_over_finds_it_locked(visits: Visits) -> None:
    visit = visits(limits=SessionLimits(session_s_max=4))
    visit.unlock()
    _, call = visit.laptop._ask("history", {}, 5.0)
    visit.terminal.time.let_pass(4)  # the agent was busy
    visit.line.console.feed(visit.laptop._cable._guest.poll(visit.line.monotonic()))
    assert visit.locked()
    with pytest.raises(PosagentError, match="not_allowed"):
        visit.laptop._next(call, None, 5.0)
    assert visit.states[-1] == "locked"


def test_logging_out_ends_what_was_asked_as_well(visits: Visits) -> None:
    visit = visits(api=Slow)
    visit.unlock()
    _, asked = visit.laptop._ask("update", {}, 5.0)
    visit.laptop.call("logout")
    api: Any = visit.line.console._other_api
    assert api.waiting == []
    with pytest.raises(PosagentError, match="not_allowed: locked: logged out"):
        visit.laptop._next(asked, None, 1.0)


def test_an_update_that_still_asks_for_its_offer_does_not_begin_after_a_cancel(visits: Visits) -> None:
    visit = visits(api=Slow)
    visit.unlock()
    _, asked = visit.laptop._ask("update", {}, 5.0)
    assert visit.code("cancel") == "nothing_to_cancel"
    api: Any = visit.line.console._other_api
    assert api.waiting == []
    with pytest.raises(PosagentError, match="cancelled"):
        visit.laptop._next(asked, None, 1.0)


class Busy:
    """ports.Worker of an installer that has no time."""

    def start(self, verb: str, args: Any, notify: Callable[[Message], None]) -> Busy:
        return Busy()

    def cancel(self) -> None: ...


def test_an_answer_that_is_still_looked_at_does_not_count_after_a_logout(visits: Visits) -> None:
    visit = visits(engineer=Busy())
    challenge = visit.laptop.call("unlock", {"role": "update"})["challenge"]
    _, first = visit.laptop._ask("answer", {"signature": visit.sign()(challenge)}, 5.0)
    visit.laptop.tend(0.5)
    visit.laptop.call("logout")
    with pytest.raises(PosagentError, match="not_allowed: locked: logged out"):
        visit.laptop._next(first, None, 1.0)
    visit.laptop.tend(3)  # it counts as a try
    challenge = visit.laptop.call("unlock", {"role": "update"})["challenge"]
    with pytest.raises(PosagentError, match="busy"):
        visit.laptop.call("answer", {"signature": visit.sign()(challenge)}, timeout_s=30)
