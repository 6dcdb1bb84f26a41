"""The answer to `check`: is there an update, what is it, what does it cost here, and can it begin.

Rules: told from the repository's announcement, which is unsigned advice: the figures are those of the payload that fits
the running version, where the announcement names it. Nothing is fetched for it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from posagent.agent import status, views
from posagent.agent.engine import Engine
from posagent.core.model import State

GO, WAIT, NO = "go", "wait", "no"


def of(engine: Engine, offer: Mapping[str, Any] | None) -> dict[str, Any]:
    """`{verdict, offer, bytes, estimate, booted_version, gates}`: `go` where it could begin at once, `wait` where gates
    are closed, `no` where there is nothing newer. `bytes` are to be fetched at most; `estimate` as in the status."""
    seen = engine.observation
    gates = engine.gates()
    told: dict[str, Any] = {
        "offer": None if offer is None else dict(offer),
        "booted_version": seen.slots[seen.booted].version if seen else "",
        "gates": [views.gate(gate) for gate in gates],
        "verdict": NO,
        "bytes": None,
        "estimate": None,
    }
    if offer is None:
        return told
    size, image = sizes(offer, seen.slots[seen.booted].digest if seen else "")
    told["bytes"] = size
    told["offer"]["staged"] = size <= offer["room"]
    told["verdict"] = WAIT if any(not gate.open for gate in gates) else GO
    if engine.situation.state is State.IDLE:
        work = {"download": float(size), "verify": float(image), "install": float(image)}
        forecast, plan = engine.forecast(work), engine.plan()
        told["estimate"] = status.spans(forecast)
        told["estimate"]["begins_at"] = None if plan is None else plan.start_s
    return told


def sizes(offer: Mapping[str, Any], digest: str) -> tuple[int, int]:
    """Bytes to fetch and of the image: of the delta for the image that runs, else of the full payload, else of all."""
    smallest_last = sorted(offer["payloads"], key=lambda one: -int(one["bytes"]))
    payloads = {one["from"]: one for one in smallest_last}
    chosen = payloads.get(digest) if digest else None
    chosen = chosen or payloads.get("")
    if chosen is None:
        return offer["length"], offer["length"]
    return chosen["bytes"], chosen["image_bytes"]
