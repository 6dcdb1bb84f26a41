"""Going back to the version in the other slot: what is there, whether that may be, how it begins (docs/adr/0011)."""

from __future__ import annotations

import dataclasses
from typing import Any

from posagent.agent import status
from posagent.agent.engine import Engine
from posagent.core.errors import Refusal
from posagent.core.model import Event, Observation, Occurrence

NO_VERSION, FLOOR, DATA = "rollback_no_version", "rollback_floor", "rollback_data"
REFUSALS = (NO_VERSION, FLOOR, DATA)
SPOOL = "rollback"
"""Nothing is fetched: there is no such download."""


def beginning(engine: Engine, seen: Observation, name: str, caller: str) -> Occurrence:
    """The request, as an engineer makes it: it waits for no window."""
    other, running = seen.slots[seen.spare], seen.slots[seen.booted]
    begins = {
        "id": name,
        "source": "",
        "spool": SPOOL,
        "target": seen.spare,
        "previous": seen.booted,
        "version": other.version,
        "from_version": running.version,
        "digest": other.digest,
        "requested_at": round(engine.now(), 3),
        "requested_by": caller,
        "at_once": True,
        "goes_back": True,
    }
    return Occurrence(event=Event.ROLLBACK_REQUESTED, data={"begins": begins})


def refused(code: str, seen: Observation) -> Refusal:
    """Why not, with the versions and counters that say so."""
    slot, other, running = seen.spare, seen.slots[seen.spare], seen.slots[seen.booted]
    if code == NO_VERSION:
        return Refusal(code, f"slot {slot} is {other.state}", detail_zh=f"分区 {slot} 中没有可用的版本")
    if code == FLOOR:
        floor = max(seen.floor, running.counter)
        return Refusal(
            code,
            f"{other.version or 'slot ' + slot} has security counter {other.counter}, at least {floor} is required",
            detail_zh=f"{other.version or '分区 ' + slot} 的安全计数为 {other.counter}，至少需要 {floor}",
        )
    if code == DATA:
        return Refusal(
            code,
            f"the data has another format since {running.version} was committed, which {other.version} does not read",
            detail_zh=f"自 {running.version} 确认后数据格式已改变，{other.version} 无法读取",
        )
    return Refusal(code)


def slots(engine: Engine, seen: Observation) -> dict[str, Any]:
    """`{booted, order, floor, slots, rollback: {possible, slot, version, …}}`: with `estimate` where going back is
    possible, else `refusal`, `detail` and `remedy`."""
    other = seen.spare
    told: dict[str, Any] = {"possible": True, "slot": other, "version": seen.slots[other].version}
    code = engine.would(beginning(engine, seen, "", "")).refusal
    if code is None:
        told["estimate"] = status.spans(engine.forecast_back())
    else:
        why = refused(code, seen).as_dict()
        shown = ("detail", "detail_zh", "remedy", "remedy_zh")
        told |= {"possible": False, "refusal": code, **{name: why[name] for name in shown if name in why}}
    return {
        "booted": seen.booted,
        "order": list(seen.order),
        "floor": seen.floor,
        "slots": {name: dataclasses.asdict(view) for name, view in sorted(seen.slots.items())},
        "rollback": told,
    }
