"""The list of revoked certificates and keys: what it covers, and that nothing in it makes the rest void."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from posagent.core.revocation import FILE_BYTES_MAX, parse, trouble

KEY = "SHA256:" + "k" * 43
LIST = f"# lost laptops\nserial: 7\nserial: 20-29\n\nid: Li Wei\n  {KEY}  \nhash: SHA256:{'h' * 43}\n"


def covers(text: str, *, serial: int = 1, key_id: bytes = b"", key: str = "SHA256:") -> bool:
    return parse(text.encode()).covers(serial=serial, key_id=key_id, fingerprints=(key,))


def test_serials_ids_and_fingerprints_are_covered() -> None:
    assert [serial for serial in range(40) if covers(LIST, serial=serial)] == [7, *range(20, 30)]
    assert covers(LIST, key_id=b"Li Wei")
    assert covers(LIST, key=KEY) and covers(LIST, key="SHA256:" + "h" * 43)
    assert not covers(LIST, key_id=b"li wei") and not covers(LIST, key="SHA256:" + "l" * 43)
    assert parse(LIST.encode()).unclear == ()


@pytest.mark.parametrize(
    "line",
    [
        "serial: 0",
        "serial: 9-3",
        "serial: x",
        "serial:",
        "serial: 1 2",
        "7",
        "id:",
        "id",
        "key: ssh-ed25519 AAAA",
        "SHA256:k",
        "SHA512:" + "k" * 43,
        "\x00",
        "serial: 123456789012345678901",
    ],
)
def test_a_line_that_is_not_understood_is_told_and_the_others_hold(line: str) -> None:
    revoked = parse(f"serial: 7\n{line}\nid: Li Wei\n".encode())
    assert revoked.unclear == (2,)
    assert revoked.covers(serial=7, key_id=b"", fingerprints=()) and revoked.covers(
        serial=1, key_id=b"Li Wei", fingerprints=()
    )
    assert not revoked.covers(serial=0, key_id=b"", fingerprints=())


def test_a_list_that_is_too_long_is_told_and_holds_as_far_as_it_was_read() -> None:
    revoked = parse(b"serial: 7\n" + b"# x\n" * FILE_BYTES_MAX)
    assert revoked.covers(serial=7, key_id=b"", fingerprints=()) and revoked.unclear


@given(st.binary(max_size=500))
def test_no_bytes_whatsoever_raise(data: bytes) -> None:
    parse(data)


def test_trouble_is_told_to_whoever_looks_at_the_terminal() -> None:
    def missing(path: str) -> bytes:
        raise FileNotFoundError(2, "No such file or directory", path)

    assert trouble("", missing) is None
    assert trouble("/etc/revoked", lambda _: LIST.encode()) is None
    unclear = trouble("/etc/revoked", lambda _: b"serial: 7\nwhat\n")
    assert unclear is not None and unclear.code == "revocation_unclear" and "line 2" in unclear.detail
    gone = trouble("/etc/revoked", missing)
    assert gone is not None and "nobody can unlock" in gone.detail
