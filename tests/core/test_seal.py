"""Seals: they open with the right key at the right place, and whatever else is corrupt or not for us."""

from __future__ import annotations

import pytest
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat
from hypothesis import given
from hypothesis import strategies as st

from posagent.core.errors import BundleError
from posagent.core.seal import Seal, unwrapped

KEY = X25519PrivateKey.generate()
PUBLIC = KEY.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
PRIVATE = KEY.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())


@given(st.binary(max_size=200), st.integers(0, 1 << 40))
def test_what_was_sealed_opens_only_at_its_place(data: bytes, place: int) -> None:
    seal = Seal.new()
    closed = seal.close(place, data)
    assert seal.open(place, closed) == data and len(closed) == len(data) + 16
    for other, sealed in ((place + 1, closed), (place, closed[:-1]), (place, b""), (place, closed + b"x")):
        with pytest.raises(BundleError) as caught:
            seal.open(other, sealed)
        assert caught.value.code == "payload_corrupt"


def test_a_key_is_wrapped_for_a_group_and_for_no_other() -> None:
    seal = Seal.new()
    group, wrapped = seal.wrapped(PUBLIC)
    assert unwrapped({group: wrapped, "f" * 16: wrapped}, PRIVATE) == seal
    broken = wrapped[:-1] + ("0" if wrapped[-1] != "0" else "1")
    for found in ({}, {"f" * 16: wrapped}, {group: broken}, {group: "00" * 80}):
        with pytest.raises(BundleError) as caught:
            unwrapped(found, PRIVATE)
        assert caught.value.code == "bundle_sealed"
    assert seal.wrapped(PUBLIC)[1] != wrapped
