"""The terminal's configuration: one TOML file, strict, turned into frozen structs before anything starts.

Rules: an unknown key, a missing one without a safe default, a wrong type or a value out of range refuses to start,
naming the key, its line and the remedy. Names end in units. There is no "unlimited".
"""

from __future__ import annotations

import tomllib
from dataclasses import dataclass, field
from pathlib import Path

from posagent import config_rules, config_selftest
from posagent.config_data import DataConfig
from posagent.config_fleet import FleetConfig
from posagent.config_selftest import CheckConfig as CheckConfig
from posagent.config_selftest import SelftestConfig as SelftestConfig
from posagent.core.errors import ConfigError
from posagent.tables import Reader, between, one_of

DEFAULT_PATH = "/etc/posagent/posagent.toml"


@dataclass(frozen=True, slots=True, kw_only=True)
class TerminalConfig:
    """Who this terminal is and where it keeps its state.

    `installer_dir` (slot records, trust store, rollback floor) belongs to root and must not lie inside a directory of
    the agent's, which could then exchange it.
    """

    id: str
    hardware: str
    hardware_revision: int = between(0, 65535, 0)
    state_dir: str = "/var/lib/posagent"
    installer_dir: str = "/var/lib/posagent-installer"
    run_dir: str = "/run/posagent"
    agent_user: str = "posagent"
    os_release_file: str = "/etc/os-release"


@dataclass(frozen=True, slots=True, kw_only=True)
class SlotConfig:
    """One of the two places a system image lives in: a block device or a file of fixed size."""

    device: str
    boot_name: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class SlotsConfig:
    """Both slots."""

    a: SlotConfig
    b: SlotConfig


@dataclass(frozen=True, slots=True, kw_only=True)
class BootConfig:
    """How to talk to the bootloader. Variable names are those of RAUC's U-Boot scripts unless set otherwise.

    `env_config` and `fw_*` are for kind `uboot`, `grub_*` for `grub`, `custom_command` for `custom`, which uses neither
    `*_variable` nor `cmdline_key`. docs/boot/README.md says what each kind needs.
    """

    kind: str = one_of("uboot", "grub", "custom", default="uboot")
    env_config: str = "/etc/fw_env.config"
    order_variable: str = "BOOT_ORDER"
    tries_variable: str = "BOOT_{slot}_LEFT"
    tries_full: int = between(1, 9, 3)  # one digit: U-Boot counts down in hexadecimal, GRUB in place
    fw_setenv: str = "/usr/bin/fw_setenv"
    fw_printenv: str = "/usr/bin/fw_printenv"
    grub_files: tuple[str, ...] = ("/boot/grub/grubenv", "/boot/grub/grubenv2")
    grub_editenv: str = "/usr/bin/grub-editenv"
    custom_command: tuple[str, ...] = ()
    cmdline_file: str = "/proc/cmdline"
    cmdline_key: str = "posagent.slot"
    reset_key: str = "posagent.reset"
    boot_id_file: str = "/proc/sys/kernel/random/boot_id"
    require_redundant_env: bool = True
    reboot_command: tuple[str, ...] = ("/usr/bin/systemctl", "reboot")
    reboot_timeout_s: int = between(1, 3600, 300)


@dataclass(frozen=True, slots=True, kw_only=True)
class TrustConfig:
    """Where trust begins: files of the signed image. `group_key_file` (X25519, PEM) opens encrypted payloads."""

    root_file: str = "/etc/posagent/root.json"
    group_key_file: str = ""
    image_built_at: int = between(0, 2**40, 0)
    rollback_floor: int = between(0, 2**31, 0)


@dataclass(frozen=True, slots=True, kw_only=True)
class FetchConfig:
    """The repository, mirrors that have the same, and the limits of a download. `bytes_per_s_max` leaves room for
    payments, 0 is no limit; on a `metered` link as few as can be, at most `metered_bytes_max` for one update. Sticks
    are mounted in `media_dir`."""

    repository_url: str = ""
    mirrors: tuple[str, ...] = ()
    channel: str = "stable"
    spool_dir: str = "/var/lib/posagent-spool"
    media_dir: str = "/run/posagent-media"
    ca_file: str = ""
    allow_http: bool = False
    download_bytes_max: int = between(1, 2**40, 2**30)
    download_timeout_s: int = between(1, 30 * 86400, 86400)
    connect_timeout_s: int = between(1, 600, 30)
    stall_timeout_s: int = between(1, 3600, 60)
    bytes_per_s_max: int = between(0, 2**31, 0)
    metered: bool = False
    metered_bytes_max: int = between(0, 2**40, 16 << 20)
    checkpoint_bytes: int = between(4096, 2**28, 64 << 10)
    keep_free_bytes: int = between(0, 2**40, 16 << 20)
    attempts_max: int = between(1, 1000, 20)
    backoff_s: int = between(0, 3600, 5)
    backoff_s_max: int = between(0, 86400, 900)

    @property
    def repositories(self) -> tuple[str, ...]:
        """The repository and its mirrors; none where none is configured."""
        return (self.repository_url, *self.mirrors) if self.repository_url else ()

    @property
    def inbox_dir(self) -> str:
        """Where the agent puts bundles that come over the serial line."""
        return f"{self.spool_dir}/inbox"


@dataclass(frozen=True, slots=True, kw_only=True)
class PowerConfig:
    """When there is enough energy. `battery = "none"` is for terminals that only run on mains.

    An installation needs `install_power_mw` for as long as it takes, a restart, the self-test and a rollback included,
    times `energy_margin_percent`; the battery must have it above `battery_reserve_percent`. `battery_capacity_mwh` is
    for batteries that do not tell theirs. A closed gate opens `battery_hysteresis_percent` higher. Where the full
    battery has less than is needed, being full on a charger that keeps it so is enough if `charger_may_carry`.
    """

    supply_dir: str = "/sys/class/power_supply"
    battery: str = one_of("required", "none", default="required")
    download_battery_percent_min: int = between(0, 100, 15)
    install_battery_percent_min: int = between(0, 100, 30)
    install_on_charger_battery_percent_min: int = between(0, 100, 15)
    install_needs_charger: bool = False
    charger_may_carry: bool = True
    install_power_mw: int = between(100, 100_000, 2500)
    energy_margin_percent: int = between(100, 1000, 150)
    battery_reserve_percent: int = between(0, 50, 5)
    battery_capacity_mwh: int = between(500, 500_000, 9600)
    battery_temperature_c_min: int = between(-40, 20, 0)
    battery_temperature_c_max: int = between(30, 80, 45)
    battery_hysteresis_percent: int = between(0, 20, 3)
    charge_percent_per_h: int = between(1, 500, 40)


@dataclass(frozen=True, slots=True, kw_only=True)
class InstallConfig:
    """How a slot is written, and how often closed gates are asked again."""

    attempts_max: int = between(1, 100, 10)
    backoff_s: int = between(0, 3600, 5)
    stall_timeout_s: int = between(1, 3600, 120)
    gate_recheck_s: int = between(1, 3600, 30)


@dataclass(frozen=True, slots=True, kw_only=True)
class WatchdogConfig:
    """`systemd` pets the service manager; `device` also pets the hardware watchdog itself."""

    systemd: bool = True
    device: str = ""
    device_timeout_s: int = between(5, 3600, 60)


@dataclass(frozen=True, slots=True, kw_only=True)
class ConsoleConfig:
    """The field engineer's serial line; an empty device switches it off. `revoked_file` lists keys and certificates
    that are no longer good (docs/console.md). `rz` receives files by ZMODEM."""

    device: str = ""
    baud: int = between(1200, 4000000, 115200)
    engineer_ca_file: str = "/etc/posagent/engineer-ca.pub"
    revoked_file: str = ""
    session_s_max: int = between(30, 3600, 900)
    idle_s_max: int = between(10, 3600, 120)
    actions_max: int = between(1, 200, 20)
    rz: str = "/usr/bin/rz"


@dataclass(frozen=True, slots=True, kw_only=True)
class ApiConfig:
    """Who may do more than look: root, the agent's own user, and members of these groups. Those in `payment_groups` may
    only say that payments are under way (docs/payment.md)."""

    admin_groups: tuple[str, ...] = ("posagent-admin",)
    payment_groups: tuple[str, ...] = ("posagent-payment",)


@dataclass(frozen=True, slots=True, kw_only=True)
class PaymentConfig:
    """The payment application's "not now" (docs/payment.md). Where `application` is `required`, nothing is installed
    without one that is connected and heard of; after `grace_s` without one the status shows a problem."""

    application: str = one_of("required", "none", default="none")
    lease_s_max: int = between(5, 3600, 300)
    grace_s: int = between(5, 3600, 60)


@dataclass(frozen=True, slots=True, kw_only=True)
class WindowConfig:
    """When updates are installed, by the clock on the wall of `time_zone` (docs/when.md). `install` are windows such as
    "mon-fri 22:00-06:00", `blackout` days without any such as "12-20..12-27". At `daily_restart` ("03:00") the agent
    restarts the terminal, and an update takes that restart's place. `quiet_hours` are learned from the payments. With
    none of these, updates begin at once. Terminals of a fleet begin up to `spread_s` apart."""

    time_zone: str = "UTC"
    install: tuple[str, ...] = ()
    blackout: tuple[str, ...] = ()
    daily_restart: str = ""
    quiet_hours: bool = False
    spread_s: int = between(0, 86400, 3600)

    @property
    def counts(self) -> bool:
        return bool(self.install or self.blackout or self.daily_restart or self.quiet_hours)


@dataclass(frozen=True, slots=True, kw_only=True)
class SupportConfig:
    """Support bundles (docs/support.md), sealed for the vendor's X25519 public key (PEM); `bytes_max` of text each."""

    vendor_key_file: str = ""
    bytes_max: int = between(32 << 10, 1 << 20, 256 << 10)


@dataclass(frozen=True, slots=True, kw_only=True)
class Config:
    terminal: TerminalConfig
    slots: SlotsConfig
    boot: BootConfig = BootConfig()
    trust: TrustConfig = TrustConfig()
    fetch: FetchConfig = FetchConfig()
    power: PowerConfig = PowerConfig()
    install: InstallConfig = InstallConfig()
    watchdog: WatchdogConfig = WatchdogConfig()
    selftest: SelftestConfig = field(default_factory=SelftestConfig)
    console: ConsoleConfig = ConsoleConfig()
    api: ApiConfig = ApiConfig()
    payment: PaymentConfig = PaymentConfig()
    window: WindowConfig = WindowConfig()
    support: SupportConfig = SupportConfig()
    data: DataConfig = field(default=DataConfig())
    fleet: FleetConfig = field(default=FleetConfig())

    @property
    def api_socket(self) -> str:
        return f"{self.terminal.run_dir}/api.sock"

    def worker_socket(self, worker: str) -> str:
        """Socket of `installer`, `fetcher`, `selftest`, `support`, `data` or `fleet`."""
        return f"{self.terminal.run_dir}/{worker}.sock"

    @property
    def journal_path(self) -> str:
        return f"{self.terminal.state_dir}/journal"


_BOOT_NEEDS = {"uboot": "env_config", "grub": "grub_files", "custom": "custom_command"}


def _cross_check(config: Config, reader: Reader) -> None:
    """Rules between keys."""
    a, b = config.slots.a.device, config.slots.b.device
    for name, device in (("a", a), ("b", b)):
        if not device:
            raise reader.complain("config_missing_key", f"slots.{name}.device", "must name a device or file")
    if a == b or Path(a).resolve() == Path(b).resolve():
        raise reader.complain("config_same_device", "slots.b.device", f"{b} is also slot a")
    if "{slot}" not in config.boot.tries_variable:
        raise reader.complain("config_bad_value", "boot.tries_variable", "must contain {slot}")
    needed = _BOOT_NEEDS[config.boot.kind]
    if not getattr(config.boot, needed):
        raise reader.complain("config_missing_key", f"boot.{needed}", f"needed for {config.boot.kind}")
    if not config.boot.reboot_command:
        raise reader.complain("config_bad_value", "boot.reboot_command", "must not be empty")
    config_selftest.check(reader, config.selftest)
    window = config.window
    config_rules.check_calendar(reader, window.install, window.blackout, window.daily_restart, window.time_zone)
    url, schemes = config.fetch.repository_url, ("https://", "http://") if config.fetch.allow_http else ("https://",)
    mirrors, metrics_url = config.fetch.mirrors, config.fleet.metrics_url
    addresses = [("fetch.repository_url", url), *(("fetch.mirrors", one) for one in mirrors)]
    for key, one in (*addresses, ("fleet.metrics_url", metrics_url)):
        if one and not one.startswith(schemes):
            raise reader.complain("config_bad_value", key, "must begin with https:// (or set allow_http)")
    if config.fleet.kind == "repository" and not url:
        raise reader.complain("config_missing_key", "fetch.repository_url", 'needed where fleet.kind is "repository"')
    config_rules.check_data(reader, config.data)


def parse(text: str, where: str = "configuration") -> Config:
    """The configuration in `text`. Raises ConfigError naming key and line."""
    reader = Reader(text, where)
    try:
        table = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise ConfigError("config_unreadable", f"{where}: {error}") from None
    config: Config = reader.struct(Config, table, "")
    _cross_check(config, reader)
    return config


def load(path: str = DEFAULT_PATH) -> Config:
    """The configuration in the file at `path`. Raises ConfigError."""
    try:
        text = Path(path).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError("config_unreadable", f"{path}: {error}") from None
    return parse(text, path)
