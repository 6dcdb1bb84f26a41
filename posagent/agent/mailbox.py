"""The mailbox of the fleet server on the medium: one small file; and what the worker that asks the server answers.

Rules: a file that is damaged is an empty mailbox: what it had is told again by the server, and the journal knows what
was carried out. What the worker says is read with the same suspicion as others' answers (agent.answers).
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from posagent.agent.suspicion import text
from posagent.core import durable, fleet
from posagent.core.errors import PosagentError
from posagent.core.fleet import Artifact, Deployment, Heard, Letter, Mailbox
from posagent.core.ports import Files, Message

FORM = 1
LETTERS_MAX = 64
SEEN_CHARACTERS_MAX = 200


def load(files: Files, path: str) -> Mailbox:
    """Raises OSError."""
    told = durable.read_json(files, path)
    try:
        if told["v"] != FORM:
            return Mailbox()
        found = told["deployment"]
        letters = [Letter(**_texts(one, "key", "kind", "action"), body=dict(one["body"])) for one in told["letters"]]
        return Mailbox(
            deployment=None if found is None else deployment_of(found),
            letters=tuple(letters[:LETTERS_MAX]),
            words=int(told["words"]),
            closed=tuple(str(one) for one in told["closed"])[-fleet.CLOSED_MAX :],
            **_texts(told, "said", "attributes", "local"),
            seen=_seen(told),
            heard_at=_seconds(told.get("heard_at", 0.0)),
        )
    except (KeyError, TypeError, ValueError, AttributeError):
        return Mailbox()


def store(files: Files, path: str, box: Mailbox) -> None:
    """Durable when it returns. Raises OSError."""
    durable.replace_json(files, path, {"v": FORM, **dataclasses.asdict(box)})


def deployment_of(told: Mapping[str, Any]) -> Deployment:
    """Raises KeyError, TypeError, ValueError."""
    artifacts = [
        Artifact(**_texts(one, "name", "url", "sha256"), length=_whole(one["length"]))
        for one in list(told["artifacts"])
    ]
    if not {told["download"], told["update"]} <= set(fleet.HOW) or not isinstance(told["asks"], bool):
        raise ValueError("deployment")
    texts = _texts(told, "action", "version", "download", "update", "window")
    return Deployment(
        **texts,
        artifacts=tuple(artifacts[: fleet.ARTIFACTS_MAX]),
        asks=told["asks"],
        standing=told.get("standing") is True,
        lasts_s=_seconds(told.get("lasts_s", 0.0)),
    )


@dataclass(frozen=True, slots=True)
class Delivered:
    """The server has the letter of that key, or will never take it; without a key, it has the attributes."""

    key: str


def read(message: Message) -> Heard | Delivered:
    """What the worker says of its verb `exchange`. Raises PosagentError: the worker's, or `internal`."""
    try:
        if "progress" in message:
            told = message["progress"]
            name = next((one for one in ("acknowledged", "refused") if one in told), "")
            return Delivered(_texts(told, name)[name] if name else "")
        if "error" not in message:
            return _heard(message["result"])
        trouble = PosagentError.from_dict(message["error"])
    except (KeyError, TypeError, ValueError, AttributeError):
        raise PosagentError("internal", "the answer to exchange is not understood") from None
    raise trouble


def _heard(told: Mapping[str, Any]) -> Heard:
    found, sleep_s = told["deployment"], told["sleep_s"]
    if type(sleep_s) not in (int, float) or not 0 <= sleep_s < 1 << 31:
        raise ValueError("sleep_s")
    return Heard(
        sleep_s=float(sleep_s),
        deployment=None if found is None else deployment_of(found),
        **_texts(told, "cancel", "cancels"),
        seen=_seen(told),
    )


def _texts(told: Mapping[str, Any], *names: str) -> dict[str, str]:
    return {name: text(told, name) for name in names}


def _seen(told: Mapping[str, Any]) -> str:
    """Files and workers of an earlier release have none."""
    value = told.get("seen", "")
    if not isinstance(value, str) or len(value) > SEEN_CHARACTERS_MAX:
        raise ValueError("seen")
    return value


def _seconds(value: object) -> float:
    if type(value) not in (int, float) or not 0 <= value < 1 << 37:  # type: ignore[operator]
        raise ValueError("seconds")
    return float(value)  # type: ignore[arg-type]


def _whole(value: object) -> int:
    if type(value) is not int or value <= 0:
        raise ValueError("length")
    return value
