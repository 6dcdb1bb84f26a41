"""Millions of inputs for whatever reads the serial line: nothing fails, fills the memory, unlocks or begins anything.

Inputs are seeds that were changed a little, at random; the same seed of the generator makes the same inputs. Each
target takes one input a time, for as long as it is asked to, and says what must hold all the time. The terminal behind
the target `machine` is a whole one, in virtual time, and locked.
"""

from __future__ import annotations

import base64
import json
import random
import re
import shutil
import tempfile
import tracemalloc
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Protocol

from posagent.console.access import OPEN_VERBS
from posagent.console.auth import proven
from posagent.console.conversation import QUESTIONS_MAX
from posagent.console.grammar import HISTORY_LINES_MAX, LINE_BYTES_MAX, Echo, Editor, Line
from posagent.console.verbs import args_of, candidates, command_of
from posagent.core.arq import Link
from posagent.core.errors import CATALOGUE, PosagentError
from posagent.core.frames import Frame, Kind, Splitter, decode, encode
from posagent.core.model import State
from posagent.core.talk import CALL, bulk_message, key_of
from posagent.installer import engineer
from posagent.release import keys
from posagent.sim import layout
from posagent.sim.fieldline import SimulatedConsole
from posagent.sim.inprocess import InProcessTerminal
from posagent.sim.layout import Settings
from tests.console.engineers import certify, make_key, sign

MEMORY_BYTES_MAX = 8 << 20
"""What a target may hold at any time, beyond what it began with."""
SAMPLE = 20_000
"""So many inputs are looked at for how many of them differ, and run with the memory counted."""
CHALLENGE = "posagent-console-v1 pos-0001 boot 1 00 update"
_EDGES = (b"\0", b"\r", b"\n", b"\x03", b"\x04", b"\x1b[A", b"\xff" * 3, b'"', b"\\", b"{}", b"[" * 40, b"1e999", b"\t")


class Changes:
    """Seeds, and what becomes of them."""

    def __init__(self, seeds: list[bytes], number: int) -> None:
        self.seeds = seeds
        self.random = random.Random(number)

    def one(self) -> bytes:
        draw = self.random.random
        data = self.seeds[int(draw() * len(self.seeds))]
        for _ in range(1 + int(draw() * 3)):
            at = int(draw() * (len(data) + 1))
            match int(draw() * 6):
                case 0:
                    data = data[:at] + bytes([int(draw() * 256)]) + data[at + 1 :]
                case 1:
                    data = data[:at] + bytes([int(draw() * 256)]) + data[at:]
                case 2:
                    data = data[:at] + data[at + 1 + int(draw() * 8) :]
                case 3:
                    other = self.seeds[int(draw() * len(self.seeds))]
                    data = data[:at] + other[int(draw() * len(other)) :][:64]
                case 4:
                    data = data[:at] + _EDGES[int(draw() * len(_EDGES))] + data[at:]
                case _:
                    data = data[:at] + data[max(0, at - int(draw() * 16)) :]
        return data


class Source(Protocol):
    def one(self) -> bytes:
        """The next input."""


class Target(Protocol):
    @property
    def changes(self) -> Source: ...

    def take(self, data: bytes) -> None:
        """One input. Raises AssertionError where something happened that must not."""

    def check(self) -> None:
        """What must hold after any number of inputs. Raises AssertionError."""

    def close(self) -> None: ...


PLAIN = re.compile(rb"[ -~\r\n\x08]*")
"""All that may be sent to a terminal that understands nothing."""


class Grammar:
    """Typed bytes: lines, commands, words."""

    def __init__(self, number: int) -> None:
        seeds = ["status\r", "why --json\r", "unlock update\r", "update 'a b' --now\r", "defer 3\r", "help\r\n"]
        seeds += ["x\x7f\x15y\r", "machine 1\r", "-----BEGIN SSH SIGNATURE-----\rU1NIU0lH\r", "w" * 200]
        seeds += ["up\tus\t\r", "\x1b[A\x1b[D\x1b[3~\x1b[H1\x1b[F2\r", "a b\x17\x01\x0b\r", "\x1b]0;x\x07\x1bOP\r"]
        self.changes = Changes([seed.encode() for seed in seeds], number)
        self._editor = Editor(lambda before: candidates(before, lambda verb: True))

    def take(self, data: bytes) -> None:
        for item in self._editor.feed(data):
            if isinstance(item, Echo):
                assert PLAIN.fullmatch(item.data)
            if not isinstance(item, Line):
                continue
            assert len(item.text) <= LINE_BYTES_MAX
            try:
                if (command := command_of(item.text)) is not None:
                    args_of(command)
            except (ValueError, PosagentError):
                continue  # an open quote, words that a verb does not take

    def check(self) -> None:
        assert len(self._editor._line) <= LINE_BYTES_MAX and len(self._editor._history) <= HISTORY_LINES_MAX

    def close(self) -> None:
        return None


class Frames:
    """Bytes of the machine mode: as they come, and in frames whose checksum is right."""

    KEY = 7

    def __init__(self, number: int) -> None:
        frames = [Frame(kind, 1, 2, 3, b"J{}") for kind in Kind] + [Frame(Kind.PART, 40, 65535, 1 << 31, bytes(300))]
        self.changes = Changes([encode(frame, self.KEY) for frame in frames] + [b"\0", b"x" * 1200], number)
        self._splitter = Splitter()
        self._link = self._new()
        self._taken = 0

    def _new(self) -> Link:
        return Link(self.KEY, bytes_per_s=11520, message_bytes_max=2000)

    def take(self, data: bytes) -> None:
        for piece in self._splitter.feed(data):
            if (frame := decode(piece, self.KEY)) is not None:
                self._taken += 1
                assert all(len(message) <= 2000 for message in self._link.take(frame, self._taken * 0.01))
        if len(data) > 9:
            draw = self.changes.random.random
            kind = Kind(1 + int(draw() * len(Kind)))
            mask = int.from_bytes(data[4:8], "little")
            frame = Frame(kind, data[1] + 256 * (data[2] & 1), data[3], mask, data[8:1000])
            assert decode(encode(frame, self.KEY)[:-1], self.KEY) == frame
            self._link.take(frame, self._taken * 0.01)
            if self._taken % 50 == 0:
                self._link.send(data)
            self._link.poll(self._taken * 0.01)
        if self._taken % 10_000 == 9_999:
            self._taken += 1
            self._link = self._new()

    def check(self) -> None:
        assert len(self._splitter._rest) <= 1100
        assert len(self._link._held) <= 33 and len(self._link._sent) <= 33 and len(self._link._message) <= 2000

    def close(self) -> None:
        return None


class _Answers:
    """Changes for the target `auth`: the first byte says what the rest is."""

    def __init__(self, kinds: Mapping[bytes, list[bytes]], number: int) -> None:
        self._kinds = [(kind, Changes(seeds, number + count)) for count, (kind, seeds) in enumerate(kinds.items())]
        self._turn = 0

    def one(self) -> bytes:
        self._turn += 1
        kind, changes = self._kinds[self._turn % len(self._kinds)]
        return kind + changes.one()


class Auth:
    """Answers to challenges: armored signatures with certificates, and what the installer says of them.

    The seeds are good ones, by a good key, over another challenge: whatever is changed, none may unlock.
    """

    def __init__(self, number: int, challenge: str = "another") -> None:
        folder = Path(tempfile.mkdtemp(prefix="fuzz-"))
        self._challenge = challenge
        try:
            ca = make_key(folder / "ca")
            self._cas = (folder / "ca.pub").read_bytes()
            certificates = [certify(ca, make_key(folder / kind, kind)) for kind in ("ed25519", "ecdsa")]
            texts = [sign(certificate, CHALLENGE) for certificate in certificates]
        finally:
            shutil.rmtree(folder, ignore_errors=True)
        blobs = [base64.b64decode("".join(text.split("\n")[1:-2])) for text in texts]
        answers = [{"result": {"name": "Li Wei"}}, {"error": {"code": "unlock_refused", "detail": "x"}}, {"result": 7}]
        kinds = {
            b"B": blobs,
            b"T": [text.encode() for text in texts],
            b"J": [json.dumps(answer).encode() for answer in answers],
        }
        self.changes = _Answers(kinds, number)

    def take(self, data: bytes) -> None:
        match data[:1]:
            case b"B":
                self._verify(_armored(data[1:]))
            case b"T":
                self._verify(data[1:].decode("latin-1"))
            case _:
                self._hear(data[1:])

    def _verify(self, text: str) -> None:
        try:
            found = engineer.verify(challenge=self._challenge, answer=text, role="update", cas=self._cas, now_s=0.0)
        except PosagentError as error:
            assert error.code in ("unlock_refused", "unlock_expired"), error.code
            return
        raise AssertionError(f"{found} unlocked")

    def _hear(self, data: bytes) -> None:
        try:
            message = json.loads(data)
        except (ValueError, RecursionError):
            return
        try:
            assert proven(message).name.isprintable()
        except PosagentError as error:
            assert error.code in CATALOGUE

    def check(self) -> None:
        return None

    def close(self) -> None:
        return None


def _armored(blob: bytes) -> str:
    return f"-----BEGIN SSH SIGNATURE-----\n{base64.b64encode(blob).decode()}\n-----END SSH SIGNATURE-----\n"


class Machine:
    """A whole locked terminal, its line in both modes: requests and pieces of files in good frames, and noise."""

    def __init__(self, number: int, break_it: Callable[[SimulatedConsole], None] = lambda _: None) -> None:
        self._folder = Path(tempfile.mkdtemp(prefix="fuzz-"))
        keys.init(self._folder / "keys")
        made = layout.create(
            self._folder / "t", image=None, keys_dir=self._folder / "keys", settings=Settings(hardware="sim-pos")
        )
        self._terminal = InProcessTerminal(made)
        self._terminal.boot()
        self._terminal.settle()
        self._written = 0
        self._console = SimulatedConsole(self._terminal, self._write, bytes_per_s=11520).current()
        self._console.machine._new_number = lambda: b"terminal"
        break_it(self._console)
        self._break_it = break_it
        verbs = sorted({*OPEN_VERBS, *self._terminal.ask("help")["verbs"], "hello", "answer", "hang_up", "download"})
        args: Mapping[str, dict[str, Any]] = {
            "update": {"source": "/x.bundle", "now": True},
            "upload": {"name": "x", "size": 10, "sha256": "0" * 64},
            "answer": {"signature": _armored(b"SSHSIG\0\0\0\1")},
            "unlock": {"role": "update"},
            "follow": {"id": "u1"},
            "hang_up": {"id": 3},
            "download": {"what": "support", "offset": 3},
            "defer": {"hours": 2},
            "history": {"count": 3},
        }
        requests = [{"id": count, "verb": verb, "args": args.get(verb, {})} for count, verb in enumerate(verbs)]
        requests += [{"id": 50, "verb": verb, "args": args[verb]} for verb in args]
        seeds = [b"J" + json.dumps(request).encode() for request in requests]
        self.changes = Changes([*seeds, bulk_message(0, b"0123456789"), CALL, b"\rstatus\runlock update\r"], number)
        self._journal = self._journal_bytes()
        self._key = key_of(b"laptop-1", b"terminal")
        self._hello = CALL + b"\0" + encode(Frame(Kind.HELLO, payload=b"\x01\x01laptop-1"))
        self._seq = self._turn = 0
        self._begin()

    def _write(self, data: bytes) -> None:
        self._written += len(data)

    def _begin(self) -> None:
        """A new conversation."""
        self._console.feed(b"\0" + encode(Frame(Kind.HELLO, payload=b"\x01\x01laptop-0")) + b"\0" + self._hello)
        self._seq = 0

    def take(self, data: bytes) -> None:
        self._turn += 1
        if self._turn % 8 == 0:
            self._console.feed(data)  # as it is: noise, or words for people
        else:
            machine = self._console.machine
            link = machine._host.link if machine._host is not None else None
            if link is None or self._turn % 1000 == 1:
                self._begin()
                link = machine._host.link if machine._host is not None else None
            acked = (link._next if link is not None else 0) % 65536  # as if all that was said had arrived
            self._console.feed(b"\0" + encode(Frame(Kind.LAST, self._seq, acked, 0, data[:1024]), self._key))
            self._seq = (self._seq + 1) % 65536
        now = self._terminal.time.monotonic()
        while (at := self._terminal.time.next_at()) is not None and at <= now + 0.005:
            self._terminal.time.step()
        self._terminal.time.let_pass(now + 0.005 - self._terminal.time.monotonic())

    def check(self) -> None:
        assert self._terminal.state is State.IDLE and not self._terminal.situation.outcomes, "an update began"
        assert self._journal_bytes() == self._journal, "something was decided"
        assert self._console.access.session is None and not self._console.human._access.unlocked, "it is unlocked"
        assert not Path(self._console.inbox.directory).exists(), "a file was taken"
        conversation = self._console.machine._conversation
        if conversation is not None:
            assert len(conversation._asked) <= QUESTIONS_MAX
        assert len(self._terminal.time._timers) < 20_000

    def _journal_bytes(self) -> bytes:
        return b"".join(path.read_bytes() for path in sorted(self._terminal.layout.state.glob("journal*")))

    def close(self) -> None:
        self._terminal.time.end()
        shutil.rmtree(self._folder, ignore_errors=True)


TARGETS: Mapping[str, tuple[Callable[[int], Target], float]] = {
    "grammar": (Grammar, 0.25),
    "frames": (Frames, 0.45),
    "auth": (Auth, 0.2),
    "machine": (Machine, 0.1),
}
"""With the share of all inputs that each gets: by what an input costs."""


def run(name: str, count: int, number: int = 1) -> dict[str, int]:
    """Give the target so many inputs: `{inputs, distinct_of, distinct, peak_bytes}`. Raises AssertionError."""
    target = TARGETS[name][0](number)
    try:
        sample = min(SAMPLE, count)
        distinct, done = set[int](), 0
        tracemalloc.start()
        try:
            before = tracemalloc.get_traced_memory()[0]
            while done < sample:
                data = target.changes.one()
                distinct.add(hash(data))
                done += _take(target, name, data)
            target.check()
            peak = tracemalloc.get_traced_memory()[1] - before
        finally:
            tracemalloc.stop()
        assert peak < MEMORY_BYTES_MAX, f"{name}: {peak} bytes"
        while done < count:
            done += _take(target, name, target.changes.one())
            if done % 10_000 == 0:
                target.check()
        target.check()
        return {"inputs": done, "distinct_of": sample, "distinct": len(distinct), "peak_bytes": max(peak, 0)}
    finally:
        target.close()


def _take(target: Target, name: str, data: bytes) -> int:
    try:
        target.take(data)
    except Exception as error:
        raise AssertionError(f"{name}: {error!r} of {data!r}") from error
    return 1
