"""Backups that somebody changed: none opens, nothing is believed of them, and not much of them is read."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import shutil
import tracemalloc
from collections.abc import Callable, Iterator

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from posagent.core.errors import PosagentError
from posagent.data.backup import Backups
from posagent.data.container import CHUNK_BYTES, FRAME_BYTES_MAX, HEAD_BYTES_MAX, MAGIC, Header, Reader, Writer
from posagent.platform.storage import LinuxFiles
from tests.data.shop import Shop

SEALED_BYTES = CHUNK_BYTES + 16
HEADER = Header(name="u-1", terminal="till-7", slot="a", version="1.0", update_id="u-1", made_at=1.0)


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Shop:
    """With two backups: u-1 and, a payment later, u-2."""
    shop = Shop(tmp_path_factory.mktemp("hostile")).open()
    shop.make("u-1")
    shop.take(1)
    shop.make("u-2")
    return shop


@pytest.fixture(autouse=True)
def as_it_was(shop: Shop) -> Iterator[None]:
    kept = {name: shop.file(name).read_bytes() for name in ("u-1", "u-2")}
    yield
    for name, data in kept.items():
        shop.file(name).write_bytes(data)
    shutil.rmtree(shop.root / "out", ignore_errors=True)


def refused(shop: Shop, data: bytes, code: str = "data_backup_corrupt") -> str:
    """By both ways of opening it; nothing stays of it. What was said."""
    shop.file().write_bytes(data)
    said = ""
    for work in (shop.backups.verify("u-1"), shop.backups.restore("u-1", str(shop.root / "out"))):
        with pytest.raises(PosagentError) as caught:
            list(work)
        assert caught.value.code == code, caught.value
        said = caught.value.detail
    assert "scratch" not in shop.left()
    return said


def parts(data: bytes) -> tuple[bytes, bytes, list[bytes]]:
    """First line, header, chunks."""
    first, header, body = data.split(b"\n", 2)
    return first, header, [body[at : at + SEALED_BYTES] for at in range(0, len(body), SEALED_BYTES)]


def joined(header: bytes, chunks: list[bytes]) -> bytes:
    """With a first line that belongs to the header: anybody can make it."""
    return b"\n".join((MAGIC + hashlib.sha256(header).hexdigest().encode(), header, b"".join(chunks)))


@given(st.data())
@settings(max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_change_is_noticed(shop: Shop, data: st.DataObject) -> None:
    good = shop.file("u-2").read_bytes()
    mine = Backups.names(shop.backups)
    assert mine == ["u-1", "u-2"]
    at = data.draw(st.one_of(st.integers(0, 600), st.integers(0, len(good) - 1)))
    how = data.draw(st.sampled_from(["flip", "cut", "put", "drop", "noise"]))
    some = data.draw(st.binary(min_size=1, max_size=40))
    changed = {
        "flip": good[:at] + bytes([good[at] ^ (some[0] or 1)]) + good[at + 1 :],
        "cut": good[:at],
        "put": good[:at] + some + good[at:],
        "drop": good[:at] + good[at + len(some) :],
        "noise": some,
    }[how]
    shop.file("u-2").write_bytes(changed)
    try:
        with pytest.raises(PosagentError) as caught:
            list(shop.backups.verify("u-2"))
        assert caught.value.code == "data_backup_corrupt", caught.value
        with pytest.raises(PosagentError):
            list(shop.backups.restore("u-2", str(shop.root / "out")))
    finally:
        shop.file("u-2").write_bytes(good)


def test_it_cannot_be_cut_short_doubled_or_put_into_another_order(shop: Shop) -> None:
    _, header, chunks = parts(shop.file().read_bytes())
    assert len(chunks) >= 3
    for other in (
        chunks[:-1],
        chunks[:1],
        [],
        [*chunks, chunks[-1]],
        [chunks[0], *chunks],
        [chunks[1], chunks[0], *chunks[2:]],
        [*chunks[1:]],
        [*chunks[:-1], chunks[-1][:-1]],
        [*chunks[:-1], chunks[-1] + b"\0"],
    ):
        refused(shop, joined(header, other))


def test_a_cut_at_every_place_near_the_ends_is_noticed(shop: Shop) -> None:
    data = shop.file().read_bytes()
    for at in [*range(0, 700, 7), *range(len(data) - 40, len(data))]:
        refused(shop, data[:at])


def test_headers_cannot_be_exchanged_between_backups(shop: Shop) -> None:
    _, first, chunks = parts(shop.file("u-1").read_bytes())
    _, second, others = parts(shop.file("u-2").read_bytes())
    mixed = json.dumps({**json.loads(second), "name": "u-1"}).encode()
    for header, body in ((mixed, chunks), (first, others), (first, [others[0], *chunks[1:]])):
        refused(shop, joined(header, body))


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("terminal", "till-8"),
        ("slot", "b"),
        ("version", "2.0"),
        ("update_id", "u-9"),
        ("made_at", 5.0),
        ("key", "00" * 40),
    ],
)
def test_nothing_in_the_header_can_be_changed(shop: Shop, key: str, value: object) -> None:
    _, header, chunks = parts(shop.file().read_bytes())
    refused(shop, joined(json.dumps({**json.loads(header), key: value}).encode(), chunks))
    with pytest.raises(PosagentError, match="data_backup_corrupt"):
        shop.backups.opened("u-1")


def test_a_backup_is_not_taken_for_another(shop: Shop) -> None:
    assert "'u-2' by its header" in refused(shop, shop.file("u-2").read_bytes())


def test_another_keys_backup_is_told_from_a_damaged_one(shop: Shop) -> None:
    _, header, chunks = parts(shop.file().read_bytes())
    other = joined(json.dumps({**json.loads(header), "key_name": "0123456789abcdef"}).encode(), chunks)
    refused(shop, other, "data_key")
    with pytest.raises(PosagentError, match="data_key"):
        shop.backups.opened("u-1")


@pytest.mark.parametrize(
    "header",
    [
        b"",
        b"{",
        b"[]",
        b"null",
        b'{"name": "u-1"}',
        b"[" * 3000,
        json.dumps({**dataclasses.asdict(HEADER), "more": 1}).encode(),
        json.dumps({**dataclasses.asdict(HEADER), "made_at": "x"}).encode(),
        json.dumps({**dataclasses.asdict(HEADER), "name": 1}).encode(),
        json.dumps({**dataclasses.asdict(HEADER), "key": "no"}).encode(),
        json.dumps({**dataclasses.asdict(HEADER), "version": "x" * HEAD_BYTES_MAX}).encode(),
    ],
)
def test_headers_that_are_none_are_refused(shop: Shop, header: bytes) -> None:
    refused(shop, joined(header, [bytes(100)]))


class Counting(LinuxFiles):
    """How many bytes were read."""

    read_bytes = 0

    def read(self, path: str, offset: int = 0, length: int | None = None) -> bytes:
        data = super().read(path, offset, length)
        self.read_bytes += len(data)
        return data


def test_a_strangers_file_is_refused_before_much_of_it_is_read(shop: Shop) -> None:
    _, header, _ = parts(shop.file().read_bytes())
    for data, most in ((bytes(20 << 20), HEAD_BYTES_MAX), (joined(header, [bytes(20 << 20)]), 100_000)):
        shop.file().write_bytes(data)
        files = Counting()
        with pytest.raises(PosagentError, match="data_backup_corrupt"):
            Reader(files, str(shop.file()), shop.keys).proved()
        assert files.read_bytes <= most


def written(shop: Shop, frames: Callable[[Writer], None]) -> None:
    """A file that this terminal's key sealed: only a fault of our own could make it."""
    shop.file().unlink()
    writer = Writer(LinuxFiles(), str(shop.file()), HEADER, shop.keys, lambda count: bytes(range(count)))
    frames(writer)
    writer.end()


E, T, Z = b'{"path":"x","kind":"file"}', b'{"bytes":0,"sha256":"","rows":0}', b'{"files":0}'


@pytest.mark.parametrize(
    "frames",
    [
        [],
        [(b"Z", Z)],
        [(b"D", b"x")],
        [(b"T", T)],
        [(b"E", E), (b"E", E)],
        [(b"E", E), (b"Z", Z)],
        [(b"E", E), (b"T", T)],
        [(b"E", E), (b"T", b"{}")],
        [(b"E", E), (b"T", b"[")],
        [(b"E", b'{"path":"x","kind":"dir"}'), (b"D", b"x")],
        [(b"E", b'{"path":"x","kind":"link"}')],
        [(b"E", b'{"path":"../x","kind":"file"}')],
        [(b"E", b'{"path":"/etc/x","kind":"file"}')],
        [(b"E", b'{"path":"a/./x","kind":"file"}')],
        [(b"E", b'{"path":"a\\u0000b","kind":"file"}')],
        [(b"E", b'{"path":1,"kind":"file"}')],
        [(b"?", b"")],
    ],
)
def test_even_what_is_authentic_has_to_make_sense(shop: Shop, frames: list[tuple[bytes, bytes]]) -> None:

    def all_of_them(writer: Writer) -> None:
        for letter, data in frames:
            writer.frame(letter, data)

    written(shop, all_of_them)
    refused(shop, shop.file().read_bytes())
    assert not (shop.root / "x").exists()


def test_a_well_compressed_file_needs_no_more_memory(shop: Shop) -> None:
    """64 MB of zeros, 300 kB in the file."""

    def zeros(writer: Writer) -> None:
        writer.frame(b"E", E)
        for _ in range(1024):
            writer.frame(b"D", bytes(FRAME_BYTES_MAX))

    written(shop, zeros)
    assert shop.file().stat().st_size < 400_000
    reader = Reader(LinuxFiles(), str(shop.file()), shop.keys)
    tracemalloc.start()
    try:
        count = sum(1 for _ in reader.frames())
        assert count == 1025
        assert tracemalloc.get_traced_memory()[1] < 2_000_000
    finally:
        tracemalloc.stop()
