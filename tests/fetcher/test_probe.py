"""The way to the update server, step by step: each thing that can be wrong with it is found and has its remedy."""

from __future__ import annotations

import dataclasses
import json
import socket
import ssl
import threading
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from posagent.config import FetchConfig
from posagent.core.errors import CATALOGUE
from posagent.core.ports import Clock, Message
from posagent.fetcher import probe
from posagent.fetcher.http import HttpClient
from posagent.fetcher.probe import Probe, expires_s
from posagent.platform.host import LinuxClock
from posagent.platform.net import Link, LinuxNet
from posagent.release import repository
from posagent.sim.webserver import WebServer
from tests.conftest import Desk
from tests.fetcher.test_bad_servers import reply
from tests.fetcher.test_resuming import certificate

pytestmark = pytest.mark.real

ETH = Link(name="eth0", addresses=("192.0.2.7",), is_default=True)
STEPS = ["link", "dns", "connect", "tls", "repository", "rate"]
YEAR_S = 366 * 86400


class Net(LinuxNet):
    """The real one, but for its links and names that do not depend on where the tests run."""

    def __init__(self, links: Sequence[Link] = (ETH,), names: dict[str, list[str]] | None = None) -> None:
        super().__init__()
        self._found, self._names_known = list(links), names or {}

    def links(self) -> list[Link]:
        return self._found

    def resolve(self, host: str, port: int, timeout_s: float) -> list[str]:
        if host.replace(".", "").isdecimal():
            return [host]
        if host in self._names_known:
            return self._names_known[host]
        raise OSError(-2, "Name or service not known")


class Ahead(LinuxClock):
    """A clock that is so many seconds ahead."""

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds

    def wall(self) -> float:
        return super().wall() + self._seconds


def tried(url: str, *, net: Net | None = None, clock: Clock | None = None, **changes: Any) -> dict[str, Any]:
    """The result; what was told on the way is the same."""
    config = FetchConfig(repository_url=url, allow_http=True, connect_timeout_s=5, stall_timeout_s=5)
    config = dataclasses.replace(config, **changes)
    messages: list[Message] = list(Probe(config, HttpClient(config), net or Net(), clock or LinuxClock()).probe({}))
    result: dict[str, Any] = messages.pop()["result"]
    assert [message["progress"] for message in messages] == result["steps"]
    assert json.loads(json.dumps(result)) == result and all(step["ms"] >= 0 for step in result["steps"])
    return result


def failed(result: dict[str, Any]) -> tuple[str, str, str]:
    """Step, code and detail of the step that failed, which is the last."""
    last = result["steps"][-1]
    assert not result["ok"] and not last["ok"] and all(step["ok"] for step in result["steps"][:-1])
    assert CATALOGUE[last["code"]].remedy and CATALOGUE[last["code"]].remedy_zh
    return last["step"], last["code"], last["detail"]


class Server:
    """Gives every connection that asks something the same answer; over TLS with a context."""

    def __init__(self, answer: bytes, context: ssl.SSLContext | None = None, *, silent: bool = False) -> None:
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._answer, self._context, self._silent = answer, context, silent
        self.asked: list[bytes] = []
        self.url = f"{'https' if context or silent else 'http'}://127.0.0.1:{self._listener.getsockname()[1]}"
        threading.Thread(target=self._serve, daemon=True).start()

    def _serve(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            with connection:
                try:
                    if self._silent:
                        connection.recv(65536)
                        continue
                    peer = self._context.wrap_socket(connection, server_side=True) if self._context else connection
                    if asked := peer.recv(65536):
                        self.asked.append(asked)
                        peer.sendall(self._answer)
                    peer.close()
                except OSError:
                    pass  # the terminal had enough

    def close(self) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()


@pytest.fixture
def serve() -> Iterator[Callable[..., str]]:
    servers: list[Server] = []

    def make(answer: bytes = b"", context: ssl.SSLContext | None = None, *, silent: bool = False) -> str:
        servers.append(Server(answer, context, silent=silent))
        return servers[-1].url

    yield make
    for server in servers:
        server.close()


@pytest.fixture(scope="module")
def web(tmp_path_factory: pytest.TempPathFactory, desk: Desk) -> Iterator[WebServer]:
    base = tmp_path_factory.mktemp("web")
    server = WebServer(base / "nginx", base / "root")
    repository.publish(desk.bundles["2.0.0"], server.root)
    yield server
    server.stop()


def test_a_good_network_passes_every_step_and_tells_its_speed(web: WebServer) -> None:
    result = tried(web.url)
    assert result["ok"] and [step["step"] for step in result["steps"]] == STEPS
    details = {step["step"]: step["detail"] for step in result["steps"]}
    assert details["link"] == "eth0 192.0.2.7 (default route)"
    assert details["tls"].startswith("not used")
    assert details["repository"].startswith("version 2.0.0 is offered, signed until 20")
    assert result["bytes_per_s"] > 0


def test_over_tls_the_certificate_is_verified_and_its_end_told(tmp_path: Path, desk: Desk) -> None:
    certificate(tmp_path, "-days", "2")
    server = WebServer(
        tmp_path / "nginx", tmp_path / "root", certificate=tmp_path / "cert.pem", key=tmp_path / "key.pem"
    )
    try:
        repository.publish(desk.bundles["2.0.0"], server.root)
        result = tried(server.url, ca_file=str(tmp_path / "cert.pem"))
        assert result["ok"] and "certificate valid until" in result["steps"][3]["detail"]
    finally:
        server.stop()


def test_no_link_is_a_hint_and_no_verdict(web: WebServer) -> None:
    result = tried(web.url, net=Net(links=()))
    assert result["ok"] and result["steps"][0]["code"] == "net_link"
    nameless = dataclasses.replace(ETH, addresses=())
    result = tried("https://updates.test", net=Net(links=(nameless,)))
    assert [step.get("code") for step in result["steps"]] == ["net_link", "net_dns"] and not result["ok"]


def test_a_name_that_nobody_knows() -> None:
    step, code, detail = failed(tried("https://updates.test"))
    assert (step, code) == ("dns", "net_dns") and detail == "updates.test: Name or service not known"


@pytest.mark.parametrize("url", ["", "https://", "https://[", "https://updates.test:port"])
def test_an_address_that_is_none(url: str) -> None:
    assert failed(tried(url))[:2] == ("dns", "fetch_pointer")


def test_a_server_that_does_not_answer_on_any_of_its_addresses() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    net = Net(names={"updates.test": ["127.0.0.2", "127.0.0.1"]})
    step, code, detail = failed(tried(f"https://updates.test:{port}", net=net))
    assert (step, code) == ("connect", "net_connect") and detail == f"127.0.0.1 port {port}: Connection refused"


def test_the_second_address_is_tried(web: WebServer) -> None:
    net = Net(names={"updates.test": ["127.0.0.2", "127.0.0.1"]})
    result = tried(f"http://updates.test:{web.port}", net=net)
    assert result["steps"][2]["detail"] == f"127.0.0.1 port {web.port} answers"


class TestTls:
    def test_a_certificate_that_has_ended_points_to_the_clock(self, tmp_path: Path, serve: Callable[..., str]) -> None:
        context = certificate(tmp_path, "-startdate", "20200101000000Z", "-enddate", "20200102000000Z")
        step, code, detail = failed(tried(serve(b"", context), ca_file=str(tmp_path / "cert.pem")))
        assert (step, code) == ("tls", "tls_clock") and "this terminal's date is 20" in detail

    def test_one_that_is_not_valid_yet_points_to_the_clock(self, tmp_path: Path, serve: Callable[..., str]) -> None:
        context = certificate(tmp_path, "-startdate", "20900101000000Z", "-enddate", "20900102000000Z")
        assert failed(tried(serve(b"", context), ca_file=str(tmp_path / "cert.pem")))[1] == "tls_clock"

    def test_an_authority_that_nobody_knows(self, tmp_path: Path, serve: Callable[..., str]) -> None:
        context = certificate(tmp_path, "-days", "2")
        assert failed(tried(serve(b"", context)))[:2] == ("tls", "tls_authority")

    def test_a_certificate_for_another_name(self, tmp_path: Path, serve: Callable[..., str]) -> None:
        url = serve(b"", certificate(tmp_path, "-days", "2")).replace("127.0.0.1", "updates.test")
        net = Net(names={"updates.test": ["127.0.0.1"]})
        assert failed(tried(url, net=net, ca_file=str(tmp_path / "cert.pem")))[:2] == ("tls", "tls_name")

    def test_a_server_that_hangs_up_during_the_handshake_is_the_networks_fault(self, serve: Callable[..., str]) -> None:
        step, code, _ = failed(tried(serve(silent=True)))
        assert (step, code) == ("tls", "fetch_network")

    def test_a_ca_file_that_is_none(self, tmp_path: Path, serve: Callable[..., str]) -> None:
        url = serve(b"", certificate(tmp_path, "-days", "2"))
        assert failed(tried(url, ca_file=str(tmp_path / "none")))[:2] == ("tls", "fetch_tls")


@pytest.mark.parametrize(
    ("answer", "code"),
    [
        (reply("200 OK", b"<html>", Content_Type="text/html"), "fetch_portal"),
        (reply("511 Network Authentication Required"), "fetch_portal"),
        (reply("407 Proxy Authentication Required"), "fetch_proxy"),
        (reply("404 Not Found"), "fetch_status"),
        (reply("200 OK", b"{}"), "fetch_pointer"),
        (b"garbage\r\n\r\n", "fetch_network"),
    ],
)
def test_what_answers_in_the_repositorys_place(serve: Callable[..., str], answer: bytes, code: str) -> None:
    assert failed(tried(serve(answer)))[:2] == ("repository", code)


def test_a_repository_whose_signature_has_ended_by_this_clock(web: WebServer) -> None:
    step, code, detail = failed(tried(web.url, clock=Ahead(YEAR_S)))
    assert (step, code) == ("repository", "repository_stale")
    assert "signed until" in detail and "this terminal's date is" in detail


def test_a_bundle_that_is_gone_or_none(web: WebServer, tmp_path: Path, serve: Callable[..., str]) -> None:
    pointer = json.loads((web.root / "channels/stable.json").read_text())
    (web.root / "channels/gone.json").write_text(json.dumps({**pointer, "bundle": "bundles/none"}))
    assert failed(tried(web.url, channel="gone"))[:2] == ("repository", "fetch_status")
    (web.root / "bundles/nonsense").write_bytes(b"x" * 5000)
    (web.root / "channels/nonsense.json").write_text(
        json.dumps({**pointer, "bundle": "bundles/nonsense", "length": 5000})
    )
    result = tried(web.url, channel="nonsense")
    assert result["ok"] and result["steps"][4]["detail"] == "version 2.0.0 is offered", "the installer judges it"


@pytest.mark.parametrize(("metered", "most"), [(False, probe.RATE_BYTES), (True, probe.RATE_BYTES_METERED)])
def test_little_is_fetched_and_less_on_a_metered_link(
    web: WebServer, metered: bool, most: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(probe, "RATE_BYTES", 3 * probe.RATE_CHUNK_BYTES)
    monkeypatch.setattr(probe, "RATE_BYTES_METERED", 2 * probe.RATE_CHUNK_BYTES)
    chunks = 2 if metered else 3
    result = tried(web.url, metered=metered)
    assert result["steps"][-1]["detail"].startswith(f"{chunks * probe.RATE_CHUNK_BYTES} bytes in ")
    assert most <= 256 << 10


@given(st.binary(max_size=2000))
def test_no_beginning_of_a_file_can_hurt(head: bytes) -> None:
    assert expires_s(head) is None


@pytest.mark.parametrize("signed", ["7", "{}", '{"expires": 7}', '{"expires": "never"}', '{"expires": "99999-01-01"}'])
def test_a_timestamp_without_a_date_is_none(signed: str) -> None:
    import io
    import tarfile

    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=tarfile.USTAR_FORMAT) as tar:
        data = f'{{"signed": {signed}}}'.encode()
        entry = tarfile.TarInfo("metadata/timestamp.json")
        entry.size = len(data)
        tar.addfile(entry, io.BytesIO(data))
        tar.addfile(tarfile.TarInfo("targets/x"))
    assert expires_s(out.getvalue()) is None
