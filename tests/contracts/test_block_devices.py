"""A slot keeps the same promises as a loop device, as a file and on the simulated medium."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from posagent.core.ports import BlockDevice
from posagent.crash.medium import Medium
from posagent.platform.blockdev import LinuxBlockDevice

SIZE = (3 << 20) + 4096
PATTERN = bytes(range(251)) * 4200  # a little more than 1 MiB, repeating off any block


@pytest.fixture
def loop_device(tmp_path: Path) -> Iterator[str]:
    image = tmp_path / "loop.img"
    with image.open("wb") as stream:
        stream.truncate(SIZE)
    if os.geteuid() != 0:
        pytest.skip("loop devices need root")
    made = subprocess.run(["losetup", "-f", "--show", str(image)], capture_output=True, text=True, check=False)
    if made.returncode:
        pytest.skip(f"no loop device: {made.stderr.strip()}")
    yield made.stdout.strip()
    subprocess.run(["losetup", "-d", made.stdout.strip()], check=True)


@pytest.fixture(params=["loop", "file", "medium"])
def device(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[BlockDevice]:
    made: BlockDevice
    if request.param == "loop":
        made = LinuxBlockDevice(request.getfixturevalue("loop_device"))
    elif request.param == "file":
        path = tmp_path / "slot.img"
        path.write_bytes(bytes(SIZE))
        made = LinuxBlockDevice(str(path))
    else:
        made = Medium().slot("b", SIZE)
    yield made
    made.close()


def test_the_size_is_known(device: BlockDevice) -> None:
    assert device.size == SIZE


@pytest.mark.parametrize("offset", [0, 4096, 1 << 20, 100, 4095])
@pytest.mark.parametrize("length", [4096, 1 << 20, 1, 512, 5000, len(PATTERN)])
def test_bytes_come_back_from_the_medium_wherever_they_were_written(
    device: BlockDevice, offset: int, length: int
) -> None:
    device.pwrite(0, b"\xaa" * SIZE)
    device.pwrite(offset, PATTERN[:length])
    assert device.pread(offset, length) == PATTERN[:length]
    device.flush()
    device.drop_cache()
    assert device.pread(offset, length) == PATTERN[:length]
    assert device.pread(0, offset) == b"\xaa" * offset
    assert device.pread(offset + length, 4096) == b"\xaa" * 4096


@pytest.mark.parametrize("offset", [0, 4096, 100])
def test_parts_are_written_one_behind_the_other(device: BlockDevice, offset: int) -> None:
    view = memoryview(PATTERN)
    device.pwrite(offset, PATTERN[:4096], view[4096:10_000], b"", view[10_000 : 1 << 20])
    device.flush()
    device.drop_cache()
    into = bytearray(1 << 20)
    device.pread_into(offset, memoryview(into))
    assert into == PATTERN[: 1 << 20]
    assert device.pread(offset + (1 << 20), 4096) == bytes(4096)


def test_what_is_read_past_the_end_is_an_error_where_a_view_must_be_filled(device: BlockDevice) -> None:
    with pytest.raises(OSError):
        device.pread_into(SIZE - 10, memoryview(bytearray(11)))


def test_reading_ends_at_the_end(device: BlockDevice) -> None:
    device.pwrite(SIZE - 10, b"0123456789")
    assert device.pread(SIZE - 10, 100) == b"0123456789"
    assert device.pread(SIZE, 100) == b""


def test_writing_past_the_end_is_refused_and_changes_nothing(device: BlockDevice) -> None:
    with pytest.raises(OSError, match="end"):
        device.pwrite(SIZE - 10, b"01234567890")
    assert device.pread(SIZE - 10, 10) == bytes(10)
    assert device.size == SIZE


def test_a_file_whose_size_is_no_multiple_of_a_block_is_a_slot_too(tmp_path: Path) -> None:
    path = tmp_path / "slot.img"
    path.write_bytes(bytes(10_000))
    device = LinuxBlockDevice(str(path))
    device.pwrite(0, PATTERN[:10_000])
    device.drop_cache()
    assert device.pread(0, 20_000) == PATTERN[:10_000]
    device.close()
    assert path.stat().st_size == 10_000


@pytest.mark.real
def test_a_mounted_slot_cannot_be_opened(loop_device: str, tmp_path: Path) -> None:
    subprocess.run(["mkfs.ext2", "-q", loop_device], check=True, capture_output=True)
    place = tmp_path / "mounted"
    place.mkdir()
    if subprocess.run(["mount", loop_device, str(place)], capture_output=True, check=False).returncode:
        pytest.skip("mounting is not allowed here")
    try:
        with pytest.raises(OSError, match="busy"):
            LinuxBlockDevice(loop_device)
    finally:
        subprocess.run(["umount", str(place)], check=True)
    LinuxBlockDevice(loop_device).close()


@pytest.mark.parametrize("name", ["none", "directory"])
def test_what_is_no_slot_cannot_be_opened(tmp_path: Path, name: str) -> None:
    (tmp_path / "directory").mkdir()
    with pytest.raises(OSError):
        LinuxBlockDevice(str(tmp_path / name))
