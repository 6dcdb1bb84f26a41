"""The worker of the merchant's data as it runs: over a socket, with SQLite, real steps, kills, a full disk."""

from __future__ import annotations

import json
import os
import random
import re
import shlex
import signal
import socket
import sqlite3
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from posagent import config as configuration
from posagent import wire
from posagent.core.errors import PosagentError
from posagent.data import service
from posagent.data.generations import result_of
from posagent.data.service import DataWorker
from posagent.platform.host import LinuxClock

pytestmark = pytest.mark.real
PAGE = (Path(__file__).parent.parent.parent / "docs/data.md").read_text(encoding="utf-8")
STEP = re.findall(r"^```python\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)[0]
DECLARED = re.findall(r"^```toml\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)[0]
PYTHON = "/usr/bin/python3" if Path("/usr/bin/python3").exists() else sys.executable
UNITS = Path(__file__).parent.parent.parent / "systemd"
OWNER = "nobody" if os.geteuid() == 0 and sys.executable != PYTHON else ""

CONFIG = """\
[terminal]
id = "pos-1"
hardware = "sim-pos"
installer_dir = "{base}/installer"
os_release_file = "{base}/os-release"
[slots.a]
device = "/none/a"
[slots.b]
device = "/none/b"
[boot]
cmdline_file = "{base}/cmdline"
"""
PLACES = """\
root_dir = "{base}/lib/data"
link = "{base}/run/current"
steps_dir = "{base}/steps"
"""
OLD = """\
[data.ledger]
kind = "sqlite"
path = "ledger.db"
query = "SELECT stan, type, currency, amount, batch, reversal FROM payments ORDER BY id"
[[data.counters]]
name = "stan"
path = "counters/stan"
last = 999999
"""


class Terminal:
    """A terminal with an application whose money is in SQLite: format 1 as it was, format 2 as docs/data.md has it."""

    def __init__(self, base: Path) -> None:
        self.base = base
        base.chmod(0o711)
        for name in ("installer", "steps", "lib"):
            (base / name).mkdir(mode=0o755)
        self.config_file = base / "posagent.toml"
        self.link = base / "run/current"
        self.step(STEP.replace("/usr/bin/python3", PYTHON))

    def step(self, script: str) -> None:
        path = self.base / "steps/10-tips"
        path.write_text(script)
        path.chmod(0o755)

    def boot(self, slot: str, version: str, data_format: int, *, trial: bool = False) -> dict[str, Any]:
        self.configure(slot, version, data_format, trial=trial)
        return self.do("select")

    def configure(self, slot: str, version: str, data_format: int, *, trial: bool = False) -> None:
        old = f'[data]\nformat = {data_format}\nsources = ["ledger.db", "counters"]\n{OLD}'
        declared = DECLARED if data_format == 2 else old
        declared = re.sub(r'owner = ".*"\n', "", declared)
        places = PLACES.format(base=self.base) + f'owner = "{OWNER}"\n'
        text = CONFIG.format(base=self.base) + declared.replace("[data]\n", f"[data]\n{places}", 1)
        self.config_file.write_text(text)
        (self.base / "os-release").write_text(f"IMAGE_VERSION={version}\n")
        (self.base / "cmdline").write_text(f"posagent.slot={slot}\n")
        for one in ("a", "b"):
            (self.base / f"installer/trial-{one}").unlink(missing_ok=True)
        if trial:
            (self.base / f"installer/trial-{slot}").touch()
        self.link.unlink(missing_ok=True)

    def verb(self, verb: str, /, **args: Any) -> Iterator[dict[str, Any]]:
        return DataWorker(configuration.load(str(self.config_file))).verbs[verb](args)

    def do(self, verb: str, /, **args: Any) -> dict[str, Any]:
        return result_of(self.verb(verb, **args))

    def open_shop(self, payments: int) -> None:
        """The old application on its first day."""
        data = self.link.resolve()
        (data / "counters").mkdir()
        (data / "counters/stan").write_text(f"{payments}\n")
        with closing(sqlite3.connect(data / "ledger.db")) as db:
            db.execute("PRAGMA journal_mode = WAL")
            db.execute(
                "CREATE TABLE payments (id INTEGER PRIMARY KEY, stan INT, type TEXT, currency TEXT, amount INT, "
                "batch INT, reversal INT)"
            )
            for stan in range(1, payments + 1):
                db.execute(
                    "INSERT INTO payments VALUES (NULL, ?, 'sale', '978', ?, 1, ?)",
                    (stan, stan * 100, stan if stan % 3 == 0 else None),
                )
            db.commit()
        for path in (data / "counters", data / "counters/stan", data / "ledger.db"):
            if OWNER:
                os.chown(path, 65534, 65534)

    def amounts(self) -> list[int]:
        with closing(sqlite3.connect(f"file:{self.link.resolve()}/ledger.db?mode=ro", uri=True)) as db:
            return [amount for (amount,) in db.execute("SELECT amount FROM payments ORDER BY id")]


@pytest.fixture
def terminal(short_path: Path) -> Terminal:
    """It runs 1.0 and has taken seven payments."""
    made = Terminal(short_path)
    made.boot("a", "1.0", 1)
    made.open_shop(7)
    return made


KILLS = 8
SOLD = [100, 200, 300, 400, 500, 600, 700]


def test_the_example_of_the_page_brings_the_data_to_the_new_format(terminal: Terminal) -> None:
    assert len(STEP.splitlines()) <= 22 and tomllib.loads(DECLARED)["data"]["format"] == 2
    terminal.boot("b", "2.0", 2, trial=True)
    done = terminal.do("migrate")
    assert (done["format_from"], done["format_to"], done["ledger"]["totals"]) == (1, 2, [["sale", "978", 7, 2800]])
    (terminal.base / "installer/trial-b").unlink()
    terminal.do("switch", committed_at=1000)
    assert terminal.amounts() == SOLD and not (terminal.link / "counters/stan").exists()
    inside = terminal.link.resolve()
    assert {path.stat().st_uid for path in (inside, inside / "ledger.db")} == {65534 if OWNER else os.getuid()}
    with closing(sqlite3.connect(inside / "ledger.db")) as db:
        assert db.execute("SELECT value FROM counters").fetchall() == [(7,)]


def test_a_counter_in_a_database_is_raised_in_a_file_after_a_rollback(terminal: Terminal) -> None:
    terminal.boot("b", "2.0", 2, trial=True)
    terminal.do("migrate")
    with closing(sqlite3.connect(terminal.link.resolve() / "ledger.db")) as db:
        db.execute("UPDATE counters SET value = 12")
        db.commit()
    assert terminal.boot("a", "1.0", 1) == {"published": "g-1", "problem": ""}
    assert (terminal.link / "counters/stan").read_text() == "12\n" and terminal.amounts() == SOLD
    (terminal.base / "steps/10-tips").unlink()
    terminal.boot("b", "1.1", 1, trial=True)
    terminal.do("migrate")
    assert (terminal.link / "counters/stan").read_text() == "12\n"


def test_a_terminal_that_kept_its_data_elsewhere_hands_it_over_in_a_step(short_path: Path) -> None:
    """And again in a second trial: the old version has taken payments in between."""
    terminal = Terminal(short_path)
    elsewhere = short_path / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "stan").write_text("1\n")
    terminal.step(f"#!/bin/sh\n[ $1 = 0 ] || exit 1\nmkdir counters && cat {elsewhere}/stan > counters/stan\n")
    terminal.boot("b", "2.0", 1, trial=True)
    terminal.do("migrate")
    (terminal.link / "counters/stan").write_text("2\n")
    terminal.do("migrate")
    assert (terminal.link / "counters/stan").read_text() == "2\n", "the agent was started again, no more"
    (elsewhere / "stan").write_text("9\n")
    terminal.boot("b", "2.0", 1, trial=True)
    terminal.do("migrate")
    (terminal.base / "installer/trial-b").unlink()
    terminal.do("switch", committed_at=1000)
    assert (terminal.link / "counters/stan").read_text() == "9\n"
    assert terminal.boot("b", "2.0", 1) == {"published": terminal.link.resolve().parent.name, "problem": ""}


def test_a_backup_is_made_looked_at_and_taken_back(terminal: Terminal) -> None:
    made = terminal.do("backup", update_id="u1", version="2.0")
    assert (made["name"], made["rows"]) == ("u1", 7) and (terminal.base / "lib/data/key").stat().st_mode & 0o077 == 0
    with closing(sqlite3.connect(terminal.link.resolve() / "ledger.db")) as db:
        db.execute("UPDATE payments SET reversal = NULL WHERE stan = 3")
        db.commit()
    found = terminal.do("restore", name="u1")
    assert found["dry_run"] and found["lost"] == [{"measure": "number of sale 978", "before": 7, "after": 6}]
    with pytest.raises(PosagentError, match="data_restore_loses"):
        terminal.do("restore", name="u1", dry_run=False)
    with closing(sqlite3.connect(terminal.link.resolve() / "ledger.db")) as db:
        db.execute("UPDATE payments SET reversal = 3 WHERE stan = 3")
        db.commit()
    assert terminal.do("restore", name="u1", dry_run=False)["generation"] == "g-2"
    assert not terminal.link.exists(), "before a restart"
    terminal.do("select")
    assert terminal.amounts() == SOLD
    told = terminal.do("verify")
    assert (told["current"]["name"], told["problems"], told["backups"][0]["problem"]) == ("g-2", [], "")
    inside = terminal.link.resolve()
    assert {path.stat().st_uid for path in (inside, inside / "ledger.db")} == {65534 if OWNER else os.getuid()}


def test_payments_in_a_write_ahead_log_are_copied(terminal: Terminal) -> None:
    """The application was switched off: the last payments are not in the database's file."""
    path = terminal.link.resolve() / "ledger.db"
    db = sqlite3.connect(path)
    db.execute("PRAGMA wal_autocheckpoint = 0")
    db.execute("INSERT INTO payments VALUES (NULL, 8, 'sale', '978', 800, 1, NULL)")
    db.commit()
    saved = {end: path.with_name(f"ledger.db{end}").read_bytes() for end in ("", "-wal")}
    db.close()
    for end, content in saved.items():
        path.with_name(f"ledger.db{end}").write_bytes(content)
    terminal.boot("b", "1.1", 1, trial=True)
    terminal.do("migrate")
    assert terminal.amounts() == [*SOLD, 800]


@pytest.mark.parametrize(
    ("script", "code"),
    [
        ("rm ledger.db", "data_money_differs"),
        ("echo wiped > ledger.db", "data_step_failed"),
        ("echo 3 > counters/stan", "data_money_differs"),
        ("exit 2", "data_step_failed"),
        ("sleep 600", "data_step_failed"),
        ("yes | head -c 2000000; exit 7", "data_step_failed"),
        ("ln -s /etc/passwd params; cp -r . .. 2>/dev/null; echo x > ../../generations.json", "data_step_failed"),
    ],
    ids=["removes it", "wipes it", "sets it back", "gives up", "hangs", "floods", "writes outside"],
)
def test_whatever_a_step_does_the_old_version_finds_its_data_as_it_was(
    terminal: Terminal, script: str, code: str
) -> None:
    terminal.step(f"#!/bin/sh\n{script}\n")
    terminal.boot("b", "2.0", 2, trial=True)
    text = terminal.config_file.read_text()
    old = text.partition("[data.ledger]")[2].partition("[[")[0]
    text = text.replace(old, OLD.partition("[data.ledger]")[2].partition("[[")[0])
    text = text[: text.index("[[data.counters]]")] + OLD[OLD.index("[[data.counters]]") :]
    terminal.config_file.write_text(text.replace("[data]\n", "[data]\nstep_timeout_s = 3\n"))
    record = (terminal.base / "lib/data/generations.json").read_bytes()
    if OWNER or "outside" not in script:
        with pytest.raises(PosagentError) as found:
            terminal.do("migrate")
        assert found.value.code == code
        assert (terminal.base / "lib/data/generations.json").read_bytes() == record
    assert terminal.boot("a", "1.0", 1) == {"published": "g-1", "problem": ""}
    assert terminal.amounts() == SOLD
    assert sorted(path.name for path in (terminal.base / "lib/data").glob("g-*")) == ["g-1"]


def test_a_worker_that_is_killed_at_any_moment_leaves_the_old_data_or_all_of_the_new(terminal: Terminal) -> None:
    moments, now = random.Random(8), LinuxClock().wall()
    kills = 0
    while kills < KILLS:
        terminal.boot("b", "2.0", 2, trial=True)
        kills += _killed(terminal, "migrate", {}, moments.randrange(16))
        assert terminal.boot("a", "1.0", 1) == {"published": "g-1", "problem": ""}
        assert terminal.amounts() == SOLD, "the old version"
        terminal.boot("b", "2.0", 2, trial=True)
        terminal.do("migrate")
        assert terminal.amounts() == SOLD, "the new one"
    (terminal.base / "installer/trial-b").unlink()
    for _ in range(KILLS):
        _killed(terminal, "switch", {"committed_at": now}, moments.randrange(8))
        assert terminal.boot("b", "2.0", 2)["published"] in ("", "g-2")
        record = json.loads((terminal.base / "lib/data/generations.json").read_text())
        assert (record["current"]["name"], record["next"] is None) in (("g-1", False), ("g-2", True))
    terminal.do("switch", committed_at=now)
    terminal.do("tidy", now=now + 80 * 3600)
    assert terminal.amounts() == SOLD and len(list((terminal.base / "lib/data").glob("g-*"))) == 1


def _killed(terminal: Terminal, verb: str, args: dict[str, Any], after: int) -> bool:
    """SIGKILL of a process that does the verb, when it has told its step `after`; False where it came to its end."""
    told, tell = os.pipe()
    child = os.fork()
    if child == 0:  # nothing of pytest's may run here
        os.close(told)
        try:
            for _ in terminal.verb(verb, **args):
                os.write(tell, b".")
            os._exit(0)
        finally:
            os._exit(1)
    os.close(tell)
    count = 0
    while count <= after and os.read(told, 1):
        count += 1
    os.kill(child, signal.SIGKILL)
    _, status = os.waitpid(child, 0)
    os.close(told)
    return os.WIFSIGNALED(status)


def test_it_answers_the_agent_over_its_socket(terminal: Terminal) -> None:
    terminal.boot("b", "2.0", 2, trial=True)
    with socket.socket(socket.AF_UNIX) as listener, socket.socket(socket.AF_UNIX) as asking:
        listener.bind(str(terminal.base / "data.sock"))
        listener.listen()
        command = [sys.executable, "-m", "posagent.data.service", "--config", str(terminal.config_file)]
        start = f"exec 3<&{listener.fileno()} {shlex.join(command)}"
        worker = subprocess.Popen(
            ["/bin/bash", "-c", start],
            pass_fds=[listener.fileno()],
            env={**os.environ, "LISTEN_FDS": "1"},
        )
        try:
            asking.connect(str(terminal.base / "data.sock"))
            asking.sendall(wire.encode({"verb": "migrate", "args": {}}))
            with asking.makefile("rb") as lines:
                messages = [json.loads(line) for line in iter(lines.readline, b"")]
        finally:
            worker.kill()
            worker.wait()
    assert {message["progress"]["phase"] for message in messages[:-1]} >= {"copy", "step", "compare", "sync"}
    assert messages[-1]["result"]["generation"] == "g-2"


@pytest.mark.skipif(not OWNER, reason="gives up capabilities of root's, and runs steps as another user")
def test_what_the_units_leave_of_roots_power_is_enough(terminal: Terminal) -> None:
    program = "from posagent.data.service import *; import sys; c = configuration.load(sys.argv[2])\n"
    verb = "result_of(DataWorker(c).verbs[sys.argv[1]]({'committed_at': 1, 'update_id': 'u1', 'version': '2.0'}))"

    def do(unit: str, name: str) -> None:
        (line,) = re.findall(r"^CapabilityBoundingSet=(.*)$", (UNITS / unit).read_text(), re.MULTILINE)
        kept = ",".join(f"+{one.removeprefix('CAP_').lower()}" for one in line.split())
        power = ["setpriv", f"--bounding-set=-all,{kept}", "--no-new-privs"]
        done = subprocess.run(
            [*power, sys.executable, "-c", program + verb, name, str(terminal.config_file)],
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr

    do("posagent-data.service", "backup")
    terminal.boot("b", "2.0", 2, trial=True)
    do("posagent-data.service", "migrate")
    with closing(sqlite3.connect(terminal.link.resolve() / "ledger.db")) as db:
        db.execute("UPDATE counters SET value = 12")
        db.commit()
    terminal.boot("a", "1.0", 1)
    (terminal.link / "counters/stan").write_text("7\n")
    do("posagent-data-select.service", "select")
    assert (terminal.link / "counters/stan").read_text() == "12\n"
    assert (terminal.link / "counters/stan").stat().st_uid == 65534
    terminal.boot("b", "2.0", 2, trial=True)
    do("posagent-data.service", "migrate")
    (terminal.base / "installer/trial-b").unlink()
    do("posagent-data.service", "switch")
    assert terminal.amounts() == SOLD
    terminal.boot("a", "1.0", 1)
    assert (terminal.link / "ledger.db").stat().st_uid == 65534, "nothing was paid: 1.0 goes on with its own"
    terminal.link.unlink()
    terminal.configure("b", "2.0", 2)
    do("posagent-data-select.service", "select")
    assert terminal.amounts() == SOLD


def test_selecting_at_the_start_says_what_is_wrong(terminal: Terminal, capsys: pytest.CaptureFixture[str]) -> None:
    def select() -> int:
        return service.main(["--select", "--config", str(terminal.config_file)])

    assert (select(), terminal.link.exists()) == (0, True)
    terminal.boot("b", "2.0", 2, trial=True)
    assert (select(), terminal.link.exists()) == (0, False)
    assert capsys.readouterr().err == ""
    step = (terminal.base / "steps/10-tips").read_text()
    terminal.step("#!/bin/sh\nexit 2\n")
    terminal.configure("b", "2.0", 2)
    assert (select(), terminal.link.exists()) == (4, False)
    assert "data_step_failed: 10-tips: gave up" in capsys.readouterr().err
    terminal.step(step)
    assert (select(), terminal.link.exists()) == (0, True)
    terminal.config_file.write_text(CONFIG.format(base=terminal.base))
    assert select() == 0, "a terminal without data to keep"
    with pytest.raises(PosagentError, match="format is 0"):
        terminal.do("migrate")


def test_two_workers_do_not_work_at_once(terminal: Terminal) -> None:
    terminal.boot("b", "2.0", 2, trial=True)
    first = terminal.verb("migrate")
    next(first)
    with pytest.raises(PosagentError, match="already_running"):
        terminal.do("tidy", now=1)
    first.close()  # type: ignore[attr-defined]
    terminal.do("tidy", now=1)


@pytest.mark.skipif(os.geteuid() != 0, reason="mounts a small file system")
def test_on_a_full_disk_the_old_version_goes_on(terminal: Terminal) -> None:
    """A step needs more room than there is."""
    place = terminal.base / "lib"
    mounted = ["mount", "-t", "tmpfs", "-o", "size=4m,mode=755", "tmpfs", str(place)]
    if subprocess.run(mounted, capture_output=True, check=False).returncode:
        pytest.skip("may not mount")
    try:
        terminal.boot("a", "1.0", 1)
        terminal.open_shop(7)
        terminal.step("#!/bin/sh\nhead -c 8000000 /dev/zero > big || exit 5\n")
        terminal.boot("b", "2.0", 2, trial=True)
        with pytest.raises(PosagentError, match="data_step_failed"):
            terminal.do("migrate")
        (place / "full").write_bytes(bytes(3 << 20))
        with pytest.raises(PosagentError, match="data_no_space"):
            terminal.do("migrate")
        with pytest.raises(OSError, match="No space"):
            (place / "fuller").write_bytes(bytes(2 << 20))
        assert terminal.boot("a", "1.0", 1) == {"published": "g-1", "problem": ""}
        (place / "full").unlink()
        (place / "fuller").unlink()
        assert terminal.amounts() == SOLD
        assert sorted(path.name for path in (place / "data").glob("g-*")) == ["g-1"]
    finally:
        subprocess.run(["umount", "-l", str(place)], check=True)


@pytest.mark.parametrize(
    ("verb", "args"),
    [
        ("backup", {"update_id": "u1"}),
        ("backup", {"update_id": 7, "version": "2"}),
        ("switch", {}),
        ("switch", {"committed_at": "now"}),
        ("tidy", {"now": True}),
        ("restore", {}),
    ],
)
def test_a_request_that_is_not_understood_is_refused(terminal: Terminal, verb: str, args: dict[str, Any]) -> None:
    with pytest.raises(PosagentError, match="bad_request"):
        terminal.do(verb, **args)
