"""What is explored: bundles and how they behave, bootloaders, power, what the operator does."""

from __future__ import annotations

from dataclasses import dataclass

from posagent.agent.journal import BYTES_MAX

BACK = "back"


@dataclass(frozen=True, slots=True, kw_only=True)
class Scenario:
    """One thing that happens to a terminal.

    `goals` are the versions the operator asks for, one after the other, and `ends` the outcomes that follow when
    nothing but power cuts happens. `bootloader` is one of posagent.crash.bootloaders.KINDS. With one try each number of
    power cuts is explored soonest; more tries repeat the step, which `three-tries` shows, and start a version once more
    that is being given up. A `small_spool` has no room for all of the payload. So many of the goals are reached
    `already`, before any power cut; BACK among them is an engineer's return to the version in the other slot, which
    fails its test then where it `broke_since`. With `tickets` an update that failed gets a support bundle. With
    `payments` there is a merchant, whose data is backed up and migrated, and who gets parameters.
    """

    name: str
    goals: tuple[str, ...]
    ends: tuple[str, ...]
    bootloader: str = "counting"
    tries_full: int = 1
    over_http: bool = False
    intrudes: bool = False
    cancels: bool = False
    power_changes: bool = False
    small_spool: bool = False
    journal_bytes_max: int = BYTES_MAX
    already: int = 0
    broke_since: bool = False
    tickets: bool = False
    payments: bool = False


SCENARIOS = {
    scenario.name: scenario
    for scenario in (
        Scenario(name="good", goals=("2.0.0",), ends=("committed",)),
        Scenario(name="good-one-try", goals=("2.0.0",), ends=("committed",), bootloader="one-try"),
        Scenario(name="three-tries", goals=("2.0.0",), ends=("committed",), tries_full=3),
        Scenario(name="good-bootcount", tries_full=2, goals=("2.0.0",), ends=("committed",), bootloader="bootcount"),
        Scenario(name="panic", goals=("3.0.0-panic",), ends=("rolled_back",)),
        Scenario(name="panic-one-try", goals=("3.0.0-panic",), ends=("rolled_back",), bootloader="one-try"),
        Scenario(name="hang", goals=("3.0.0-hang",), ends=("rolled_back",)),
        Scenario(name="agent-dead", goals=("3.0.0-agent-dead",), ends=("rolled_back",)),
        Scenario(name="test-fails", goals=("3.0.0-test-fails",), ends=("rolled_back",)),
        Scenario(name="fails-2-tries", goals=("3.0.0-test-fails",), ends=("rolled_back",), tries_full=2),
        Scenario(name="test-hangs", goals=("3.0.0-test-hangs",), ends=("rolled_back",)),
        Scenario(name="there-and-back", goals=("2.0.0", "2.1.0"), ends=("committed", "committed")),
        Scenario(name="after-a-failure", goals=("2.0.0", "3.0.0-test-fails"), ends=("committed", "rolled_back")),
        Scenario(name="resumed-download", goals=("2.0.0",), ends=("committed",), over_http=True),
        Scenario(name="streamed", goals=("2.0.0",), ends=("committed",), small_spool=True),
        Scenario(name="second-request", goals=("2.0.0",), ends=("committed",), intrudes=True),
        Scenario(name="power-gate", goals=("2.0.0",), ends=("committed",), power_changes=True),
        Scenario(name="cancel", goals=("2.0.0",), ends=("committed",), cancels=True),
        Scenario(
            name="engineer-back",
            goals=("1.1.0", BACK),
            ends=("committed", "committed"),
            already=1,
            power_changes=True,
        ),
        Scenario(
            name="engineer-2-tries",
            goals=("1.1.0", BACK),
            ends=("committed", "committed"),
            already=1,
            tries_full=2,
        ),
        Scenario(
            name="engineer-no-way",
            goals=("1.1.0", BACK),
            ends=("committed", "rolled_back"),
            already=1,
            broke_since=True,
        ),
        Scenario(name="ticket", goals=("3.0.0-test-fails",), ends=("rolled_back",), tickets=True),
        Scenario(name="money", goals=("2.0.0",), ends=("committed",), payments=True),
        Scenario(name="money-back", goals=("3.0.0-test-fails",), ends=("rolled_back",), payments=True),
        Scenario(name="parameters", goals=("p-1",), ends=("committed",), payments=True),
        Scenario(
            name="parameters-bad", goals=("p-1", "p-3-bad"), ends=("committed", "rolled_back"), already=1, payments=True
        ),
        Scenario(
            name="parameters-image", goals=("p-1", "2.2.0"), ends=("committed", "committed"), already=1, payments=True
        ),
        Scenario(
            name="parameters-back",
            goals=("p-1", "3.0.1-test-fails"),
            ends=("committed", "rolled_back"),
            already=1,
            payments=True,
        ),
        Scenario(name="compaction", goals=("2.0.0",), ends=("committed",), journal_bytes_max=8192),
    )
}
