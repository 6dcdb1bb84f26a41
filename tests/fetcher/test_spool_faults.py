"""A download on a medium that loses power or fails: what was synced stays, the rest comes again, never garbage."""

from __future__ import annotations

import errno
import hashlib
import random
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from posagent.config import FetchConfig
from posagent.core.errors import FetchError
from posagent.core.ports import Message
from posagent.crash.files import MediumFiles
from posagent.crash.medium import ALL, Medium, PowerCut
from posagent.fetcher.download import Fetcher
from posagent.fetcher.http import CHUNK_BYTES
from posagent.platform.host import LinuxClock

BUNDLE = random.Random(7).randbytes(4 * CHUNK_BYTES + 1000)
SHA256 = hashlib.sha256(BUNDLE).hexdigest()
ARGS = {"id": "u1", "source": "/stick/x.bundle", "length": len(BUNDLE), "sha256": SHA256}
LOSSES = [ALL, frozenset({"content"}), frozenset({"size"}), frozenset({"names"}), frozenset[str]()]


class Stick:
    """A USB stick's file that counts what is read of it."""

    def __init__(self, content: bytes = BUNDLE) -> None:
        self.content = content
        self.bytes_read = 0

    @property
    def size(self) -> int:
        return len(self.content)

    def pread(self, offset: int, length: int) -> bytes:
        data = self.content[offset : offset + length]
        self.bytes_read += len(data)
        return data

    def close(self) -> None:
        return None


def fetching(files: MediumFiles, stick: Stick, args: dict[str, Any] = ARGS, **changes: Any) -> Iterator[Message]:
    settings = {"spool_dir": "/spool", "checkpoint_bytes": CHUNK_BYTES, "keep_free_bytes": 0, **changes}
    return Fetcher(FetchConfig(**settings), files, LinuxClock(), lambda path: stick).fetch(
        {"pieces": [[0, 1 << 40]], **args}
    )


def finish(messages: Iterator[Message]) -> dict[str, Any]:
    *_, last = messages
    result: dict[str, Any] = last["result"]
    return result


def refusal(messages: Iterator[Message]) -> FetchError:
    with pytest.raises(FetchError) as caught:
        finish(messages)
    return caught.value


def operations_of_a_whole_download() -> int:
    medium = Medium()
    finish(fetching(medium.files, Stick()))
    return len(medium.done)


@pytest.mark.parametrize("lost", LOSSES, ids=lambda lost: "+".join(sorted(lost)) or "nothing")
def test_a_power_cut_before_any_operation_ends_with_the_right_bundle(lost: frozenset[str]) -> None:
    for cut_at in range(1, operations_of_a_whole_download() + 1):
        medium, stick = Medium(cut_at=cut_at), Stick()
        with pytest.raises(PowerCut):
            finish(fetching(medium.files, stick))
        medium.power_on(lost)
        result = finish(fetching(medium.files, stick))
        assert medium.files.read(result["bundle"]) == BUNDLE, f"cut before operation {cut_at}"
        assert stick.bytes_read <= len(BUNDLE) + CHUNK_BYTES, f"cut before operation {cut_at}"


@pytest.mark.parametrize("lost", LOSSES, ids=lambda lost: "+".join(sorted(lost)) or "nothing")
def test_a_power_cut_while_another_file_takes_the_place_of_a_finished_one(lost: frozenset[str]) -> None:
    other, args = random.Random(8).randbytes(CHUNK_BYTES + 7), {"id": "u1", "source": "/stick/x.bundle"}
    for cut_at in range(1, 100):
        medium = Medium()
        finish(fetching(medium.files, Stick(), args))
        medium.cut_at = len(medium.done) + cut_at
        try:
            finish(fetching(medium.files, Stick(other), args))
        except PowerCut:
            pass
        else:
            break
        medium.power_on(lost)
        result = finish(fetching(medium.files, Stick(other), args))
        assert medium.files.read(result["bundle"]) == other, f"cut before operation {cut_at}"
    assert cut_at > 5


@pytest.mark.parametrize("checkpoint", [4096, CHUNK_BYTES // 3, CHUNK_BYTES + 1, 3 * CHUNK_BYTES - 1])
def test_no_cut_costs_more_than_a_checkpoint_whatever_its_size(checkpoint: int) -> None:
    content, medium = BUNDLE[: 2 * CHUNK_BYTES if checkpoint > 4096 else 50_000], Medium()
    args = {"id": "u1", "source": "/stick/x.bundle"}
    finish(fetching(medium.files, Stick(content), args, checkpoint_bytes=checkpoint))
    for cut_at in range(1, len(medium.done) + 1):
        medium, stick = Medium(cut_at=cut_at), Stick(content)
        with pytest.raises(PowerCut):
            finish(fetching(medium.files, stick, args, checkpoint_bytes=checkpoint))
        medium.power_on()
        finish(fetching(medium.files, stick, args, checkpoint_bytes=checkpoint))
        assert stick.bytes_read <= len(content) + checkpoint, f"cut before operation {cut_at}"


def test_twenty_power_cuts_in_one_download_cost_at_most_a_checkpoint_each() -> None:
    chosen, medium, stick, cuts = random.Random(3), Medium(), Stick(), 0
    while cuts < 20:
        medium.cut_at = len(medium.done) + chosen.randrange(1, 14)
        try:
            finish(fetching(medium.files, stick))
        except PowerCut:
            cuts += 1
        else:
            medium.cut_at = None
            medium.files.unlink("/spool/u1.bundle")  # done too early: the rest of the cuts hit the next one
            medium.files.sync_dir("/spool")
            stick.bytes_read -= len(BUNDLE)
        medium.power_on(chosen.choice(LOSSES))
    result = finish(fetching(medium.files, stick))
    assert medium.files.read(result["bundle"]) == BUNDLE
    assert stick.bytes_read <= len(BUNDLE) + 20 * CHUNK_BYTES


def test_what_a_cut_cost_is_reported_even_when_the_next_attempt_is_cut_too() -> None:
    medium, stick = Medium(), Stick()
    messages = fetching(medium.files, stick, checkpoint_bytes=1 << 28)
    for _ in range(3):
        next(messages)
    medium.cut()
    with pytest.raises(PowerCut):
        next(messages)
    medium.power_on(frozenset())  # nothing was synced, but it happens to be there still
    again = fetching(medium.files, stick, checkpoint_bytes=1 << 28)
    next(again)
    medium.cut()
    with pytest.raises(PowerCut):
        next(again)
    medium.power_on(frozenset())
    assert finish(fetching(medium.files, stick))["bytes_refetched"] == 4 * CHUNK_BYTES


class FailingFiles(MediumFiles):
    """A medium whose operations can be made to fail once."""

    def __init__(self, medium: Medium) -> None:
        super().__init__(medium)
        self.fails: dict[str, tuple[int, int]] = {}
        """Operation -> (how often it works before, errno)."""

    def _may_fail(self, operation: str, path: str) -> None:
        if operation in self.fails and path.endswith(".bundle"):
            left, code = self.fails.pop(operation)
            if left:
                self.fails[operation] = (left - 1, code)
            else:
                raise OSError(code, "made to fail", path)

    def write(self, path: str, offset: int, data: bytes) -> None:
        self._may_fail("write", path)
        super().write(path, offset, data)

    def sync(self, path: str) -> None:
        self._may_fail("sync", path)
        super().sync(path)

    def read(self, path: str, offset: int = 0, length: int | None = None) -> bytes:
        self._may_fail("read", path)
        return super().read(path, offset, length)

    def names(self, path: str) -> list[str]:
        self._may_fail("names", ".bundle")
        return super().names(path)


@pytest.fixture
def files() -> FailingFiles:
    return FailingFiles(Medium())


def test_bytes_of_a_failed_sync_are_never_taken_for_durable(files: FailingFiles) -> None:
    """After a failed fsync the next one may report success for bytes that the medium never took."""
    files.fails["sync"] = (1, errno.EIO)
    error = refusal(fetching(files, stick := Stick()))
    assert error.code == "spool_io" and error.facts["bytes_done"] == CHUNK_BYTES
    result = finish(fetching(files, stick))
    assert files.read(result["bundle"]) == BUNDLE
    assert result["bytes_refetched"] == CHUNK_BYTES and stick.bytes_read == len(BUNDLE) + CHUNK_BYTES


@pytest.mark.parametrize(
    ("operation", "number", "code"),
    [
        ("write", errno.ENOSPC, "spool_full"),
        ("write", errno.EDQUOT, "spool_full"),
        ("write", errno.EIO, "spool_io"),
        ("sync", errno.ENOSPC, "spool_full"),
        ("read", errno.EIO, "spool_io"),
    ],
)
def test_trouble_with_the_data_partition_is_coded_and_the_next_attempt_goes_on(
    files: FailingFiles, operation: str, number: int, code: str
) -> None:
    files.fails[operation] = (2, number)
    error = refusal(fetching(files, stick := Stick()))
    assert error.code == code and error.facts["bytes_done"] >= 2 * CHUNK_BYTES
    assert files.read(finish(fetching(files, stick))["bundle"]) == BUNDLE
    assert stick.bytes_read <= len(BUNDLE) + CHUNK_BYTES


def test_a_directory_that_cannot_be_listed_is_coded(files: FailingFiles) -> None:
    files.fails["names"] = (0, errno.EACCES)
    fetcher = Fetcher(FetchConfig(spool_dir="/spool"), files, LinuxClock(), lambda path: Stick())
    assert refusal(fetcher.discard({"keep": None})).code == "spool_io"


def test_space_that_runs_out_on_the_way_stops_the_download_and_keeps_it(files: FailingFiles) -> None:
    messages = fetching(files, stick := Stick(), keep_free_bytes=1000)
    next(messages)
    files.free = 999
    error = refusal(messages)
    assert error.code == "spool_full" and error.facts["bytes_done"] == 2 * CHUNK_BYTES
    files.free = 1 << 30
    assert finish(fetching(files, stick))["bytes_refetched"] == 0 and stick.bytes_read == len(BUNDLE)


def test_reclaiming_leftovers_touches_nothing_but_downloads(files: FailingFiles) -> None:
    finish(fetching(files, Stick()))
    for path in ("/spool/u2.bundle", "/spool/u2.json.new", "/spool/notes.txt"):
        files.write(path, 0, b"x")
    files.make_dir("/spool/lost+found")
    fetcher = Fetcher(FetchConfig(spool_dir="/spool"), files, LinuxClock(), lambda path: Stick())
    finish(fetcher.discard({"keep": "u1"}))
    assert files.names("/spool") == ["lost+found", "notes.txt", "u1.bundle", "u1.json"]


def test_a_stick_whose_file_is_not_the_announced_one_is_refused(files: FailingFiles) -> None:
    assert refusal(fetching(files, Stick(BUNDLE[:-1]))).code == "fetch_changed"


def test_a_stick_swapped_on_the_way_is_found_by_the_digest_and_copied_anew(files: FailingFiles) -> None:
    messages = fetching(files, Stick(bytes(len(BUNDLE))))
    next(messages)
    messages.close()  # type: ignore[attr-defined]
    error = refusal(fetching(files, Stick()))
    assert error.code == "fetch_changed" and SHA256 in error.detail
    assert files.read(finish(fetching(files, Stick()))["bundle"]) == BUNDLE


def test_a_wrong_announcement_does_not_fetch_without_end(files: FailingFiles) -> None:
    stick = Stick(bytes(len(BUNDLE)))
    assert {refusal(fetching(files, stick)).code for _ in range(10)} == {"fetch_changed"}
    assert stick.bytes_read <= 4 * len(BUNDLE)


def test_an_empty_file_is_said(files: FailingFiles) -> None:
    error = refusal(fetching(files, Stick(b""), {"id": "u1", "source": "/stick/x.bundle"}))
    assert error.code == "fetch_length" and "empty" in error.detail


@pytest.mark.parametrize(
    "change",
    [
        lambda args: args.pop("id"),
        lambda args: args.pop("source"),
        lambda args: args.update(source=""),
        lambda args: args.update(source=7),
        lambda args: args.update(length="5"),
        lambda args: args.update(length=True),
        lambda args: args.update(length=-1),
        lambda args: args.update(sha256="abc"),
        lambda args: args.update(sha256=5),
    ],
)
def test_a_request_that_makes_no_sense_is_coded(files: FailingFiles, change: Callable[[dict[str, Any]], Any]) -> None:
    args = dict(ARGS)
    change(args)
    assert refusal(fetching(files, Stick(), args)).code == "bad_request"
