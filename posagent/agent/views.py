"""How the agent's values look in the answers of the API: plain JSON values (docs/how-it-works.md shows them)."""

from __future__ import annotations

from typing import Any

from posagent.core.model import Gate, SlotView


def gate(seen: Gate) -> dict[str, Any]:
    return {
        "gate": seen.name,
        "needed_for": seen.needed_for.value,
        "open": seen.open,
        "reason": seen.reason,
        "reason_zh": seen.reason_zh,
        "remedy": seen.remedy,
        "remedy_zh": seen.remedy_zh,
    }


def closed_gate(seen: Gate) -> dict[str, Any]:
    """A closed gate as the reason why nothing happens."""
    return {
        "code": "gate_closed",
        "detail": seen.reason,
        "detail_zh": seen.reason_zh,
        "remedy": seen.remedy,
        "remedy_zh": seen.remedy_zh,
    }


def slot(name: str, view: SlotView, booted: str) -> dict[str, Any]:
    state = view.state
    if name == booted:
        state = "booted_trial" if view.unconfirmed else "booted"
    return {"version": view.version, "digest": view.digest, "state": state, "tries_left": view.tries_left}
