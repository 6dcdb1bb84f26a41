"""A configuration that cannot be right never starts anything, and says where it is wrong."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from posagent.config import parse
from posagent.config_selftest import KINDS
from posagent.core.errors import ConfigError

GOOD = """\
[terminal]
id = "pos-1"
hardware = "acme"

[slots.a]
device = "/dev/mmcblk0p2"
[slots.b]
device = "/dev/mmcblk0p3"

[power]
install_battery_percent_min = 40
"""


def refused(text: str) -> ConfigError:
    with pytest.raises(ConfigError) as caught:
        parse(text, "posagent.toml")
    return caught.value


def test_a_small_configuration_is_enough() -> None:
    config = parse(GOOD)
    assert config.power.install_battery_percent_min == 40
    assert config.boot.tries_variable == "BOOT_{slot}_LEFT"


def test_an_unknown_key_is_named_with_its_line() -> None:
    error = refused(GOOD + "battery_min = 3\n")
    assert (error.code, error.facts["key"], error.facts["line"]) == ("config_unknown_key", "power.battery_min", 12)
    assert "posagent.toml:12" in error.detail


def test_an_unknown_table_is_named() -> None:
    assert refused(GOOD + "[powr]\nx = 1\n").code == "config_unknown_key"


@pytest.mark.parametrize("value", ["101", "-1", '"40"', "40.5", "true"])
def test_a_value_out_of_range_or_of_another_type_is_refused(value: str) -> None:
    error = refused(GOOD.replace("40", value))
    assert error.code == "config_bad_value" and error.facts["line"] == 11


def test_one_device_named_twice_is_refused() -> None:
    assert refused(GOOD.replace("mmcblk0p3", "mmcblk0p2")).code == "config_same_device"
    assert refused(GOOD.replace("mmcblk0p3", "../dev/mmcblk0p2")).code == "config_same_device"


def test_a_missing_second_slot_is_refused() -> None:
    assert (
        refused(GOOD.replace("[slots.b]\n", "").replace('device = "/dev/mmcblk0p3"\n', "")).code == "config_missing_key"
    )


def test_a_self_test_lacking_what_its_kind_needs_is_refused() -> None:
    check = '[[selftest.checks]]\nname = "x"\nkind = "{}"\n'
    for kind in (kind for kind, spec in KINDS.items() if spec.needs):
        assert refused(GOOD + check.format(kind)).code == "config_missing_key"
    for kind in (kind for kind, spec in KINDS.items() if not spec.needs):
        assert parse(GOOD + check.format(kind)).selftest.checks[0].suite_name == "security"
    assert refused(GOOD + check.format("magic")).code == "config_bad_value"
    assert refused(GOOD + check.format("ports") * 2).facts["key"] == "selftest.checks[1].name"


@pytest.mark.parametrize(
    ("kind", "keys", "key"),
    [
        ("digest", 'path = "/x"\nsha256 = "12"', "sha256"),
        ("permissions", 'paths = ["/x"]\nmode_max = "rw"', "mode_max"),
        ("serial", 'device = "/x"\nexpect = "."\nsend_hex = "1b 7"', "send_hex"),
        ("serial", 'device = "/x"\nexpect = "("\nsend_hex = "1b"', "expect"),
        ("serial", 'device = "/x"\nexpect = "好"\nsend_hex = "1b"', "expect"),
        ("debug", 'interfaces = ["ssh", "usb"]', "interfaces[1]"),
        ("ports", 'suite = "money"', "suite"),
        ("payment", 'port = 1\ntest = "refund"', "test"),
    ],
)
def test_a_self_test_that_cannot_work_is_refused_naming_the_key(kind: str, keys: str, key: str) -> None:
    error = refused(GOOD + f'[[selftest.checks]]\nname = "x"\nkind = "{kind}"\n{keys}\n')
    assert (error.code, error.facts["key"]) == ("config_bad_value", f"selftest.checks[0].{key}")


@pytest.mark.parametrize(
    ("boot", "code", "key"),
    [
        ('kind = "efi"', "config_bad_value", "boot.kind"),
        ('kind = "custom"', "config_missing_key", "boot.custom_command"),
        ('kind = "custom"\ncustom_command = []', "config_missing_key", "boot.custom_command"),
        ('kind = "custom"\ncustom_command = "/bin/x"', "config_bad_value", "boot.custom_command"),
        ('kind = "grub"\ngrub_files = []', "config_missing_key", "boot.grub_files"),
    ],
)
def test_a_bootloader_lacking_what_its_kind_needs_is_refused(boot: str, code: str, key: str) -> None:
    error = refused(GOOD + f"[boot]\n{boot}\n")
    assert (error.code, error.facts["key"]) == (code, key)
    assert f"posagent.toml:{error.facts['line']}:" in error.detail and error.facts["line"] >= 12


def test_plain_http_must_be_allowed_explicitly() -> None:
    fetch = '[fetch]\nrepository_url = "http://x/"\n'
    assert refused(GOOD + fetch).code == "config_bad_value"
    assert parse(GOOD + fetch + "allow_http = true\n").fetch.allow_http


@pytest.mark.parametrize(
    ("key", "value", "remedy"),
    [
        ("time_zone", '"Europe/Berln"', "use a name like"),
        ("time_zone", '""', "use a name like"),
        ("time_zone", '"Europe"', "use a name like"),
        ("time_zone", '"../zoneinfo/Europe/Berlin"', "use a name like"),
        ("install", '["22:00-06:00", "mo 22:00-06:00"]', "is no weekday; use"),
        ("blackout", '["12-20..12-32"]', "write month and day"),
        ("daily_restart", '"3"', "write hours and minutes"),
    ],
)
def test_a_calendar_that_cannot_be_read_is_refused_with_a_remedy(key: str, value: str, remedy: str) -> None:
    error = refused(GOOD + f"[window]\nspread_s = 60\n{key} = {value}\n")
    assert (error.code, error.facts["key"], error.facts["line"]) == ("config_bad_value", f"window.{key}", 14)
    assert remedy in error.detail and "posagent.toml:14:" in error.detail


def test_zones_of_the_systems_data_are_known() -> None:
    for name in ("UTC", "Europe/Berlin", "Asia/Shanghai"):
        assert parse(GOOD + f'[window]\ntime_zone = "{name}"\n').window.time_zone == name


def test_what_is_not_toml_is_refused() -> None:
    assert refused("[terminal").code == "config_unreadable"


@given(st.text(max_size=200))
def test_no_text_crashes_the_reader(text: str) -> None:
    with pytest.raises(ConfigError):
        parse(text)


DATA = """\
[data]
format = 1
sources = ["ledger.db"]
[data.ledger]
kind = "sqlite"
path = "ledger.db"
query = "SELECT 1"
[[data.counters]]
name = "stan"
path = "counters/stan"
"""


@pytest.mark.parametrize(
    ("right", "wrong", "key"),
    [
        ('path = "ledger.db"', 'path = "../ledger.db"', "data.ledger.path"),
        ('path = "ledger.db"', 'path = ""', "data.ledger.path"),
        ('query = "SELECT 1"', 'query = ""', "data.ledger.query"),
        ('"counters/stan"', '"/etc/stan"', "data.counters[0].path"),
        ('"counters/stan"', '"counters//stan"', "data.counters[0].path"),
        ('"counters/stan"', '"stan"\nread = "SELECT 1"', "data.counters[0].write"),
        ('"counters/stan"', '"stan"\n[[data.counters]]\nname = "stan"\npath = "other"', "data.counters"),
        ('["ledger.db"]', '["."]', "data.sources[0]"),
        ("format = 1", 'format = 1\nroot_dir = "data"', "data.root_dir"),
        ("format = 1", 'format = 1\nlink = "/var/lib/posagent-data/current"', "data.link"),
        ("format = 1", 'format = 1\nkey = "pkcs11"', "data.pkcs11_module"),
        ("format = 1", "format = 1\nbackup_keep_h = 0", "data.backup_keep_h"),
    ],
)
def test_what_is_said_of_the_data_is_enough_and_stays_inside_it(right: str, wrong: str, key: str) -> None:
    assert parse(GOOD + DATA).data.ledger.kind == "sqlite"
    assert refused(GOOD + DATA.replace(right, wrong, 1)).facts["key"] == key


def test_a_terminal_without_data_needs_to_say_nothing_of_it() -> None:
    assert parse(GOOD).data.format == 0
