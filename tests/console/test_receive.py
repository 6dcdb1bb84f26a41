"""`upload` as the engineer sees it: how long it takes, silence while the file comes, what came, and what to do next."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

from posagent.console.access import SessionLimits
from posagent.console.receive import size_of
from posagent.core.errors import FetchError, PosagentError, Refusal
from posagent.core.ports import Notify
from posagent.sim.inprocess import InProcessTerminal
from tests.console.laptop import Laptop
from tests.console.test_human import on_screen

RESULT = {
    "name": "2.0.0.bundle",
    "path": "/var/lib/posagent-spool/inbox/2.0.0.bundle",
    "size": 2_000_000,
    "sha256": "ab" * 32,
    "seconds": 180.0,
    "came": 2_000_000,
}


class Files:
    """console.receive.Receiver of which a test says what comes."""

    def __init__(self) -> None:
        self.bytes_max = 50_000_000
        self.trouble: PosagentError | None = None
        self.part: tuple[str, int] | None = None
        self.resumed: bool | None = None
        self.cancelled = 0
        self.tell: Notify = lambda _: None

    def room(self) -> int:
        if self.trouble is not None:
            raise self.trouble
        return self.bytes_max

    def kept(self) -> tuple[str, int] | None:
        return self.part

    def start(self, *, resume: bool, notify: Notify) -> Files:
        self.resumed, self.tell = resume, notify
        return self

    def cancel(self) -> None:
        self.cancelled += 1
        self.tell = lambda _: None


@pytest.fixture
def files() -> Files:
    return Files()


@pytest.fixture
def laptop(in_process: Callable[[], InProcessTerminal], certificates: Mapping[str, Path], files: Files) -> Laptop:
    made = Laptop(in_process(), certificates, SessionLimits(session_s_max=1000.0))
    made.plug_in(baud=9600, receiver=files)
    assert "unlocked" in made.unlock()
    return made


def test_before_it_begins_it_says_how_long_it_takes_and_what_to_do(laptop: Laptop) -> None:
    shown = laptop.type("upload 2M\r")
    assert "2.0 MB take about 39 min at 9600 baud" in shown and "sz FILE" in shown


def test_without_a_size_it_says_how_long_a_megabyte_takes_and_how_much_fits(laptop: Laptop) -> None:
    shown = laptop.type("upload\r")
    assert "at 9600 baud 1 MB takes about 19 min; at most 50.0 MB" in shown


def test_what_has_come_is_told_with_its_digest_and_how_to_install_it(laptop: Laptop, files: Files) -> None:
    laptop.type("upload\r")
    files.tell({"result": RESULT})
    assert on_screen(laptop).lines[-4:] == [
        "received: 2.0.0.bundle, 2000000 bytes in 3 min",
        f"sha256: {'ab' * 32}",
        "to install it: update /var/lib/posagent-spool/inbox/2.0.0.bundle",
        "posagent>",
    ]
    assert laptop.heard("verb", "args", "code")[-1] == ("upload", {"name": "2.0.0.bundle", "sha256": "ab" * 32}, "ok")


def test_the_line_to_type_next_is_in_one_piece_however_long(laptop: Laptop, files: Files) -> None:
    laptop.type("upload\r")
    path = "/var/lib/posagent-spool/inbox/" + "x" * 64
    files.tell({"result": {**RESULT, "path": path}})
    assert f"to install it: update {path}\r\n".encode() in laptop.screen


def test_the_next_one_is_foretold_from_what_was_measured(laptop: Laptop, files: Files) -> None:
    laptop.type("upload\r")
    files.tell({"result": {**RESULT, "seconds": 4000.0}})
    assert "2.0 MB take about 67 min" in laptop.type("upload 2M\r")


def test_nothing_is_shown_while_the_file_comes(laptop: Laptop, files: Files) -> None:
    laptop.type("check\r")
    laptop.type("upload\r")
    before = laptop.screen
    for done in range(10):
        files.tell({"progress": {"bytes_done": done}})
    laptop.terminal.time.step()
    assert laptop.screen == before, "neither progress nor the answer to what was asked before"


def test_a_failure_is_told_with_what_to_do(laptop: Laptop, files: Files) -> None:
    laptop.type("upload\r")
    files.tell({"error": PosagentError("upload_failed", "nothing came").as_dict()})
    lines = on_screen(laptop).lines
    assert lines[-4] == "nothing came [upload_failed]" and "upload --resume" in lines[-3]
    assert lines[-1] == "posagent>"


def test_going_on_says_from_where(laptop: Laptop, files: Files) -> None:
    files.part = ("2.0.0.bundle", 1_500_000)
    shown = laptop.type("upload 2M --resume\r")
    assert files.resumed and "2.0.0.bundle is here up to 1.5 MB" in shown and "take about 10 min" in shown


def test_what_does_not_fit_is_refused_before_anything_is_sent(laptop: Laptop, files: Files) -> None:
    assert laptop.code("upload 51M") == "spool_full"
    files.trouble = Refusal("no_zmodem")
    assert laptop.code("upload") == "no_zmodem" and files.resumed is None
    files.trouble = FetchError("spool_full")
    assert laptop.code("upload") == "spool_full"


def test_a_terminal_that_receives_no_files_says_so(laptop: Laptop) -> None:
    laptop.plug_in()
    laptop.unlock()
    assert laptop.code("upload") == "no_zmodem"


def test_locked_or_in_another_role_nothing_is_received(laptop: Laptop, files: Files) -> None:
    laptop.ask("logout")
    assert laptop.code("upload") == "not_allowed"
    laptop.unlock("look")
    assert laptop.code("upload") == "not_allowed" and files.resumed is None


def test_json_is_one_line(laptop: Laptop, files: Files) -> None:
    before = len(laptop.screen)
    laptop.type("upload --json\r")
    files.tell({"result": RESULT})
    assert laptop.screen[before:].decode().splitlines()[1].startswith('{"name": "2.0.0.bundle"')


def test_a_hang_up_ends_it_and_the_next_one_finds_a_locked_line(laptop: Laptop, files: Files) -> None:
    laptop.type("upload\r")
    laptop.session.hang_up()
    assert files.cancelled == 1
    assert laptop.locked


def test_bytes_that_come_keep_a_session_awake(laptop: Laptop, files: Files) -> None:
    laptop.type("upload\r")
    for _ in range(8):
        laptop.terminal.time.let_pass(100)
        files.tell({"progress": {"bytes_done": 1}})
    files.tell({"result": RESULT})
    assert not laptop.locked


@pytest.mark.parametrize("end", ["time", "idle"])
def test_a_session_that_ends_meanwhile_lets_the_file_come_and_is_locked_then(
    laptop: Laptop, files: Files, end: str
) -> None:
    laptop.type("upload\r")
    before = laptop.screen
    if end == "time":
        for _ in range(11):
            laptop.terminal.time.let_pass(100)
            files.tell({"progress": {"bytes_done": 1}})
    else:
        laptop.terminal.run_until(lambda _: not laptop.access.unlocked)
    assert not laptop.access.unlocked and laptop.screen == before and files.cancelled == 0
    files.tell({"result": RESULT})
    shown = laptop.screen[len(before) :].decode()
    why = "session over" if end == "time" else "idle"
    assert shown.index("received:") < shown.index(f"locked: {why}") and shown.endswith("posagent> ")
    assert laptop.locked


@pytest.mark.parametrize(
    ("word", "size"),
    [("2500000", 2_500_000), ("2.5M", 2_500_000), ("800k", 800_000), ("1.25mb", 1_250_000), ("1G", 10**9), ("0.5", 0)],
)
def test_a_size_is_read_as_people_write_it(word: str, size: int) -> None:
    assert size_of(word) == size


@pytest.mark.parametrize("word", ["", "M", "2.5.1M", "-1", "1e9", "2,5M", "9" * 20, "1.0000M", "２M"])
def test_what_is_no_size_is_a_bad_request(word: str) -> None:
    with pytest.raises(PosagentError, match="bad_request"):
        size_of(word)


def test_words_that_do_not_belong_there_are_refused(laptop: Laptop) -> None:
    assert laptop.code("upload 1M 2M") == laptop.code("upload file.bundle") == "bad_request"
