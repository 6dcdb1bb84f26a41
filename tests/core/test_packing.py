"""Small operations or large ones: seconds decide, by what this terminal has shown of itself."""

from __future__ import annotations

from typing import Any

import pytest

from posagent.core import packing
from posagent.core.model import Event, Occurrence, Update

MIB = 1 << 20
IMAGE = 256 * MIB
SAVED = 17 * MIB
"""By large operations, of an OS image (docs/adr/0015)."""
UPDATE: dict[str, Any] = {"id": "u", "source": "", "spool": "", "target": "b", "previous": "a"}


def pays(link_bytes_per_s: float, **measured: tuple[tuple[float, float], ...]) -> bool:
    return packing.pays(SAVED, IMAGE, packing.price(measured, link_bytes_per_s))


def test_before_anything_was_measured_a_mobile_link_takes_the_fewest_bytes_and_a_wire_the_fastest() -> None:
    assert [pays(rate) for rate in (4e3, 16e3, 100e3)] == [True] * 3
    assert [pays(rate) for rate in (550e3, 5e6)] == [False] * 2


def test_a_fast_processor_takes_the_fewest_bytes_on_faster_links() -> None:
    fast = ((IMAGE / 60e6, IMAGE),) * 3
    assert pays(1e6, unpack_large=fast) and not pays(10e6, unpack_large=fast)
    assert pays(1e6, unpack_small=((IMAGE / 300e6, IMAGE),) * 3), "one way tells of the other"


def test_where_bytes_cost_money_any_saving_pays() -> None:
    assert packing.pays(1, IMAGE, packing.FEWEST) and not packing.pays(0, IMAGE, packing.FEWEST)


def happened(event: Event = Event.ACCEPTED, image_size: int = IMAGE) -> Occurrence:
    return Occurrence(event=event, data={"update": {"image_size": image_size}})


@pytest.mark.parametrize(
    ("large", "small", "name"),
    [
        (IMAGE, 0, "unpack_large"),
        (0, IMAGE, "unpack_small"),
        (240 * MIB, 16 * MIB, "unpack_large"),
        (128 * MIB, 128 * MIB, ""),
        (0, 100 * MIB, ""),
        (0, 0, ""),
    ],
    ids=["large", "small", "nearly all large", "mixed", "most was in the slot", "a delta"],
)
def test_unpacking_is_measured_where_nearly_all_is_made_in_one_way(large: int, small: int, name: str) -> None:
    update = Update(**UPDATE, bytes_large=large, bytes_small=small)
    measured = packing.measured(update, happened(), 10.0)
    assert dict(measured) == ({name: {"seconds": 10.0, "bytes": float(large + small)}} if name else {})


def test_nothing_else_is_taken_for_unpacking() -> None:
    update = Update(**UPDATE, bytes_large=IMAGE)
    assert packing.measured(update, happened(Event.FETCHED), 10.0) == {}
    assert packing.measured(None, happened(), 10.0) == {}
    little = Update(**UPDATE, bytes_large=MIB)
    assert packing.measured(little, happened(image_size=MIB), 10.0) == {}, "mostly what does not depend on bytes"


def payload(size: int, source: str = "") -> dict[str, Any]:
    return {"from": source, "bytes": size, "image_bytes": 1000}


def test_the_announcement_shows_the_choice() -> None:
    both = [payload(600), payload(400), payload(10, "ab" * 32)]
    assert packing.choice(both, 0.1) == (payload(400), "large")
    assert packing.choice(both, 0.2) == (payload(600), "small")
    assert packing.choice([payload(600)], 0.0) == (payload(600), "")
    assert packing.choice([payload(10, "ab" * 32)], 0.0) == (None, "")
