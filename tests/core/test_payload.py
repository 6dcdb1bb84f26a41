"""The header of a payload is read within bounds and only if its frames cover the image exactly."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from posagent.core import manifest, payload
from posagent.core.errors import BundleError
from posagent.core.manifest import Manifest
from posagent.core.payload import Frame, encode_header, parse_header
from tests.installer.store import Bytes

MIB = 1 << 20
SIZE = 2 * MIB + 4096


def frames() -> list[Frame]:
    digest = "0" * 64
    return [
        Frame(at=0, size=MIB, offset=0, length=700, kind="zstd", sha256=digest),
        Frame(at=MIB, size=MIB, offset=0, length=0, kind="zero", sha256=digest),
        Frame(at=2 * MIB, size=4096, offset=0, length=50, kind="zstd", sha256=digest),
    ]


def header() -> bytes:
    return encode_header(SIZE, frames())


def raw(value: Any) -> bytes:
    text = value if isinstance(value, bytes) else json.dumps(value).encode()
    return payload.MAGIC + len(text).to_bytes(4, "little") + text


def changed(edit: Callable[[Any], None]) -> bytes:
    value = json.loads(header()[payload.PREFIX_BYTES :])
    edit(value)
    return raw(value)


def test_frames_know_where_their_bytes_lie() -> None:
    data = header()
    found = parse_header(data, len(data) + 750)
    assert found.image_size == SIZE
    assert [f.offset - len(data) for f in found.frames] == [0, 700, 700]
    assert encode_header(found.image_size, found.frames) == data


def test_an_image_of_any_length_can_end_in_a_short_frame() -> None:
    one = Frame(at=0, size=5000, offset=0, length=9, kind="zstd", sha256="0" * 64)
    data = encode_header(5000, [one])
    assert parse_header(data, len(data) + 9).frames[0].size == 5000


@pytest.mark.parametrize("surplus", [-1, 1])
def test_a_payload_that_is_not_exactly_its_frames_is_unreadable(surplus: int) -> None:
    with pytest.raises(BundleError) as caught:
        parse_header(header(), len(header()) + 750 + surplus)
    assert caught.value.code == "bundle_unreadable"


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("at", 4096),
        ("at", False),
        ("size", 0),
        ("size", 5000),
        ("size", payload.FRAME_BYTES_MAX + 4096),
        ("size", MIB + 4096),
        ("len", 0),
        ("len", -1),
        ("len", payload.STORED_BYTES_MAX + 1),
        ("len", 700.0),
        ("kind", "zero"),
        ("kind", "lzma"),
        ("kind", []),
        ("sha256", "0" * 63),
        ("sha256", 5),
    ],
)
def test_a_bent_frame_is_unreadable(key: str, value: Any) -> None:
    data = changed(lambda v: v["frames"][0].update({key: value}))
    with pytest.raises(BundleError) as caught:
        parse_header(data, len(data) + 750)
    assert caught.value.code == "bundle_unreadable"


@pytest.mark.parametrize(
    "edit",
    [
        lambda v: v.update(format=2),
        lambda v: v.update(block=512),
        lambda v: v.update(image_size=SIZE + 1),
        lambda v: v.update(image_size=True),
        lambda v: v.update(frames={}),
        lambda v: v.update(frames=[1]),
        lambda v: v.update(frames=[]),
        lambda v: v["frames"].pop(),
        lambda v: v["frames"].reverse(),
        lambda v: v["frames"][1].update(len=1),
    ],
)
def test_a_bent_header_is_unreadable(edit: Callable[[Any], None]) -> None:
    data = changed(edit)
    with pytest.raises(BundleError) as caught:
        parse_header(data, len(data) + 750)
    assert caught.value.code == "bundle_unreadable"


def test_a_header_beyond_the_limit_is_refused_before_it_is_read() -> None:
    with pytest.raises(BundleError) as caught:
        payload.header_length(payload.MAGIC + (payload.HEADER_BYTES_MAX).to_bytes(4, "little"))
    assert caught.value.code == "bundle_too_large"


def test_too_many_frames_are_refused() -> None:
    data = raw({"format": 1, "block": 4096, "image_size": 1, "frames": [0] * (payload.FRAMES_MAX + 1)})
    with pytest.raises(BundleError) as caught:
        parse_header(data, len(data))
    assert caught.value.code == "bundle_too_large"


@pytest.mark.parametrize("text", [b"", b"[", b"[" * 100_000, b"9" * 5000, b"\xff", b"null", b"[]"])
def test_a_header_that_is_no_table_is_unreadable(text: bytes) -> None:
    data = raw(text)
    with pytest.raises(BundleError) as caught:
        parse_header(data, len(data))
    assert caught.value.code == "bundle_unreadable"


@settings(deadline=None)
@given(st.binary(max_size=200), st.integers(0, 1 << 41))
def test_any_bytes_are_read_or_refused_with_a_code(data: bytes, length: int) -> None:
    for candidate in (data, payload.MAGIC + data, raw(data)):
        with pytest.raises(BundleError):
            parse_header(candidate, length)


@settings(deadline=None)
@given(st.data())
def test_any_changed_header_is_refused_or_still_covers_the_image(data: st.DataObject) -> None:
    text = bytearray(header())
    for _ in range(data.draw(st.integers(1, 4))):
        text[data.draw(st.integers(0, len(text) - 1))] = data.draw(st.integers(0, 255))
    try:
        found = parse_header(bytes(text), len(text) + 750)
    except BundleError:
        return
    assert sum(f.size for f in found.frames) == found.image_size
    assert sum(f.length for f in found.frames) == 750


def signed(body: bytes, **change: Any) -> Manifest:
    custom: dict[str, Any] = {
        "format": 1,
        "component": "system",
        "version": "1",
        "security_counter": 0,
        "hw_ids": ["a"],
        "min_hw_rev": 0,
        "header_sha256": hashlib.sha256(header()).hexdigest(),
        "image_size": SIZE,
        "image_sha256": "0" * 64,
        **change,
    }
    return manifest.from_custom("x", length=len(body), sha256="0" * 64, custom=custom)


def test_the_signed_digest_makes_the_header_authentic() -> None:
    body = header() + bytes(750)
    assert payload.read_header(Bytes(body), signed(body)).frames[2].at == 2 * MIB


def test_a_header_with_other_bytes_is_corrupt() -> None:
    body = (header() + bytes(750)).replace(b'"len":700', b'"len":701')
    with pytest.raises(BundleError) as caught:
        payload.read_header(Bytes(body), signed(body))
    assert caught.value.code == "payload_corrupt"


def test_a_payload_of_another_length_or_image_size_than_signed_is_unreadable() -> None:
    body = header() + bytes(750)
    for source, promise in ((Bytes(body + b"x"), signed(body)), (Bytes(body), signed(body, image_size=SIZE + 1))):
        with pytest.raises(BundleError) as caught:
            payload.read_header(source, promise)
        assert caught.value.code == "bundle_unreadable"
