"""Whatever a worker says is understood, or is trouble with a code; nothing else ever leaves the reader."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from posagent.agent import answers
from posagent.agent.download import Fetched
from posagent.agent.engine import Progress
from posagent.core.errors import PosagentError
from posagent.core.model import Observation

VERBS = ("observe", "fetch", "check", "run", "look", "mark_good", "discard")
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=5,
)
SLOT = {"state": "good", "version": "1", "digest": "", "counter": 0, "tries_left": 3, "unconfirmed": False}
SEEN: dict[str, Any] = {"booted": "a", "order": ["a", "b"], "slots": {"a": SLOT, "b": SLOT}, "floor": 1}
TERMS: dict[str, Any] = {"conditions": ["confirm"], "not_after": 9, "contents": ["system"], "reason": "security"}
GOOD: dict[str, dict[str, Any]] = {
    "observe": SEEN,
    "fetch": {"bundle": "/spool/b", "length": 1, "complete": True, "bytes_refetched": 0},
    "check": {"kind": "delta", "version": "2", "digest": "d", "image_size": 5, "profile": {"restart_s": 9}, **TERMS},
    "run": {"passed": False, "deadline": False, "checks": [{"name": "n", "passed": False, "detail": "d"}]},
    "look": {
        "offer": {
            "version": "2",
            "url": "/b",
            "length": 5,
            "sha256": "d",
            "room": 9,
            "payloads": [{"from": "", "bytes": 5, "image_bytes": 9}],
            **TERMS,
        }
    },
}


@given(verb=st.sampled_from(VERBS), key=st.sampled_from(["progress", "result", "error"]), value=JSON)
def test_any_json_is_read_or_refused(verb: str, key: str, value: Any) -> None:
    try:
        answers.read(verb, {key: value})
    except PosagentError:
        pass  # that is the one way out


@pytest.mark.parametrize("verb", list(GOOD))
@given(data=st.data())
def test_a_good_answer_with_one_value_spoilt_is_read_or_refused(verb: str, data: st.DataObject) -> None:
    def spoilt(value: Any) -> Any:
        if isinstance(value, dict) and data.draw(st.booleans()):
            key = data.draw(st.sampled_from(sorted(value)))
            return {**value, key: spoilt(value[key])}
        return data.draw(JSON)

    try:
        answers.read(verb, {"result": spoilt(GOOD[verb])})
    except PosagentError:
        pass  # that is the one way out


def test_good_answers_are_understood() -> None:
    seen = answers.read("observe", {"result": SEEN})
    assert isinstance(seen, Observation) and seen.spare == "b" and seen.floor == 1
    assert answers.read("fetch", {"result": GOOD["fetch"]}) == Fetched("/spool/b", 1, True, 0)
    assert answers.read("check", {"result": GOOD["check"]}) == GOOD["check"]
    passed = {"name": "n", "passed": True, "seconds": 1.0, "detail": "", "measure": "boot", "value": 9.0, "limit": 20.0}
    measured = {name: value for name, value in passed.items() if name != "detail"}
    assert answers.read("run", {"result": {"passed": True, "checks": [passed]}}) == answers.Tested(None, [measured])
    failure = answers.read("run", {"result": GOOD["run"]}).failure
    assert (failure["code"], failure["detail"]) == ("selftest_failed", "n: d")
    assert answers.read("look", {"result": {"offer": None}}) is None
    assert answers.read("look", {"result": GOOD["look"]}) == GOOD["look"]["offer"]
    assert answers.read("fetch", {"progress": {"bytes_done": 5, "bytes_total": None}}) == Progress(bytes_done=5)
    with pytest.raises(PosagentError, match="slot_io: EIO"):
        answers.read("write", {"error": {"code": "slot_io", "detail": "EIO"}})


@pytest.mark.parametrize(
    "change",
    [
        {"booted": "c"},
        {"slots": {"a": SLOT}},
        {"order": ["c"]},
        {"order": 5},
        {"slots": {"a": {**SLOT, "tries_left": "3"}, "b": SLOT}},
        {"slots": {"a": {**SLOT, "unconfirmed": 0}, "b": SLOT}},
        {"reset": "earthquake"},
        {"floor": None},
    ],
)
def test_an_observation_that_makes_no_sense_is_not_believed(change: dict[str, Any]) -> None:
    with pytest.raises(PosagentError, match=r"internal|slot_missing"):
        answers.read("observe", {"result": {**SEEN, **change}})
