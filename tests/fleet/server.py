"""hawkBit's device API in memory, as strict as the real server: for terminals in virtual time.

tests/fleet/test_server.py holds it to the real one's rules, tests/fleet/test_hawkbit.py drives terminals through the
real server itself.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from posagent.core.errors import FetchError
from posagent.fetcher.http import Reply
from posagent.release import files

BASE = "http://fleet.test/DEFAULT"
ENTRIES_MAX = 1000
MESSAGE_CHARACTERS_MAX = 512
TAG = re.compile(r"<[A-Za-z/!]")


@dataclass
class Action:
    """`status` is hawkBit's own: running, canceling, wait_for_confirmation; at the end finished, error, canceled or
    downloaded."""

    number: int
    bundles: tuple[Path, ...]
    version: str
    download: str = "forced"
    update: str = "forced"
    window: str = ""
    status: str = "running"
    told: list[Mapping[str, Any]] = field(default_factory=list)
    canceled_by: int = 0

    @property
    def open(self) -> bool:
        return self.status in ("running", "canceling", "wait_for_confirmation")


class Server:
    """fetcher.ddi.Caller. `lost` requests reach the server, but their answers are lost; those that `fail` do not even
    reach it."""

    def __init__(self, controller: str = "t", sleep: str = "00:00:10") -> None:
        self.controller, self.sleep = controller, sleep
        self.actions: list[Action] = []
        self.attributes: dict[str, str] = {}
        self.installed: list[tuple[str, str]] = []
        self.wants_attributes = True
        self.requests = 0
        self.fail: Callable[[str, str], int | None] = lambda method, path: None
        """A status to answer instead; 0 for a broken connection."""
        self.lost: Callable[[str, str], bool] = lambda method, path: False
        self.address: Callable[[Path], str] = str
        """Where a bundle is fetched from."""

    def deploy(self, *bundles: Path, version: str = "2.0.0", **how: Any) -> Action:
        """A new action; the one before is cancelled first, as hawkBit does."""
        for one in self.actions:
            if one.open:
                self.cancel(one)
        number = 1 + sum(1 + bool(one.canceled_by) for one in self.actions)
        action = Action(number, bundles, version, **how)
        self.actions.append(action)
        return action

    def cancel(self, action: Action) -> None:
        assert action.open
        action.status, action.canceled_by = "canceling", 1000 + action.number

    # the device API

    def call(self, method: str, url: str, body: Mapping[str, Any] | None = None) -> Reply:
        self.requests += 1
        assert url.startswith(f"{BASE}/controller/v1/{self.controller}"), url
        path = url.removeprefix(f"{BASE}/controller/v1/{self.controller}")
        failure = self.fail(method, path)
        if failure == 0:
            raise FetchError("fetch_network", "connection reset")
        if failure is not None:
            return Reply(status=failure, body=b"", retry_after_s=7 if failure == 503 else None)
        status, told = self._answer(method, path.partition("?")[0], body or {})
        if self.lost(method, path):
            raise FetchError("fetch_network", "the answer was lost")
        return Reply(status=status, body=b"" if told is None else json.dumps(told).encode())

    def _answer(self, method: str, path: str, body: Mapping[str, Any]) -> tuple[int, Any]:
        words = path.strip("/").split("/") if path.strip("/") else []
        match (method, words):
            case ("GET", []):
                return 200, self._root()
            case ("PUT", ["configData"]):
                assert body["mode"] == "merge" and all(len(one) <= 128 for one in body["data"].values())
                self.attributes |= body["data"]
                self.wants_attributes = False
                return 200, None
            case ("PUT", ["installedBase"]):
                self.installed.append((body["name"], body["version"]))
                return 201, None
            case ("GET", ["deploymentBase" | "confirmationBase" as base, number]):
                action = self._by(int(number))
                part = "deployment" if base == "deploymentBase" else "confirmation"
                return (404, None) if action is None else (200, {"id": number, part: self._told(action)})
            case ("GET", ["cancelAction", number]):
                action = next((one for one in self.actions if one.canceled_by == int(number)), None)
                if action is None:
                    return 404, None
                return 200, {"id": number, "cancelAction": {"stopId": str(action.number)}}
            case ("POST", [base, number, "feedback"]):
                return self._feedback(base, int(number), body), None
        return 404, None

    def _by(self, number: int) -> Action | None:
        return next((one for one in self.actions if one.number == number), None)

    def _root(self) -> dict[str, Any]:
        links: dict[str, Any] = {}
        if self.wants_attributes:
            links["configData"] = {"href": f"{BASE}/controller/v1/{self.controller}/configData"}
        now = next((one for one in self.actions if one.open), None)
        if now is not None:
            name, number = {
                "running": ("deploymentBase", now.number),
                "canceling": ("cancelAction", now.canceled_by),
                "wait_for_confirmation": ("confirmationBase", now.number),
            }[now.status]
            links[name] = {"href": f"{BASE}/controller/v1/{self.controller}/{name}/{number}?c=-21"}
        return {"config": {"polling": {"sleep": self.sleep}}, "_links": links}

    def _told(self, action: Action) -> dict[str, Any]:
        chunks = [
            {
                "part": "os" if at == 0 else "bApp",
                "name": "pos",
                "version": action.version,
                "artifacts": [
                    {
                        "filename": path.name,
                        "hashes": {"sha256": files.sha256(path)},
                        "size": path.stat().st_size,
                        "_links": {"download-http": {"href": self.address(path)}},
                    }
                ],
            }
            for at, path in enumerate(action.bundles)
        ]
        told: dict[str, Any] = {"download": action.download, "update": action.update, "chunks": chunks}
        return told | ({"maintenanceWindow": action.window} if action.window else {})

    def _feedback(self, base: str, number: int, body: Mapping[str, Any]) -> int:
        if base == "confirmationBase":
            action = self._by(number)
            if action is None or action.status != "wait_for_confirmation":
                return 404
            if body["confirmation"] == "confirmed":
                action.status = "running"
            action.told.append(body)
            return 200
        status = body["status"]
        execution, finished = status["execution"], status["result"]["finished"]
        assert len(status["details"]) <= 50
        assert all(len(one) <= MESSAGE_CHARACTERS_MAX and not TAG.search(one) for one in status["details"])
        if base == "cancelAction":
            action = next((one for one in self.actions if one.canceled_by == number), None)
            if action is None:
                return 404
            if action.status != "canceling":
                return 410
            action.told.append(status)
            action.status = "running" if execution == "rejected" else "canceled"
            return 200
        action = self._by(number)
        if action is None or action.status == "wait_for_confirmation":
            return 404
        if not action.open:
            return 410
        if execution != "closed" and len(action.told) >= ENTRIES_MAX:
            return 429
        action.told.append(status)
        if execution == "closed":
            action.status = "error" if finished == "failure" else "finished"
        elif execution == "downloaded" and action.update == "skip" and not action.window:
            action.status = "downloaded"
        return 200
