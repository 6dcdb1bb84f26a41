"""The agent's state as figures for the estate's monitoring, in Prometheus' text format: pure.

Owns: names, units and meanings of the figures; docs/fleet.md lists them. A name never changes its meaning.
Rules: no sample has a time of its own: the receiver's clock counts, because a terminal's may be years off; moments are
told as ages in seconds. What is unknown is left out, never 0. Labels have few values, and none names a person or a
card.
Source: Prometheus exposition formats, text format 0.0.4.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from posagent.core.words import State

LABEL_CHARACTERS_MAX = 80
NUMBER_MAX = 1e15
HELP: Mapping[str, str] = {
    "posagent_info": "1, with what runs here",
    "posagent_state": "1 for the state that the agent is in, 0 for the others",
    "posagent_critical": "1 while the update must not be interrupted",
    "posagent_expected_seconds": "until the critical section ends",
    "posagent_update_remaining_seconds": "of the update under way, in half of all cases",
    "posagent_update_outage_seconds": "of it, without payments",
    "posagent_update_bytes_refetched": "that the update under way had to fetch again",
    "posagent_gate_open": "whether this condition of an update is met",
    "posagent_problems": "how many troubles there are that belong to no update",
    "posagent_problem": "1 for each of them",
    "posagent_slot_tries_left": "that the bootloader has for this slot",
    "posagent_battery_percent": "charge of the battery",
    "posagent_charging": "whether it is being charged",
    "posagent_last_update_info": "1, with how the last update ended",
    "posagent_last_update_age_seconds": "since its end",
    "posagent_last_update_phase_seconds": "that each of its phases took",
    "posagent_last_update_power_cycles": "starts after a power loss during it",
    "posagent_fleet_failures": "requests to the fleet server that failed in a row",
    "posagent_fleet_letters": "messages that it has not acknowledged yet",
    "posagent_fleet_heard_age_seconds": "since it was heard of last",
}


def text(status: Mapping[str, Any], now_s: float) -> str:
    """Of the answer to `status`, at that moment of the same clock."""
    told: dict[str, list[str]] = {}
    for name, labels, value in _samples(status, now_s):
        number = _number(value)
        if number is not None:
            shown = ",".join(f'{key}="{_escaped(one)}"' for key, one in labels.items())
            told.setdefault(name, []).append(f"{name}{{{shown}}} {number}" if shown else f"{name} {number}")
    lines = [line for name, samples in told.items() for line in _family(name, samples)]
    return "\n".join([*lines, ""])


def _family(name: str, samples: list[str]) -> Iterator[str]:
    yield f"# HELP {name} {HELP[name]}"
    yield f"# TYPE {name} gauge"
    yield from samples


def _samples(status: Mapping[str, Any], now_s: float) -> Iterator[tuple[str, Mapping[str, Any], Any]]:
    slots = status.get("slots") or {}
    booted = str(status.get("booted") or "")
    running = slots.get(booted) or {}
    info = {"version": running.get("version", ""), "agent": status.get("agent_version", ""), "slot": booted}
    yield "posagent_info", info, 1
    for state in State:
        yield "posagent_state", {"state": state.value}, int(status.get("state") == state.value)
    yield "posagent_critical", {}, status.get("critical")
    yield "posagent_expected_seconds", {}, status.get("expected_s")
    forecast, update = status.get("estimate") or {}, status.get("update") or {}
    yield "posagent_update_remaining_seconds", {}, (forecast.get("total") or {}).get("p50")
    yield "posagent_update_outage_seconds", {}, (forecast.get("outage") or {}).get("p50")
    yield "posagent_update_bytes_refetched", {}, update.get("bytes_refetched")
    for gate in status.get("gates") or ():
        yield "posagent_gate_open", {"gate": gate.get("gate", "")}, gate.get("open")
    codes = sorted({str(one.get("code", ""))[:LABEL_CHARACTERS_MAX] for one in status.get("problems") or ()})
    yield "posagent_problems", {}, len(codes)
    for code in codes:
        yield "posagent_problem", {"code": code}, 1
    for name, slot in sorted(slots.items()):
        yield "posagent_slot_tries_left", {"slot": name}, slot.get("tries_left")
    power = status.get("power") or {}
    yield "posagent_battery_percent", {}, power.get("battery_percent")
    yield "posagent_charging", {}, power.get("charging")
    yield from _last(status.get("last_outcome") or {}, now_s)
    fleet = status.get("fleet") or {}
    yield "posagent_fleet_failures", {}, fleet.get("failures")
    yield "posagent_fleet_letters", {}, fleet.get("letters")
    if fleet.get("heard_at"):
        yield "posagent_fleet_heard_age_seconds", {}, _age(fleet["heard_at"], now_s)


def _last(outcome: Mapping[str, Any], now_s: float) -> Iterator[tuple[str, Mapping[str, Any], Any]]:
    if not outcome:
        return
    names = ("outcome", "code", "version", "from_version")
    yield "posagent_last_update_info", {name: outcome.get(name, "") for name in names}, 1
    yield "posagent_last_update_age_seconds", {}, _age(outcome.get("at"), now_s)
    record = outcome.get("record") or {}
    for phase, seconds in (record.get("phases") or {}).items():
        yield "posagent_last_update_phase_seconds", {"phase": phase}, seconds
    yield "posagent_last_update_power_cycles", {}, record.get("power_cycles", 0)


def _age(at: Any, now_s: float) -> float | None:
    """None where the clock was set meanwhile."""
    return round(now_s - at, 1) if isinstance(at, int | float) and now_s >= at else None


def _number(value: Any) -> str | None:
    """None of what is no number, or none that means anything."""
    if not isinstance(value, bool | int | float) or not abs(value) < NUMBER_MAX:
        return None
    return f"{int(value)}" if value == int(value) else f"{value:.6f}".rstrip("0")


def _escaped(value: Any) -> str:
    plain = "".join(one if one.isprintable() else " " for one in str(value)[:LABEL_CHARACTERS_MAX])
    return plain.replace("\\", "\\\\").replace('"', '\\"')
