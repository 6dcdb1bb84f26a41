"""Support bundles: they open with the vendor's key, and whatever was done to one on its way is noticed."""

from __future__ import annotations

import random
import zlib

import pytest
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat
from hypothesis import given, settings
from hypothesis import strategies as st

from posagent.core import envelope
from posagent.core.envelope import SEALED_BYTES, opened, sealed
from posagent.core.errors import BundleError, PosagentError
from posagent.core.seal import Seal, unwrapped


def pair() -> tuple[bytes, bytes]:
    key = X25519PrivateKey.generate()
    public = key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    return public, key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())


PUBLIC, PRIVATE = pair()
TEXT = random.Random(7).randbytes(40_000)
"""Does not compress: three chunks."""


def refused(file: bytes, key: bytes = PRIVATE) -> str:
    with pytest.raises(PosagentError) as caught:
        opened(file, key)
    assert caught.value.code == "support_unreadable"
    return caught.value.detail


@given(st.integers(0, 3), st.integers(-1, 1))
@settings(max_examples=12)
def test_what_was_sealed_opens_at_any_length(chunks: int, more: int) -> None:
    text = random.Random(1).randbytes(max(0, chunks * envelope.CHUNK_BYTES + more))
    file = sealed(text, PUBLIC)
    assert opened(file, PRIVATE) == text
    assert len(text) < 64 or text[:64] not in file
    assert sealed(text, PUBLIC) != file


def test_another_key_opens_nothing() -> None:
    file = sealed(TEXT, PUBLIC)
    assert "the key here is" in refused(file, pair()[1])
    header, _, body = file.partition(b"\n")
    magic, _, wrapped = header.split(b" ")
    name = sealed(b"", pair()[0]).split(b" ")[1]
    refused(b" ".join((magic, name, wrapped)) + b"\n" + body)


def test_chunks_that_are_cut_off_doubled_or_swapped_are_noticed() -> None:
    file = sealed(TEXT, PUBLIC)
    start = file.index(b"\n") + 1
    head, body = file[:start], file[start:]
    chunks = [body[at : at + SEALED_BYTES] for at in range(0, len(body), SEALED_BYTES)]
    assert len(chunks) == 3
    for wrong in (chunks[:2], chunks[:1], [], chunks[1:], [chunks[1], chunks[0], chunks[2]], [chunks[0], *chunks]):
        refused(head + b"".join(wrong))
    refused(file[:-1])
    refused(file + b"\0")


def test_the_header_has_one_spelling() -> None:
    magic, group, rest = sealed(TEXT, PUBLIC).split(b" ", 2)
    key, _, body = rest.partition(b"\n")
    for header in (b" ".join((magic, group, key.upper())), b" ".join((magic, group, key[:2] + b"\t" + key[2:]))):
        refused(header + b"\n" + body)


@given(st.integers(0, 20_000), st.integers(1, 255))
@settings(max_examples=60)
def test_a_changed_byte_is_noticed(at: int, change: int) -> None:
    file = bytearray(sealed(TEXT[:20_000], PUBLIC))
    file[at] ^= change
    refused(bytes(file))


@given(st.binary(max_size=600))
def test_whatever_is_no_bundle_is_refused(data: bytes) -> None:
    refused(data)
    refused(envelope.MAGIC + b" " + data)


def test_a_text_that_unpacks_without_end_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(envelope, "TEXT_BYTES_MAX", 100_000)
    assert opened(sealed(bytes(100_000), PUBLIC), PRIVATE) == bytes(100_000)
    refused(sealed(bytes(100_001), PUBLIC))
    monkeypatch.setattr(zlib, "compress", lambda data, level: data)
    refused(sealed(b"no zlib stream", PUBLIC))


def test_without_a_vendors_key_nothing_is_sealed() -> None:
    for key in (b"", b"no key", PRIVATE):
        with pytest.raises(PosagentError) as caught:
            sealed(TEXT, key)
        assert caught.value.code == "support_no_key"


def test_a_key_wrapped_for_one_purpose_opens_for_no_other() -> None:
    group, wrapped = Seal.new().wrapped(PUBLIC, envelope.PURPOSE)
    with pytest.raises(BundleError):
        unwrapped({group: wrapped}, PRIVATE)
