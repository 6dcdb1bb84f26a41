"""Files that come over the serial line: kept where they broke off, believed when they are whole, gone in the end."""

from __future__ import annotations

import errno
import hashlib
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from posagent.console.access import SessionLimits
from posagent.console.upload import BLOCK_BYTES, CHECKPOINT_BYTES, KEPT_S, SLICE_BYTES, Announced, Inbox, Upload
from posagent.core.errors import PosagentError
from posagent.core.ports import Files
from posagent.core.talk import bulk_message
from posagent.crash.medium import ALL, Medium, PowerCut
from posagent.platform.storage import LinuxFiles
from posagent.sim.virtual import VirtualTime
from tests.conftest import Desk
from tests.console.visit import Visit

Visits = Callable[..., Visit]
CONTENT = random.Random(3).randbytes(3 * CHECKPOINT_BYTES + 5000)
PIECE = 20_000
FREE = 1 << 30


def announced(content: bytes = CONTENT, name: str = "x.bundle") -> Announced:
    return Announced(name=name, size=len(content), sha256=hashlib.sha256(content).hexdigest())


class Desktop:
    """An inbox on some files, and its clock."""

    def __init__(self, files: Files, directory: str = "/spool/inbox", **how: Any) -> None:
        self.files, self.directory, self.how = files, directory, how
        self.time = VirtualTime()
        self.restart()

    def restart(self) -> None:
        """The agent starts anew."""
        self.time.forget()
        settings = {"bytes_max": 1 << 30, "keep_free_bytes": 0, **self.how}
        self.inbox = Inbox(files=self.files, directory=self.directory, timers=self.time, clock=self.time, **settings)

    def settle(self, upload: Upload) -> str:
        """Let it come to its end; the code of its trouble, `whole`, or empty where it waits for more."""
        ends: list[PosagentError | None] = []
        upload.begin(ends.append)
        for _ in range(1000):
            if ends or self.time.next_at() is None or (self.time.next_at() or 0) > self.time.monotonic() + 60:
                break
            self.time.step()
        if not ends:
            return ""
        return "whole" if ends[0] is None else ends[0].code

    def send(self, content: bytes = CONTENT, most: int | None = None, **how: Any) -> Upload:
        upload = self.inbox.begin(announced(content, **how))
        while upload.offset < (len(content) if most is None else most):
            upload.write(upload.offset, content[upload.offset : upload.offset + PIECE])
        return upload

    def refusal(self, what: Announced) -> str:
        with pytest.raises(PosagentError) as caught:
            self.inbox.begin(what)
        return caught.value.code


@pytest.fixture
def desktop(tmp_path: Path) -> Desktop:
    return Desktop(LinuxFiles(), str(tmp_path / "spool/inbox"))


def test_a_whole_file_is_there_by_its_name_and_only_then(desktop: Desktop) -> None:
    upload = desktop.send(most=100_000)
    assert desktop.settle(upload) == "" and not Path(upload.path).exists()
    assert desktop.settle(desktop.send()) == "whole"
    assert Path(upload.path).read_bytes() == CONTENT
    assert Path(upload.path).parent == Path(desktop.directory) and Path(upload.path).name == "x.bundle"


def test_a_cable_pull_costs_no_byte(desktop: Desktop) -> None:
    upload = desktop.send(most=100_000)
    desktop.inbox.pause()
    assert desktop.inbox.begin(announced()).offset == upload.offset == 100_000


def test_a_restart_costs_less_than_a_block(desktop: Desktop) -> None:
    desktop.send(most=100_000)
    desktop.inbox.pause()
    desktop.restart()
    upload = desktop.inbox.begin(announced())
    assert 100_000 - BLOCK_BYTES < upload.offset <= 100_000
    assert desktop.settle(desktop.send()) == "whole"


def test_what_was_received_is_not_received_again(desktop: Desktop) -> None:
    desktop.settle(desktop.send())
    for restarted in (False, True):
        if restarted:
            desktop.restart()
        upload = desktop.inbox.begin(announced())
        assert upload.offset == len(CONTENT)
        assert desktop.settle(upload) == "whole"


def test_what_is_not_the_announced_file_is_thrown_away_and_may_come_again(desktop: Desktop) -> None:
    other = announced()
    upload = desktop.inbox.begin(other)
    upload.write(0, bytes(len(CONTENT)))
    assert desktop.settle(upload) == "upload_differs"
    assert list(Path(desktop.directory).iterdir()) == []
    assert desktop.inbox.begin(other).offset == 0
    assert desktop.settle(desktop.send()) == "whole"


def test_another_file_takes_the_place_of_the_one_before(desktop: Desktop) -> None:
    desktop.settle(desktop.send(name="old.bundle"))
    newer = CONTENT[::-1]
    assert desktop.settle(desktop.send(newer, name="new.bundle")) == "whole"
    assert {path.name for path in Path(desktop.directory).iterdir()} == {"new.bundle", ".record"}
    assert desktop.inbox.begin(announced(newer[:-1], "new.bundle")).offset == 0
    assert not (Path(desktop.directory) / "new.bundle").exists()


@pytest.mark.parametrize("at", [0, 1, 5000, 2**63])
def test_bytes_out_of_their_order_are_refused(desktop: Desktop, at: int) -> None:
    upload = desktop.inbox.begin(announced())
    upload.write(0, CONTENT[:10])
    with pytest.raises(PosagentError, match="bad_request"):
        upload.write(at, b"x")
    upload.write(10, CONTENT[10:20])
    with pytest.raises(PosagentError, match="bad_request"):
        upload.write(20, bytes(len(CONTENT)))
    assert upload.offset == 20


@pytest.mark.parametrize("name", ["", ".", "..", ".record", ".partial", "a/b", "../x", "x" * 65, "a b", "ü", "x\n", 5])
def test_names_stay_in_the_inbox(name: Any) -> None:
    with pytest.raises(PosagentError, match="bad_request"):
        Announced.of({"name": name, "size": 1, "sha256": "0" * 64})


@pytest.mark.parametrize(
    "wrong",
    [
        {"size": 0},
        {"size": -1},
        {"size": "1"},
        {"size": True},
        {"sha256": "0" * 63},
        {"sha256": "X" * 64},
        {"sha256": None},
    ],
)
def test_a_file_has_a_size_and_a_digest(wrong: dict[str, Any]) -> None:
    with pytest.raises(PosagentError, match="bad_request"):
        Announced.of({"name": "x", "size": 1, "sha256": "0" * 64, **wrong})


def test_what_does_not_fit_is_refused_before_it_is_sent(tmp_path: Path) -> None:
    medium = Medium()
    medium.files.free = 1 << 20
    desktop = Desktop(medium.files, bytes_max=2 << 20, keep_free_bytes=1 << 19)
    assert desktop.refusal(announced(bytes((1 << 19) + 1))) == "spool_full"
    assert desktop.refusal(announced(bytes((2 << 20) + 1))) == "bundle_too_large"
    assert desktop.settle(desktop.send(bytes(1 << 19))) == "whole"


def test_the_file_of_an_update_under_way_is_left_alone(tmp_path: Path) -> None:
    used = ""
    desktop = Desktop(LinuxFiles(), str(tmp_path / "inbox"), in_use=lambda: used)
    used = desktop.settle(upload := desktop.send()) and upload.path
    assert desktop.refusal(announced(b"another")) == "busy"
    assert desktop.settle(desktop.send(b"another", name="y.bundle")) == "whole"
    assert Path(used).read_bytes() == CONTENT
    Path(used).unlink()  # the fetcher took it
    assert desktop.settle(desktop.send(b"another")) == "whole"


class Failing(LinuxFiles):
    """Files on which an operation fails once."""

    fails = ""

    def _may_fail(self, operation: str, code: int) -> None:
        if self.fails == operation:
            self.fails = ""
            raise OSError(code, "made to fail")

    def write(self, path: str, offset: int, data: bytes) -> None:
        self._may_fail("write", errno.ENOSPC)
        super().write(path, offset, data)

    def sync(self, path: str) -> None:
        self._may_fail("sync", errno.EIO)
        super().sync(path)

    def rename(self, source: str, target: str) -> None:
        self._may_fail("rename", errno.EIO)
        super().rename(source, target)

    def read(self, path: str, offset: int = 0, length: int | None = None) -> bytes:
        self._may_fail("read", errno.EIO)
        return super().read(path, offset, length)

    def make_dir(self, path: str) -> None:
        self._may_fail("make_dir", errno.EACCES)
        super().make_dir(path)


@pytest.mark.parametrize(
    ("operation", "code"),
    [("write", "spool_full"), ("sync", "spool_io"), ("rename", "spool_io"), ("make_dir", "spool_io")],
)
def test_a_data_partition_that_fails_ends_the_upload_with_a_code_and_the_next_try_goes_on(
    tmp_path: Path, operation: str, code: str
) -> None:
    files = Failing()
    desktop = Desktop(files, str(tmp_path / "inbox"))
    files.fails = operation
    try:
        found = desktop.settle(desktop.send())
    except PosagentError as error:
        found = error.code
    assert found == code
    assert desktop.settle(desktop.send()) == "whole"
    assert (tmp_path / "inbox/x.bundle").read_bytes() == CONTENT


def test_a_directory_that_is_not_the_agents_has_its_own_remedy(tmp_path: Path) -> None:
    files = Failing()
    desktop = Desktop(files, str(tmp_path / "inbox"))
    files.fails = "make_dir"
    with pytest.raises(PosagentError) as caught:
        desktop.send()
    assert (
        "posagent doctor" in caught.value.as_dict()["remedy"] and "posagent doctor" in caught.value.facts["remedy_zh"]
    )


def test_bytes_of_a_failed_sync_are_not_taken_for_durable(tmp_path: Path) -> None:
    files = Failing()
    desktop = Desktop(files, str(tmp_path / "inbox"))
    upload = desktop.send(most=CHECKPOINT_BYTES)
    files.fails, before = "sync", upload._stored
    with pytest.raises(PosagentError):
        desktop.send()
    assert desktop.inbox.begin(announced()).offset == before


def test_a_large_file_that_was_there_is_digested_slice_by_slice(tmp_path: Path) -> None:
    content = random.Random(4).randbytes(4 * SLICE_BYTES)
    desktop = Desktop(LinuxFiles(), str(tmp_path / "inbox"))
    desktop.send(content, most=len(content) - 10)
    desktop.inbox.pause()
    desktop.restart()
    upload = desktop.inbox.begin(announced(content))
    steps, begun = 0, upload.offset
    upload.begin(lambda _: None)
    upload.write(begun, content[begun:])
    while upload.open:
        assert desktop.time.step()
        steps += 1
    assert steps >= 4 and (tmp_path / "inbox/x.bundle").read_bytes() == content


def test_what_nobody_took_is_gone_after_a_day_even_when_the_terminal_restarts_daily(desktop: Desktop) -> None:
    desktop.settle(desktop.send())
    wall = desktop.time.wall
    for hours in (10, 20, 23.5):
        desktop.time.let_pass(0)
        desktop.time.wall = lambda hours=hours: wall() + hours * 3600  # type: ignore[method-assign,misc]
        desktop.restart()
        assert (Path(desktop.directory) / "x.bundle").exists()
    desktop.time.wall = lambda: wall() + KEPT_S + 1  # type: ignore[method-assign]
    desktop.restart()
    assert list(Path(desktop.directory).iterdir()) == []


def test_what_nobody_took_is_gone_after_a_day_of_a_terminal_that_stays_on(desktop: Desktop) -> None:
    desktop.settle(desktop.send())
    while desktop.time.monotonic() < KEPT_S + 200 and desktop.time.step():
        pass
    assert list(Path(desktop.directory).iterdir()) == []
    assert desktop.time.next_at() is None, "an empty inbox wakes nobody"


def test_an_empty_inbox_wakes_nobody(desktop: Desktop) -> None:
    assert desktop.time.next_at() is None


def test_a_clock_that_went_back_keeps_a_file_for_one_more_day_at_most(desktop: Desktop) -> None:
    desktop.settle(desktop.send())
    wall = desktop.time.wall
    desktop.time.wall = lambda: wall() - 10 * 365 * 86400  # type: ignore[method-assign]
    desktop.restart()
    assert (Path(desktop.directory) / "x.bundle").exists()
    assert KEPT_S - 1 < (desktop.time.next_at() or 0) - desktop.time.monotonic() <= KEPT_S


# power cuts


LOSSES = [ALL, frozenset({"content"}), frozenset({"size"}), frozenset({"names"}), frozenset[str]()]


@pytest.mark.parametrize("lost", LOSSES, ids=lambda lost: "+".join(sorted(lost)) or "nothing")
def test_a_power_cut_before_any_operation_costs_a_checkpoint_and_ends_with_the_right_file(lost: frozenset[str]) -> None:
    for cut_at in range(1, 200):
        medium = Medium(cut_at=cut_at)
        try:
            desktop = Desktop(medium.files)
            assert desktop.settle(desktop.send()) == "whole"
        except PowerCut:
            medium.power_on(lost)
        else:
            break
        again = Desktop(medium.files)
        assert again.settle(again.send()) == "whole", f"cut before operation {cut_at}"
        assert medium.files.read("/spool/inbox/x.bundle") == CONTENT, f"cut before operation {cut_at}"
    assert cut_at > 20


def test_what_was_stored_before_a_power_cut_is_not_sent_again() -> None:
    medium = Medium()
    desktop = Desktop(medium.files)
    desktop.send(most=2 * CHECKPOINT_BYTES + PIECE)
    medium.power_on()
    assert Desktop(medium.files).inbox.begin(announced()).offset >= 2 * CHECKPOINT_BYTES - BLOCK_BYTES


# over the line


def test_an_upload_goes_on_where_the_pulled_cable_left_it(visit: Visit, tmp_path: Path) -> None:
    (tmp_path / "x.bundle").write_bytes(CONTENT)
    visit.unlock()
    pulls = 0
    sent = visit.line.up

    def pull(progress: dict[str, Any]) -> None:
        nonlocal pulls
        if progress["bytes_done"] > (pulls + 1) * 40_000:
            pulls += 1
            visit.line.pull()
            visit.line.sleep(3 * pulls)
            visit.line.plug_in()

    before, carried = sent.send, 0

    def count(data: bytes, now: float) -> None:
        nonlocal carried
        carried += len(data)
        before(data, now)

    sent.send = count  # type: ignore[method-assign]
    result = visit.laptop.upload(tmp_path / "x.bundle", on_progress=pull)
    assert pulls >= 4 and Path(result["path"]).read_bytes() == CONTENT
    assert carried < len(CONTENT) * 1.2, "each pull costs what was in the cable"


def test_an_upload_goes_on_after_the_terminal_restarted_and_was_unlocked_again(visit: Visit, tmp_path: Path) -> None:
    (tmp_path / "x.bundle").write_bytes(CONTENT)
    visit.unlock()
    told: list[dict[str, Any]] = []

    def restart(progress: dict[str, Any]) -> None:
        told.append(progress)
        if progress["bytes_done"] > 130_000 and len([one for one in told if "offset" in one]) == 1:
            visit.terminal.start_agent()

    result = visit.laptop.upload(tmp_path / "x.bundle", on_progress=restart)
    assert Path(result["path"]).read_bytes() == CONTENT
    assert [one["offset"] for one in told if "offset" in one] == [0, 2 * CHECKPOINT_BYTES]
    assert visit.states.count("unlocked") == 2


def test_an_upload_outlives_its_session_but_nothing_new_begins(visits: Visits, tmp_path: Path) -> None:
    visit = visits(limits=SessionLimits(session_s_max=5))
    (tmp_path / "x.bundle").write_bytes(CONTENT)
    visit.unlock()
    result = visit.laptop.upload(tmp_path / "x.bundle")
    assert Path(result["path"]).read_bytes() == CONTENT
    assert visit.locked() and visit.code("update", source=result["path"]) == "not_allowed"


def test_whoever_was_never_unlocked_uploads_nothing(visit: Visit, tmp_path: Path) -> None:
    (tmp_path / "x.bundle").write_bytes(CONTENT)
    with pytest.raises(PosagentError, match="not_allowed"):
        visit.laptop.upload(tmp_path / "x.bundle")


def test_a_second_upload_takes_the_place_of_the_first(visit: Visit, tmp_path: Path) -> None:
    visit.unlock()
    other = {"name": "y", "size": 100_000, "sha256": "0" * 64}
    _, first = visit.laptop._ask("upload", other, 5.0)
    visit.laptop._next(first, None, 5.0)
    (tmp_path / "x.bundle").write_bytes(CONTENT)
    visit.laptop.upload(tmp_path / "x.bundle")
    with pytest.raises(PosagentError, match="cancelled"):
        visit.laptop._next(first, None, 5.0)


def test_an_upload_that_is_given_up_stays_for_later(visit: Visit) -> None:
    visit.unlock()
    number, call = visit.laptop._ask("upload", {"name": "x", "size": 100_000, "sha256": "0" * 64}, 5.0)
    visit.laptop._next(call, None, 5.0)
    visit.laptop._cable.send(bulk_message(0, bytes(8000)))
    visit.laptop.call("hang_up", {"id": number})
    visit.laptop._cable.send(bulk_message(8000, bytes(8000)))
    _, again = visit.laptop._ask("upload", {"name": "x", "size": 100_000, "sha256": "0" * 64}, 5.0)
    told: list[dict[str, Any]] = []
    visit.laptop._next(again, told.append, 5.0)
    assert told == [{"offset": 8000, "bytes_done": 8000, "bytes_total": 100_000}]


def test_before_it_begins_the_laptop_knows_how_long_it_takes(visit: Visit, desk: Desk) -> None:
    visit.unlock()
    told: list[dict[str, Any]] = []
    begun = visit.line.monotonic()
    visit.laptop.upload(desk.bundles["2.0.0"], on_progress=told.append)
    assert told[0]["expected_s"] == pytest.approx(visit.line.monotonic() - begun, rel=0.15)
