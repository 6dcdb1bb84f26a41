"""Sticks: the newest bundle for this terminal is found, whatever else lies on them; nothing on them can do harm."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from posagent.core.errors import FetchError
from posagent.core.ports import ByteSource
from posagent.fetcher.media import Media
from posagent.platform import media as sticks
from posagent.platform.media import bundles
from posagent.platform.storage import open_inside
from posagent.release import bundle
from tests.conftest import HARDWARE, Desk


@pytest.fixture
def stick(tmp_path: Path) -> Path:
    path = tmp_path / "media" / "sda1"
    path.mkdir(parents=True)
    return path


def offered(directory: Path, hardware: str = HARDWARE, revision: int = 0) -> dict[str, Any]:
    return media(directory, hardware, revision).newest()


def media(directory: Path, hardware: str = HARDWARE, revision: int = 0) -> Media:
    place = str(directory.parent)
    return Media(lambda: bundles(place), lambda path: open_inside("/", path), hardware=hardware, revision=revision)


def nothing(directory: Path, **how: Any) -> str:
    with pytest.raises(FetchError) as caught:
        offered(directory, **how)
    assert caught.value.code == "fetch_no_stick"
    return caught.value.detail


def test_a_bundle_is_offered_with_what_it_would_cost(stick: Path, desk: Desk) -> None:
    path = shutil.copy(desk.bundles["2.0.0"], stick / "update.bundle")
    offer = offered(stick)
    shown = bundle.show(desk.bundles["2.0.0"])
    assert (offer["version"], offer["length"]) == ("2.0.0", Path(path).stat().st_size)
    assert offer["payloads"] == [
        {"from": "", "bytes": one["length"], "image_bytes": one["image_size"]} for one in shown["manifests"]
    ]
    assert offer["sha256"] == "" and offer["conditions"] == []


def test_a_bundle_is_found_by_its_content_wherever_it_is_now(stick: Path, desk: Desk) -> None:
    whole = desk.bundles["2.0.0"].read_bytes()
    path = Path(shutil.copy(desk.bundles["2.0.0"], stick / "update.bundle"))
    url = offered(stick)["url"]
    other = stick.parent / "sdb1"
    other.mkdir()
    path.rename(other / "copy.bundle")
    shutil.copy(desk.bundles["3.0.0"], stick / "update.bundle")
    source = media(stick).open(url)
    assert source.pread(0, len(whole) + 1) == whole
    source.close()
    (other / "copy.bundle").write_bytes(whole + bytes(512))
    with pytest.raises(OSError, match="no stick has this bundle"):
        media(stick).open(url)


def test_the_newest_of_all_sticks_is_the_one_that_was_signed_last(stick: Path, desk: Desk) -> None:
    """By the bundles' own counting: names, dates of files and versions say nothing."""
    other = stick.parent / "sdb1"
    other.mkdir()
    shutil.copy(desk.bundles["2.0.0"], stick / "9.9.9.bundle")
    shutil.copy(desk.bundles["4.0.0"], other / "a.BUNDLE")
    shutil.copy(desk.bundles["3.0.0"], stick / "zz.bundle")
    os.utime(other / "a.BUNDLE", (1, 1))
    assert offered(stick)["version"] == "4.0.0"


def test_what_is_not_for_this_terminal_is_passed_over(stick: Path, desk: Desk, tmp_path: Path) -> None:
    shutil.copy(desk.bundles["2.0.0"], stick / "2.bundle")
    later = bundle.build(
        desk.images["3.0.0"],
        version="3.1.0",
        compatible=[HARDWARE],
        keys_dir=desk.keys,
        out=tmp_path / "3.bundle",
        min_hw_rev=5,
    )
    shutil.copy(later, stick / "3.bundle")
    assert offered(stick)["version"] == "2.0.0"
    assert offered(stick, revision=5)["version"] == "3.1.0"
    assert nothing(stick, hardware="other-pos") == "2 bundles are there, none for other-pos"


def test_without_a_stick_or_a_bundle_the_person_is_told(stick: Path) -> None:
    assert nothing(stick) == "no bundle is there"
    assert nothing(stick.parent / "none" / "sda1") == "no bundle is there"


def test_what_only_looks_like_a_bundle_is_passed_over(stick: Path, desk: Desk) -> None:
    whole = desk.bundles["2.0.0"].read_bytes()
    for number, content in enumerate((b"", b"x" * 4096, whole[:700], whole[:5000], bytes(4096))):
        (stick / f"{number}.bundle").write_bytes(content)
    (stick / "folder.bundle").mkdir()
    (stick / "update.bundle.txt").write_bytes(whole)
    (stick / "line\nbreak.bundle").write_bytes(whole)
    os.mkfifo(stick / "pipe.bundle")
    assert "none for" in nothing(stick)
    (stick / "good.bundle").write_bytes(whole)
    source = media(stick).open(offered(stick)["url"])
    assert source.size == len(whole)
    source.close()


def test_no_link_is_followed(stick: Path, desk: Desk, tmp_path: Path) -> None:
    (stick / "link.bundle").symlink_to(desk.bundles["2.0.0"])
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    shutil.copy(desk.bundles["2.0.0"], elsewhere / "x.bundle")
    (stick.parent / "sdb1").symlink_to(elsewhere)
    assert nothing(stick) == "no bundle is there"


def test_a_stick_full_of_names_is_looked_at_in_bounds(stick: Path, desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sticks, "NAMES_MAX", 50)
    for number in range(200):
        (stick / f"{number}.bundle").touch()
    assert len(bundles(str(stick.parent))) == sticks.BUNDLES_MAX


class Pulled:
    """A stick that is pulled out after so many reads."""

    def __init__(self, source: Any, reads: int) -> None:
        self._source, self._reads, self.size = source, reads, source.size
        self.closed = False

    def pread(self, offset: int, length: int) -> bytes:
        self._reads -= 1
        if self._reads < 0:
            raise OSError(5, "Input/output error")
        data: bytes = self._source.pread(offset, length)
        return data

    def close(self) -> None:
        self.closed = True
        self._source.close()


def test_a_stick_that_is_pulled_out_meanwhile_offers_nothing(stick: Path, desk: Desk) -> None:
    path = shutil.copy(desk.bundles["2.0.0"], stick / "x.bundle")
    for reads in range(5):
        pulled = Pulled(open_inside("/", str(path)), reads)
        found = Media(lambda: [str(path)], lambda _, one=pulled: one, hardware=HARDWARE, revision=0)  # type: ignore[misc]
        with pytest.raises(FetchError):
            found.newest()
        assert pulled.closed


class Bytes:
    def __init__(self, data: bytes) -> None:
        self._data, self.size = data, len(data)

    def pread(self, offset: int, length: int) -> bytes:
        return self._data[offset : offset + length]

    def close(self) -> None:
        return None


@pytest.fixture(scope="module")
def good(desk: Desk) -> Iterator[bytes]:
    yield desk.bundles["2.0.0"].read_bytes()[: 64 << 10]


@given(data=st.data())
def test_no_flipped_byte_can_hurt(good: bytes, data: st.DataObject) -> None:
    """An offer or none, whatever stands on the stick."""
    spoiled = bytearray(good)
    for _ in range(data.draw(st.integers(1, 4))):
        spoiled[data.draw(st.integers(0, 12_000))] = data.draw(st.integers(0, 255))
    source: ByteSource = Bytes(bytes(spoiled))
    found = Media(lambda: ["/x"], lambda _: source, hardware=HARDWARE, revision=0)  # type: ignore[arg-type,return-value]
    try:
        assert found.open(found.newest()["url"]) is source
    except FetchError as error:
        assert error.code == "fetch_no_stick"
