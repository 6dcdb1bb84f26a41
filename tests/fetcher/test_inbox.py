"""A bundle that came over the serial line is moved into the spool, not copied, whatever happens meanwhile."""

from __future__ import annotations

import os
import random
from collections.abc import Callable
from pathlib import Path

import pytest

from posagent.config import FetchConfig
from posagent.core.errors import FetchError
from posagent.crash.medium import Medium, PowerCut, RuleBroken
from posagent.fetcher.download import Fetcher
from posagent.platform.host import LinuxClock
from posagent.platform.storage import SHARED_FILE_MODE, LinuxFiles, open_inside
from tests.fetcher.test_against_nginx import fetcher, finish, refusal
from tests.fetcher.test_spool_faults import LOSSES

CONTENT = random.Random(5).randbytes(150_000)
SETTINGS = {"spool_dir": "/spool", "checkpoint_bytes": 65536, "keep_free_bytes": 0}


@pytest.fixture
def inbox(tmp_path: Path) -> Path:
    path = tmp_path / "spool/inbox"
    path.mkdir(parents=True)
    return path


def args(path: Path) -> dict[str, str]:
    return {"id": "u1", "source": str(path)}


def test_the_very_file_is_moved_and_no_byte_of_it_is_copied(tmp_path: Path, inbox: Path) -> None:
    (inbox / "x.bundle").write_bytes(CONTENT)
    inode = (inbox / "x.bundle").stat().st_ino
    result = finish(fetcher(tmp_path).fetch(args(inbox / "x.bundle")))
    assert Path(result["bundle"]).read_bytes() == CONTENT and result["complete"]
    assert Path(result["bundle"]).stat().st_ino == inode
    assert list(inbox.iterdir()) == []


def test_it_needs_no_room_for_a_second_copy(tmp_path: Path, inbox: Path) -> None:
    (inbox / "x.bundle").write_bytes(CONTENT)
    assert finish(fetcher(tmp_path, keep_free_bytes=1 << 40).fetch(args(inbox / "x.bundle")))["length"] == len(CONTENT)


def test_what_was_moved_is_there_for_the_next_request_and_the_next(tmp_path: Path, inbox: Path) -> None:
    (inbox / "x.bundle").write_bytes(CONTENT)
    first = finish(fetcher(tmp_path).fetch(args(inbox / "x.bundle")))
    for _ in range(2):
        assert finish(fetcher(tmp_path).fetch(args(inbox / "x.bundle"))) == first
    (tmp_path / "spool/u1.bundle").unlink()
    assert refusal(fetcher(tmp_path).fetch(args(inbox / "x.bundle"))).code == "fetch_source"


@pytest.mark.parametrize("size", [len(CONTENT), 10, 300_000])
def test_a_newer_file_of_the_same_name_takes_its_place(tmp_path: Path, inbox: Path, size: int) -> None:
    (inbox / "x.bundle").write_bytes(CONTENT)
    finish(fetcher(tmp_path).fetch(args(inbox / "x.bundle")))
    (inbox / "x.bundle").write_bytes(newer := os.urandom(size))
    assert Path(finish(fetcher(tmp_path).fetch(args(inbox / "x.bundle")))["bundle"]).read_bytes() == newer


def test_what_is_still_coming_what_is_no_file_and_what_lies_elsewhere_is_not_moved(tmp_path: Path, inbox: Path) -> None:
    places = (inbox / ".partial", inbox / "inner/x.bundle", tmp_path / "spool/x", tmp_path / "inbox/x")
    for number, path in enumerate(places):
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(CONTENT)
        finish(fetcher(tmp_path).fetch({"id": f"u{number}", "source": str(path)}))
        assert path.exists(), path
    (inbox / "link").symlink_to("/etc/passwd")
    (inbox / "folder").mkdir()
    os.mkfifo(inbox / "pipe")
    for name in ("link", "folder", "pipe"):
        assert refusal(fetcher(tmp_path).fetch(args(inbox / name))).code == "fetch_source"


def test_a_file_larger_than_allowed_stays_where_it_is(tmp_path: Path, inbox: Path) -> None:
    (inbox / "x.bundle").write_bytes(CONTENT)
    error = refusal(fetcher(tmp_path, download_bytes_max=len(CONTENT) - 1).fetch(args(inbox / "x.bundle")))
    assert error.code == "fetch_too_large" and (inbox / "x.bundle").exists()


def test_where_it_cannot_be_moved_it_is_copied(tmp_path: Path, inbox: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise PermissionError(13, "Permission denied")

    (inbox / "x.bundle").write_bytes(CONTENT)
    with monkeypatch.context() as patched:
        rename = LinuxFiles.rename
        patched.setattr(
            LinuxFiles,
            "rename",
            lambda files, source, target: (refuse if "inbox" in source else rename)(files, source, target),
        )
        result = finish(fetcher(tmp_path).fetch(args(inbox / "x.bundle")))
    assert Path(result["bundle"]).read_bytes() == CONTENT and (inbox / "x.bundle").exists()


class _Opened:
    """An inbox file opened on the medium."""

    def __init__(self, medium: Medium, path: str) -> None:
        size = medium.files.size(path)
        if size is None:
            raise FileNotFoundError(2, "No such file", path)
        self._data, self.size = medium.files.read(path), size

    def pread(self, offset: int, length: int) -> bytes:
        return self._data[offset : offset + length]

    def close(self) -> None:
        return None


def moving(medium: Medium) -> bytes:
    """Fetch /spool/inbox/x; the bundle's bytes. Raises PowerCut."""
    made = Fetcher(FetchConfig(**SETTINGS), medium.files, LinuxClock(), lambda path: _Opened(medium, path))  # type: ignore[arg-type]
    return medium.files.read(finish(made.fetch({"id": "u1", "source": "/spool/inbox/x"}))["bundle"])


def uploaded(medium: Medium, content: bytes) -> None:
    """As the inbox leaves it."""
    files = medium.files
    files.make_dir("/spool/inbox")
    files.write("/spool/inbox/.partial", 0, content)
    files.sync("/spool/inbox/.partial")
    files.rename("/spool/inbox/.partial", "/spool/inbox/x")
    files.sync_dir("/spool/inbox")


@pytest.mark.parametrize("earlier", [b"", random.Random(6).randbytes(len(CONTENT))], ids=["first", "after another"])
@pytest.mark.parametrize("lost", LOSSES, ids=lambda lost: "+".join(sorted(lost)) or "nothing")
def test_a_power_cut_before_any_operation_loses_nothing(lost: frozenset[str], earlier: bytes) -> None:
    for cut_at in range(1, 100):
        medium = Medium()
        if earlier:
            uploaded(medium, earlier)
            assert moving(medium) == earlier
        uploaded(medium, CONTENT)
        medium.cut_at = len(medium.done) + cut_at
        try:
            assert moving(medium) == CONTENT
        except PowerCut:
            medium.power_on(lost)
            assert moving(medium) == CONTENT, f"cut before operation {cut_at}"
        else:
            break
    assert cut_at > 5


def test_the_bundle_before_is_never_taken_for_one_that_was_to_come_and_is_gone() -> None:
    """A power cut while it is moved, and then somebody removes it. Before the first operation nothing had begun."""
    for cut_at in range(2, 100):
        medium = Medium()
        uploaded(medium, bytes(reversed(CONTENT)))
        moving(medium)
        uploaded(medium, CONTENT)
        medium.cut_at = len(medium.done) + cut_at
        try:
            moving(medium)
        except PowerCut:
            medium.power_on(frozenset())
            medium.files.unlink("/spool/inbox/x")
            medium.files.sync_dir("/spool/inbox")
        else:
            break
        try:
            assert moving(medium) == CONTENT, f"cut before operation {cut_at}"
        except FetchError as error:
            assert error.code in ("fetch_source", "fetch_network")
    assert cut_at > 5


def test_a_file_that_was_not_written_through_would_be_noticed() -> None:
    medium = Medium()
    uploaded(medium, CONTENT)
    medium.files.write("/spool/inbox/x", 0, b"later")
    with pytest.raises(RuleBroken):
        moving(medium)


def as_user(user: int, group: int, umask: int, work: Callable[[], None]) -> None:
    """Do it in a child that is nobody but this user, with one more group."""
    child = os.fork()
    if child == 0:
        code = 1
        try:
            os.setgroups([group])
            os.setresgid(user, user, user)
            os.setresuid(user, user, user)
            os.umask(umask)
            work()
            code = 0
        finally:
            os._exit(code)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


@pytest.mark.skipif(os.geteuid() != 0, reason="needs to be root to be others")
def test_what_the_agent_puts_there_the_fetcher_may_move_and_write_to_although_both_are_nobody(short_path: Path) -> None:
    """With the owners, groups and modes of systemd/, whose numbers are made up here."""
    agent, fetch, both = 61001, 61002, 61003
    spool, files = short_path / "spool", LinuxFiles()
    (spool / "inbox").mkdir(parents=True)
    short_path.chmod(0o755)
    os.chown(spool, fetch, fetch)
    spool.chmod(0o755)
    os.chown(spool / "inbox", fetch, both)
    (spool / "inbox").chmod(0o2770)

    def move() -> None:
        files.rename(f"{spool}/inbox/x", f"{spool}/u1.bundle")
        files.write(f"{spool}/u1.bundle", 6, b"!")
        files.truncate(f"{spool}/u1.bundle", 7)

    as_user(agent, both, 0o027, lambda: LinuxFiles(SHARED_FILE_MODE).write(f"{spool}/inbox/x", 0, b"bundle"))
    as_user(fetch, both, 0o022, move)
    assert (spool / "u1.bundle").read_bytes() == b"bundle!"


def test_the_fetcher_says_what_it_cannot_read(tmp_path: Path) -> None:
    made = Fetcher(
        FetchConfig(spool_dir=str(tmp_path)), LinuxFiles(), LinuxClock(), lambda path: open_inside("/", path)
    )
    with pytest.raises(FetchError, match="fetch_source"):
        finish(made.fetch(args(tmp_path / "inbox/none")))
