"""How long it will still take: seconds from measured rates, pure.

Units: seconds and bytes per second. Rates come from this terminal's own measurements in the journal; where there are
none yet, from cautious defaults.
"""

from __future__ import annotations

from posagent.core.model import Situation, State

DEFAULT_SECONDS = {State.ACTIVATE: 60.0, State.SELFTEST: 60.0, State.COMMIT: 5.0, State.ROLLBACK: 60.0}
DEFAULT_WRITE_BYTES_PER_S = 10e6

AHEAD = {
    State.INSTALL: (State.INSTALL, State.ACTIVATE, State.SELFTEST, State.COMMIT),
    State.ACTIVATE: (State.ACTIVATE, State.SELFTEST, State.COMMIT),
    State.SELFTEST: (State.SELFTEST, State.COMMIT),
    State.COMMIT: (State.COMMIT,),
    State.ROLLBACK: (State.ROLLBACK,),
}


def critical_s(situation: Situation) -> float | None:
    """Seconds until the critical section ends; None outside of it."""
    if situation.state not in AHEAD:
        return None
    return round(sum(_phase_s(situation, state) for state in AHEAD[situation.state]), 1)


def _phase_s(situation: Situation, state: State) -> float:
    measured = situation.measured.get(state.value, {})
    if state is State.INSTALL:
        return _install_s(situation)
    return measured.get("seconds", DEFAULT_SECONDS[state])


def _install_s(situation: Situation) -> float:
    update = situation.update
    measured = situation.measured.get(State.INSTALL.value, {})
    rate = measured["bytes"] / measured["seconds"] if measured.get("seconds") else DEFAULT_WRITE_BYTES_PER_S
    if update is None:
        return 0.0
    remaining = update.bytes_total - update.bytes_done if update.bytes_total else update.image_size
    return max(remaining, 0) / max(rate, 1.0)
