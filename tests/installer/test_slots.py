"""The slots: what may be written, started, confirmed or given up, and that no power cut gets between."""

from __future__ import annotations

import itertools
from collections.abc import Callable

import pytest

from posagent.core.errors import PosagentError
from posagent.core.ports import BootState
from posagent.crash.medium import ALL, Medium, PowerCut, RuleBroken
from posagent.installer.slots import SlotRecord, Slots, SlotState
from posagent.sim import bootloader

DIR = "/data/installer"
NEW = SlotRecord(version="2.0.0", digest="d" * 64, size=4096, counter=7, update_id="u")


def slots_of(medium: Medium, **changes: object) -> Slots:
    values: dict[str, object] = {"tries_full": 3, "running_version": "1.0.0", **changes}
    return Slots(medium.files, DIR, medium.boot, **values)  # type: ignore[arg-type]


def refusal(action: Callable[..., object], *args: object) -> str:
    with pytest.raises(PosagentError) as caught:
        action(*args)
    return caught.value.code


def reboot(medium: Medium) -> str:
    """What the bootloader starts now."""
    booted = None
    while booted is None:
        booted = bootloader.choose(medium.boot.read, medium.boot.store)
    medium.booted = booted
    return booted


def write(slots: Slots, medium: Medium, new: SlotRecord = NEW) -> None:
    device = medium.slot("b", 4096)
    slots.begin_write("b", new)
    if device.pread(0, 4096) != b"2" * 4096:
        device.pwrite(0, b"2" * 4096)
        device.flush()
    slots.complete("b")


@pytest.fixture
def medium() -> Medium:
    return Medium()


@pytest.fixture
def slots(medium: Medium) -> Slots:
    return slots_of(medium)


@pytest.fixture
def on_trial(medium: Medium, slots: Slots) -> Slots:
    """Slot b was written, armed and started."""
    write(slots, medium)
    slots.arm("b")
    assert reboot(medium) == "b"
    return slots


def test_a_terminal_from_the_factory_runs_a_good_slot_and_has_a_bad_one(slots: Slots) -> None:
    seen = slots.observe()
    assert seen["booted"] == "a" and seen["order"] == ["a"] and seen["floor"] == 0
    assert seen["slots"]["a"] == {
        "state": "good",
        "version": "1.0.0",
        "digest": "",
        "size": 0,
        "counter": 0,
        "tries_left": 3,
        "booted": True,
        "unconfirmed": False,
    }
    assert (seen["slots"]["b"]["state"], seen["slots"]["b"]["unconfirmed"]) == ("bad", False)
    assert seen["contradictions"] == []


def test_looking_changes_nothing(medium: Medium, slots: Slots) -> None:
    slots.observe()
    assert medium.done == []


def test_an_update_passes_through_all_states(medium: Medium, slots: Slots) -> None:
    def state() -> str:
        return str(slots.observe()["slots"]["b"]["state"])

    slots.begin_write("b", NEW)
    assert (state(), medium.boot.read()) == ("writing", BootState(order=("a",), tries={"a": 3, "b": 0}))
    slots.complete("b")
    assert (state(), medium.boot.read().order) == ("complete", ("a",))
    slots.arm("b")
    assert medium.boot.read() == BootState(order=("b", "a"), tries={"a": 3, "b": 3})
    assert medium.files.size(f"{DIR}/trial-b") is not None
    reboot(medium)
    seen = slots.observe()["slots"]["b"]
    assert (seen["unconfirmed"], seen["tries_left"], seen["version"]) == (True, 2, "2.0.0")
    slots.mark_good()
    seen = slots.observe()
    assert (seen["slots"]["b"]["unconfirmed"], seen["slots"]["b"]["state"], seen["floor"]) == (False, "good", 0)
    assert medium.boot.read() == BootState(order=("b", "a"), tries={"a": 3, "b": 3})
    assert medium.files.size(f"{DIR}/trial-b") is None
    slots.refresh()
    assert slots.floor() == 7


def test_a_failed_trial_goes_back_and_stays_back(medium: Medium, on_trial: Slots) -> None:
    on_trial.mark_bad("b")
    assert reboot(medium) == "a"
    on_trial.mark_good()
    for _ in range(5):
        assert reboot(medium) == "a"
    seen = on_trial.observe()
    assert (seen["slots"]["b"]["state"], seen["floor"], seen["contradictions"]) == ("bad", 0, [])
    assert medium.files.size(f"{DIR}/trial-b") is None


def test_a_refilling_bootloader_never_starts_a_half_written_slot(medium: Medium, slots: Slots) -> None:
    slots.begin_write("b", NEW)
    assert {reboot(medium) for _ in range(20)} == {"a"}


@pytest.mark.parametrize("verb", ["mark_good", "refresh"])
def test_confirming_again_changes_nothing(verb: str, medium: Medium, on_trial: Slots) -> None:
    getattr(on_trial, verb)()
    done = len(medium.done)
    getattr(on_trial, verb)()
    assert len(medium.done) == done


def test_marking_good_refills_the_tries_that_the_start_took(medium: Medium, slots: Slots) -> None:
    reboot(medium)
    assert medium.boot.read().tries["a"] == 2
    slots.mark_good()
    assert medium.boot.read().tries["a"] == 3


def test_marking_good_takes_back_an_arming(medium: Medium, slots: Slots) -> None:
    write(slots, medium)
    slots.arm("b")
    slots.mark_good()
    assert reboot(medium) == "a"


# going back to a version that was good before


@pytest.fixture
def updated(medium: Medium, on_trial: Slots) -> Slots:
    """Slot b is good and runs; slot a, from the factory, is good too, and its image no older."""
    on_trial.mark_good()
    return on_trial


def test_the_other_good_version_goes_on_trial_again_and_both_stay_good(medium: Medium, updated: Slots) -> None:
    updated.arm("a")
    assert reboot(medium) == "a"
    seen = updated.observe()["slots"]
    assert (seen["a"]["state"], seen["a"]["unconfirmed"], seen["b"]["state"]) == ("complete", True, "good")
    updated.mark_good()
    seen = updated.observe()
    assert (seen["order"], seen["slots"]["a"]["state"], seen["slots"]["b"]["state"]) == (["a", "b"], "good", "good")


def test_a_trial_of_a_good_version_that_was_never_started_is_called_off(medium: Medium, updated: Slots) -> None:
    updated.arm("a")
    updated.disarm("a")
    seen = updated.observe()
    assert (seen["order"], seen["slots"]["a"]["state"]) == (["b", "a"], "good")
    assert medium.files.size(f"{DIR}/trial-a") is None
    assert reboot(medium) == "b"
    updated.disarm("a")
    updated.refresh()
    assert updated.observe()["order"] == ["b", "a"], "it is still the fall-back"


def test_a_version_that_was_never_good_does_not_become_so_by_calling_its_trial_off(
    medium: Medium, slots: Slots
) -> None:
    write(slots, medium)
    slots.arm("b")
    assert refusal(slots.disarm, "b") == "slot_not_complete"
    assert slots.observe()["slots"]["b"]["state"] == "complete"
    assert refusal(slots.disarm, "a") == "slot_is_booted"


def test_what_is_written_anew_was_never_good(medium: Medium, updated: Slots) -> None:
    updated.arm("a")
    updated.disarm("a")
    updated.begin_write("a", NEW)
    updated.complete("a")
    assert refusal(updated.disarm, "a") == "slot_not_complete"


def test_a_power_cut_anywhere_in_calling_off_leaves_what_can_be_called_off_again() -> None:
    for cut in itertools.count(1):
        for lost in FATES:
            medium = Medium()
            slots = slots_of(medium)
            write(slots, medium)
            slots.arm("b")
            reboot(medium)
            slots.mark_good()
            slots.arm("a")
            medium.cut_at = len(medium.done) + cut
            try:
                slots.disarm("a")
            except PowerCut:
                medium.power_on(lost)
            else:
                assert cut > 5
                return
            medium.cut_at = None
            if reboot(medium) == "b":
                slots_of(medium).disarm("a")
                assert slots_of(medium).observe()["slots"]["a"]["state"] == "good"
            else:  # nothing of it was durable yet: the trial goes on
                slots_of(medium).mark_good()
            assert slots_of(medium).observe()["slots"]["b"]["state"] == "good"


def test_the_image_from_the_factory_is_no_older_than_the_floor_that_it_brings(medium: Medium) -> None:
    slots = slots_of(medium, floor_min=7)
    write(slots, medium)
    slots.arm("b")
    reboot(medium)
    slots.mark_good()
    slots.refresh()
    assert (slots.floor(), slots.observe()["slots"]["a"]["counter"]) == (7, 7)
    slots.arm("a")


# what is refused


def test_the_running_slot_is_never_written_nor_armed(slots: Slots) -> None:
    assert refusal(slots.begin_write, "a", NEW) == "slot_is_booted"
    assert refusal(slots.arm, "a") == "slot_is_booted"


@pytest.mark.parametrize("name", ["c", "", "../a", "A"])
def test_a_slot_that_does_not_exist_is_refused(slots: Slots, name: str) -> None:
    for action in (slots.target, slots.arm, slots.mark_bad):
        assert refusal(action, name) == "slot_missing"


def test_only_a_complete_slot_is_armed(medium: Medium, slots: Slots) -> None:
    assert refusal(slots.arm, "b") == "slot_not_complete"
    slots.begin_write("b", NEW)
    assert refusal(slots.arm, "b") == "slot_not_complete"
    assert medium.boot.read().order == ("a",)


def test_a_slot_below_the_floor_is_not_armed(medium: Medium, slots: Slots) -> None:
    write(slots, medium)
    assert refusal(slots_of(medium, floor_min=8).arm, "b") == "counter_too_low"
    slots_of(medium, floor_min=7).arm("b")


def test_the_fall_back_of_a_trial_is_not_written(on_trial: Slots) -> None:
    assert refusal(on_trial.begin_write, "a", NEW) == "busy"


def test_the_last_good_slot_is_not_marked_bad(medium: Medium, slots: Slots) -> None:
    assert refusal(slots.mark_bad, "a") == "slot_not_complete"
    write(slots, medium)
    assert refusal(slots.mark_bad, "a") == "slot_not_complete"
    assert medium.boot.read().tries["a"] == 3


def test_a_half_written_slot_that_somehow_runs_is_not_confirmed(medium: Medium, slots: Slots) -> None:
    slots.begin_write("b", NEW)
    medium.booted = "b"
    seen = slots.observe()
    assert seen["slots"]["b"]["unconfirmed"] and seen["contradictions"] == ["slot b runs although it is writing"]
    assert refusal(slots.mark_good) == "slot_not_complete"
    slots.mark_bad("b")
    assert reboot(medium) == "a"


def test_a_full_data_partition_is_reported(medium: Medium, slots: Slots, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(type(medium.files), "write", full)
    assert refusal(slots.begin_write, "b", NEW) == "slot_io"


# the floor


def test_the_floor_only_rises_and_the_largest_copy_counts(medium: Medium, on_trial: Slots) -> None:
    assert slots_of(medium, floor_min=3).floor() == 3
    on_trial.mark_good()
    assert on_trial.floor() == 0, "the agent has not journalled the commit yet"
    on_trial.refresh()
    assert (on_trial.floor(), slots_of(medium, floor_min=3).floor(), slots_of(medium, floor_min=9).floor()) == (7, 7, 9)
    for name in ("floor.json", "floor-copy.json"):
        medium.files.truncate(f"{DIR}/{name}", 3)
        assert on_trial.floor() == 7
        assert on_trial.observe()["contradictions"] == ["a copy of the rollback floor is damaged"]
        on_trial.refresh()
        assert on_trial.observe()["contradictions"] == []


# records that are missing or lie


@pytest.mark.parametrize(
    "text",
    [
        b"",
        b"{",
        b"[]",
        b'{"format":2,"slots":{}}',
        b'{"format":1,"slots":[]}',
        b'{"format":1,"slots":{"a":{}}}',
        b'{"format":1,"slots":{"a":{"state":"splendid"},"b":{}}}',
        b'{"format":1,"slots":{"a":{"counter":"7"},"b":{}}}',
        b'{"format":1,"slots":{"a":{"state":["good"]},"b":{}}}',
    ],
)
def test_damaged_records_leave_the_running_slot_good_and_are_reported(
    medium: Medium, on_trial: Slots, text: bytes
) -> None:
    on_trial.mark_good()
    medium.files.truncate(f"{DIR}/slots.json", 0)
    medium.files.write(f"{DIR}/slots.json", 0, text)
    seen = on_trial.observe()
    assert [seen["slots"][name]["state"] for name in "ab"] == ["good", "good"]
    assert seen["contradictions"] == ["the slot records are damaged; the running slot counts as good"]
    on_trial.mark_good()
    assert on_trial.observe()["contradictions"] == []


def test_a_trial_whose_records_are_lost_is_still_a_trial(medium: Medium, on_trial: Slots) -> None:
    medium.files.unlink(f"{DIR}/slots.json")
    seen = on_trial.observe()["slots"]
    assert (seen["a"]["state"], seen["b"]["unconfirmed"]) == ("good", True)
    on_trial.mark_bad("b")
    assert reboot(medium) == "a"


def test_an_armed_slot_does_not_count_as_good_when_the_records_are_lost(medium: Medium, slots: Slots) -> None:
    write(slots, medium)
    slots.arm("b")
    medium.files.unlink(f"{DIR}/slots.json")
    assert slots.observe()["slots"]["b"]["state"] == "bad"
    assert refusal(slots.arm, "b") == "slot_not_complete"


def test_a_trial_can_be_given_up_when_the_data_partition_fails(
    medium: Medium, on_trial: Slots, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object) -> None:
        raise OSError(5, "Input/output error")

    for verb in ("read", "write", "size"):
        monkeypatch.setattr(type(medium.files), verb, broken)
    assert on_trial.observe()["booted"] == "b"
    assert refusal(on_trial.mark_bad, "b") == "slot_io"
    assert reboot(medium) == "a"


def test_records_of_a_later_release_are_understood_as_far_as_they_go(medium: Medium, slots: Slots) -> None:
    text = b'{"format":1,"more":1,"slots":{"a":{"state":"good","version":"9","colour":"red"},"b":{}}}'
    medium.files.make_dir(DIR)
    medium.files.write(f"{DIR}/slots.json", 0, text)
    assert slots.observe()["slots"]["a"]["version"] == "9"


def test_a_fall_back_from_a_good_slot_is_reported(medium: Medium, on_trial: Slots) -> None:
    on_trial.mark_good()
    medium.booted = "a"
    assert on_trial.observe()["contradictions"] == ["slot a runs although slot b is good and first in the boot order"]


# power cuts


def whole_update(medium: Medium, slots: Slots) -> None:
    """What the agent asks for in a good update, from wherever the terminal stands."""
    seen = slots.observe()
    if seen["booted"] == "a" and seen["slots"]["a"]["state"] == "good":
        slots.refresh()
        if seen["slots"]["b"]["state"] != "complete":
            write(slots, medium)
        slots.arm("b")
        reboot(medium)
    slots.mark_good()
    slots.refresh()


def failed_update(medium: Medium, slots: Slots) -> None:
    """The same, but the trial fails."""
    seen = slots.observe()
    if seen["booted"] == "a":
        slots.refresh()
        write(slots, medium)
        slots.arm("b")
        reboot(medium)
    slots.mark_bad("b")
    reboot(medium)


FATES = [ALL, ALL - {"names"}, ALL - {"size"}, ALL - {"content"}, ALL - {"slot"}, frozenset[str]()]


def bootable(medium: Medium) -> None:
    """Whatever the bootloader would start holds a whole system."""
    state = medium.boot.read()
    started = [name for name in state.order if state.tries[name] > 0]
    assert started
    if "b" in started:
        assert medium.slot("b", 4096).pread(0, 4096) == b"2" * 4096


def cut_run(act: Callable[[Medium, Slots], None], cuts: tuple[int, int], lost: frozenset[str]) -> Medium | None:
    """Act with the power cut before that many operations each time, then once without; None where no cut fell."""
    medium, fell = Medium(), 0
    for cut in cuts:
        medium.cut_at = len(medium.done) + cut
        try:
            act(medium, slots_of(medium))
        except PowerCut:
            fell += 1
            medium.power_on(lost)
            bootable(medium)
            reboot(medium)
    medium.cut_at = None
    act(medium, slots_of(medium))
    return medium if fell else None


@pytest.mark.parametrize("lost", FATES, ids=lambda lost: "+".join(sorted(lost)) or "nothing")
@pytest.mark.parametrize("act", [whole_update, failed_update], ids=lambda act: str(act.__name__))
def test_two_power_cuts_anywhere_leave_a_terminal_that_ends_as_if_there_were_none(
    act: Callable[[Medium, Slots], None], lost: frozenset[str]
) -> None:
    for first in itertools.count(1):
        for second in range(1, 40, 3):
            ended = cut_run(act, (first, second), lost)
            if ended is None:
                assert first > 30
                return
            bootable(ended)
            seen = slots_of(ended).observe()
            if act is whole_update:
                assert (seen["booted"], seen["slots"]["b"]["state"], seen["floor"]) == ("b", "good", 7)
            else:
                assert (seen["booted"], seen["order"], seen["floor"]) == ("a", ["a"], 0)
            assert ended.files.names(DIR) == sorted({*ended.files.names(DIR)} - {"trial-a", "trial-b"})
            assert seen["contradictions"] == []


def test_the_medium_catches_who_starts_a_slot_whose_data_is_not_flushed(medium: Medium, slots: Slots) -> None:
    slots.begin_write("b", NEW)
    medium.slot("b", 4096).pwrite(0, b"2")
    slots.complete("b")
    with pytest.raises(RuleBroken, match="not flushed"):
        slots.arm("b")


def test_states_are_those_the_agent_knows() -> None:
    assert {state.value for state in SlotState} == {"good", "bad", "writing", "complete"}
