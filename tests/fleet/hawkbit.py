"""The real hawkBit server for tests, and what an operator does with it: its Management API.

The runnable jar comes from Maven, or from HAWKBIT_JAR. The server listens on loopback, and ends with the test.
"""

from __future__ import annotations

import base64
import contextlib
import functools
import itertools
import json
import os
import shutil
import socket
import subprocess
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import urllib3

VERSION = "1.0.4"
ARTIFACT = f"org.eclipse.hawkbit:hawkbit-update-server:{VERSION}"
UP_S = 300.0
CACHE = Path(__file__).parents[2] / "build/hawkbit"
_LOGIN = {"Authorization": "Basic " + base64.b64encode(b"admin:admin").decode()}


def lacks() -> str:
    """Why hawkBit cannot be started here; nothing where it can."""
    if shutil.which("java") is None:
        return "no Java is installed"
    return "" if jar() is not None else f"{ARTIFACT} is not to be had from Maven; HAWKBIT_JAR may name the file"


@functools.cache
def jar() -> Path | None:
    """Looked for once: where Maven has none, that takes minutes."""
    named = os.environ.get("HAWKBIT_JAR", "")
    if named:
        return Path(named) if Path(named).exists() else None
    path = CACHE / f"hawkbit-update-server-{VERSION}.jar"
    if not path.exists() and shutil.which("mvn") is not None:
        words = ["mvn", "-q", "-B", "dependency:copy", f"-Dartifact={ARTIFACT}", f"-DoutputDirectory={CACHE}"]
        with contextlib.suppress(subprocess.TimeoutExpired):
            subprocess.run(words, check=False, capture_output=True, timeout=180)
    return path if path.exists() else None


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        return int(server.getsockname()[1])


class HawkBit:
    """A server with an empty memory. `start` and `kill` as often as you like: what it knew is on the disk below `base`
    where it `remembers`, else gone."""

    def __init__(self, base: Path, *, port: int = 0, remembers: bool = False, more: tuple[str, ...] = ()) -> None:
        base.mkdir(parents=True, exist_ok=True)
        self._base, self.port, self._more = base, port or free_port(), more
        if remembers:
            self._more = (*more, f"--spring.datasource.url=jdbc:h2:file:{base / 'db'};MODE=LEGACY;WRITE_DELAY=0")
        self._process: subprocess.Popen[bytes] | None = None
        self._pool = urllib3.HTTPConnectionPool("127.0.0.1", self.port, maxsize=4, retries=False, timeout=60)
        self._names = itertools.count(1)

    @property
    def url(self) -> str:
        """For terminals: with the tenant."""
        return f"http://127.0.0.1:{self.port}/DEFAULT"

    @property
    def running(self) -> bool:
        return self._process is not None

    def start(self) -> None:
        """Raises TimeoutError."""
        path = jar()
        assert path is not None, lacks()
        words = ["java", "-Xmx768m", "-XX:+UseSerialGC", "-jar", str(path), "--server.address=127.0.0.1"]
        words += [f"--server.port={self.port}", f"--org.eclipse.hawkbit.artifact.fs.path={self._base / 'artifacts'}"]
        words += ["--hawkbit.controller.minPollingTime=00:00:01", "--hawkbit.controller.pollingTime=00:00:02"]
        with (self._base / "server.log").open("ab") as log:
            self._process = subprocess.Popen([*words, *self._more], stdout=log, stderr=log, cwd=self._base)
        self.wait(lambda: self._up(), UP_S, "the server's start")

    def _up(self) -> bool:
        assert self._process is not None
        if self._process.poll() is not None:
            raise RuntimeError(f"the server ended with {self._process.returncode}; see {self._base}/server.log")
        try:
            return self.request("GET", "/rest/v1/targets").status == 200
        except urllib3.exceptions.HTTPError:
            return False

    def kill(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    def until(self, reached: Callable[[], Any], timeout_s: float) -> Any:
        """What `reached` returns once it is true; or else at the end."""
        deadline = time.monotonic() + timeout_s
        while not (found := reached()) and time.monotonic() < deadline:
            time.sleep(0.1)
        return found

    def wait(self, reached: Callable[[], Any], timeout_s: float, what: str) -> Any:
        """The same. Raises TimeoutError."""
        if found := self.until(reached, timeout_s):
            return found
        raise TimeoutError(f"no {what} in {timeout_s:.0f} s")

    # the Management API

    def request(self, method: str, path: str, body: Any = None, **more: Any) -> urllib3.BaseHTTPResponse:
        headers, data = dict(_LOGIN), more.pop("data", None)
        if body is not None:
            headers["Content-Type"], data = "application/json", json.dumps(body).encode()
        return self._pool.request(method, path, body=data, headers=headers, **more)

    def ask(self, method: str, path: str, body: Any = None) -> Any:
        """Its JSON. Raises RuntimeError."""
        answer = self.request(method, f"/rest/v1/{path}", body)
        if answer.status >= 300:
            raise RuntimeError(f"{method} {path}: {answer.status} {answer.data[:500]!r}")
        return json.loads(answer.data) if answer.data else None

    def setting(self, name: str, value: Any) -> None:
        self.ask("PUT", f"system/configs/{name}", {"value": value})

    def target(self, controller: str, token: str) -> None:
        self.ask("POST", "targets", [{"controllerId": controller, "name": controller, "securityToken": token}])

    def distribution(self, version: str, *bundles: Path) -> int:
        """A distribution set with those bundles in one module each; its number."""
        number = next(self._names)
        modules = []
        for at, path in enumerate(bundles):
            kind = "os" if at == 0 else "application"
            asked = [{"name": f"pos-{number}-{at}", "version": version, "type": kind}]
            module = self.ask("POST", "softwaremodules", asked)[0]["id"]
            self._upload(module, path)
            modules.append({"id": module})
        kind = "os" if len(bundles) == 1 else "os_app"
        told = {"name": f"pos-{number}", "version": version, "type": kind, "modules": modules}
        return int(self.ask("POST", "distributionsets", [told])[0]["id"])

    def _upload(self, module: int, path: Path) -> None:
        fields = {"file": (path.name, path.read_bytes(), "application/octet-stream")}
        data, kind = urllib3.filepost.encode_multipart_formdata(fields)
        headers = {**_LOGIN, "Content-Type": kind}
        answer = self._pool.request("POST", f"/rest/v1/softwaremodules/{module}/artifacts", body=data, headers=headers)
        if answer.status >= 300:
            raise RuntimeError(f"upload: {answer.status} {answer.data[:500]!r}")

    def assign(self, distribution: int, controller: str, kind: str = "forced", **more: Any) -> str:
        """The number of the action."""
        told = [{"id": controller, "type": kind, **more}]
        self.ask("POST", f"distributionsets/{distribution}/assignedTargets", told)
        actions = self.ask("GET", f"targets/{controller}/actions?sort=id:DESC&limit=1")["content"]
        return str(actions[0]["id"])

    def action(self, controller: str, action: str) -> Mapping[str, Any]:
        found: Mapping[str, Any] = self.ask("GET", f"targets/{controller}/actions/{action}")
        return found

    def cancel(self, controller: str, action: str, force: bool = False) -> None:
        self.ask("DELETE", f"targets/{controller}/actions/{action}" + ("?force=true" if force else ""))

    def statuses(self, controller: str, action: str) -> list[Mapping[str, Any]]:
        """What the terminal told about the action, oldest first."""
        path = f"targets/{controller}/actions/{action}/status?sort=id:ASC&limit=500"
        return list(self.ask("GET", path)["content"])

    def how(self, controller: str, action: str) -> str:
        """The newest thing told about the action: running, finished, error, canceled, downloaded, …"""
        found = self.statuses(controller, action)
        return str(found[-1]["type"]) if found else ""

    def ended(self, controller: str, action: str, timeout_s: float = 120.0) -> str:
        """How, once the server counts it as over: finished, error or canceled."""
        self.wait(lambda: not self.action(controller, action)["active"], timeout_s, f"end of action {action}")
        return self.how(controller, action)

    def attributes(self, controller: str) -> Mapping[str, str]:
        found: Mapping[str, str] = self.ask("GET", f"targets/{controller}/attributes")
        return found

    def installed(self, controller: str) -> str:
        """The version that the server believes to be installed, or nothing."""
        answer = self.request("GET", f"/rest/v1/targets/{controller}/installedDS")
        return str(json.loads(answer.data).get("version", "")) if answer.status == 200 and answer.data else ""
