"""posagent-sim: a whole simulated terminal on one machine, for demos, tests and integrators of payment programs."""

from __future__ import annotations

import argparse
import json
import os
import selectors
import subprocess
import sys
import termios
import time
import tty
from collections.abc import Sequence
from pathlib import Path

from posagent import wire
from posagent.core.errors import EXIT_CODES, PosagentError
from posagent.sim import hardware, image, layout
from posagent.sim.layout import Layout, Settings
from posagent.sim.shops import SHOPS

UP_S = 30.0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="posagent-sim", description=__doc__)
    verbs = parser.add_subparsers(dest="verb", required=True)

    def verb(name: str, text: str) -> argparse.ArgumentParser:
        sub = verbs.add_parser(name, help=text, description=text)
        sub.add_argument("dir", type=Path, help="directory of the terminal")
        sub.add_argument("--json", action="store_true", help="answer in JSON")
        return sub

    for name, text in (
        ("new", "make a terminal like a factory would"),
        ("up", "switch a terminal on; made first where DIR is empty"),
    ):
        sub = verb(name, text)
        sub.add_argument("--image", type=Path, help="ext4 image for slot a (default: a small one)")
        sub.add_argument("--keys", type=Path, help="directory of `posagent-release keys init`")
        sub.add_argument("--repository", default="", help="URL of the repository")
        sub.add_argument("--fleet", default="", help="URL of a hawkBit server, with the tenant")
        sub.add_argument("--fleet-token", default="", metavar="FILE", help="with the terminal's token there")
        sub.add_argument("--follow", action="store_true", help="follow the repository's signed channel")
        sub.add_argument("--slot-mib", type=int, default=0, help="size of a slot (default: that of the image)")
        sub.add_argument("--id", default="pos-0001", help="the terminal's id")
        sub.add_argument("--shop", choices=sorted(SHOPS), default="", help="let a payment application take payments")
        sub.add_argument("--speed", type=float, default=1.0, help="of the shop's time (%(default)s)")
        if name == "up":
            sub.add_argument("--detach", action="store_true", help="return when it is up; `posagent-sim down` ends it")
    made = verbs.add_parser("image", help="make an image for simulated terminals")
    made.add_argument("out", type=Path)
    made.add_argument("version")
    made.add_argument("--broken", default="", metavar="WHY", help="its payment program does not start")
    made.add_argument("--json", action="store_true", help="answer in JSON")
    verb("down", "end the simulation of this terminal")
    cut = verb("cut", "cut the power; it comes back by itself")
    cut.add_argument("--off-s", type=float, default=1.0, help="seconds without power")
    verb("off", "switch the power off")
    verb("on", "switch the power on")
    verb("reboot", "restart in good order")
    verb("reload", "let the payment program read its parameters again")
    verb("state", "which slot runs, and the processes' ids")
    power = verb("power", "change battery and charger")
    power.add_argument("--battery", type=int, metavar="PERCENT", choices=range(101))
    power.add_argument("--ac", choices=("on", "off"))
    clock = verb("clock", "change the terminal's clock; takes effect at its next start")
    clock.add_argument("--offset", required=True, help="like +3600, -2d or +0")
    verb("unplug", "pull the serial cable out of the laptop")
    plug = verb("plug", "plug the serial cable into the laptop")
    plug.add_argument("--as", dest="port", default="laptop", help="name of the port in DIR/dev (%(default)s)")
    verb("console", "attach to the serial line; leave with Ctrl-]")
    return parser


def _settings(arguments: argparse.Namespace) -> Settings:
    return Settings(
        terminal=arguments.id,
        repository_url=arguments.repository,
        fleet_kind="repository" if arguments.follow else "hawkbit",
        fleet_url=arguments.fleet,
        fleet_token_file=arguments.fleet_token,
        slot_mib=arguments.slot_mib,
        shop=arguments.shop,
        shop_speed=arguments.speed,
    )


def _make(arguments: argparse.Namespace) -> Layout:
    return layout.create(arguments.dir, image=arguments.image, keys_dir=arguments.keys, settings=_settings(arguments))


def _ask(terminal: Layout, verb: str, **args: object) -> dict[str, object]:
    try:
        return wire.call(str(terminal.control), verb, args)
    except PosagentError as error:
        if error.code != "agent_unreachable":
            raise
        raise PosagentError("agent_unreachable", f"{terminal.root} is not up; run: posagent-sim up") from None


def _up(arguments: argparse.Namespace) -> dict[str, object]:
    empty = not arguments.dir.exists() or not any(arguments.dir.iterdir())
    terminal = _make(arguments) if empty else Layout(arguments.dir)
    if arguments.detach:
        return _detach(terminal)
    simulated = hardware.Hardware(terminal, lambda text: print(hardware.event_line(text), file=sys.stderr, flush=True))
    print(
        json.dumps(hardware.describe(terminal)) if arguments.json else _lines(hardware.describe(terminal)), flush=True
    )
    simulated.run()
    return {}


def _detach(terminal: Layout) -> dict[str, object]:
    with (terminal.log / "hardware.log").open("ab") as output:
        child = subprocess.Popen(
            [sys.executable, "-m", "posagent.sim.cli", "up", str(terminal.root)],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=output,
            start_new_session=True,
        )
    deadline = time.monotonic() + UP_S
    while time.monotonic() < deadline and child.poll() is None:
        try:
            if wire.call(str(terminal.api), "status", {}, timeout_s=5)["booted"]:
                return {**hardware.describe(terminal), "pid": child.pid}
        except PosagentError:
            time.sleep(0.05)
    raise PosagentError("agent_unreachable", f"the terminal did not come up; see {terminal.log}/hardware.log")


def _down(terminal: Layout) -> dict[str, object]:
    answer = _ask(terminal, "stop")
    deadline = time.monotonic() + UP_S
    while terminal.control.exists() and time.monotonic() < deadline:
        time.sleep(0.02)
    return answer


def _console(terminal: Layout) -> dict[str, object]:
    """Raw bytes between this terminal and the laptop's end of the line, until Ctrl-]."""
    line = os.open(terminal.laptop, os.O_RDWR | os.O_NOCTTY)
    here = sys.stdin.fileno()
    saved = termios.tcgetattr(here) if os.isatty(here) else None
    if saved is not None:
        tty.setraw(here)
    try:
        with selectors.DefaultSelector() as ready:
            ready.register(line, selectors.EVENT_READ)
            ready.register(here, selectors.EVENT_READ)
            while True:
                for key, _ in ready.select():
                    data = os.read(key.fd, 4096)
                    if key.fd == here and (not data or b"\x1d" in data):
                        return {}
                    os.write(line if key.fd == here else sys.stdout.fileno(), data)
    finally:
        if saved is not None:
            termios.tcsetattr(here, termios.TCSADRAIN, saved)
        os.close(line)


def _lines(answer: dict[str, str] | dict[str, object]) -> str:
    return "\n".join(f"{name}: {value}" for name, value in answer.items())


def _carry_out(arguments: argparse.Namespace) -> dict[str, object]:
    match arguments.verb:
        case "new":
            return dict(hardware.describe(_make(arguments)))
        case "up":
            return _up(arguments)
        case "image":
            return {"image": str(image.build(arguments.out, arguments.version, broken=arguments.broken))}
    terminal = Layout(arguments.dir)
    _ = terminal.settings
    match arguments.verb:
        case "down":
            return _down(terminal)
        case "cut":
            return _ask(terminal, "cut", off_s=arguments.off_s)
        case "power":
            mains = None if arguments.ac is None else arguments.ac == "on"
            layout.set_power(terminal, battery=arguments.battery, mains=mains)
            return {"battery": arguments.battery, "ac": arguments.ac}
        case "clock":
            terminal.clock.write_text(arguments.offset + "\n")
            return {"offset": arguments.offset}
        case "plug":
            return _ask(terminal, "plug", **{"as": arguments.port})
        case "console":
            return _console(terminal)
        case verb:
            return _ask(terminal, verb)


def main(argv: Sequence[str] | None = None) -> int:
    arguments = _parser().parse_args(argv)
    try:
        answer = _carry_out(arguments)
    except PosagentError as error:
        print(json.dumps(error.as_dict()) if arguments.json else f"{error.detail} [{error.code}]", file=sys.stderr)
        return EXIT_CODES[error.spec.kind]
    except subprocess.CalledProcessError as error:
        print(f"{error} {error.stderr or ''}", file=sys.stderr)
        return 4
    if answer and not (arguments.verb == "up" and not arguments.detach):
        print(json.dumps(answer) if arguments.json else _lines(answer))
    return 0


if __name__ == "__main__":
    sys.exit(main())
