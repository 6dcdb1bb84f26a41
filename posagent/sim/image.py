"""Builds small system images that the simulated terminal can boot: real ext4 with a real (simulated) payment program.

An image carries /etc/os-release and /opt/pos: `payment.py`, which the terminal runs after booting the slot, and
optionally `boot-fault`: "panic" or "hang", which the simulated kernel obeys, or "agent-dead", the service manager. Its
`data-format` is that of the shop's data; later ones have a step in `migrate.d`.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import tempfile
from pathlib import Path

from posagent.sim import till

TRANSACTION_S = 0.03
PAYMENT = '''\
"""The payment program of this image: answers one line a connection on a loopback port."""
import json, signal, socket, sys, time
port, version, place = int(sys.argv[1]), {version!r}, sys.argv[2]
broken = {broken!r}
hangs = {hangs!r}
transaction_s = {transaction_s!r}
debug_port = {debug_port!r}
began = time.monotonic()
parameters = dict()

def load(*_):
    """docs/data.md: read at the start, and again when asked to; on trial they come a little later."""
    global parameters
    try:
        with open(place) as file:
            parameters = json.load(file)
    except FileNotFoundError:
        parameters = dict()

def answer(line):
    """docs/selftest.md: a dummy transaction is taken by nobody, and stands in no batch."""
    if not parameters:
        load()
    try:
        asked = json.loads(line)
        test, expect = asked["test"], asked["expect"]
    except (ValueError, KeyError, TypeError):
        return "READY " + version
    if test == "transaction":
        time.sleep(transaction_s)
        if "EUR" not in parameters.get("currencies", ["EUR"]):
            return json.dumps(dict(outcome="error", detail="no currency is left"))
        return json.dumps(dict(outcome=expect if expect in ("approved", "declined") else "error"))
    if test == "start":
        return json.dumps(dict(outcome="ok", ms=started_ms))
    return json.dumps(dict(outcome="ok" if test == "host" else "unknown"))

load()
signal.signal(signal.SIGHUP, load)
if broken:
    sys.exit("payment: cannot load terminal parameters: " + broken)
debugger = socket.create_server(("127.0.0.1", debug_port)) if debug_port else None
with socket.create_server(("127.0.0.1", port), backlog=0) as server:
    if hangs:
        first = socket.create_connection(("127.0.0.1", port))  # nobody answers it, so it fills the queue for good
        signal.pause()
    server.listen()
    started_ms = (time.monotonic() - began) * 1000
    while True:
        connection, _ = server.accept()
        with connection:
            connection.settimeout(2)
            try:
                connection.sendall((answer(connection.recv(1024)) + "\\n").encode())
            except OSError:
                pass
'''


def fill(
    root: Path,
    version: str,
    *,
    broken: str = "",
    hangs: bool = False,
    boot_fault: str = "",
    transaction_s: float = TRANSACTION_S,
    data_format: int = 1,
    debug_port: int = 0,
) -> None:
    """Write what makes a directory tree bootable here."""
    (root / "etc").mkdir(parents=True, exist_ok=True)
    (root / "etc/os-release").write_text(f'ID=simpos\nNAME="Simulated POS"\nIMAGE_VERSION={version}\n')
    pos = root / "opt/pos"
    pos.mkdir(parents=True, exist_ok=True)
    program = PAYMENT.format(
        version=version, broken=broken, hangs=hangs, transaction_s=transaction_s, debug_port=debug_port
    )
    (pos / "payment.py").write_text(program)
    (pos / "boot-fault").write_text(boot_fault)
    (pos / "data-format").write_text(f"{data_format}\n")
    (pos / "parameters.schema.json").write_text(json.dumps(till.PARAMETERS_SCHEMA))
    steps = pos / "migrate.d"
    shutil.rmtree(steps, ignore_errors=True)
    steps.mkdir()
    if data_format > 1:
        (steps / "10-tips").write_text(till.STEP)
        (steps / "10-tips").chmod(0o755)


def build(
    image: Path,
    version: str,
    *,
    size_mib: int = 8,
    tree: Path | None = None,
    broken: str = "",
    hangs: bool = False,
    boot_fault: str = "",
    transaction_s: float = TRANSACTION_S,
    data_format: int = 1,
    debug_port: int = 0,
) -> Path:
    """Make an ext4 image of `size_mib` from `tree` (empty where None) plus a payment program of this version.

    `broken` says why that cannot start; one that `hangs` runs, and takes no connection; a dummy transaction takes it
    `transaction_s`; it listens on a `debug_port` as well, where that is given. `boot_fault` as above.
    Needs mkfs.ext4. Raises subprocess.CalledProcessError when the tree does not fit.
    """
    with tempfile.TemporaryDirectory() as scratch:
        root = tree
        if root is None:
            root = Path(scratch) / "root"
            root.mkdir()
        fill(
            root,
            version,
            broken=broken,
            hangs=hangs,
            boot_fault=boot_fault,
            transaction_s=transaction_s,
            data_format=data_format,
            debug_port=debug_port,
        )
        image.unlink(missing_ok=True)
        with image.open("wb") as stream:
            stream.truncate(size_mib << 20)
        mkfs = shutil.which("mkfs.ext4") or "/usr/sbin/mkfs.ext4"
        subprocess.run(
            [mkfs, "-q", "-F", "-b", "4096", "-m", "0", "-d", str(root), str(image)], check=True, capture_output=True
        )
    return image


def starts(program: str) -> bool:
    """Whether a payment program made by `fill` would start, and answer."""
    return "broken = ''\nhangs = False\n" in program


def read_out(image: Path, target: Path) -> bool:
    """Copy /opt/pos and /etc/os-release out of an ext4 image, without mounting; False where it is no such image."""
    shutil.rmtree(target, ignore_errors=True)
    target.mkdir(parents=True)
    debugfs = shutil.which("debugfs") or "/usr/sbin/debugfs"
    requests = f"rdump /opt/pos {target}\nrdump /etc/os-release {target}\n"
    subprocess.run([debugfs, "-f", "-", str(image)], input=requests.encode(), check=False, capture_output=True)
    return (target / "pos/payment.py").exists()
