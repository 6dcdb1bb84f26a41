"""Downloads from a real nginx that is killed, slowed, truncated and changed on the way."""

from __future__ import annotations

import hashlib
import json
import os
import random
import subprocess
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from posagent.config import FetchConfig
from posagent.core.errors import FetchError
from posagent.core.ports import Clock, Message
from posagent.fetcher.download import Fetcher
from posagent.fetcher.spool import BLOCK_BYTES
from posagent.platform.host import LinuxClock
from posagent.platform.storage import LinuxFiles, open_inside
from posagent.sim.webserver import WebServer

pytestmark = pytest.mark.real

CHECKPOINT = 64 * 1024
SIZE = 3 << 20


@pytest.fixture(scope="module")
def web(tmp_path_factory: pytest.TempPathFactory) -> Iterator[WebServer]:
    base = tmp_path_factory.mktemp("web")
    server = WebServer(base / "nginx", base / "root")
    yield server
    server.stop()


@pytest.fixture
def served(web: WebServer) -> Path:
    path = web.root / "big.bundle"
    path.write_bytes(os.urandom(SIZE))
    return path


ALL = [[0, 1 << 40]]


class WholeFetcher(Fetcher):
    """Fetches all of a file, whatever its length."""

    def fetch(self, args: Mapping[str, Any]) -> Iterator[Message]:
        return super().fetch({"pieces": ALL, **args})


def fetcher(tmp_path: Path, *, clock: Clock | None = None, **changes: Any) -> Fetcher:
    settings: dict[str, Any] = {
        "spool_dir": str(tmp_path / "spool"),
        "allow_http": True,
        "checkpoint_bytes": CHECKPOINT,
        "keep_free_bytes": 0,
        "stall_timeout_s": 5,
        **changes,
    }
    return WholeFetcher(
        FetchConfig(**settings), LinuxFiles(), clock or LinuxClock(), lambda path: open_inside("/", path)
    )


def finish(messages: Iterator[Message]) -> dict[str, Any]:
    *_, last = messages
    result: dict[str, Any] = last["result"]
    return result


def sha256(path: str | Path) -> str:
    return hashlib.sha256(Path(path).read_bytes()).hexdigest()


def refusal(messages: Iterator[Message]) -> FetchError:
    with pytest.raises(FetchError) as caught:
        finish(messages)
    return caught.value


def test_a_whole_download(web: WebServer, served: Path, tmp_path: Path) -> None:
    args = {"id": "u1", "source": f"{web.url}/big.bundle", "length": SIZE}
    result = finish(fetcher(tmp_path).fetch(args))
    assert sha256(result["bundle"]) == sha256(served) and result["bytes_refetched"] == 0
    assert finish(fetcher(tmp_path).fetch(args)) == result, "asked again, nothing is fetched"


def test_twenty_hang_ups_at_random_moments_lose_nothing_that_arrived(
    web: WebServer, served: Path, tmp_path: Path
) -> None:
    chosen = random.Random(4)
    args = {"id": "u1", "source": f"{web.url}/big.bundle"}
    for _ in range(20):
        messages, until = fetcher(tmp_path).fetch(args), chosen.randrange(1, 4)
        for _, message in zip(range(until), messages, strict=False):
            if "result" in message:
                break
        messages.close()  # type: ignore[attr-defined]
    result = finish(fetcher(tmp_path).fetch(args))
    assert sha256(result["bundle"]) == sha256(served) and result["bytes_refetched"] == 0


def test_a_power_cut_costs_at_most_what_was_not_synced(web: WebServer, served: Path, tmp_path: Path) -> None:
    messages = fetcher(tmp_path).fetch({"id": "u1", "source": f"{web.url}/big.bundle"})
    for message in messages:
        if message["progress"]["bytes_done"] > SIZE // 2:
            break
    messages.close()  # type: ignore[attr-defined]
    part = tmp_path / "spool/u1.bundle"
    kept = part.stat().st_size
    with part.open("ab") as stream:
        stream.write(b"garbage after the last sync")
    result = finish(fetcher(tmp_path).fetch({"id": "u1", "source": f"{web.url}/big.bundle"}))
    assert kept > SIZE // 2
    assert sha256(result["bundle"]) == sha256(served) and result["bytes_refetched"] == 27 + kept % BLOCK_BYTES


def test_what_changed_beyond_the_last_sync_is_fetched_again(web: WebServer, served: Path, tmp_path: Path) -> None:
    args = {"id": "u1", "source": f"{web.url}/big.bundle"}
    messages = fetcher(tmp_path).fetch(args)
    while next(messages)["progress"]["bytes_done"] < SIZE // 2:
        pass
    messages.close()  # type: ignore[attr-defined]
    part, record = tmp_path / "spool/u1.bundle", tmp_path / "spool/u1.json"
    kept, known = part.stat().st_size, json.loads(record.read_text())
    begin = (kept - CHECKPOINT) // BLOCK_BYTES * BLOCK_BYTES
    record.write_text(json.dumps({**known, "pieces": [[0, kept - CHECKPOINT]]}))
    with part.open("r+b") as stream:
        stream.seek(kept - CHECKPOINT)
        stream.write(bytes(CHECKPOINT))
    result = finish(fetcher(tmp_path).fetch(args))
    assert sha256(result["bundle"]) == sha256(served) and result["bytes_refetched"] == kept - begin


def test_bytes_of_another_source_are_not_continued(web: WebServer, served: Path, tmp_path: Path) -> None:
    (web.root / "other.bundle").write_bytes(os.urandom(SIZE))
    messages = fetcher(tmp_path).fetch({"id": "u1", "source": f"{web.url}/other.bundle"})
    next(messages)
    messages.close()  # type: ignore[attr-defined]
    result = finish(fetcher(tmp_path).fetch({"id": "u1", "source": f"{web.url}/big.bundle"}))
    assert sha256(result["bundle"]) == sha256(served)


def test_a_damaged_record_begins_again(web: WebServer, served: Path, tmp_path: Path) -> None:
    messages = fetcher(tmp_path).fetch({"id": "u1", "source": f"{web.url}/big.bundle"})
    next(messages)
    messages.close()  # type: ignore[attr-defined]
    for damage in (b"", b"{", b'{"source": 3}', b"[1]", b'{"nonsense": 1}'):
        (tmp_path / "spool/u1.json").write_bytes(damage)
        next(opened := fetcher(tmp_path).fetch({"id": "u1", "source": f"{web.url}/big.bundle"}))
        opened.close()  # type: ignore[attr-defined]
    result = finish(fetcher(tmp_path).fetch({"id": "u1", "source": f"{web.url}/big.bundle"}))
    assert sha256(result["bundle"]) == sha256(served)


def test_a_killed_server_that_comes_back_is_resumed(tmp_path: Path) -> None:
    server = WebServer(tmp_path / "nginx", tmp_path / "root", rate_limit="1m")
    try:
        (tmp_path / "root/b").write_bytes(os.urandom(SIZE // 2))
        args = {"id": "u1", "source": f"{server.url}/b"}
        messages = fetcher(tmp_path).fetch(args)
        next(messages)
        server.kill()
        error = refusal(messages)
        assert error.code in ("fetch_length", "fetch_network") and error.facts["bytes_done"] > 0
        assert refusal(fetcher(tmp_path).fetch(args)).code == "fetch_network", "nobody is there"
        server.rate_limit = ""
        server.start()
        result = finish(fetcher(tmp_path).fetch(args))
        assert sha256(result["bundle"]) == sha256(tmp_path / "root/b") and result["bytes_refetched"] == 0
    finally:
        server.stop()


@pytest.mark.parametrize("size", [SIZE, SIZE - 4096, SIZE + 4096])
def test_a_file_that_changes_in_mid_download_is_begun_again(
    web: WebServer, served: Path, tmp_path: Path, size: int
) -> None:
    args = {"id": "u1", "source": f"{web.url}/big.bundle"}
    messages = fetcher(tmp_path).fetch(args)
    for message in messages:
        if message["progress"]["bytes_done"] > SIZE // 2:
            break
    messages.close()  # type: ignore[attr-defined]
    served.unlink()
    served.write_bytes(os.urandom(size))
    os.utime(served, (1_600_000_000, 1_600_000_000))
    result = finish(fetcher(tmp_path).fetch(args))
    assert sha256(result["bundle"]) == sha256(served) and result["bytes_refetched"] > SIZE // 2


def test_a_file_that_is_truncated_on_the_server_begins_again(web: WebServer, served: Path, tmp_path: Path) -> None:
    args = {"id": "u1", "source": f"{web.url}/big.bundle"}
    messages = fetcher(tmp_path).fetch(args)
    for message in messages:
        if message["progress"]["bytes_done"] > SIZE // 2:
            break
    messages.close()  # type: ignore[attr-defined]
    os.truncate(served, 1000)  # a range beyond its end: 416
    os.utime(served, (1_600_000_000, 1_600_000_000))
    assert finish(fetcher(tmp_path).fetch(args))["length"] == 1000
    announced = {**args, "id": "u2", "length": SIZE}
    assert refusal(fetcher(tmp_path).fetch(announced)).code == "fetch_changed"


def test_a_file_that_is_truncated_under_nginx_hands_ends_with_its_code_and_then_with_the_new_file(
    tmp_path: Path,
) -> None:
    server = WebServer(tmp_path / "nginx", tmp_path / "root", rate_limit="1m")
    try:
        (tmp_path / "root/b").write_bytes(os.urandom(SIZE))
        args = {"id": "u1", "source": f"{server.url}/b"}
        messages = fetcher(tmp_path).fetch(args)
        next(messages)
        os.truncate(tmp_path / "root/b", 5000)
        assert refusal(messages).code == "fetch_length"
        assert sha256(finish(fetcher(tmp_path).fetch(args))["bundle"]) == sha256(tmp_path / "root/b")
    finally:
        server.stop()


def test_what_is_announced_too_large_is_not_begun(web: WebServer, served: Path, tmp_path: Path) -> None:
    limited = fetcher(tmp_path, download_bytes_max=SIZE - 1)
    args = {"id": "u1", "source": f"{web.url}/big.bundle"}
    assert refusal(limited.fetch(args)).code == "fetch_too_large"
    assert refusal(limited.fetch({**args, "length": SIZE})).code == "fetch_too_large"


def test_a_full_spool_is_said_before_a_byte_is_fetched(web: WebServer, served: Path, tmp_path: Path) -> None:
    full = fetcher(tmp_path, keep_free_bytes=2**40)
    error = refusal(full.fetch({"id": "u1", "source": f"{web.url}/big.bundle"}))
    assert error.code == "spool_full" and "must stay free" in error.detail


def test_a_missing_file_is_a_status(web: WebServer, tmp_path: Path) -> None:
    error = refusal(fetcher(tmp_path).fetch({"id": "u1", "source": f"{web.url}/none"}))
    assert error.code == "fetch_status" and "404" in error.detail


def test_plain_http_needs_to_be_allowed(web: WebServer, tmp_path: Path) -> None:
    strict = fetcher(tmp_path, allow_http=False)
    assert refusal(strict.fetch({"id": "u1", "source": f"{web.url}/big.bundle"})).code == "fetch_insecure"


@pytest.mark.parametrize("name", ["../etc", "a/b", "", ".", "x" * 65, "a\n"])
def test_an_id_never_leaves_the_spool(tmp_path: Path, name: str) -> None:
    for verb in (fetcher(tmp_path).fetch, fetcher(tmp_path).discard):
        with pytest.raises(FetchError, match="bad_request"):
            finish(verb({"id": name, "source": "/x"}))
    with pytest.raises(FetchError, match="bad_request"):
        finish(fetcher(tmp_path).discard({"keep": name}))


def test_discard_removes_one_or_all_others(web: WebServer, served: Path, tmp_path: Path) -> None:
    for name in ("u1", "u2", "u3"):
        finish(fetcher(tmp_path).fetch({"id": name, "source": f"{web.url}/big.bundle"}))
    finish(fetcher(tmp_path).discard({"id": "u1"}))
    finish(fetcher(tmp_path).discard({"keep": "u3"}))
    assert {path.name for path in (tmp_path / "spool").iterdir()} == {"u3.bundle", "u3.json"}
    finish(fetcher(tmp_path).discard({"keep": None}))
    assert list((tmp_path / "spool").iterdir()) == []


@pytest.fixture(scope="module")
def tls(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[WebServer, Path]]:
    """nginx with a certificate of its own."""
    base = tmp_path_factory.mktemp("tls")
    subprocess.run(
        f"openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2 -subj /CN=localhost "
        f"-addext subjectAltName=IP:127.0.0.1 -keyout {base}/key.pem -out {base}/cert.pem".split(),
        check=True,
        capture_output=True,
    )
    server = WebServer(base / "nginx", base / "root", certificate=base / "cert.pem", key=base / "key.pem")
    (base / "root/b").write_bytes(b"x" * 1000)
    yield server, base / "cert.pem"
    server.stop()


class TestTls:
    def test_a_certificate_nobody_vouches_for_is_refused(self, tls: tuple[WebServer, Path], tmp_path: Path) -> None:
        strict = fetcher(tmp_path, allow_http=False)
        assert refusal(strict.fetch({"id": "u1", "source": f"{tls[0].url}/b"})).code == "fetch_tls"

    def test_the_configured_authority_is_enough(self, tls: tuple[WebServer, Path], tmp_path: Path) -> None:
        trusting = fetcher(tmp_path, allow_http=False, ca_file=str(tls[1]))
        assert finish(trusting.fetch({"id": "u1", "source": f"{tls[0].url}/b"}))["length"] == 1000

    def test_another_host_name_is_refused(self, tls: tuple[WebServer, Path], tmp_path: Path) -> None:
        trusting = fetcher(tmp_path, allow_http=False, ca_file=str(tls[1]))
        url = tls[0].url.replace("127.0.0.1", "localhost")
        assert refusal(trusting.fetch({"id": "u1", "source": f"{url}/b"})).code == "fetch_tls"

    def test_a_ca_file_that_is_none_is_said(self, tls: tuple[WebServer, Path], tmp_path: Path) -> None:
        for ca_file in (tmp_path / "none", tls[1].with_name("key.pem")):
            lost = fetcher(tmp_path, ca_file=str(ca_file))
            assert refusal(lost.fetch({"id": "u1", "source": f"{tls[0].url}/b"})).code == "fetch_tls"
