"""The directory of a simulated terminal: slots, boot environment, power tree, clock, configuration.

`create` makes it like a factory would; nothing here runs.
"""

from __future__ import annotations

import dataclasses
import json
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from posagent.core.errors import PosagentError
from posagent.release import keys
from posagent.sim import image as images
from posagent.sim import till
from posagent.sim.configuration import CONFIG

SOCKET_PATH_MAX = 100
VENDOR_KEY = "vendor.pub.pem"
ENV_SIZE = 0x4000


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """What a simulated terminal is made with; times in seconds. With a `shop` (posagent.sim.shops) an application
    takes its customers' payments, whose time passes `shop_speed` times as fast."""

    terminal: str = "pos-0001"
    hardware: str = "sim-pos"
    repository_url: str = ""
    group_key_file: str = ""
    fleet_kind: str = "hawkbit"
    fleet_url: str = ""
    fleet_token_file: str = ""
    metrics_url: str = ""
    slot_mib: int = 0
    payment_port: int = 0
    shop: str = ""
    shop_speed: float = 1.0
    boot_s: float = 0.3
    trial_timeout_s: float = 60.0
    watchdog_timeout_s: int = 60
    service_watchdog_s: int = 60
    selftest_deadline_s: int = 30
    check_timeout_s: int = 10


class Layout:
    """Paths inside the directory."""

    def __init__(self, root: Path) -> None:
        self.root = root.resolve()

    def __getattr__(self, name: str) -> Path:
        try:
            return self.root / _PATHS[name]
        except KeyError:
            raise AttributeError(name) from None

    @property
    def settings(self) -> Settings:
        try:
            values = json.loads((self.root / "terminal.json").read_text())
            return Settings(**values)
        except (OSError, ValueError, TypeError) as error:
            raise PosagentError("bad_request", f"{self.root} is no simulated terminal: {error}") from None

    def slot(self, name: str) -> Path:
        return self.root / "slots" / f"{name}.img"

    @property
    def data_format(self) -> int:
        """Of the booted image's payment application; 0 where no shop takes payments."""
        known = self.booted_root / "pos/data-format"
        return int(known.read_text()) if self.settings.shop and known.exists() else 0

    def configure_data(self) -> None:
        """What the booted image says of the data: the configuration is part of an image on real terminals."""
        before, _, rest = self.config.read_text().partition(DATA_BEGINS)
        after = rest.partition(DATA_ENDS)[2]
        said = till.config(self.root, self.data_link, form) if (form := self.data_format) else ""
        self.config.write_text(f"{before}{DATA_BEGINS}{said}{DATA_ENDS}{after}")


_PATHS = {
    "config": "etc/posagent.toml",
    "env_config": "etc/fw_env.config",
    "env": "boot/uboot.env",
    "bootloader_config": "boot/places.config",
    "keys": "keys",
    "cmdline": "proc/cmdline",
    "boot_id": "proc/boot_id",
    "ready_s": "proc/ready_s",
    "tamper": "sys/tamper",
    "battery": "sys/class/power_supply/battery",
    "mains": "sys/class/power_supply/ac",
    "run": "run",
    "booted_root": "booted",
    "serial": "dev/serial",
    "laptop": "dev/laptop",
    "watchdog": "dev/watchdog",
    "state": "data/posagent",
    "installer": "data/installer",
    "spool": "data/spool",
    "media": "media",
    "log": "log",
    "control": "host.sock",
    "clock": "clock",
    "api": "run/api.sock",
    "data_link": "run/data/current",
    "parameters": "run/data/parameters.json",
}

DATA_BEGINS = "# The merchant's data, as the booted image declares it.\n"
DATA_ENDS = "# Until here.\n"


def _free_port() -> int:
    import socket

    with socket.create_server(("127.0.0.1", 0)) as server:
        return int(server.getsockname()[1])


def _tool(name: str) -> str:
    path = shutil.which(name) or f"/usr/bin/{name}"
    if not Path(path).exists():
        raise PosagentError("bad_request", f"{name} is not installed (Debian package libubootenv-tool)")
    return path


def create(root: Path, *, image: Path | None, keys_dir: Path | None, settings: Settings) -> Layout:
    """Make a terminal that runs `image` (a small default where None) from slot a, with slot b empty.

    Trust begins with the public keys in `keys_dir`; without one, keys are made inside the directory.
    """
    layout = Layout(root)
    if len(str(layout.control)) > SOCKET_PATH_MAX or len(str(layout.run)) > SOCKET_PATH_MAX - 15:
        raise PosagentError("bad_request", f"{layout.root} is too long a path for its sockets; use a shorter one")
    if layout.root.exists() and any(layout.root.iterdir()):
        raise PosagentError("bad_request", f"{layout.root} is not empty")
    for name in ("slots", "etc", "boot", "proc", "dev", "data/posagent", "data/spool", "run", "log"):
        (layout.root / name).mkdir(parents=True)
    settings = dataclasses.replace(settings, payment_port=settings.payment_port or _free_port())
    (layout.root / "terminal.json").write_text(json.dumps(dataclasses.asdict(settings), indent=1) + "\n")
    _write_slots(layout, image, settings)
    _write_trust(layout, keys_dir)
    _write_environment(layout)
    set_power(layout, battery=80, mains=True)
    layout.tamper.write_text("intact\n")
    values = {
        **dataclasses.asdict(settings),
        "root": layout.root,
        "application": "required" if settings.shop else "none",
        "python": sys.executable,
        "fw_setenv": _tool("fw_setenv"),
        "fw_printenv": _tool("fw_printenv"),
        "vendor_key_file": vendor if (vendor := layout.root / "etc" / VENDOR_KEY).exists() else "",
    }
    layout.config.write_text(CONFIG.format(**values))
    layout.config.chmod(0o644)
    layout.configure_data()
    return layout


def _write_slots(layout: Layout, image: Path | None, settings: Settings) -> None:
    first = layout.slot("a")
    if image is None:
        images.build(first, "1.0.0")
    else:
        shutil.copyfile(image, first)
    size = max(settings.slot_mib << 20, first.stat().st_size)
    for name in ("a", "b"):
        with layout.slot(name).open("ab") as stream:
            stream.truncate(size)


def _write_trust(layout: Layout, keys_dir: Path | None) -> None:
    if keys_dir is None:
        keys_dir = layout.keys
        keys.init(keys_dir)
    shutil.copyfile(keys_dir / "1.root.json", layout.root / "etc/root.json")
    for name in ("engineer-ca.pub", VENDOR_KEY):
        if (keys_dir / name).exists():
            shutil.copyfile(keys_dir / name, layout.root / "etc" / name)


def _write_environment(layout: Layout) -> None:
    """A redundant U-Boot environment of two copies in one file, as made by mkenvimage in a factory."""
    for config in (layout.env_config, layout.bootloader_config):  # the bootloader knows its places by itself
        config.write_text(f"{layout.env} 0x0 {ENV_SIZE:#x}\n{layout.env} {ENV_SIZE:#x} {ENV_SIZE:#x}\n")
    layout.env.write_bytes(b"\xff" * 2 * ENV_SIZE)
    defaults = layout.root / "etc/uboot-defaults.env"
    defaults.write_text("BOOT_ORDER=a\nBOOT_a_LEFT=3\nBOOT_b_LEFT=0\n")
    for left in ("2", "3"):  # one write for each copy: what would not change is not written
        subprocess.run(
            [_tool("fw_setenv"), "-c", str(layout.env_config), "-f", str(defaults), "BOOT_a_LEFT", left],
            check=True,
            capture_output=True,
        )


def set_power(
    layout: Layout,
    *,
    battery: int | None = None,
    mains: bool | None = None,
    status: str | None = None,
    full_wh: float | None = None,
    design_wh: float | None = None,
    cycles: int | None = None,
    temperature_c: float | None = None,
    voltage_v: float | None = None,
    draw_w: float | None = None,
) -> None:
    """Change what the power tree says: battery percent, charger on or off; and of a battery that tells more, the rest.

    The status follows the charger unless it is given. The kernel shows the draw without a sign: the status has it.
    """
    for path, kind in ((layout.battery, "Battery"), (layout.mains, "Mains")):
        path.mkdir(parents=True, exist_ok=True)
        (path / "type").write_text(kind + "\n")
    if mains is not None:
        (layout.mains / "online").write_text(f"{int(mains)}\n")
        status = status or ("Charging" if mains else "Discharging")
    told: dict[str, float | None] = {
        "capacity": battery,
        "energy_full": None if full_wh is None else full_wh * 1e6,
        "energy_full_design": None if design_wh is None else design_wh * 1e6,
        "cycle_count": cycles,
        "temp": None if temperature_c is None else temperature_c * 10,
        "voltage_now": None if voltage_v is None else voltage_v * 1e6,
        "power_now": None if draw_w is None else abs(draw_w) * 1e6,
    }
    for name, value in told.items():
        if value is not None:
            (layout.battery / name).write_text(f"{round(value)}\n")
    if status is not None:
        (layout.battery / "status").write_text(status + "\n")
