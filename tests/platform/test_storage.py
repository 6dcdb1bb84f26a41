"""What the Linux storage adds to the contract: links are not followed, one opener, one agent."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from posagent.core.errors import PosagentError
from posagent.platform.storage import LinuxFiles, lock, open_inside


def test_a_link_planted_by_another_user_is_not_followed(tmp_path: Path) -> None:
    files = LinuxFiles()
    victim, planted = tmp_path / "victim", tmp_path / "planted"
    victim.write_text("precious")
    planted.symlink_to(victim)
    for attempt in (
        lambda: files.write(str(planted), 0, b"x"),
        lambda: files.read(str(planted)),
        lambda: files.truncate(str(planted), 0),
    ):
        with pytest.raises(OSError):
            attempt()
    assert victim.read_text() == "precious"


def test_a_bundle_stays_the_opened_one_when_its_name_is_given_to_another_file(tmp_path: Path) -> None:
    bundle = tmp_path / "x.bundle"
    bundle.write_bytes(b"checked")
    source = open_inside(str(tmp_path), str(bundle))
    (tmp_path / "other").write_bytes(b"swapped")
    (tmp_path / "other").rename(bundle)
    assert (source.size, source.pread(0, 100), source.pread(3, 2)) == (7, b"checked", b"ck")
    source.close()


@pytest.mark.parametrize("path", ["/etc/passwd", "{spool}/../secret", "{spool}", "{spool}/", "{spool}x/y", "x"])
def test_a_bundle_outside_the_spool_is_not_opened(tmp_path: Path, path: str) -> None:
    (tmp_path / "spool").mkdir()
    (tmp_path / "spoolx").mkdir()
    (tmp_path / "spoolx/y").touch()
    (tmp_path / "secret").touch()
    with pytest.raises(OSError):
        open_inside(str(tmp_path / "spool"), path.format(spool=tmp_path / "spool"))


def test_links_pipes_and_directories_in_the_spool_are_not_opened(tmp_path: Path) -> None:
    spool, outside = tmp_path / "spool", tmp_path / "outside"
    spool.mkdir()
    outside.mkdir()
    (outside / "file").touch()
    (spool / "link").symlink_to(outside / "file")
    (spool / "linked").symlink_to(outside)
    (spool / "directory").mkdir()
    os.mkfifo(spool / "pipe")
    for name in ("link", "linked/file", "directory", "pipe"):
        with pytest.raises(OSError):
            open_inside(str(spool), f"{spool}/{name}")
    (spool / "directory/file").write_bytes(b"x")
    source = open_inside(str(spool), f"{spool}/directory/file")
    assert source.pread(0, 9) == b"x"
    source.close()


def test_a_second_agent_on_the_same_state_is_refused_until_the_first_ends(tmp_path: Path) -> None:
    first = lock(str(tmp_path / "lock"))
    with pytest.raises(PosagentError, match="already_running"):
        lock(str(tmp_path / "lock"))
    first.release()
    first.release()
    lock(str(tmp_path / "lock")).release()


def test_a_lock_that_cannot_be_made_is_reported(tmp_path: Path) -> None:
    with pytest.raises(PosagentError, match="journal_io"):
        lock(str(tmp_path / "none/lock"))
