"""Bundles come out right, the same every time, and with versions that only grow."""

from __future__ import annotations

import hashlib
import json
import os
import random
from pathlib import Path
from typing import Any

import pytest

from posagent.core import manifest, payload
from posagent.core.errors import PosagentError
from posagent.core.extents import spans
from posagent.installer import operations
from posagent.release import bundle
from posagent.release.payload import encode
from posagent.release.payload import shares as payload_shares
from tests.installer.store import Bytes
from tests.release.desk import NOW_S, Desk, image_bytes, unpack


@pytest.fixture(scope="module")
def desk(tmp_path_factory: pytest.TempPathFactory) -> Desk:
    return Desk(tmp_path_factory.mktemp("desk"))


def restored(header: payload.Header, body: bytes, source: bytes = b"") -> bytes:
    """The image, as a terminal would write it."""
    image = bytearray(b"?" * header.image_size)
    for operation in header.operations:
        made, done = operations.made(operation, header, Bytes(body), Bytes(source)), 0
        for at, length in spans(operation.target, header.image_size):
            image[at : at + length] = made[done : done + length]
            done += length
    return bytes(image)


@pytest.mark.parametrize("size", [1, 4095, 4096, (1 << 20) - 1, 1 << 20, (1 << 20) + 1, (5 << 19) + 4096])
def test_the_payload_gives_back_the_image_of_any_length(size: int, tmp_path: Path) -> None:
    image = tmp_path / "image"
    image.write_bytes(image_bytes()[-size:])
    encoded = encode(image, tmp_path / "payload", level=1)
    body = (tmp_path / "payload").read_bytes()
    assert (len(body), hashlib.sha256(body).hexdigest()) == (encoded.length, encoded.sha256)
    header = payload.parse_header(body[: payload.header_length(body[:16])], len(body))
    assert restored(header, body) == image.read_bytes()
    assert encoded.image_sha256 == hashlib.sha256(image.read_bytes()).hexdigest()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["image", "payload"]


def test_zeros_take_no_room(tmp_path: Path) -> None:
    (tmp_path / "image").write_bytes(bytes(4 << 20))
    assert encode(tmp_path / "image", tmp_path / "payload").length < 1000


def test_a_bundle_holds_what_was_asked_for(desk: Desk) -> None:
    data = desk.build(1, version="7.1+x", compatible=["a", "b"], min_hw_rev=4, security_counter=9, profile={"mips": 50})
    parts = unpack(data)
    assert [name.partition("/")[0] for name in parts] == ["metadata"] * 4 + ["targets"]
    target = json.loads(parts["metadata/1.targets.json"])["signed"]["targets"]["system.payload"]
    found = manifest.from_custom(
        "system.payload", length=target["length"], sha256=target["hashes"]["sha256"], custom=target["custom"]
    )
    assert (found.version, found.hw_ids, found.min_hw_rev) == ("7.1+x", ("a", "b"), 4)
    assert (found.security_counter, found.profile) == (9, {"mips": 50})
    body = parts[f"targets/{found.member}"]
    assert restored(payload.read_header(Bytes(body), found), body) == desk.image.read_bytes()


def test_the_same_build_gives_the_same_bytes(desk: Desk) -> None:
    assert desk.build(3) == desk.build(3)


def test_source_date_epoch_is_the_signed_time(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SOURCE_DATE_EPOCH", str(NOW_S))
    out = desk.folder / "epoch.bundle"
    bundle.build(
        desk.image,
        version="1.2.3",
        compatible=["sim-pos"],
        keys_dir=desk.keys,
        out=out,
        level=1,
        versions=bundle.Versions(targets=3, snapshot=3, timestamp=3),
    )
    assert out.read_bytes() == desk.build(3)


def test_versions_grow_from_build_to_build_and_the_counter_stays(tmp_path: Path) -> None:
    desk = Desk(tmp_path)
    desk.build(security_counter=4)
    desk.build()
    found = bundle.show(tmp_path / "out.bundle")
    assert found["versions"] == {"root": 1, "timestamp": 2, "snapshot": 2, "targets": 2}
    assert found["manifests"][0]["security_counter"] == 4


def test_a_damaged_state_file_stops_the_build(tmp_path: Path) -> None:
    desk = Desk(tmp_path)
    (desk.keys / "state.json").write_text("{")
    with pytest.raises(PosagentError) as caught:
        desk.build()
    assert caught.value.code == "keys_unusable"


@pytest.mark.parametrize(
    "words",
    [{"version": "a b"}, {"compatible": []}, {"min_hw_rev": -1}, {"expires_days": 0}, {"profile": {"x": 0.5}}],
)
def test_an_impossible_wish_is_refused_before_the_long_work(desk: Desk, words: dict[str, Any]) -> None:
    with pytest.raises(PosagentError) as caught:
        desk.build(1, on_progress=lambda done, total: pytest.fail("compressed"), **words)
    assert caught.value.code == "bad_request"


def test_a_missing_or_empty_image_leaves_nothing_behind(tmp_path: Path) -> None:
    desk = Desk(tmp_path)
    desk.image.write_bytes(b"")
    with pytest.raises(PosagentError) as caught:
        desk.build(1)
    assert caught.value.code == "release_io"
    desk.image.unlink()
    with pytest.raises(PosagentError) as caught:
        desk.build(1)
    assert caught.value.code == "release_io"
    assert os.listdir(tmp_path) == ["keys"]


def test_progress_reaches_the_whole_image(desk: Desk) -> None:
    seen: list[tuple[int, int]] = []
    desk.build(1, on_progress=lambda done, total: seen.append((done, total)))
    size = 2 * desk.image.stat().st_size  # of the full payload and the whole one
    assert [done for done, _ in seen] == sorted({done for done, _ in seen})
    assert len(seen) > 5 and seen[-1] == (size, size) and {total for _, total in seen} == {size}


def test_show_refuses_what_is_not_whole(desk: Desk, tmp_path: Path) -> None:
    data = desk.build(1)
    bent = bytearray(data)
    bent[-30_000] ^= 1
    for content in (data[: len(data) // 2], b"", b"x" * 5000, bytes(10240), bytes(bent)):
        path = tmp_path / "x.bundle"
        path.write_bytes(content)
        with pytest.raises(PosagentError) as caught:
            bundle.show(path)
        assert caught.value.code == "bundle_unreadable"


# deltas


def test_a_bundle_with_deltas_gives_back_the_image_from_each_source(desk: Desk, tmp_path: Path) -> None:
    new = desk.image.read_bytes()
    sources = [tmp_path / "one", tmp_path / "two"]
    sources[0].write_bytes(new[4096:] + b"one" * 1000)
    sources[1].write_bytes(new[: len(new) // 2])
    parts = unpack(desk.build(1, sources=sources))
    found = {name.partition(".")[2]: data for name, data in parts.items() if name.startswith("targets/")}
    assert list(found)[-1] == bundle.TARGET and len(found) == 3, "the smallest come first"
    for name, body in found.items():
        header = payload.parse_header(body[: payload.header_length(body[:16])], len(body))
        source = next((one for one in sources if hashlib.sha256(one.read_bytes()).hexdigest()[:12] in name), None)
        assert restored(header, body, source.read_bytes() if source else b"") == new


def test_a_delta_that_is_no_smaller_is_left_out(tmp_path: Path) -> None:
    for name in ("old", "new"):
        (tmp_path / name).write_bytes(os.urandom(1 << 20))
    (tmp_path / "desk").mkdir()
    own = Desk(tmp_path / "desk")
    own.image = tmp_path / "new"
    parts = unpack(own.build(1, sources=[tmp_path / "old"]))
    assert sum(name.startswith("targets/") for name in parts) == 1


def test_a_bundle_has_the_image_in_large_operations_too_where_these_are_smaller(desk: Desk, tmp_path: Path) -> None:
    own = Desk.__new__(Desk)
    own.folder, own.keys, own.image = tmp_path, desk.keys, tmp_path / "text"
    own.image.write_bytes(image_bytes()[: 1 << 20] * 2)
    found = {
        name.partition(".")[2]: body
        for name, body in unpack(own.build(1, level=6)).items()
        if name.startswith("targets/")
    }
    assert list(found) == [bundle.WHOLE, bundle.TARGET] and len(found[bundle.WHOLE]) < 0.9 * len(found[bundle.TARGET])
    whole = found[bundle.WHOLE]
    header = payload.parse_header(whole[: payload.header_length(whole[:16])], len(whole))
    assert restored(header, whole, b"") == own.image.read_bytes()
    shown = {one["target"]: one for one in bundle.show(tmp_path / "out.bundle")["manifests"]}
    assert shown[bundle.WHOLE]["whole"] is True and "whole" not in shown[bundle.TARGET]
    assert "dense" in bundle.show(tmp_path / "out.bundle")["payloads"][bundle.WHOLE]
    without = unpack(own.build(2, whole=False))
    assert [name.partition(".")[2] for name in without if name.startswith("targets/")] == [bundle.TARGET]


def test_a_delta_that_is_smaller_than_the_full_payload_but_not_than_the_whole_one_is_left_out(tmp_path: Path) -> None:
    """As for a major upgrade."""
    (tmp_path / "desk").mkdir()
    own = Desk(tmp_path / "desk")
    text, other = image_bytes(), image_bytes(2)
    own.image.write_bytes(text[: 1 << 20] * 2)
    (tmp_path / "old").write_bytes(other[-(1 << 18) :] + text[: 1 << 16])
    delta = encode(own.image, tmp_path / "delta", source=tmp_path / "old")
    parts = unpack(own.build(1, level=6, sources=[tmp_path / "old"]))
    found = {name.partition(".")[2]: len(body) for name, body in parts.items() if name.startswith("targets/")}
    assert list(found) == [bundle.WHOLE, bundle.TARGET]
    assert found[bundle.WHOLE] < delta.length < 0.9 * found[bundle.TARGET]


def test_a_delta_is_the_same_every_time(tmp_path: Path) -> None:
    old, new = tmp_path / "old", tmp_path / "new"
    old.write_bytes(image_bytes())
    new.write_bytes(image_bytes()[8192:] + b"more" * 5000)
    made = [encode(new, tmp_path / name, source=old) for name in ("one", "two")]
    assert made[0] == made[1] and (tmp_path / "one").read_bytes() == (tmp_path / "two").read_bytes()
    with (tmp_path / "one").open("rb") as stream:
        shares = payload_shares(stream, made[0].length)
    assert sum(share["stored_bytes"] for share in shares.values()) == made[0].length
    assert sum(share["image_bytes"] for share in shares.values()) == made[0].image_size


def test_what_a_delta_copies_from_another_place_is_told_apart(tmp_path: Path) -> None:
    block, dice = 4096, random.Random(3)
    kept, moved, new = dice.randbytes(20 * block), dice.randbytes(30 * block), dice.randbytes(block)
    (tmp_path / "old").write_bytes(kept + moved + new)
    (tmp_path / "new").write_bytes(kept + new + moved)
    made = encode(tmp_path / "new", tmp_path / "payload", source=tmp_path / "old")
    with (tmp_path / "payload").open("rb") as stream:
        found = payload_shares(stream, made.length)
    assert (found["copy"]["image_bytes"], found["moved"]["image_bytes"]) == (len(kept), len(moved) + len(new))
    assert found["copy"]["operations"] == 1 and found["moved"]["stored_bytes"] == 0
