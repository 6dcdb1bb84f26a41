"""`make screens`: an engineer's session in a real terminal program, as the screens of docs/console.md show it.

tmux is the screen of 24 rows and 80 columns, picocom the terminal program on a pty of 115200 baud, ssh-keygen the
engineer's key, sz sends a file; the terminal is a simulated one of real processes that updates itself over nginx.
"""

from __future__ import annotations

import argparse
import os
import random
import re
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from posagent.sim.bridge import Bridge
from posagent.sim.lab import Lab, SimulatedTerminal

HERE = Path(__file__).parent
BAUD = 115200
WAIT_S = 60.0
PROMPT = re.compile(r"posagent> *\Z")
NOISE_MIB = 40
"""Of version 2.0.0, so that its download and installation can be watched."""


class Screen:
    """picocom in tmux, on the laptop's end of the line."""

    def __init__(self, port: Path, socket: Path) -> None:
        self._tmux = ["tmux", "-u", "-S", str(socket), "-f", os.devnull]
        program = ["picocom", "--quiet", "--nolock", "--baud", str(BAUD), "--send-cmd", "sz -q", str(port)]
        self._run("new-session", "-d", "-x", "80", "-y", "24", *program)
        self._run("set-option", "-g", "status", "off")

    def _run(self, *words: str) -> str:
        environment = {**os.environ, "LC_ALL": "C.UTF-8"}
        done = subprocess.run([*self._tmux, *words], capture_output=True, text=True, check=True, env=environment)
        return done.stdout

    def show(self, *, joined: bool = False) -> str:
        """What stands on it now; `joined` has lines in one piece that the terminal had to wrap."""
        return self._run("capture-pane", "-p", *(["-J"] if joined else [])).rstrip()

    def keys(self, *names: str) -> None:
        """Keys by tmux' names, such as C-a."""
        self._run("send-keys", *names)

    def type(self, text: str) -> None:
        self._run("send-keys", "-l", "--", text)

    def enter(self, line: str) -> None:
        self.type(line)
        self.keys("Enter")

    def ask(self, line: str) -> str:
        """On an empty screen; the screen when it was answered."""
        self.clear()
        self.enter(line)
        return self.wait(rf"posagent> {re.escape(line)}\n(?s:.*)posagent> *\Z")

    def clear(self) -> None:
        """What stood there has scrolled away, up to the prompt."""
        self.wait(r"posagent> *\Z")
        self._run("send-keys", "-R")
        self._run("clear-history")
        self.keys("Enter")
        self.wait(r"\A\n?(posagent> *\n?)+\Z")

    def wait(self, pattern: str, timeout_s: float = WAIT_S) -> str:
        """The screen as soon as that is found on it. Raises TimeoutError with the screen."""
        deadline = time.monotonic() + timeout_s
        while True:
            shown = self.show()
            if re.search(pattern, shown):
                return shown
            if time.monotonic() > deadline:
                raise TimeoutError(f"{pattern} is not on the screen:\n{shown}")
            time.sleep(0.05)

    def close(self) -> None:
        subprocess.run([*self._tmux, "kill-server"], capture_output=True, check=False)


class Engineer:
    """With a key and a certificate for each role."""

    def __init__(self, lab: Lab) -> None:
        self._folder = lab.base
        self._key = lab.base / "engineer"
        self._keygen("-q", "-t", "ed25519", "-N", "", "-C", "", "-f", str(self._key))
        principals = "posagent-look,posagent-update"
        ca = str(lab.keys / "engineer-ca")
        self._keygen("-q", "-s", ca, "-I", "Li Wei", "-n", principals, "-V", "-5m:+8h", f"{self._key}.pub")

    @staticmethod
    def _keygen(*words: str, given: str = "") -> str:
        return subprocess.run(["ssh-keygen", *words], input=given, capture_output=True, text=True, check=True).stdout

    def sign(self, challenge: str) -> str:
        return self._keygen(
            "-q", "-Y", "sign", "-n", "posagent-console", "-f", f"{self._key}-cert.pub", given=challenge
        )

    def unlock(self, screen: Screen, role: str) -> str:
        screen.clear()
        screen.enter(f"unlock {role}")
        screen.wait(rf"posagent-console-v1 (?s:.*) {role}\s+posagent> *\Z")
        [challenge] = re.findall(r"^posagent-console-v1 .*$", screen.show(joined=True), re.MULTILINE)
        for line in self.sign(challenge.strip() + "\n").splitlines():
            screen.enter(line)
        return screen.wait(r"unlocked: .*\n(?s:.*)posagent> *\Z")


def session(lab: Lab, terminal: SimulatedTerminal, screen: Screen) -> Iterator[tuple[str, str]]:
    """The whole visit; each screen by its name."""
    engineer = Engineer(lab)
    screen.keys("Enter")
    yield "status-locked", screen.ask("status")
    yield "help-locked", screen.ask("help")
    yield "unlock", engineer.unlock(screen, "update")
    yield "check", screen.ask("check")
    screen.clear()
    screen.enter("update")
    yield "update-download", screen.wait(r"2\.0\.0 download \[#+\.*\] (?:[3-9]\d) %")
    with slowed_down(terminal):
        yield "update-install", screen.wait(r"2\.0\.0 install \[#+\.*\] (?:[1-9]\d) %")
        screen.enter("cancel")
        yield "cancel-refused", screen.wait(r"\[critical_section\](?s:.*)posagent> *\Z")
    terminal.wait(lambda status: (status["last_outcome"] or {}).get("outcome") == "committed", WAIT_S)
    screen.keys("Enter")
    engineer.unlock(screen, "update")
    yield "history", screen.ask("history")
    yield "upload", send(screen, lab.bundle("2.1.0"))
    screen.ask("lang zh")
    yield "status-chinese", screen.ask("status")


@contextmanager
def slowed_down(terminal: SimulatedTerminal) -> Iterator[None]:
    """The installer works a fiftieth of a second in a half, as if this machine were a terminal's."""
    terminal.wait(lambda status: status["state"] == "install", WAIT_S)
    installer = terminal.control("state")["pids"]["installer"]
    over = threading.Event()

    def hold() -> None:
        while not over.is_set():
            os.kill(installer, signal.SIGSTOP)
            over.wait(0.5)
            os.kill(installer, signal.SIGCONT)
            over.wait(0.02)

    thread = threading.Thread(target=hold, daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


def send(screen: Screen, file: Path) -> str:
    """A bundle by ZMODEM, as picocom sends files."""
    screen.clear()
    screen.enter(f"upload {file.stat().st_size}")
    screen.wait(r"\^X gives up")
    screen.keys("C-a", "C-s")
    screen.wait(r"\*\*\* file:\Z")
    screen.enter(str(file))
    screen.wait(r"to install it: update .*\n(?s:.*)posagent> *\Z")
    return screen.show(joined=True)


@contextmanager
def stage(noise_mib: int = NOISE_MIB) -> Iterator[tuple[Lab, SimulatedTerminal, Screen]]:
    """A release desk with a newer version of that size, a terminal, and a laptop plugged into it."""
    with tempfile.TemporaryDirectory(prefix="pos-") as folder:
        base = Path(folder)
        lab = Lab(base / "lab", rate_limit="6m")
        try:
            tree = base / "tree"
            tree.mkdir()
            (tree / "noise").write_bytes(random.Random(2).randbytes(noise_mib << 20))  # noqa: S311 - no secret
            lab.publish("2.0.0", lab.image("2.0.0", tree=tree, size_mib=noise_mib + 16))
            terminal = lab.terminal("pos-0001", slot_mib=noise_mib + 16)
            bridge = Bridge(terminal.layout.laptop, base / "ttyUSB0", baud=BAUD)
            screen = Screen(base / "ttyUSB0", base / "tmux")
            try:
                yield lab, terminal, screen
            finally:
                screen.close()
                bridge.end()
        finally:
            lab.close()


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=HERE / "screens", help="directory for the screens")
    arguments = parser.parse_args()
    arguments.out.mkdir(parents=True, exist_ok=True)
    with stage() as (lab, terminal, screen):
        for name, shown in session(lab, terminal, screen):
            (arguments.out / f"{name}.txt").write_text(tidy(shown, lab))
            print(f"--- {name}\n{shown}", flush=True)
    return 0


def tidy(shown: str, lab: Lab) -> str:
    """With the places that a laptop and a terminal have."""
    spool = str(lab.base / "pos-0001/data/spool")
    text = shown.replace(spool, "/var/lib/posagent-spool").replace(f"{lab.base}/", "")
    return "\n".join(line.rstrip() for line in text.strip("\n").splitlines()) + "\n"


if __name__ == "__main__":
    sys.exit(main())
