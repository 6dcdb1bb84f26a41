"""The audit log's chain: whatever is changed, taken out, moved or put in is found, and nothing in a file raises."""

from __future__ import annotations

import json
import math
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from posagent.core import audit, notes
from posagent.core.audit import GENESIS, Checkpoint, Sealed
from posagent.core.notes import Note

NAME, PUBLIC = audit.origin_of("pos-0001"), bytes(range(32))
KEY = notes.public_line(NAME, PUBLIC)


def genuine(key: str, note: Note) -> bool:
    """Stands for Ed25519: what it signs is signed with its own text."""
    known = notes.parse_public_line(key)
    return known is not None and note.name == known[0] and note.signature == signature(note.text, known[1])


def signature(text: str, public: bytes) -> bytes:
    return bytes.fromhex(audit.head_of(public + text.encode()))


class Log:
    """A log as the agent writes it."""

    def __init__(self) -> None:
        self.lines: list[bytes] = []
        self.sealed = Sealed()

    @property
    def size(self) -> int:
        return len(self.lines)

    @property
    def head(self) -> str:
        return audit.head_of(self.lines[-1]) if self.lines else GENESIS

    @property
    def data(self) -> bytes:
        return b"".join(line + b"  \n" for line in self.lines)

    def add(self, event: str, **fields: Any) -> None:
        self.lines.append(audit.line_of(self.size, self.head, {"at": 1.5, "event": event, **fields}))

    def seal(self, lost: Sealed | None = None) -> None:
        self.sealed = Sealed(self.size, self.head)
        text = audit.text_of(Checkpoint(origin=NAME, sealed=self.sealed, lost=lost))
        note = notes.note_of(text, NAME, PUBLIC, signature(text, PUBLIC))
        self.add("checkpoint", note=note, signer=KEY)


@pytest.fixture
def log() -> Log:
    made = Log()
    for number in range(10):
        made.add("command", verb=f"v{number}")
        if number in (3, 8):
            made.seal()
    return made


def breaks(lines: list[bytes], *, key: str = KEY, known: tuple[Sealed, ...] = ()) -> list[tuple[int, str]]:
    return audit.verify(b"".join(line + b"\n" for line in lines), genuine, key=key, known=known).breaks


def test_a_whole_log_is_whole_and_says_how_far_it_is_sealed(log: Log) -> None:
    verdict = audit.verify(log.data, genuine, key=KEY, known=(log.sealed,))
    assert verdict.breaks == []
    assert (verdict.records, verdict.first, verdict.size, verdict.head) == (12, 0, 12, log.head)
    assert verdict.sealed == log.sealed.size == 10
    assert audit.verify(log.data, genuine).key == KEY, "without a key it is the log's own"
    assert audit.verify(b"", genuine).breaks == []


def test_every_single_changed_record_is_found_in_its_place(log: Log) -> None:
    for at, line in enumerate(log.lines):
        record = json.loads(line) | {"at": 2.5}
        changed = [*log.lines[:at], json.dumps(record, separators=(",", ":")).encode(), *log.lines[at + 1 :]]
        found = breaks(changed, known=(log.sealed,))
        if at < log.sealed.size:
            assert found and found[0][0] in (at + 1, at + 2), at
        elif at < log.size - 1:
            assert found, "the next record does not follow"


def test_every_record_taken_out_is_found(log: Log) -> None:
    for at in range(log.size - 1):
        found = breaks([*log.lines[:at], *log.lines[at + 1 :]], known=(log.sealed,))
        assert found, at
        assert found[0][1].endswith("missing") or at == 0


def test_records_in_another_order_or_twice_are_found(log: Log) -> None:
    swapped = [*log.lines[:4], log.lines[5], log.lines[4], *log.lines[6:]]
    assert breaks(swapped)
    assert breaks([*log.lines[:4], log.lines[3], *log.lines[4:]])[0] == (5, "record 3 comes again or too late")
    assert breaks([*log.lines, log.lines[-1]])


def test_a_log_cut_off_behind_a_seal_is_found_by_whoever_knows_the_seal(log: Log) -> None:
    for size in range(log.sealed.size):
        assert breaks(log.lines[:size], known=(log.sealed,)), size
    cut = log.lines[: log.sealed.size]
    assert breaks(cut, known=(log.sealed,)) == [], "what follows the last seal is not protected"


def test_a_log_that_lost_its_beginning_is_found(log: Log) -> None:
    for first in range(1, log.size):
        assert any("begins with record" in what for _, what in breaks(log.lines[first:])), first


def test_a_rotated_log_says_where_it_begins_and_only_there_it_may(log: Log) -> None:
    log.add("rotated", first=2)
    assert breaks(log.lines[2:], known=(log.sealed,)) == []
    assert breaks(log.lines[3:]) and breaks(log.lines[1:])
    log.add("rotated", first=7)
    assert breaks(log.lines[7:], known=(log.sealed,)) == []


def test_a_piece_of_another_log_is_found(log: Log) -> None:
    other = Log()
    for number in range(12):
        other.add("command", verb=f"other {number}")
    assert breaks([*log.lines[:6], *other.lines[6:]], known=(log.sealed,))
    spliced = Log()
    spliced.lines = list(log.lines[:6])
    while spliced.size < 12:
        spliced.add("command", verb="made up, in a chain that fits")
    assert breaks(spliced.lines) == [], "the chain alone does not show it,"
    assert breaks(spliced.lines, known=(log.sealed,)), "the seal does"


def test_a_checkpoint_of_another_key_or_none_at_all_is_found(log: Log) -> None:
    other = notes.public_line(NAME, bytes(32))
    assert breaks(log.lines, key=other)[0] == (5, "a checkpoint that is signed by another key")
    log.add("checkpoint", note="not a note", signer=KEY)
    text = audit.text_of(Checkpoint(origin=NAME, sealed=Sealed(1, "0" * 64)))
    log.add("checkpoint", note=notes.note_of(text, NAME, PUBLIC, signature(text, PUBLIC)), signer=KEY)
    log.add("checkpoint", note=notes.note_of("x\n", NAME, PUBLIC, signature("x\n", PUBLIC)))
    assert [what for _, what in breaks(log.lines)] == [
        "a checkpoint that is none",
        "the first 1 records are not those that this checkpoint sealed",
        "a checkpoint that is none",
    ]


def test_what_the_installer_found_lost_stays_in_the_log(log: Log) -> None:
    log.seal(lost=Sealed(20, "ab" * 32))
    assert breaks(log.lines)[0][1] == "the log did not go on from the 20 records that were sealed before"


def test_a_first_record_that_follows_something_is_found() -> None:
    assert breaks([audit.line_of(0, "ab" * 32, {"event": "x"})])


# does it go on from what was sealed?


def test_a_log_goes_on_from_every_seal_that_it_contains(log: Log) -> None:
    now = Sealed(log.size, log.head)
    for size in range(log.size + 1):
        seal = Sealed(size, audit.head_of(log.lines[size - 1]) if size else GENESIS)
        assert audit.goes_on(log.data, seal) == (now, True)
    assert audit.goes_on(log.data, Sealed(5, "ab" * 32)) == (now, False)
    assert audit.goes_on(log.data, Sealed(99, log.head)) == (now, False)
    torn = log.data + b'{"seq":12,"prev":"'
    assert audit.goes_on(torn, now) == (now, True), "a record that is being written is none yet"


def test_a_log_does_not_go_on_over_a_break(log: Log) -> None:
    for number in range(4):
        log.add("command", verb=f"later {number}")
    for at in range(log.sealed.size, log.size - 1):
        hole = b"\n".join([*log.lines[:at], *log.lines[at + 1 :]])
        assert audit.goes_on(hole, log.sealed)[1] is False
    shorter = b"\n".join(log.lines[: log.sealed.size - 1])
    assert audit.goes_on(shorter, log.sealed)[1] is False
    rotated = b"\n".join(log.lines[log.sealed.size :])
    assert audit.goes_on(rotated, log.sealed)[1] is True


# records


def test_values_that_do_not_belong_into_a_log_stay_out_of_it() -> None:
    assert audit.plain("https://u:p@host:8/a/b.bundle?token=x#y z") == "https://host:8/a/b.bundle z"
    assert audit.plain("card 4111111111111111 in") == "card [masked] in"
    assert audit.plain("a\r\n\x1b[2J\ud800") == "a???[2J?"
    assert audit.plain({"a": {"b": 1}, "c": [1], "d": 5}) == {"a": "dict", "c": "list", "d": 5}
    assert audit.plain(math.nan) == audit.plain(math.inf) == "float" and audit.plain(10**30) == "int"
    assert len(audit.plain("x" * 10**6)) == audit.TEXT_CHARACTERS_MAX
    assert len(audit.plain({str(n): n for n in range(100)})) == audit.FIELDS_MAX


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=5) | st.dictionaries(st.text(), inner, max_size=5),
    max_leaves=20,
)


@given(st.dictionaries(st.text(max_size=300), JSON, max_size=20), st.text(max_size=70), st.text())
def test_whatever_is_asked_a_record_is_short_and_can_be_read_again(args: Any, name: str, verb: str) -> None:
    told = {"at": 1.5, "event": "command", "verb": audit.plain(verb), "name": audit.plain(name)}
    line = audit.line_of(7, GENESIS, {**told, "args": audit.plain(args)})
    assert len(line) <= audit.LINE_BYTES_MAX and b"\n" not in line
    record = audit.record_of(line)
    assert record is not None and record["verb"] == told["verb"] and record["name"] == told["name"]


@settings(max_examples=400)
@given(st.data())
def test_no_bytes_whatsoever_raise_and_no_edit_passes(data: st.DataObject) -> None:
    log = Log()
    for number in range(6):
        log.add("command", verb=f"v{number}")
    log.seal()
    whole = bytearray(log.data)
    for _ in range(data.draw(st.integers(1, 3))):
        at = data.draw(st.integers(0, len(whole) - 1))
        whole[at : at + data.draw(st.integers(0, 40))] = data.draw(st.binary(max_size=30))
    edited = bytes(whole)
    verdict = audit.verify(edited, genuine, key=KEY, known=(log.sealed,))
    audit.goes_on(edited, log.sealed)
    if [line for _, line in audit.lines_in(edited)][:6] != log.lines[:6]:
        assert verdict.breaks


@given(st.binary(max_size=2000))
def test_what_is_no_log_raises_nothing(data: bytes) -> None:
    audit.verify(data, genuine, known=(Sealed(5, GENESIS),))
    audit.goes_on(data, Sealed(5, GENESIS))


# notes


def test_a_checkpoint_is_a_note_of_three_lines() -> None:
    text = audit.text_of(Checkpoint(origin=NAME, sealed=Sealed(3, "00" * 32)))
    assert text == f"posagent-audit/pos-0001\n3\n{'A' * 43}=\n"
    note = notes.note_of(text, NAME, PUBLIC, b"s" * 64)
    assert note.startswith(text + "\n\u2014 posagent-audit/pos-0001 ") and note.endswith("\n")
    parsed = notes.parse_note(note)
    assert parsed is not None and (parsed.text, parsed.signature) == (text, b"s" * 64)
    assert audit.checkpoint_of(text) == Checkpoint(origin=NAME, sealed=Sealed(3, "00" * 32))


@given(st.text())
def test_no_text_whatsoever_makes_reading_notes_raise(text: str) -> None:
    notes.parse_note(text)
    notes.parse_public_line(text)
    audit.checkpoint_of(text)


def test_a_terminals_name_fits_into_a_note() -> None:
    assert audit.origin_of("Laden 7+ 北京") == "posagent-audit/Laden_7____"
