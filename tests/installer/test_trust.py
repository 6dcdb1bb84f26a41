"""Which bundles a terminal believes, which it refuses and with what code, and what it remembers of them."""

from __future__ import annotations

import dataclasses
import random
from pathlib import Path
from typing import Any

import pytest
from tuf.api.metadata import Metadata, Root

from posagent.core import payload
from posagent.core.bundle import Bundle
from posagent.core.errors import PosagentError
from posagent.core.manifest import Manifest
from posagent.installer.trust import SIGNED_AT, Trust, select
from posagent.release import keys
from tests.installer.store import Bytes, Fate, Partition, PowerCut, WallClock
from tests.installer.terminal import STORE, Terminal
from tests.release.desk import DAY_S, NOW_S, Desk, name_of, pack, unpack


@pytest.fixture
def terminal(desk: Desk) -> Terminal:
    return Terminal(desk.first_root)


# the way of a good bundle


def test_a_good_bundle_is_believed(terminal: Terminal, good: bytes) -> None:
    (found,) = terminal.verify(good)
    assert (found.version, found.hw_ids, found.security_counter) == ("1.2.3", ("sim-pos",), 0)
    assert Bundle(Bytes(good)).target(found.member) is not None


def test_verifying_again_changes_nothing(terminal: Terminal, good: bytes) -> None:
    first = terminal.verify(good)
    operations = terminal.partition.operations
    assert terminal.verify(good) == first
    assert terminal.partition.operations == operations


def test_the_desk_and_the_terminal_name_the_signed_time_alike() -> None:
    assert keys.SIGNED_AT == SIGNED_AT


def test_what_is_signed_is_known_before_the_payload_is_there(terminal: Terminal, good: bytes) -> None:
    parts = {name: data for name, data in unpack(good).items() if name.startswith("metadata/")}
    assert terminal.verify(pack(parts)) == terminal.verify(good)


def test_a_signed_target_of_another_kind_is_left_alone(terminal: Terminal, desk: Desk, good: bytes) -> None:
    def as_delta(targets: Any) -> None:
        targets.targets["system.payload"].unrecognized_fields["custom"]["format"] = 2

    assert terminal.verify(desk.change(good, "targets", as_delta)) == ()


# signatures


def test_a_bundle_of_another_desk_is_refused(terminal: Terminal, tmp_path: Path) -> None:
    assert terminal.refusal(Desk(tmp_path).build(9)) == "signature_invalid"


def test_one_signature_is_not_enough_for_targets(terminal: Terminal, desk: Desk, good: bytes) -> None:
    data = desk.change(good, "targets", lambda part: None, signatures=1)
    assert terminal.refusal(data) == "signature_invalid"


@pytest.mark.parametrize("role", ["targets", "snapshot", "timestamp"])
def test_a_changed_part_that_was_not_signed_again_is_refused(terminal: Terminal, good: bytes, role: str) -> None:
    parts = unpack(good)
    name = name_of(parts, role)
    parts[name] = parts[name].replace(b'"version":5', b'"version":6', 1)
    assert terminal.refusal(pack(parts)) == "signature_invalid"


def test_parts_of_two_bundles_do_not_mix(terminal: Terminal, desk: Desk, good: bytes) -> None:
    parts, other = unpack(good), unpack(desk.build(5, version="9.9.9"))
    parts[name_of(parts, "targets")] = other[name_of(other, "targets")]
    assert terminal.refusal(pack(parts)) == "signature_invalid"


def test_one_roles_metadata_is_no_other_roles(terminal: Terminal, good: bytes) -> None:
    parts = unpack(good)
    parts["metadata/timestamp.json"] = parts[name_of(parts, "snapshot")]
    assert terminal.refusal(pack(parts)) == "bundle_unreadable"


@pytest.mark.parametrize("role", ["targets", "snapshot", "timestamp"])
@pytest.mark.parametrize("data", [None, b"", b"{}", b"[" * 200_000, b'{"signed":1e999}', b"\xff" * 100])
def test_missing_or_senseless_metadata_is_refused(
    terminal: Terminal, good: bytes, role: str, data: bytes | None
) -> None:
    parts = unpack(good)
    name = name_of(parts, role)
    del parts[name]
    if data is not None:
        parts[name] = data
    assert terminal.refusal(pack(parts)) in ("bundle_unreadable", "signature_invalid")


def test_a_flipped_bit_anywhere_in_the_metadata_changes_nothing_that_is_believed(desk: Desk, good: bytes) -> None:
    parts = unpack(good)
    wanted = Terminal(desk.first_root).verify(good)
    dice = random.Random(4)
    codes = set()
    for name in [name_of(parts, role) for role in ("timestamp", "snapshot", "targets")]:
        for place in range(0, len(parts[name]), 5):
            bent = bytearray(parts[name])
            bent[place] ^= 1 << dice.randrange(8)
            try:
                assert Terminal(desk.first_root).verify(pack({**parts, name: bytes(bent)})) == wanted
            except PosagentError as error:
                codes.add(error.code)
    assert codes <= {"signature_invalid", "bundle_unreadable"}
    assert "signature_invalid" in codes


def test_a_signed_manifest_out_of_bounds_is_unreadable(terminal: Terminal, desk: Desk, good: bytes) -> None:
    def without_hardware(targets: Any) -> None:
        targets.targets["system.payload"].unrecognized_fields["custom"]["hw_ids"] = []

    assert terminal.refusal(desk.change(good, "targets", without_hardware)) == "bundle_unreadable"


# time


def test_an_expired_bundle_is_refused(terminal: Terminal, good: bytes) -> None:
    terminal.clock.wall_s = NOW_S + 61 * DAY_S
    with pytest.raises(PosagentError) as caught:
        terminal.verify(good)
    assert caught.value.code == "repository_expired"
    assert caught.value.facts["role"] == "timestamp"
    assert caught.value.facts["reference_s"] == NOW_S + 61 * DAY_S


@pytest.mark.parametrize("role", ["snapshot", "targets"])
def test_each_expired_role_is_refused(terminal: Terminal, desk: Desk, good: bytes, role: str) -> None:
    def expire(part: Any) -> None:
        part.expires = keys.date(NOW_S - 1)

    assert terminal.refusal(desk.change(good, role, expire)) == "repository_expired"


def test_an_expired_root_is_refused_until_a_bundle_brings_the_next(tmp_path: Path) -> None:
    desk = Desk(tmp_path, root_days=10)
    later = NOW_S + 11 * DAY_S
    terminal = Terminal(desk.first_root, clock=WallClock(later))
    assert terminal.refusal(desk.build(1, now_s=later)) == "repository_expired"
    keys.renew(desk.keys, now_s=later)
    assert terminal.verify(desk.build(1, now_s=later))


@pytest.mark.parametrize("wall_s", [0.0, -5.0, NOW_S - 4000 * DAY_S])
def test_a_dead_clock_does_not_strand_the_terminal(terminal: Terminal, good: bytes, wall_s: float) -> None:
    terminal.clock.wall_s = wall_s
    assert terminal.verify(good)


@pytest.mark.parametrize("wall_s", [4e9, 1e18])
def test_an_absurd_clock_does_not_strand_the_terminal(terminal: Terminal, good: bytes, wall_s: float) -> None:
    terminal.clock.wall_s = wall_s
    assert terminal.verify(good)


def test_a_clock_that_was_wrong_for_a_day_leaves_nothing_behind(terminal: Terminal, desk: Desk, good: bytes) -> None:
    terminal.verify(good)
    terminal.clock.wall_s = NOW_S + 400 * DAY_S
    assert terminal.refusal(desk.build(6)) == "repository_expired"
    terminal.clock.wall_s = NOW_S
    assert terminal.verify(desk.build(6))


def test_with_a_dead_clock_the_images_build_time_counts(terminal: Terminal, good: bytes) -> None:
    terminal.clock.wall_s = 0
    terminal.built_at_s = NOW_S + 61 * DAY_S
    assert terminal.refusal(good) == "repository_expired"


def test_with_a_dead_clock_the_newest_signed_time_counts(terminal: Terminal, desk: Desk, good: bytes) -> None:
    terminal.clock.wall_s = 0
    terminal.verify(desk.build(5, now_s=NOW_S + 10 * DAY_S))
    assert terminal.refusal(desk.build(6, expires_days=9)) == "repository_expired"


def test_a_part_that_expired_before_its_own_bundle_was_signed_is_refused(
    terminal: Terminal, desk: Desk, good: bytes
) -> None:
    def later(part: Any) -> None:
        part.unrecognized_fields[SIGNED_AT] = NOW_S + 400 * DAY_S
        part.expires = keys.date(NOW_S + 401 * DAY_S)

    terminal.clock.wall_s = 0
    assert terminal.refusal(desk.change(good, "timestamp", later)) == "repository_expired"


@pytest.mark.parametrize("signed_at", [NOW_S + 100 * DAY_S, -1, "soon", True])
def test_a_senseless_signed_time_is_ignored(terminal: Terminal, desk: Desk, good: bytes, signed_at: Any) -> None:
    data = desk.change(good, "timestamp", lambda part: part.unrecognized_fields.update({SIGNED_AT: signed_at}))
    assert terminal.verify(data)


# versions


def test_an_older_bundle_is_refused_after_a_newer_one(terminal: Terminal, desk: Desk, good: bytes) -> None:
    terminal.verify(good)
    assert terminal.refusal(desk.build(4)) == "repository_rollback"
    assert terminal.verify(desk.build(6))
    assert terminal.refusal(good) == "repository_rollback"


@pytest.mark.parametrize("role", ["timestamp", "snapshot", "targets"])
def test_each_role_is_guarded_against_rollback(own_desk: Desk, good: bytes, role: str) -> None:
    terminal = Terminal(own_desk.first_root)
    terminal.verify(good)

    def lower(part: Any) -> None:
        part.version = 4

    assert terminal.refusal(own_desk.change(own_desk.build(6), role, lower)) == "repository_rollback"


def test_a_refused_bundle_raises_no_floor(terminal: Terminal, desk: Desk, good: bytes) -> None:
    newer = desk.change(desk.build(9), "targets", lambda part: None, signatures=1)
    assert terminal.refusal(newer) == "signature_invalid"
    assert terminal.verify(good)


def test_a_file_of_another_version_than_its_name_is_refused(terminal: Terminal, desk: Desk, good: bytes) -> None:
    parts = unpack(good)

    def without_hashes(part: Any) -> None:
        part.snapshot_meta.hashes = part.snapshot_meta.length = None
        part.snapshot_meta.version = 6

    parts = unpack(desk.change(good, "timestamp", without_hashes))
    parts["metadata/6.snapshot.json"] = parts.pop("metadata/5.snapshot.json")
    assert terminal.refusal(pack(parts)) == "repository_rollback"


# roots


def test_a_new_root_comes_with_the_bundle_and_the_old_keys_end(own_desk: Desk, good: bytes) -> None:
    terminal = Terminal(own_desk.first_root)
    terminal.verify(good)
    keys.renew(own_desk.keys, replace=["targets-2", "snapshot"], now_s=NOW_S)
    keys.renew(own_desk.keys, replace=["root-1"], now_s=NOW_S)
    assert terminal.verify(own_desk.build(6))
    assert terminal.partition.names(STORE) == ["2.root.json", "3.root.json", "record-copy.json", "record.json"]
    assert terminal.refusal(good) in ("signature_invalid", "repository_rollback")


def test_a_root_signed_by_one_old_key_only_is_refused(own_desk: Desk, good: bytes) -> None:
    first = own_desk.first_root
    keys.renew(own_desk.keys, replace=["root-1", "root-2"], now_s=NOW_S)
    stolen = Metadata[Root].from_bytes((own_desk.keys / "2.root.json").read_bytes())
    old_ids = Metadata[Root].from_bytes(first).signed.roles["root"].keyids
    del stolen.signatures[old_ids[1]]
    parts = {**unpack(good), "metadata/2.root.json": stolen.to_bytes()}
    assert Terminal(first).refusal(pack(parts)) == "signature_invalid"


def test_a_root_that_does_not_sign_itself_is_refused(own_desk: Desk, good: bytes) -> None:
    keys.renew(own_desk.keys, replace=["root-1", "root-2"], now_s=NOW_S)
    half = Metadata[Root].from_bytes((own_desk.keys / "2.root.json").read_bytes())
    del half.signatures[half.signed.roles["root"].keyids[0]]
    parts = {**unpack(good), "metadata/2.root.json": half.to_bytes()}
    assert Terminal(own_desk.first_root).refusal(pack(parts)) == "signature_invalid"


def test_a_root_cannot_skip_a_version(own_desk: Desk, good: bytes) -> None:
    for _ in range(2):
        keys.renew(own_desk.keys, now_s=NOW_S)
    third = (own_desk.keys / "3.root.json").read_bytes()
    assert Terminal(own_desk.first_root).refusal(pack({**unpack(good), "metadata/2.root.json": third})) == (
        "repository_rollback"
    )


def test_whoever_writes_to_the_data_partition_cannot_plant_a_root(own_desk: Desk, tmp_path: Path) -> None:
    thief = Desk(tmp_path / "thief")
    keys.renew(thief.keys, now_s=NOW_S)
    terminal = Terminal(own_desk.first_root)
    terminal.verify(own_desk.build(1))
    terminal.partition.write(f"{STORE}/2.root.json", 0, (thief.keys / "2.root.json").read_bytes())
    assert terminal.refusal(thief.build(9)) == "signature_invalid"
    assert terminal.verify(own_desk.build(2))


def test_a_newer_image_brings_its_root_and_old_roots_are_cleared_away(own_desk: Desk) -> None:
    terminal = Terminal(own_desk.first_root)
    keys.renew(own_desk.keys, now_s=NOW_S)
    terminal.verify(own_desk.build(1))
    terminal.root = (own_desk.keys / "root.json").read_bytes()
    assert terminal.verify(own_desk.build(2))
    assert terminal.partition.names(STORE) == ["record-copy.json", "record.json"]


def test_after_a_key_was_revoked_the_desk_begins_again_below_the_thiefs_versions(own_desk: Desk, good: bytes) -> None:
    terminal = Terminal(own_desk.first_root)
    terminal.verify(own_desk.change(good, "timestamp", lambda part: setattr(part, "version", 2**31)))
    assert terminal.refusal(own_desk.build(6)) == "repository_rollback"
    keys.renew(own_desk.keys, replace=["timestamp-offline"], now_s=NOW_S)
    assert terminal.verify(own_desk.build(6))
    assert terminal.refusal(own_desk.build(4)) == "repository_rollback"


def test_a_time_that_a_thief_signed_ends_with_the_thiefs_key(own_desk: Desk, good: bytes) -> None:
    def far_ahead(part: Any) -> None:
        part.unrecognized_fields[SIGNED_AT] = NOW_S + 364 * DAY_S
        part.expires = keys.date(NOW_S + 5000 * DAY_S)

    terminal = Terminal(own_desk.first_root)
    terminal.verify(own_desk.change(good, "timestamp", far_ahead))
    assert terminal.refusal(own_desk.build(6)) == "repository_expired"
    keys.renew(own_desk.keys, replace=["timestamp-offline"], now_s=NOW_S)
    assert terminal.verify(own_desk.build(7))


# the store


@pytest.mark.parametrize("damage", [b"", b"{", b"null", b"[" * 60_000, b"\0" * 200, None])
@pytest.mark.parametrize("name", ["record.json", "record-copy.json"])
def test_one_damaged_record_loses_no_floor_and_is_repaired(
    terminal: Terminal, desk: Desk, good: bytes, name: str, damage: bytes | None
) -> None:
    terminal.verify(good)
    terminal.damage(name, damage)
    assert terminal.refusal(desk.build(4)) == "repository_rollback"
    assert terminal.verify(good)
    records = [terminal.partition.read(f"{STORE}/{copy}") for copy in ("record.json", "record-copy.json")]
    assert records[0] == records[1]


def test_a_flipped_digit_in_a_record_is_damage(terminal: Terminal, desk: Desk, good: bytes) -> None:
    terminal.verify(good)
    bent = terminal.partition.read(f"{STORE}/record.json").replace(b":5", b":1")
    terminal.damage("record.json", bent)
    assert terminal.refusal(desk.build(4)) == "repository_rollback"


def test_two_damaged_records_stop_everything_loudly(terminal: Terminal, good: bytes) -> None:
    terminal.verify(good)
    for name in ("record.json", "record-copy.json"):
        terminal.damage(name, b"")
    assert terminal.refusal(good) == "trust_store_damaged"


def test_a_damaged_root_in_the_store_is_brought_again_by_the_bundle(own_desk: Desk, good: bytes) -> None:
    terminal = Terminal(own_desk.first_root)
    for _ in range(2):
        keys.renew(own_desk.keys, now_s=NOW_S)
    terminal.verify(own_desk.build(5))
    terminal.damage("2.root.json", b"")
    assert terminal.refusal(good) == "trust_store_damaged"
    assert terminal.verify(own_desk.build(6))
    assert terminal.partition.size(f"{STORE}/2.root.json")


@pytest.mark.parametrize("root", [b"", b"{}", b"\xff"])
def test_an_image_without_a_usable_root_trusts_nobody(root: bytes) -> None:
    with pytest.raises(PosagentError) as caught:
        Trust(Partition(), STORE, root, clock=WallClock(NOW_S))
    assert caught.value.code == "trust_store_damaged"


def test_a_full_data_partition_refuses_rather_than_forgets(terminal: Terminal, desk: Desk, good: bytes) -> None:
    terminal.verify(good)
    terminal.partition.full = True
    with pytest.raises(PosagentError) as caught:
        terminal.verify(desk.build(6))
    assert caught.value.code == "trust_store_damaged"
    terminal.partition.full = False
    assert terminal.refusal(desk.build(4)) == "repository_rollback"


@pytest.mark.parametrize("fate", ["least", "most", "torn"])
def test_a_power_cut_at_any_point_loses_no_floor_and_strands_nobody(own_desk: Desk, fate: Fate) -> None:
    older, seen = own_desk.build(1), own_desk.build(2)
    keys.renew(own_desk.keys, now_s=NOW_S)
    newer = own_desk.build(3)
    factory = Terminal(own_desk.first_root)
    factory.verify(seen)
    cuts = 0
    while True:
        terminal = Terminal(own_desk.first_root, factory.partition.after_cut("least"))
        terminal.partition.cut_at = cuts
        try:
            terminal.verify(newer)
            break
        except PowerCut:
            cuts += 1
        terminal.partition = terminal.partition.after_cut(fate)
        assert terminal.refusal(older) == "repository_rollback"
        assert terminal.verify(newer)
        assert terminal.refusal(seen) == "repository_rollback"
    assert cuts > 10


@pytest.mark.parametrize("fate", ["least", "most", "torn"])
def test_a_power_cut_during_the_first_verification_strands_nobody(desk: Desk, good: bytes, fate: Fate) -> None:
    for cut in range(8):
        terminal = Terminal(desk.first_root)
        terminal.partition.cut_at = cut
        with pytest.raises(PowerCut):
            terminal.verify(good)
        terminal.partition = terminal.partition.after_cut(fate)
        assert terminal.verify(good)


# the choice


def image(**change: Any) -> Manifest:
    base = Manifest(
        target="a",
        length=1,
        sha256="0" * 64,
        version="1",
        security_counter=2,
        hw_ids=("pos-a",),
        min_hw_rev=0,
        component="system",
        header_sha256="0" * 64,
        image_size=1,
        image_sha256="0" * 64,
    )
    return dataclasses.replace(base, **change)


def choice(*images: Manifest, floor: int = 0, revision: int = 1) -> str:
    try:
        return select(images, hardware="pos-a", hardware_revision=revision, floor=floor)[0].target
    except PosagentError as error:
        return error.code


def test_the_image_for_this_hardware_is_chosen() -> None:
    assert choice(image(target="b", hw_ids=("pos-b",)), image()) == "a"


def test_an_image_for_other_hardware_or_a_later_revision_is_refused() -> None:
    assert choice(image(hw_ids=("pos-b",))) == "wrong_hardware"
    assert choice(image(min_hw_rev=2)) == "wrong_hardware"


def test_an_image_below_the_rollback_floor_is_refused() -> None:
    assert choice(image(), floor=3) == "counter_too_low"
    assert choice(image(), floor=2) == "a"


def test_the_highest_counter_then_the_closest_revision_is_chosen() -> None:
    assert choice(image(target="b", security_counter=1), image()) == "a"
    assert choice(image(target="b", min_hw_rev=1), image()) == "b"


def test_no_image_or_no_single_one_is_unreadable() -> None:
    assert choice() == "bundle_unreadable"
    assert choice(image(), image(target="b", image_sha256="1" * 64)) == "bundle_unreadable"


# the payload


@pytest.mark.parametrize("surplus", [-1, 1])
def test_a_payload_of_another_length_than_signed_is_unreadable(terminal: Terminal, good: bytes, surplus: int) -> None:
    (found,) = terminal.verify(good)
    body = unpack(good)[f"targets/{found.member}"]
    assert payload.read_header(Bytes(body), found).image_size == found.image_size
    with pytest.raises(PosagentError) as caught:
        payload.read_header(Bytes(body[:surplus] if surplus < 0 else body + b"x"), found)
    assert caught.value.code == "bundle_unreadable"


def test_payloads_of_one_image_are_chosen_together() -> None:
    delta = image(target="b", source_sha256="1" * 64, source_size=5)
    found = select((image(), delta), hardware="pos-a", hardware_revision=1, floor=0)
    assert [one.target for one in found] == ["a", "b"]
