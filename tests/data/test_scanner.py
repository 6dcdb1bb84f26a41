"""What must not get into a backup is found wherever it stands, and what only looks like it keeps no terminal back."""

from __future__ import annotations

import random
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, generate_private_key
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat

from posagent.core.errors import PosagentError
from posagent.data.scanner import OVERLAP, Scanner
from tests.data.shop import CARD, Shop, rows

PEM = "-----BEGIN EC PRIVATE KEY-----\nMHcCAQEE\n-----END EC PRIVATE KEY-----\n"
TRACK_1 = f"%B{CARD}^HOLDER/TEST^26122010000000000?"
TRACK_2 = f";{CARD}=26122011234567890?"
TAG_57 = f"9F02060000000100005713{CARD}D26122011234567890123F"
DER = generate_private_key(SECP256R1()).private_bytes(Encoding.DER, PrivateFormat.PKCS8, NoEncryption())
ED = Ed25519PrivateKey.from_private_bytes(bytes(range(32)))
ED_DER = ED.private_bytes(Encoding.DER, PrivateFormat.PKCS8, NoEncryption())


def found(text: str | bytes) -> str:
    """What is found in a file, or nothing."""
    scanner = Scanner()
    try:
        scanner.text("params/x", b"", text if isinstance(text, bytes) else text.encode(), 0, 1)
    except PosagentError as error:
        assert error.code == "data_secret_found"
        return str(error.facts["what"])
    return ""


def in_cell(column: str, cell: Any) -> str:
    try:
        Scanner().rows("ledger.db", "payments", 3, ["id", column], [[1, cell]])
    except PosagentError as error:
        return str(error.facts["what"])
    return ""


@pytest.mark.parametrize(
    ("text", "what"),
    [
        (PEM, "key"),
        ("-----BEGIN PRIVATE KEY-----", "key"),
        ("-----BEGIN ENCRYPTED PRIVATE KEY-----", "key"),
        ("-----BEGIN OPENSSH PRIVATE KEY-----", "key"),
        ("-----BEGIN PGP PRIVATE KEY BLOCK-----", "key"),
        (b"\0\1\2" + DER, "key"),
        (ED_DER, "key"),
        (TRACK_1, "track"),
        (TRACK_2, "track"),
        (f"read: {CARD}=26122011234", "track"),
        (f"read: {CARD}D26122011234", "track"),
        (TAG_57, "track"),
        (b"\x5f\x20\x02AB" + bytes.fromhex(f"5713{CARD}D26122011234567890123F"), "track"),
        ('{"cvv": "123"}', "verification"),
        ('{"card": {"CVC2" : 123}}', "verification"),
        ('"{\\"cvv\\": \\"123\\"}"', "verification"),
        ("{'card-verification-value': '1234'}", "verification"),
        ('{"securityCode":"123"}', "verification"),
        ("cvv2 = 123", "verification"),
        ('{"pin": "1234"}', "PIN"),
        ('{"encryptedPinBlock": "0412AC89ABCDEF67"}', "PIN block"),
        ("pin_block=0412AC89ABCDEF67", "PIN block"),
        ('{"track2": "4761********0010=2612"}', "track"),
        ('{"tmk": "0123456789ABCDEFFEDCBA9876543210"}', "key"),
    ],
)
def test_keys_and_what_authenticates_are_found(text: str | bytes, what: str) -> None:
    assert what in found(text)


@pytest.mark.parametrize(
    "text",
    [
        CARD,
        f'{{"pan": "{CARD}", "expiry": "2612"}}',
        "-----BEGIN CERTIFICATE-----",
        "-----BEGIN PUBLIC KEY-----",
        ED.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo),
        '{"cvv": null, "cvc": "", "pin": false, "track2": "", "pin_block": "null"}',
        '{"cvv_present": "true", "cvv": "***", "pin": "XXXX", "pin_entry_timeout_ms": 30000}',
        '{"pin": 4, "gpio": {"pin": 17}}',
        '{"securityCode": "building 7"}',
        '{"shipping": "1234", "opinion": "12345", "spin": 9999, "keypin2": "123456"}',
        '{"tmk_kcv": "A1B2C3", "masterkey": "see the vault"}',
        f"{CARD}=99",
        f"{CARD[:-1]}1=26122011234",
        f"{CARD}=26132011234",
        "the PIN block is never stored; track 2 neither",
    ],
)
def test_what_only_looks_like_it_is_no_alarm(text: str | bytes) -> None:
    assert found(text) == ""


def test_tables_of_keys_certificates_and_digests_are_no_alarm() -> None:
    """Four megabytes as hexadecimal digits and as they are: what EMV parameters are made of."""
    noise = random.Random(3).randbytes(1 << 20)
    assert found(noise) == "" and found(noise.hex()) == "" and found(noise.hex().upper()) == ""


@pytest.mark.parametrize("cell", ["123", 123, b"123", "8d3b7c (sealed)"])
def test_a_column_with_such_a_name_may_have_nothing_in_it(cell: Any) -> None:
    assert "verification" in in_cell("CVV2", cell)
    assert in_cell("cvv2", None) == in_cell("cvv2", "") == in_cell("cvv2", 1) == ""


@pytest.mark.parametrize(("column", "cell"), [("pin_block", bytes(range(8))), ("PinBlock", "0412AC89ABCDEF67")])
def test_a_pin_block_is_one_as_text_and_as_bytes(column: str, cell: Any) -> None:
    assert in_cell(column, cell) == "a PIN block"


@pytest.mark.parametrize("cell", [PEM, TRACK_2, TRACK_1.encode(), '{"cvv":"123"}', DER])
def test_cells_are_looked_into(cell: Any) -> None:
    assert in_cell("message", cell) != ""


def test_the_place_is_told_and_never_the_value(tmp_path: Path) -> None:
    shop = Shop(tmp_path).open()
    shop.sql("CREATE TABLE cards (holder TEXT, cvv TEXT)")
    shop.sql("INSERT INTO cards VALUES (?, ?)", ("a", None), ("b", "987"))
    error = shop.refused("data_secret_found")
    assert error.detail == "ledger.db, table cards, column cvv, row 2: a card verification value"
    assert "987" not in str(error.as_dict())
    shop.sql("DROP TABLE cards")
    shop.sql("VACUUM")
    (shop.data / "params/terminal.json").write_text('{\n "merchant": "M",\n "pin": "9753"\n}')
    error = shop.refused("data_secret_found")
    assert error.detail.startswith("params/terminal.json, line 3, byte ") and "9753" not in str(error.as_dict())


def test_what_was_deleted_from_a_database_is_still_in_its_pages(tmp_path: Path) -> None:
    shop = Shop(tmp_path).open()
    with closing(sqlite3.connect(shop.data / "ledger.db")) as application, application:
        application.execute("PRAGMA secure_delete = OFF")  # SQLite's default, but not Debian's
        application.execute("INSERT INTO payments (stan, card) VALUES (9000, ?)", (TRACK_2,))
        application.execute("DELETE FROM payments WHERE stan = 9000")
    assert TRACK_2 not in str(rows(shop.data / "ledger.db"))
    assert "ledger.db, line" in shop.refused("data_secret_found").detail
    shop.sql("VACUUM")
    shop.make()


@pytest.mark.parametrize("secret", [PEM.encode(), TRACK_2.encode(), b'"pin_block": "0412AC89ABCDEF67"', DER])
def test_what_lies_across_two_pieces_is_found(tmp_path: Path, secret: bytes) -> None:
    for at in range(1, 30):
        scanner, whole = Scanner(), b"." * (OVERLAP - at) + b"\n" + secret + b"\n" + b"." * OVERLAP
        with pytest.raises(PosagentError, match="data_secret_found"):
            for begin in range(0, len(whole), OVERLAP):
                before = whole[max(0, begin - OVERLAP) : begin]
                scanner.text("x", before, whole[begin : begin + OVERLAP], begin, 1)


def test_card_numbers_are_counted_once_wherever_pieces_end() -> None:
    whole = f"{CARD}\n".encode() * 100
    for size in (600, 1000, 1700):
        scanner = Scanner()
        for begin in range(0, len(whole), size):
            scanner.text("x", whole[max(0, begin - OVERLAP) : begin], whole[begin : begin + size], begin, 1)
        assert 100 <= scanner.cards <= 100 + len(whole) // size
    scanner = Scanner()
    scanner.rows("x", "t", 1, ["card"], [[int(CARD)], [None], [10**30]])
    assert scanner.cards == 1
