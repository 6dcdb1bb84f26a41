"""The answer to `check`: is there an update, what is it, what does it cost here, and can it begin.

Rules: told from the repository's announcement, which is unsigned advice: the figures are those of the payload that fits
the running version, where the announcement names it. Nothing is fetched for it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from posagent.agent import status, views
from posagent.agent.engine import Engine
from posagent.core import packing
from posagent.core.model import State

GO, WAIT, NO = "go", "wait", "no"


def of(engine: Engine, offer: Mapping[str, Any] | None) -> dict[str, Any]:
    """`{verdict, offer, bytes, packing, estimate, booted_version, gates}`: `go` where it could begin at once, `wait`
    where gates are closed, `no` where there is nothing newer. `bytes` are to be fetched at most; `packing` is `large`,
    `small`, `metered` (large for that reason), or nothing where there is no choice (core.packing); `estimate` as in the
    status."""
    seen = engine.observation
    gates = engine.gates()
    told: dict[str, Any] = {
        "offer": None if offer is None else dict(offer),
        "booted_version": seen.slots[seen.booted].version if seen else "",
        "gates": [views.gate(gate) for gate in gates],
        "verdict": NO,
        "bytes": None,
        "packing": "",
        "estimate": None,
    }
    if offer is None:
        return told
    size, image, told["packing"] = sizes(engine, offer, seen.slots[seen.booted].digest if seen else "")
    told["bytes"] = size
    told["offer"]["staged"] = size <= offer["room"]
    told["verdict"] = WAIT if any(not gate.open for gate in gates) else GO
    if engine.situation.state is State.IDLE:
        work = {"download": float(size), "verify": float(image), "install": float(image)}
        forecast, plan = engine.forecast(work), engine.plan()
        told["estimate"] = status.spans(forecast)
        told["estimate"]["begins_at"] = None if plan is None else plan.start_s
    return told


def sizes(engine: Engine, offer: Mapping[str, Any], digest: str) -> tuple[int, int, str]:
    """Bytes to fetch and of the image, and the packing: of the delta for the image that runs, else of what is chosen of
    the payloads that need no source, else of all."""
    smallest_last = sorted(offer["payloads"], key=lambda one: -int(one["bytes"]))
    price = engine.price(str(offer["url"]))
    chosen = next((one for one in reversed(smallest_last) if digest and one["from"] == digest), None)
    if chosen is not None:
        return chosen["bytes"], chosen["image_bytes"], ""
    alone, how = packing.choice(smallest_last, price)
    if alone is None:
        return offer["length"], offer["length"], ""
    return alone["bytes"], alone["image_bytes"], packing.METERED if how and price == packing.FEWEST else how
