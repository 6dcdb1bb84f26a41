"""GRUB's environment block through the real grub-editenv: which copy counts, what is refused, what stays untouched."""

from __future__ import annotations

import dataclasses
import errno
import tempfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from posagent.config import SlotConfig, SlotsConfig
from posagent.core.errors import BootControlError
from posagent.core.ports import BootState
from posagent.platform.grub import BLOCK_BYTES, SECTOR_BYTES, GrubBootControl
from posagent.platform.storage import LinuxFiles
from tests.platform.grub import COPIES, FACTORY, make_block, make_environment, variables

pytestmark = pytest.mark.real

OLD = BootState(order=("a",), tries={"a": 3, "b": 0})
NEW = BootState(order=("b", "a"), tries={"a": 3, "b": 2})


def refusal(boot: GrubBootControl, state: BootState | None = None) -> BootControlError:
    with pytest.raises(BootControlError) as caught:
        if state is None:
            boot.read()
        else:
            boot.write(state)
    return caught.value


def contents(directory: Path) -> list[bytes]:
    return [(directory / name).read_bytes() for name in COPIES]


DAMAGES = {
    "empty": b"",
    "cut in the signature": b"# GRUB Environ",
    "ones": b"\xff" * BLOCK_BYTES,
    "nothing in it": b"# GRUB Environment Block\n" + b"#" * 999,
    "one mark": b"# GRUB Environment Block\nposagent_begin=1\nBOOT_ORDER=b\n" + b"#" * 970,
}


@pytest.mark.parametrize("damage", DAMAGES.values(), ids=DAMAGES)
@pytest.mark.parametrize("name", COPIES)
def test_one_damaged_copy_is_survived_and_repaired_by_the_next_write(tmp_path: Path, name: str, damage: bytes) -> None:
    boot = GrubBootControl(*make_environment(tmp_path))
    boot.write(NEW)
    (tmp_path / name).write_bytes(damage)
    assert boot.read() == NEW
    boot.write(OLD)
    first, second = contents(tmp_path)
    assert first == second and len(first) == BLOCK_BYTES


def test_a_missing_copy_is_made_anew(tmp_path: Path) -> None:
    boot = GrubBootControl(*make_environment(tmp_path))
    (tmp_path / COPIES[0]).unlink()
    boot.write(NEW)
    assert len(set(contents(tmp_path))) == 1


def test_a_block_cut_short_behind_its_variables_is_read_as_grub_reads_it(tmp_path: Path) -> None:
    boot = GrubBootControl(*make_environment(tmp_path))
    first = tmp_path / COPIES[0]
    make_block(first, "BOOT_ORDER=b a", "BOOT_a_LEFT=1", "BOOT_b_LEFT=2")
    first.write_bytes(first.read_bytes()[:200])
    assert boot.read() == BootState(order=("b", "a"), tries={"a": 1, "b": 2})
    boot.write(NEW)
    assert len(contents(tmp_path)[0]) == BLOCK_BYTES


@pytest.mark.parametrize("damage", [*DAMAGES.values(), None], ids=[*DAMAGES, "missing"])
def test_without_a_whole_copy_it_is_reported_and_nothing_is_written(tmp_path: Path, damage: bytes | None) -> None:
    boot = GrubBootControl(*make_environment(tmp_path))
    for name in COPIES:
        if damage is None:
            (tmp_path / name).unlink()
        else:
            (tmp_path / name).write_bytes(damage)
    error = refusal(boot)
    assert error.code == "boot_env_missing" and all(name in error.detail for name in COPIES)
    assert refusal(boot, NEW).code == "boot_env_missing"
    assert {path.read_bytes() for path in tmp_path.glob("grubenv*")} == ({damage} if damage is not None else set())


def test_a_block_that_is_torn_while_it_is_written_is_old_or_new_or_refused(tmp_path: Path) -> None:
    config, slots = make_environment(tmp_path, (*FACTORY, "made_by=a factory with a long name"))
    alone = dataclasses.replace(config, grub_files=config.grub_files[:1], require_redundant_env=False)
    boot = GrubBootControl(alone, slots)
    path = tmp_path / COPIES[0]
    factory = path.read_bytes()
    boot.write(NEW)
    armed = path.read_bytes()
    boot.write(BootState(order=("b",), tries={"a": 0, "b": 3}))
    for old, new in ((factory, armed), (armed, path.read_bytes()), (path.read_bytes(), armed)):
        states = []
        for block in (old, new):
            path.write_bytes(block)
            states.append(boot.read())
        changed = [place for place in range(BLOCK_BYTES) if old[place] != new[place]]
        for place in range(changed[0], changed[-1] + 2):
            for torn in (new[:place] + old[place:], old[:place] + new[place:]):
                path.write_bytes(torn)
                try:
                    assert boot.read() in states, torn
                except BootControlError as error:
                    assert error.code == "boot_env_missing"


def test_the_copy_in_use_is_written_last_and_only_when_the_other_is_good(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    boot = GrubBootControl(*make_environment(tmp_path))
    write, written = LinuxFiles.write, []

    def torn(files: LinuxFiles, path: str, offset: int, data: bytes) -> None:
        written.append(Path(path).name)
        write(files, path, offset, data[:150])

    monkeypatch.setattr(LinuxFiles, "write", torn)
    assert refusal(boot, NEW).code == "boot_env_write"
    assert boot.read() == OLD
    (tmp_path / COPIES[1]).write_bytes(contents(tmp_path)[0])
    (tmp_path / COPIES[0]).write_bytes(b"")
    assert refusal(boot, NEW).code == "boot_env_write"
    assert boot.read() == OLD
    assert written == [COPIES[1], COPIES[0]]


@pytest.mark.parametrize("number", [errno.EROFS, errno.ENOSPC, errno.EIO])
def test_a_place_that_cannot_be_written_is_reported(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    boot = GrubBootControl(*make_environment(tmp_path))

    def fail(*_: object) -> None:
        raise OSError(number, "no")

    monkeypatch.setattr(LinuxFiles, "sync" if number == errno.EIO else "write", fail)
    error = refusal(boot, NEW)
    assert error.code == "boot_env_write" and COPIES[1] in error.detail
    monkeypatch.undo()
    assert boot.read() == OLD


def test_a_full_block_is_reported_and_left_as_it_is(tmp_path: Path) -> None:
    boot = GrubBootControl(*make_environment(tmp_path, (*FACTORY, "filler=" + "x" * 850)))
    before = contents(tmp_path)
    error = refusal(boot, NEW)
    assert error.code == "boot_env_write" and "too small" in error.detail
    assert contents(tmp_path) == before


def test_our_variables_stay_within_the_first_sector(tmp_path: Path) -> None:
    boot = GrubBootControl(*make_environment(tmp_path, ("saved_entry=" + "x" * 600, *FACTORY)))
    boot.write(NEW)
    assert contents(tmp_path)[0].index(b"\nsaved_entry=") < SECTOR_BYTES
    assert variables(tmp_path / COPIES[0])["saved_entry"] == "x" * 600
    long = GrubBootControl(*make_environment(tmp_path, ("BOOT_ORDER=a " + "rescue" * 80,)))
    assert refusal(long, NEW).code == "boot_env_write"


def test_what_belongs_to_others_stays_in_its_order(tmp_path: Path) -> None:
    words = ("saved_entry=x y=\\#z", "BOOT_ORDER=rescue b b a  x", "BOOT_a_LEFT=1", "empty=", "next=ä")
    boot = GrubBootControl(*make_environment(tmp_path, words))
    assert boot.read() == BootState(order=("b", "a"), tries={"a": 1, "b": 0})
    boot.write(BootState(order=("a", "b"), tries={"b": 2}))
    found = variables(tmp_path / COPIES[1])
    assert [name for name in found if "posagent" not in name] == [
        *("BOOT_ORDER", "BOOT_a_LEFT", "BOOT_b_LEFT"),
        *("saved_entry", "empty", "next"),
    ]
    assert (found["BOOT_ORDER"], found["saved_entry"], found["next"]) == ("a b rescue x", "x y=\\#z", "ä")


def test_names_are_those_of_the_integrators_boot_script(tmp_path: Path) -> None:
    config, _ = make_environment(
        tmp_path, ("order=B A", "t_A=1", "t_B=2"), order_variable="order", tries_variable="t_{slot}"
    )
    slots = SlotsConfig(a=SlotConfig(device="/a", boot_name="A"), b=SlotConfig(device="/b", boot_name="B"))
    boot = GrubBootControl(config, slots)
    assert boot.read() == BootState(order=("b", "a"), tries={"a": 1, "b": 2})
    boot.write(OLD)
    assert boot.read() == OLD


def test_a_link_leads_to_the_file_that_grub_reads(tmp_path: Path) -> None:
    config, slots = make_environment(tmp_path)
    link = tmp_path / "link"
    link.symlink_to(COPIES[0])
    boot = GrubBootControl(dataclasses.replace(config, grub_files=(str(link), config.grub_files[1])), slots)
    boot.write(NEW)
    assert link.is_symlink() and len(set(contents(tmp_path))) == 1
    same = dataclasses.replace(config, grub_files=(str(link), config.grub_files[0]))
    assert refusal(GrubBootControl(same, slots)).code == "boot_env_not_redundant"


def test_a_missing_or_lying_tool_is_found_out(tmp_path: Path) -> None:
    config, slots = make_environment(tmp_path)
    for tool in ("/none/grub-editenv", "/bin/false", "/bin/true"):
        error = refusal(GrubBootControl(dataclasses.replace(config, grub_editenv=tool), slots))
        assert error.code == "boot_env_missing"
    lying = tmp_path / "grub-editenv"
    lying.write_text('#!/bin/sh\n[ "$2" = set ] || exec grub-editenv "$@"\n')
    lying.chmod(0o755)
    boot = GrubBootControl(dataclasses.replace(config, grub_editenv=str(lying)), slots)
    assert refusal(boot, NEW).code == "boot_env_write"
    assert contents(tmp_path)[0] == contents(tmp_path)[1]


HEAD = b"# GRUB Environment Block\n"
LINES = st.lists(
    st.sampled_from(
        [b"BOOT_ORDER=b a", b"BOOT_ORDER=\x80 a", b"BOOT_a_LEFT=\xff", b"posagent_begin=1", b"posagent_end=1"]
    )
    | st.binary(max_size=30),
    max_size=8,
)


@settings(max_examples=60)
@given(st.binary(max_size=1100) | LINES.map(lambda lines: (HEAD + b"\n".join(lines) + b"\n").ljust(BLOCK_BYTES, b"#")))
def test_no_block_makes_more_of_it_than_a_coded_error(block: bytes) -> None:
    with tempfile.TemporaryDirectory() as directory:
        boot = GrubBootControl(*make_environment(Path(directory)))
        for name in COPIES:
            (Path(directory) / name).write_bytes(block)
        try:
            state = boot.read()
            assert set(state.order) <= {"a", "b"} and set(state.tries) == {"a", "b"}
            boot.write(NEW)
            assert boot.read() == NEW
        except BootControlError as error:
            assert error.code in ("boot_env_missing", "boot_env_write")
