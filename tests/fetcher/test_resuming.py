"""What a resume over the network must not do: fetch again what is there, or take a stranger's bytes for the file's."""

from __future__ import annotations

import gzip
import hashlib
import json
import os
import random
import socket
import ssl
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from posagent.sim.webserver import WebServer
from tests.fetcher.test_against_nginx import SIZE, fetcher, finish, refusal, sha256
from tests.fetcher.test_bad_servers import KEPT, WHOLE, Scripted, begun, reply

pytestmark = pytest.mark.real


@pytest.fixture
def web(tmp_path: Path) -> Iterator[WebServer]:
    server = WebServer(tmp_path / "nginx", tmp_path / "root")
    yield server
    server.stop()


@pytest.fixture
def served(web: WebServer, tmp_path: Path) -> Path:
    path = tmp_path / "root/big.bundle"
    path.write_bytes(os.urandom(SIZE))
    return path


@pytest.fixture
def server() -> Iterator[Scripted]:
    made = Scripted()
    yield made
    made.close()


@pytest.mark.parametrize("announced", [False, True])
def test_a_cut_between_the_last_byte_and_the_final_name_fetches_nothing_again(
    web: WebServer, served: Path, tmp_path: Path, announced: bool
) -> None:
    args: dict[str, Any] = {"id": "u1", "source": f"{web.url}/big.bundle"}
    args |= {"length": SIZE, "sha256": sha256(served)} if announced else {}
    messages = fetcher(tmp_path).fetch(args)
    while next(messages)["progress"]["bytes_done"] < SIZE:
        pass
    messages.close()  # type: ignore[attr-defined]
    if announced:
        web.stop()  # the digest says that it is the right file; otherwise the server is asked whether it still is
    result = finish(fetcher(tmp_path).fetch(args))
    assert sha256(result["bundle"]) == sha256(served) and result["bytes_refetched"] == 0


def test_a_server_killed_twenty_times_at_random_moments_costs_nothing_that_arrived(
    web: WebServer, tmp_path: Path
) -> None:
    (tmp_path / "root/big.bundle").write_bytes(content := os.urandom(4 * SIZE))
    chosen, args = random.Random(11), {"id": "u1", "source": f"{web.url}/big.bundle"}
    web.stop()
    web.rate_limit = "256k"  # nginx sends the first second's worth at once
    for _ in range(20):
        web.start()
        messages = fetcher(tmp_path).fetch(args)
        for _ in range(chosen.randrange(1, 4)):
            next(messages)
        web.kill()
        assert refusal(messages).code in ("fetch_length", "fetch_network")
    web.rate_limit = ""
    web.start()
    result = finish(fetcher(tmp_path).fetch(args))
    assert Path(result["bundle"]).read_bytes() == content and result["bytes_refetched"] == 0


def test_another_digest_than_announced_begins_again(web: WebServer, served: Path, tmp_path: Path) -> None:
    args = {"id": "u1", "source": f"{web.url}/big.bundle", "length": SIZE, "sha256": "a" * 64}
    assert refusal(fetcher(tmp_path).fetch(args)).code == "fetch_changed"
    assert finish(fetcher(tmp_path).fetch({**args, "sha256": sha256(served)}))["bytes_refetched"] == SIZE


def test_a_portal_page_without_a_length_leaves_what_is_there(server: Scripted, tmp_path: Path) -> None:
    args = {"id": "u1", "source": server.url}
    chunked = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n%x\r\n%b\r\n" % (len(KEPT), KEPT)
    server.answers = [chunked]
    assert refusal(fetcher(tmp_path).fetch(args)).facts["bytes_done"] == len(KEPT)
    server.answers = [reply("200 OK", b"<html>pay here", Content_Type="text/html; charset=utf-8")]
    error = refusal(fetcher(tmp_path).fetch(args))
    assert error.code == "fetch_portal" and error.facts["bytes_done"] == len(KEPT)
    assert (tmp_path / "spool/u1.bundle").read_bytes() == KEPT


def test_a_portal_page_is_never_taken_for_a_bundle(server: Scripted, tmp_path: Path) -> None:
    server.answers = [reply("200 OK", b"<html>", Content_Length="6", Content_Type="Text/HTML")]
    assert refusal(fetcher(tmp_path).fetch({"id": "u1", "source": server.url})).code == "fetch_portal"


def test_a_compressed_body_is_not_stored(server: Scripted, tmp_path: Path) -> None:
    args, packed = begun(server, tmp_path), gzip.compress(WHOLE)
    server.answers = [reply("200 OK", packed, Content_Length=str(len(packed)), Content_Encoding="gzip")]
    assert refusal(fetcher(tmp_path).fetch(args)).code == "fetch_status"
    assert (tmp_path / "spool/u1.bundle").read_bytes() == KEPT


def test_a_range_with_a_body_of_another_length_is_refused_before_it_is_stored(server: Scripted, tmp_path: Path) -> None:
    args, rest = begun(server, tmp_path), f"bytes {len(KEPT)}-{len(WHOLE) - 1}/{len(WHOLE)}"
    for length in (5, len(WHOLE)):
        server.answers = [reply("206 Partial Content", b"wrong", Content_Range=rest, Content_Length=str(length))]
        assert refusal(fetcher(tmp_path).fetch(args)).code == "fetch_length"
    assert (tmp_path / "spool/u1.bundle").read_bytes() == KEPT


def test_a_body_without_a_length_that_ends_too_early_is_not_the_announced_file(
    server: Scripted, tmp_path: Path
) -> None:
    server.answers = [reply("200 OK", KEPT)]
    error = refusal(fetcher(tmp_path).fetch({"id": "u1", "source": server.url, "length": len(WHOLE)}))
    assert error.code == "fetch_length" and error.facts["bytes_done"] == len(KEPT)


@pytest.mark.parametrize(
    ("first", "second", "total"),
    [
        ({"ETag": '"one"'}, {"ETag": '"two"'}, len(WHOLE)),
        ({"ETag": '"one"'}, {"ETag": '"one"'}, len(WHOLE) + 5),
        ({}, {}, len(WHOLE) + 5),
        ({"Last_Modified": "Mon, 01 Jan 2024 00:00:00 GMT"}, {"Last_Modified": "never"}, len(WHOLE)),
    ],
    ids=["another ETag", "another length", "another length, no validator", "another date"],
)
def test_the_rest_of_another_file_is_not_taken_from_a_server_that_ignores_if_range(
    server: Scripted, tmp_path: Path, first: dict[str, str], second: dict[str, str], total: int
) -> None:
    args = {"id": "u1", "source": server.url}
    server.answers = [reply("200 OK", KEPT, Content_Length=str(len(WHOLE)), **first)]
    assert refusal(fetcher(tmp_path).fetch(args)).code == "fetch_length"
    rest, new = f"bytes {len(KEPT)}-{len(WHOLE) - 1}/{total}", b"n" * total
    server.answers = [
        reply("206 Partial Content", new[len(KEPT) : len(WHOLE)], Content_Range=rest, **second),
        reply("200 OK", new, Content_Length=str(total), **second),
    ]
    result = finish(fetcher(tmp_path).fetch(args))
    assert Path(result["bundle"]).read_bytes() == new and result["bytes_refetched"] == len(KEPT)


DATES = [{"Last_Modified": f"Mon, 0{day} Jan 2024 00:00:00 GMT"} for day in (1, 8)]


@pytest.mark.parametrize("whole", [True, False], ids=["finished", "all there"])
@pytest.mark.parametrize(
    ("first", "second"),
    [({"ETag": '"one"'}, {"ETag": '"two"'}), (DATES[0], DATES[1]), ({"ETag": '"one"'}, DATES[1]), ({}, {})],
    ids=["another ETag", "another date", "another validator", "no validator"],
)
def test_another_file_under_the_same_address_is_not_taken_for_the_one_of_an_earlier_request(
    server: Scripted, tmp_path: Path, first: dict[str, str], second: dict[str, str], whole: bool
) -> None:
    args, other = {"id": "u1", "source": server.url}, b"n" * len(WHOLE)
    server.answers = [reply("200 OK", WHOLE, Content_Length=str(len(WHOLE)), **first)]
    fetch_all(tmp_path, args, whole)
    last = f"bytes {len(WHOLE) - 1}-{len(WHOLE) - 1}/{len(WHOLE)}"
    server.answers = [
        reply("206 Partial Content", b"n", Content_Range=last, **second),
        reply("200 OK", other, Content_Length=str(len(WHOLE)), **second),
    ]
    assert Path(finish(fetcher(tmp_path).fetch(args))["bundle"]).read_bytes() == other


def test_a_shorter_file_under_the_same_address_is_fetched(server: Scripted, tmp_path: Path) -> None:
    args = {"id": "u1", "source": server.url}
    server.answers = [reply("200 OK", WHOLE, Content_Length=str(len(WHOLE)), ETag='"one"')]
    fetch_all(tmp_path, args, True)
    server.answers = [reply("416 No"), reply("200 OK", KEPT, Content_Length=str(len(KEPT)), ETag='"two"')]
    assert Path(finish(fetcher(tmp_path).fetch(args))["bundle"]).read_bytes() == KEPT


@pytest.mark.parametrize("whole", [True, False], ids=["finished", "all there"])
@pytest.mark.parametrize("validator", [{"ETag": '"one"'}, DATES[0]], ids=["ETag", "date"])
@pytest.mark.parametrize("ranges", ["ranges", "ranges, not repeated", "no ranges", "no length"])
def test_the_same_file_is_not_fetched_again(
    server: Scripted, tmp_path: Path, validator: dict[str, str], ranges: str, whole: bool
) -> None:
    args = {"id": "u1", "source": server.url}
    server.answers = [reply("200 OK", WHOLE, Content_Length=str(len(WHOLE)), **validator)]
    fetch_all(tmp_path, args, whole)
    last = f"bytes {len(WHOLE) - 1}-{len(WHOLE) - 1}/{len(WHOLE)}"
    server.answers = [
        {
            "ranges": reply("206 Partial Content", b"w", Content_Range=last, **validator),
            "ranges, not repeated": reply("206 Partial Content", b"w", Content_Range=last),
            "no ranges": reply("200 OK", WHOLE, Content_Length=str(len(WHOLE)), **validator),
            "no length": reply("200 OK", WHOLE, **validator),
        }[ranges]
    ]
    result = finish(fetcher(tmp_path).fetch(args))
    assert Path(result["bundle"]).read_bytes() == WHOLE and result["bytes_refetched"] == 0
    assert f"Range: bytes={len(WHOLE) - 1}-".encode() in server.asked[-1] and b"If-Range: " in server.asked[-1]


def test_a_file_whose_server_is_away_is_not_believed_without_asking(server: Scripted, tmp_path: Path) -> None:
    args = {"id": "u1", "source": server.url}
    server.answers = [reply("200 OK", WHOLE, Content_Length=str(len(WHOLE)), ETag='"one"')]
    fetch_all(tmp_path, args, True)
    assert refusal(fetcher(tmp_path).fetch(args)).code == "fetch_network"
    assert (tmp_path / "spool/u1.bundle").exists(), "it may still be the one"


def test_the_rest_of_a_file_without_a_common_validator_is_not_taken(server: Scripted, tmp_path: Path) -> None:
    args = {"id": "u1", "source": server.url}
    server.answers = [reply("200 OK", KEPT, Content_Length=str(len(WHOLE)), ETag='"one"')]
    assert refusal(fetcher(tmp_path).fetch(args)).code == "fetch_length"
    rest, new = f"bytes {len(KEPT)}-{len(WHOLE) - 1}/{len(WHOLE)}", b"n" * len(WHOLE)
    server.answers = [
        reply("206 Partial Content", new[len(KEPT) :], Content_Range=rest, **DATES[1]),
        reply("200 OK", new, Content_Length=str(len(new)), **DATES[1]),
    ]
    assert Path(finish(fetcher(tmp_path).fetch(args))["bundle"]).read_bytes() == new


def fetch_all(tmp_path: Path, args: dict[str, Any], whole: bool) -> None:
    """Fetch the file; without its last step, as after a power cut, where it is not to be `whole`."""
    messages = fetcher(tmp_path).fetch(args)
    if whole:
        finish(messages)
        return
    while next(messages)["progress"]["bytes_done"] < len(WHOLE):
        pass
    messages.close()  # type: ignore[attr-defined]


def test_every_trouble_says_how_many_bytes_are_there(server: Scripted, tmp_path: Path) -> None:
    args = begun(server, tmp_path)
    server.answers = [reply("503 Busy", Retry_After="7")]
    assert refusal(fetcher(tmp_path).fetch(args)).facts == {"retry_after_s": 7, "bytes_done": len(KEPT)}
    server.answers = [b""]
    assert refusal(fetcher(tmp_path).fetch(args)).facts == {"bytes_done": len(KEPT)}


@pytest.mark.parametrize("location", ["http://[::1", "https://[/", "//[x]"])
def test_a_redirect_to_no_address_is_coded(server: Scripted, tmp_path: Path, location: str) -> None:
    server.answers = [reply("302 Found", Location=location)]
    error = refusal(fetcher(tmp_path).fetch({"id": "u1", "source": server.url}))
    assert error.code in ("fetch_network", "fetch_status", "fetch_insecure")


def test_a_redirect_to_the_file_is_followed(web: WebServer, served: Path, server: Scripted, tmp_path: Path) -> None:
    server.answers = [reply("302 Found", Location=f"{web.url}/big.bundle")]
    assert finish(fetcher(tmp_path).fetch({"id": "u1", "source": server.url}))["length"] == SIZE


class TestLook:
    def test_the_announcement_is_read_from_a_repository(self, web: WebServer, served: Path, tmp_path: Path) -> None:
        digest = hashlib.sha256(served.read_bytes()).hexdigest()
        pointer = {"format": 1, "version": "2.0.0", "bundle": "big.bundle", "length": SIZE, "sha256": digest}
        (tmp_path / "root/channels").mkdir()
        (tmp_path / "root/channels/pilot.json").write_text(json.dumps(pointer))
        looking = fetcher(tmp_path, repository_url=f"{web.url}/", channel="pilot")
        offer = finish(looking.look({}))["offer"]
        assert offer.pop("room") > SIZE
        told = {"version": "2.0.0", "length": SIZE, "sha256": digest, "payloads": []}
        told |= {"conditions": [], "contents": [], "not_after": 0, "reason": ""}
        assert offer == {**told, "url": f"{web.url}/big.bundle"}
        assert finish(looking.fetch({"id": "u1", "source": offer["url"], **offer}))["length"] == SIZE

    def test_a_channel_that_does_not_exist_is_a_status(self, web: WebServer, tmp_path: Path) -> None:
        assert refusal(fetcher(tmp_path, repository_url=web.url).look({})).code == "fetch_status"

    def test_no_repository_is_said(self, tmp_path: Path) -> None:
        assert refusal(fetcher(tmp_path).look({})).code == "fetch_pointer"

    def test_an_announcement_that_drips_is_a_stall(self, tmp_path: Path) -> None:
        with Dripping() as url:
            assert refusal(fetcher(tmp_path, repository_url=url, stall_timeout_s=1).look({})).code == "fetch_stalled"


class Dripping:
    """A server that never stops, but sends only a byte a tenth of a second."""

    def __enter__(self) -> str:
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._over = threading.Event()
        threading.Thread(target=self._serve, daemon=True).start()
        return f"http://127.0.0.1:{self._listener.getsockname()[1]}"

    def _serve(self) -> None:
        connection, _ = self._listener.accept()
        with connection:
            try:
                connection.sendall(reply("200 OK"))
                while not self._over.wait(0.1):
                    connection.sendall(b" ")
            except OSError:
                pass  # the fetcher had enough

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._listener.close()


def certificate(base: Path, *dates: str) -> ssl.SSLContext:
    """A server's context with a certificate for 127.0.0.1 in base/cert.pem; `dates` are openssl's own options."""
    subprocess.run(
        f"openssl req -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -subj /CN=pos "
        f"-addext subjectAltName=IP:127.0.0.1 -keyout {base}/key.pem -out {base}/request.pem".split(),
        check=True,
        capture_output=True,
    )
    (base / "index").touch()
    (base / "ca.conf").write_text(
        f"[ca]\ndefault_ca=one\n[one]\ndatabase={base}/index\nnew_certs_dir={base}\nserial={base}/serial\n"
        "default_md=sha256\npolicy=any\ncopy_extensions=copy\n[any]\ncommonName=supplied\n"
    )
    subprocess.run(
        f"openssl ca -batch -selfsign -notext -create_serial -config {base}/ca.conf -keyfile {base}/key.pem "
        f"-in {base}/request.pem -out {base}/cert.pem".split()
        + list(dates),
        check=True,
        capture_output=True,
    )
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(base / "cert.pem", base / "key.pem")
    return context


def answering_once(context: ssl.SSLContext | None, answer: bytes) -> str:
    """The https address of a server for one connection; without a context it hangs up during the handshake."""
    listener = socket.create_server(("127.0.0.1", 0))

    def serve() -> None:
        with listener, listener.accept()[0] as connection:
            try:
                if context is None:
                    connection.recv(65536)
                    return
                with context.wrap_socket(connection, server_side=True) as secured:
                    secured.recv(65536)
                    secured.sendall(answer)
            except OSError:
                pass  # the fetcher refused the certificate

    threading.Thread(target=serve, daemon=True).start()
    return f"https://127.0.0.1:{listener.getsockname()[1]}/b"


class TestTls:
    def test_an_expired_certificate_is_refused(self, tmp_path: Path) -> None:
        context = certificate(tmp_path, "-startdate", "20200101000000Z", "-enddate", "20200102000000Z")
        trusting = fetcher(tmp_path, ca_file=str(tmp_path / "cert.pem"))
        error = refusal(trusting.fetch({"id": "u1", "source": answering_once(context, reply("200 OK", b"x"))}))
        assert error.code == "fetch_tls" and "expired" in error.detail

    def test_no_redirect_leads_from_https_to_http_even_where_http_is_allowed(
        self, server: Scripted, tmp_path: Path
    ) -> None:
        context = certificate(tmp_path, "-days", "2")
        source = answering_once(context, reply("302 Found", Location=server.url))
        trusting = fetcher(tmp_path, ca_file=str(tmp_path / "cert.pem"), allow_http=True)
        assert refusal(trusting.fetch({"id": "u1", "source": source})).code == "fetch_insecure"
        assert server.asked == []

    def test_a_link_that_breaks_during_the_handshake_is_the_networks_fault(self, tmp_path: Path) -> None:
        assert refusal(fetcher(tmp_path).fetch({"id": "u1", "source": answering_once(None, b"")})).code == (
            "fetch_network"
        )
