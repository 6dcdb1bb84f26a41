"""What workers answer, taken apart with suspicion: one that talks nonsense is in trouble, the agent is not.

Rules: nothing else looks into a worker's message. What has the wrong shape is the error `internal` of that verb, and
is tried again or given up like every other trouble. What tests and kernels say is kept, so card numbers are taken out
of it here.
"""

from __future__ import annotations

import binascii
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from posagent.agent.download import Fetched, Plan
from posagent.agent.engine import Progress
from posagent.agent.suspicion import flag as _flag
from posagent.agent.suspicion import number as _number
from posagent.agent.suspicion import seconds as _seconds
from posagent.agent.suspicion import text as _text
from posagent.agent.suspicion import value as _value
from posagent.core import pieces, redact
from posagent.core.errors import CATALOGUE, PosagentError
from posagent.core.manifest import PARAMETERS
from posagent.core.model import DETAIL_CHARACTERS_MAX, Observation, SlotView
from posagent.core.ports import Message, ResetCause

FIGURES_MAX, REMOVED_MAX, MEASURES_MAX = 64, 20, 40
_CODE = re.compile(r"[0-9A-Z]{4}-[0-9A-Z]{4}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Sealed:
    """A support bundle; `redacted` counts what was taken out of it."""

    file: bytes
    sha256: str
    code: str
    redacted: int


@dataclass(frozen=True, slots=True)
class Tested:
    """The failure, or None when all passed and then what was measured."""

    failure: dict[str, Any] | None
    measures: list[dict[str, Any]]


@dataclass(frozen=True, slots=True)
class Tidied:
    """The code of what keeps the terminal from its data, or nothing; the backups and generations that are gone."""

    problem: str
    removed: tuple[str, ...]


def read(verb: str, message: Message) -> Any:
    """`Progress`, or the result in the agent's own shape. Raises PosagentError: the worker's, or `internal`."""
    try:
        if "progress" in message:
            return _progress(message["progress"])
        if "error" not in message:
            result: Callable[[Mapping[str, Any]], Any] = _RESULTS.get(verb, _nothing)
            return result(message["result"])
        trouble = PosagentError.from_dict(message["error"])
    except (KeyError, TypeError, ValueError, AttributeError):
        raise PosagentError("internal", f"the answer to {verb} is not understood") from None
    raise trouble


def failure(error: PosagentError) -> dict[str, Any]:
    """What the journal keeps of a worker's trouble."""
    told: dict[str, Any] = {"code": error.code, "detail": error.detail}
    if type(error.facts.get("retry_after_s")) is int:
        told["retry_after_s"] = error.facts["retry_after_s"]
    return told


def _progress(data: Mapping[str, Any]) -> Progress:
    done, total = _number(data.get("bytes_done", 0)), _number(data.get("bytes_total") or 0)
    return Progress(bytes_done=done, bytes_total=total, step=str(data.get("step") or data.get("phase", "")))


def _nothing(data: Mapping[str, Any]) -> Mapping[str, Any]:
    return data


def tested(message: Message) -> Message:
    """What the self-test worker says to a person who asked. Raises PosagentError as `read`."""
    return _passed_on("run", message, _test_step, _test_result)


def probed(message: Message) -> Message:
    """What the fetcher says of the network, with the remedies. Raises PosagentError as `read`."""
    return _passed_on("probe", message, _network_step, _network)


def data_seen(message: Message) -> Message:
    """What the data worker found, for people. Raises PosagentError as `read`."""
    return _passed_on("data", message, _data_step, _data_found)


def _passed_on(
    verb: str,
    message: Message,
    step: Callable[[Mapping[str, Any]], dict[str, Any]],
    result: Callable[[Mapping[str, Any]], dict[str, Any]],
) -> Message:
    try:
        if "progress" in message:
            return {"progress": step(message["progress"])}
        if "error" not in message:
            return {"result": result(message["result"])}
        trouble = PosagentError.from_dict(message["error"])
    except (KeyError, TypeError, ValueError, AttributeError):
        raise PosagentError("internal", f"the answer to {verb} is not understood") from None
    raise trouble


def _test_step(data: Mapping[str, Any]) -> dict[str, Any]:
    numbers = {name: _number(data[name]) for name in ("done", "total")}
    texts = {name: _text(data, name) for name in ("check", "suite")}
    return {**texts, "passed": _flag(data, "passed"), **numbers}


def _test_result(data: Mapping[str, Any]) -> dict[str, Any]:
    checks = [
        {
            **{key: _text(one, key) for key in ("name", "kind", "suite", "detail", "measure")},
            "passed": _flag(one, "passed"),
            "seconds": _seconds(one["seconds"]),
            **{key: _value(one[key]) for key in ("value", "limit")},
        }
        for one in list(data["checks"])
    ]
    return {"passed": _flag(data, "passed"), "deadline": _flag(data, "deadline"), "checks": checks}


def _network_step(data: Mapping[str, Any]) -> dict[str, Any]:
    told: dict[str, Any] = {"step": _text(data, "step"), "ok": _flag(data, "ok"), "detail": _text(data, "detail")}
    told["ms"] = None if data["ms"] is None else _number(data["ms"])
    if not told["ok"]:
        spec = CATALOGUE[_text(data, "code")]
        told |= {"code": spec.code, "meaning": spec.meaning, "remedy": spec.remedy, "remedy_zh": spec.remedy_zh}
    return told


def _network(data: Mapping[str, Any]) -> dict[str, Any]:
    rate = data["bytes_per_s"]
    steps = [_network_step(one) for one in list(data["steps"])]
    return {"ok": _flag(data, "ok"), "steps": steps, "bytes_per_s": None if rate is None else _number(rate)}


def _data_step(data: Mapping[str, Any]) -> dict[str, Any]:
    return {"step": _text(data, "phase")}


def _data_found(data: Mapping[str, Any]) -> dict[str, Any]:
    """Of `verify` or `restore`: numbers, sums and codes; nothing of a card is in it, which is made sure of."""
    found: dict[str, Any] = redact.clean({str(name): value for name, value in data.items()})
    if not {*found.get("problems", ())} <= CATALOGUE.keys():
        raise ValueError("problems")
    return found


def _observation(data: Mapping[str, Any]) -> Observation:
    slots = {
        name: SlotView(**{key: view[key] for key in SlotView.__dataclass_fields__ if key in view})
        for name, view in data["slots"].items()
    }
    for view in slots.values():
        sound = all(isinstance(text, str) for text in (view.state, view.version, view.digest))
        if not sound or type(view.unconfirmed) is not bool:
            raise TypeError("slots")
        _number(view.counter)
        _number(view.tries_left)
    seen = Observation(
        booted=_text(data, "booted"),
        order=tuple(map(str, data["order"])),
        slots=slots,
        floor=int(data.get("floor", 0)),
        contradictions=tuple(redact.cards(str(text)) for text in data.get("contradictions", ())),
        reset=ResetCause(data.get("reset", ResetCause.UNKNOWN)),
        traceless=data.get("traceless") is True,
        boot_id=str(data.get("boot_id", "")),
        log=tuple(redact.cards(str(line)) for line in data.get("log", ())),
    )
    if not set(seen.order) <= slots.keys():
        raise ValueError("order")
    if seen.booted not in slots or len(slots) != 2:
        raise PosagentError("slot_missing", f"slots {', '.join(slots)}, running from {seen.booted}")
    return seen


def _tests(data: Mapping[str, Any]) -> Tested:
    checks = [dict(redact.clean(check)) for check in data["checks"]]
    if data["passed"] is True:
        return Tested(None, [_measure(check) for check in checks[:MEASURES_MAX]])
    said = [(check["passed"], f"{_text(check, 'name')}: {_text(check, 'detail')}") for check in checks]
    broken = next((text for passed, text in said if not passed), "?: no checks")
    code = "selftest_deadline" if data.get("deadline") else "selftest_failed"
    return Tested({"code": code, "detail": broken, "checks": checks}, [])


def _measure(check: Mapping[str, Any]) -> dict[str, Any]:
    """What the record of an update keeps of a check that passed."""
    kept = ("name", "passed", "seconds", "measure", "value", "limit")
    return {name: check[name] for name in kept if check.get(name) not in (None, "")}


def _figures(data: Mapping[str, Any]) -> dict[str, float]:
    """What the old version measured of itself."""
    figures = {redact.cards(_text({"name": name}, "name")): value for name, value in dict(data["figures"]).items()}
    if len(figures) > FIGURES_MAX or not all(type(_value(value)) is not str for value in figures.values()):
        raise ValueError("figures")
    return figures


def _fetched(data: Mapping[str, Any]) -> Fetched:
    if type(data["complete"]) is not bool:
        raise ValueError("complete")
    counts = _number(data["length"]), _number(data["bytes_refetched"])
    return Fetched(_text(data, "bundle"), counts[0], data["complete"], counts[1])


def _probed(data: Mapping[str, Any]) -> str:
    """The step at which the way to the server ends, and why; nothing where it does not, or where no server is
    configured to which it could lead."""
    last = list(data["steps"])[-1:]
    failed = [
        one for one in last if one["ok"] is not True and (one["step"], one.get("code")) != ("dns", "fetch_pointer")
    ]
    said = [f"{_text(one, 'step')}: {_text(one, 'detail')}" for one in failed]
    return redact.cards(said[0])[:DETAIL_CHARACTERS_MAX] if said else ""


def _sealed(data: Mapping[str, Any]) -> Sealed:
    file, code = binascii.a2b_base64(_text(data, "file"), strict_mode=True), _text(data, "code")
    if not _CODE.fullmatch(code):
        raise ValueError("code")
    return Sealed(file=file, sha256=_text(data, "sha256"), code=code, redacted=_number(data["redacted"]))


def _backed_up(data: Mapping[str, Any]) -> str:
    """The name of the backup."""
    return _text(data, "name")


def _migrated(data: Mapping[str, Any]) -> dict[str, Any]:
    """From which format to which, where that is not the same; the parameters' version."""
    formats = _number(data["format_from"]), _number(data["format_to"])
    told = {"migrated": "{}>{}".format(*formats) if formats[0] != formats[1] else ""}
    told["parameters"] = _text(data, "parameters")
    return {name: one for name, one in told.items() if one}


def _tried(data: Mapping[str, Any]) -> dict[str, Any] | bool:
    """Of parameters that came alone; from here on there is something to go back from. At their end, whether the payment
    application has read what it finds now."""
    if "reloaded" in data:
        return _flag(data, "reloaded")
    return {"parameters": _text(data, "version"), "from_version": _text(data, "before"), "tried": True}


def _tidied(data: Mapping[str, Any]) -> Tidied:
    problem, removed = _text(data, "problem"), [_text({"removed": one}, "removed") for one in list(data["removed"])]
    if problem and problem not in CATALOGUE:
        raise ValueError("problem")
    return Tidied(problem, tuple(removed[:REMOVED_MAX]))


def _checked(data: Mapping[str, Any]) -> dict[str, Any]:
    known = {} if data["kind"] != PARAMETERS else {"from_version": ""}  # the version that runs is not what they replace
    return {
        **known,
        "kind": _text(data, "kind"),
        "version": _text(data, "version"),
        "digest": _text(data, "digest"),
        "image_size": _number(data["image_size"]),
        "profile": {str(name): _number(value) for name, value in dict(data["profile"]).items()},
        **_terms(data),
    }


def _terms(data: Mapping[str, Any]) -> dict[str, Any]:
    """See core.manifest."""
    lists = {name: [_text({name: one}, name) for one in list(data[name])] for name in ("conditions", "contents")}
    return {**lists, "not_after": _number(data["not_after"]), "reason": _text(data, "reason")}


def _planned(data: Mapping[str, Any]) -> Plan:
    wanted, tables, complete = pieces.of(data["wanted"]), pieces.of(data["tables"]), data["complete"]
    if wanted is None or tables is None or type(complete) is not bool:
        raise ValueError("wanted")
    return Plan(wanted, tables, complete, _text(data, "refused"), _number(data["large"]), _number(data["small"]))


def _offer(data: Mapping[str, Any]) -> dict[str, Any] | None:
    offer = data["offer"]
    if offer is None:
        return None
    texts = {key: _text(offer, key) for key in ("version", "url", "sha256")}
    payloads = [
        {"from": _text(one, "from"), **{name: _number(one[name]) for name in ("bytes", "image_bytes")}}
        for one in list(offer["payloads"])
    ]
    known = {"length": _number(offer["length"]), "room": _number(max(0, offer["room"])), "payloads": payloads}
    return {**texts, **known, **_terms(offer)}


_RESULTS: Mapping[str, Callable[[Mapping[str, Any]], Any]] = {
    "observe": _observation,
    "fetch": _fetched,
    "plan": _planned,
    "check": _checked,
    "run": _tests,
    "baseline": _figures,
    "probe": _probed,
    "make": _sealed,
    "look": _offer,
    "backup": _backed_up,
    "migrate": _migrated,
    "parameters": _tried,
    "tidy": _tidied,
}
