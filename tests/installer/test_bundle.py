"""The tar reader takes what a bundle needs and nothing else."""

from __future__ import annotations

import io
import tarfile
from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from posagent.core.bundle import MEMBERS_MAX, METADATA_BYTES_MAX, Bundle, Missing, Spooled
from posagent.core.errors import BundleError
from posagent.core.pieces import Pieces
from tests.installer.store import Bytes
from tests.release.desk import pack, unpack

PARTS = {"metadata/timestamp.json": b"{}", "metadata/1.root.json": b"root" * 300, "targets/a.payload": b"P" * 1000}
GOOD = pack(PARTS)


def refusal(data: bytes) -> str:
    with pytest.raises(BundleError) as caught:
        Bundle(Bytes(data)).target("none")  # looks at everything
    return caught.value.code


def tar(fill: Callable[[tarfile.TarFile], None], form: int = tarfile.USTAR_FORMAT) -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=form) as archive:
        fill(archive)
    return out.getvalue()


def named(*names: str) -> bytes:
    def fill(archive: tarfile.TarFile) -> None:
        for name in names:
            archive.addfile(entry(name))

    return tar(fill)


def entry(name: str, size: int = 0, kind: bytes = tarfile.REGTYPE) -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.size, info.type = size, kind
    return info


def test_members_are_read_in_place() -> None:
    bundle = Bundle(Bytes(GOOD))
    assert bundle.metadata("timestamp.json") == b"{}"
    assert bundle.metadata("snapshot.json") is None
    target = bundle.target("a.payload")
    assert target is not None
    assert target.size == 1000
    assert [target.pread(*place) for place in ((0, 4), (998, 99), (1000, 1))] == [b"PPPP", b"PP", b""]
    assert bundle.target("b.payload") is None


def test_a_window_does_not_reach_before_its_start() -> None:
    target = Bundle(Bytes(GOOD)).target("a.payload")
    assert target is not None
    with pytest.raises(ValueError, match="before its start"):
        target.pread(-1, 1)


@pytest.mark.parametrize("form", [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT])
def test_both_plain_tar_dialects_are_read(form: int) -> None:
    data = tar(lambda t: t.addfile(entry("metadata/a", 3), io.BytesIO(b"abc")), form)
    assert Bundle(Bytes(data)).metadata("a") == b"abc"


@pytest.mark.parametrize("tenth", range(10))
def test_a_truncated_bundle_is_refused_wherever_it_is_cut(tenth: int, good: bytes) -> None:
    assert refusal(good[: len(good) * tenth // 10]) == "bundle_unreadable"


def test_a_bundle_cut_just_before_its_end_mark_is_refused() -> None:
    end = 3 * 512 + 512 + 3 * 512 + 1024
    assert Bundle(Bytes(GOOD[: end + 1024])).target("a.payload")
    for cut in (end, end + 1, end + 512, end + 1023):
        assert refusal(GOOD[:cut]) == "bundle_unreadable"


def test_bytes_after_the_end_are_refused() -> None:
    assert refusal(GOOD[:-1] + b"x") == "bundle_unreadable"
    assert refusal(GOOD + GOOD) == "bundle_unreadable"
    assert refusal(GOOD + bytes(1 << 20)) == "bundle_unreadable"


@pytest.mark.parametrize(
    "name",
    [
        *"x metadata metadata/ metadata/../x /metadata/x metadata/a/b ./metadata/x other/x metadata/.x".split(),
        *("targets/..", "metadata/a b", "metadata/\xe4", "targets/" + "x" * 95),
    ],
)
def test_names_outside_the_two_folders_are_refused(name: str) -> None:
    assert refusal(tar(lambda t: t.addfile(entry(name)))) == "bundle_unreadable"


@pytest.mark.parametrize(
    "kind",
    [b"1", b"2", b"3", b"4", b"5", b"6", b"7", b"S", b"x", b"g", b"L", b"K", b"D", b" "],
)
def test_anything_but_a_regular_file_is_refused(kind: bytes) -> None:
    header = entry("metadata/x").tobuf(tarfile.USTAR_FORMAT)
    bent = bytearray(header)
    bent[156:157] = kind
    bent[148:156] = b"%06o\0 " % (sum(bent) - sum(bent[148:156]) + 8 * 32)
    assert refusal(bytes(bent) + bytes(1024)) == "bundle_unreadable"


def test_a_name_that_is_split_over_two_fields_is_refused() -> None:
    bent = bytearray(entry("metadata/x").tobuf(tarfile.USTAR_FORMAT))
    bent[345:348] = b"etc"
    bent[148:156] = b"%06o\0 " % (sum(bent) - sum(bent[148:156]) + 8 * 32)
    assert refusal(bytes(bent) + bytes(1024)) == "bundle_unreadable"


def test_extension_headers_are_refused() -> None:
    long_name = "targets/" + "x" * 150
    for form in (tarfile.PAX_FORMAT, tarfile.GNU_FORMAT):
        assert refusal(tar(lambda t: t.addfile(entry(long_name)), form)) == "bundle_unreadable"


def test_a_member_that_stands_twice_is_refused() -> None:
    assert refusal(named("metadata/x", "metadata/x")) == "bundle_unreadable"


def test_metadata_after_a_target_is_refused() -> None:
    assert refusal(named("targets/a", "metadata/b")) == "bundle_unreadable"


def test_too_many_members_or_too_much_metadata_is_too_large() -> None:
    many = {f"metadata/{number}": b"" for number in range(MEMBERS_MAX + 1)}
    assert refusal(pack(many)) == "bundle_too_large"
    assert refusal(pack({"metadata/x": bytes(METADATA_BYTES_MAX + 1)})) == "bundle_too_large"
    assert Bundle(Bytes(pack({"metadata/x": bytes(METADATA_BYTES_MAX)}))).metadata("x") is not None


@pytest.mark.parametrize("size", [b"77777777777\0", b"\x80" + bytes(10) + b"\x05", b"-0000000001\0", b"            "])
def test_a_member_longer_than_the_bundle_is_refused(size: bytes) -> None:
    bent = bytearray(entry("targets/x").tobuf(tarfile.USTAR_FORMAT))
    bent[124:136] = size
    bent[148:156] = b"%06o\0 " % (sum(bent) - sum(bent[148:156]) + 8 * 32)
    assert refusal(bytes(bent) + bytes(10240)) == "bundle_unreadable"


def test_a_bundle_that_shrinks_while_it_is_read_is_refused() -> None:
    source = Bytes(GOOD)
    bundle = Bundle(source)
    source.data = GOOD[:600]
    with pytest.raises(BundleError) as caught:
        bundle.metadata("1.root.json")
    assert caught.value.code == "bundle_unreadable"


def test_a_bundle_that_cannot_be_read_is_told_apart_from_a_bad_one() -> None:
    class Worn(Bytes):
        def pread(self, offset: int, length: int) -> bytes:
            raise OSError(5, "Input/output error")

    with pytest.raises(BundleError) as caught:
        Bundle(Worn(GOOD)).metadata("timestamp.json")
    assert caught.value.code == "spool_io"


def test_an_empty_archive_holds_nothing() -> None:
    assert Bundle(Bytes(bytes(1024))).metadata("timestamp.json") is None


@settings(max_examples=150)
@given(st.data())
def test_any_change_is_refused_with_a_code_or_stays_inside_the_bundle(data: st.DataObject) -> None:
    bent = bytearray(GOOD)
    for _ in range(data.draw(st.integers(1, 6))):
        block = data.draw(st.sampled_from([0, 2, 5]))  # the headers
        bent[512 * block + data.draw(st.integers(0, 511))] = data.draw(st.integers(0, 255))
        if data.draw(st.booleans()):
            head = bent[512 * block : 512 * block + 512]
            bent[512 * block + 148 : 512 * block + 156] = b"%06o\0 " % (sum(head) - sum(head[148:156]) + 256)
    _read_all(bytes(bent))


@given(st.binary(max_size=2048))
def test_any_bytes_are_refused_with_a_code_or_read(data: bytes) -> None:
    _read_all(data)
    _read_all(data + bytes(1024))


def _read_all(data: bytes) -> None:
    bundle = Bundle(Bytes(data))
    try:
        for name in ("timestamp.json", "1.root.json"):
            assert len(bundle.metadata(name) or b"") <= len(data)
        target = bundle.target("a.payload")
        assert target is None or len(target.pread(0, 1 << 30)) <= min(target.size, len(data))
        bundle.target("none")
    except BundleError as error:
        assert error.code in ("bundle_unreadable", "bundle_too_large")


def test_our_reader_and_pythons_agree_on_a_built_bundle(good: bytes) -> None:
    bundle = Bundle(Bytes(good))
    for name, data in unpack(good).items():
        folder, _, rest = name.partition("/")
        if folder == "metadata":
            assert bundle.metadata(rest) == data
        else:
            target = bundle.target(rest)
            assert target is not None
            assert target.pread(0, target.size) == data


# a bundle of which only some pieces were fetched


def test_what_was_not_fetched_is_missed_and_nothing_else_is_read() -> None:
    head = 3 * 512 + 512 + 3 * 512  # up to the target's header
    part = Spooled(Bytes(GOOD[:head]), Pieces([(0, head)], head), len(GOOD))
    bundle = Bundle(part)
    assert bundle.metadata("1.root.json") == PARTS["metadata/1.root.json"]
    assert bundle.metadata("2.root.json") is None
    target = bundle.target("a.payload")
    assert target is not None
    with pytest.raises(Missing) as caught:
        target.pread(10, 20)
    assert (caught.value.offset, caught.value.length) == (target.start + 10, 20)


def test_metadata_that_was_not_fetched_is_missed() -> None:
    with pytest.raises(Missing):
        Bundle(Spooled(Bytes(GOOD[:600]), Pieces([(0, 600)], 600), len(GOOD))).metadata("1.root.json")


def test_pieces_are_put_together_in_the_order_of_the_file() -> None:
    parts = [(1000, 500), (0, 1000), (1500, len(GOOD) - 1500)]
    spool = b"".join(GOOD[at : at + length] for at, length in parts)
    whole = Bundle(Spooled(Bytes(spool), Pieces(parts, len(spool)), len(GOOD)))
    target = whole.target("a.payload")
    assert target is not None and target.pread(0, 1000) == PARTS["targets/a.payload"]
    assert whole.target("none") is None
