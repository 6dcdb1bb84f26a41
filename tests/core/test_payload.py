"""The header of a payload is read within bounds and only if its operations fill the image exactly."""

from __future__ import annotations

import dataclasses
import hashlib
import lzma
from array import array
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from posagent.core import manifest, payload
from posagent.core.errors import BundleError
from posagent.core.extents import BLOCK_BYTES, Extent, Extents, blocks
from posagent.core.manifest import Manifest
from posagent.core.payload import Header, Kind, Operation, encode_header, number, parse_header
from tests.installer.store import Bytes

SIZE = 9 * BLOCK_BYTES + 100
STORED = 700 + 50


def digest(letter: str) -> bytes:
    return letter.encode() * payload.DIGEST_BYTES


def extents(*pairs: tuple[int, int]) -> tuple[Extent, ...]:
    return tuple(Extent(*pair) for pair in pairs)


OPERATIONS = (
    Operation(kind=Kind.ZERO, target=extents((3, 1), (5, 2))),
    Operation(
        kind=Kind.COPY,
        target=extents((0, 2), (4, 1)),
        source=extents((7, 2), (1, 1)),
        sha256=digest("c"),
        source_sha256=digest("c"),
    ),
    Operation(kind=Kind.DATA, target=extents((2, 1)), sha256=digest("d"), anchor=b"anchored", length=700),
    Operation(
        kind=Kind.PATCH,
        target=extents((7, 3)),
        source=extents((0, 1), (3, 2)),
        sha256=digest("p"),
        source_sha256=digest("s"),
        anchor=b"patched.",
        length=50,
    ),
)
HEADER = Header(image_size=SIZE, source_size=10 * BLOCK_BYTES, operations=OPERATIONS)


def encoded(*operations: Operation, **changes: Any) -> bytes:
    return encode_header(dataclasses.replace(HEADER, operations=operations or OPERATIONS, **changes))


def code(data: bytes, surplus: int = 0) -> str:
    with pytest.raises(BundleError) as caught:
        parse_header(data, len(data) + STORED + surplus)
    return caught.value.code


def raw(table: bytes, size: int | None = None) -> bytes:
    packed = lzma.compress(table, lzma.FORMAT_RAW, filters=payload.PACKING)
    lengths = len(packed).to_bytes(4, "little") + (len(table) if size is None else size).to_bytes(4, "little")
    return payload.MAGIC + lengths + packed


def table_of(data: bytes) -> bytearray:
    unpacker = lzma.LZMADecompressor(lzma.FORMAT_RAW, filters=payload.PACKING)
    return bytearray(unpacker.decompress(data[payload.PREFIX_BYTES :]))


def test_operations_come_back_and_know_where_their_bytes_lie() -> None:
    data = encoded()
    found = parse_header(data, len(data) + STORED)
    assert [one.offset - len(data) for one in found.operations] == [0, 0, 0, 700]
    assert tuple(one._replace(offset=0) for one in found.operations) == OPERATIONS
    assert [found.size(one) for one in found.operations] == [3 * 4096, 3 * 4096, 4096, 2 * 4096 + 100]
    assert encode_header(found) == data


@pytest.mark.parametrize("surplus", [-1, 1])
def test_a_payload_that_is_not_exactly_its_data_is_unreadable(surplus: int) -> None:
    assert code(encoded(), surplus) == "bundle_unreadable"


@pytest.mark.parametrize(
    ("which", "changes"),
    [
        (0, {"target": extents((3, 1), (5, 1))}),
        (0, {"target": extents((3, 1), (5, 3))}),
        (0, {"target": extents((3, 2), (5, 2))}),
        (0, {"target": ()}),
        (1, {"source": extents((7, 2), (10, 1))}),
        (1, {"target": extents((0, 2), (9, 1))}),
        (2, {"length": 0}),
        (2, {"length": payload.STORED_BYTES_MAX + 1}),
        (3, {"source": extents((0, 1025))}),
        (3, {"target": extents((7, 4))}),
    ],
)
def test_a_bent_operation_is_unreadable(which: int, changes: dict[str, Any]) -> None:
    bent = list(OPERATIONS)
    bent[which] = bent[which]._replace(**changes)
    assert code(encoded(*bent), changes.get("length", 700) - 700 if which == 2 else 0) == "bundle_unreadable"


def test_an_operation_that_makes_too_much_is_unreadable() -> None:
    much = payload.OPERATION_BYTES_MAX // BLOCK_BYTES
    one = Operation(kind=Kind.ZERO, target=extents((0, much), (much, 1)))
    data = encoded(one, image_size=(much + 1) * BLOCK_BYTES)
    with pytest.raises(BundleError, match="makes"):
        parse_header(data, len(data))


@pytest.mark.parametrize("changes", [{"image_size": 0}, {"image_size": 1 << 41}, {"image_size": SIZE + BLOCK_BYTES}])
def test_an_image_of_another_size_is_unreadable(changes: dict[str, int]) -> None:
    assert code(encoded(**changes)) == "bundle_unreadable"


def test_what_is_beyond_the_limits_is_refused_before_it_is_read() -> None:
    long = payload.MAGIC + payload.HEADER_BYTES_MAX.to_bytes(4, "little") + bytes(4)
    with pytest.raises(BundleError) as caught:
        payload.header_length(long)
    assert caught.value.code == "bundle_too_large"
    assert code(raw(b"", payload.TABLE_BYTES_MAX + 1)) == "bundle_too_large"
    many = b"".join(map(number, (SIZE, 0, payload.OPERATIONS_MAX + 1)))
    assert code(raw(many)) == "bundle_unreadable"


def test_too_many_extents_are_refused() -> None:
    table = b"".join(map(number, (SIZE, 0, 2, Kind.ZERO, Kind.ZERO, payload.EXTENTS_MAX, 1)))
    assert code(raw(table)) == "bundle_too_large"


def test_a_table_that_unpacks_to_more_than_it_claims_is_unreadable() -> None:
    table = bytes(table_of(encoded()))
    assert code(raw(table, len(table) - 1)) == "bundle_unreadable"
    assert code(raw(table, len(table) + 1)) == "bundle_unreadable"
    assert code(raw(table + b"\0")) == "bundle_unreadable"


@pytest.mark.parametrize(
    "data", [b"", b"POSPAY1\n" + bytes(8), payload.MAGIC, payload.MAGIC + bytes(7), encoded()[:-1]]
)
def test_what_is_no_header_is_unreadable(data: bytes) -> None:
    assert code(data) == "bundle_unreadable"


@given(st.binary(max_size=200), st.integers(0, 1 << 41))
def test_any_bytes_are_read_or_refused_with_a_code(data: bytes, length: int) -> None:
    for candidate in (data, payload.MAGIC + data, raw(data)):
        with pytest.raises(BundleError):
            parse_header(candidate, length)


@given(st.data())
def test_any_changed_table_is_refused_or_still_fills_the_image(data: st.DataObject) -> None:
    table = table_of(encoded())
    for _ in range(data.draw(st.integers(1, 4))):
        table[data.draw(st.integers(0, len(table) - 1))] = data.draw(st.integers(0, 255))
    changed = raw(bytes(table))
    try:
        found = parse_header(changed, len(changed) + STORED)
    except BundleError:
        return
    covered = sorted(block for one in found.operations for at, length in one.target for block in range(at, at + length))
    assert covered == list(range(blocks(found.image_size)))
    assert sum(one.length for one in found.operations) == STORED
    assert all(sum(last) <= blocks(found.source_size) for one in found.operations for last in one.source)


# the signed header


def signed(body: bytes, **change: Any) -> Manifest:
    custom: dict[str, Any] = {
        "format": 1,
        "component": "system",
        "version": "1",
        "security_counter": 0,
        "hw_ids": ["a"],
        "min_hw_rev": 0,
        "header_sha256": hashlib.sha256(encoded()).hexdigest(),
        "image_size": SIZE,
        "image_sha256": "0" * 64,
        "source_size": HEADER.source_size,
        "source_sha256": "1" * 64,
        **change,
    }
    return manifest.from_custom("x", length=len(body), sha256="0" * 64, custom=custom)


def test_the_signed_digest_makes_the_header_authentic() -> None:
    body = encoded() + bytes(STORED)
    assert payload.read_header(Bytes(body), signed(body)).operations[2].length == 700


def test_a_header_with_other_bytes_is_corrupt() -> None:
    body = bytearray(encoded() + bytes(STORED))
    body[payload.PREFIX_BYTES + 3] ^= 1
    with pytest.raises(BundleError) as caught:
        payload.read_header(Bytes(bytes(body)), signed(bytes(body)))
    assert caught.value.code == "payload_corrupt"


@pytest.mark.parametrize("change", [{"image_size": SIZE + 1}, {"source_size": 0, "source_sha256": ""}])
def test_a_payload_of_other_sizes_than_signed_is_unreadable(change: dict[str, Any]) -> None:
    body = encoded() + bytes(STORED)
    with pytest.raises(BundleError) as caught:
        payload.read_header(Bytes(body), signed(body, **change))
    assert caught.value.code == "bundle_unreadable"


def test_a_payload_of_another_length_than_signed_is_unreadable() -> None:
    body = encoded() + bytes(STORED)
    with pytest.raises(BundleError) as caught:
        payload.read_header(Bytes(body + b"x"), signed(body))
    assert caught.value.code == "bundle_unreadable"


def test_extents_are_a_sequence_of_extents() -> None:
    plain = extents((5, 1), (1 << 28, 2), (0, 7))
    packed = Extents(array("I", [number for extent in plain for number in extent]))
    assert (list(packed), len(packed), packed[0], packed[-1], packed[1:]) == (
        [*plain],
        3,
        plain[0],
        plain[2],
        [*plain[1:]],
    )
    assert packed == plain and packed != plain[:2] and packed != extents((5, 1), (1 << 28, 2), (0, 8))
    assert hash(packed) == hash(plain) and not Extents(array("I"))
    with pytest.raises(IndexError):
        packed[3]
