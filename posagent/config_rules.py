"""Rules of single tables of the configuration: whether the calendar's texts can be understood, whether what is said of
the merchant's data is enough and stays inside it."""

from __future__ import annotations

from collections.abc import Iterable

from posagent.config_data import DataConfig
from posagent.core import hours
from posagent.platform.zone import zone_of
from posagent.tables import Reader


def check_calendar(
    reader: Reader, install: Iterable[str], blackout: Iterable[str], daily_restart: str, time_zone: str
) -> None:
    """Of `[window]`. Raises ConfigError `config_bad_value` for the first text that is not understood."""
    for key, texts, parse_one in (
        ("install", install, hours.parse_window),
        ("blackout", blackout, hours.parse_blackout),
        ("daily_restart", [daily_restart] if daily_restart else [], hours.parse_daily),
        ("time_zone", [time_zone], zone_of),
    ):
        for text in texts:
            try:
                parse_one(text)
            except ValueError as error:
                raise reader.complain("config_bad_value", f"window.{key}", str(error)) from None


def check_data(reader: Reader, data: DataConfig) -> None:
    """Of `[data]`. Raises ConfigError."""
    if not data.format:
        return
    for key, path in (("root_dir", data.root_dir), ("link", data.link), ("steps_dir", data.steps_dir)):
        if not path.startswith("/") or path.endswith("/"):
            raise reader.complain("config_bad_value", f"data.{key}", "must be an absolute path")
    if data.link.startswith(f"{data.root_dir}/"):
        raise reader.complain("config_bad_value", "data.link", "must not be in root_dir: it has to vanish at a restart")
    inside = [(f"data.sources[{at}]", path) for at, path in enumerate(data.sources)]
    if data.ledger.kind != "none":
        inside.append(("data.ledger.path", data.ledger.path))
    if data.ledger.kind == "sqlite" and not data.ledger.query:
        raise reader.complain("config_missing_key", "data.ledger.query", "needed for sqlite")
    for at, counter in enumerate(data.counters):
        inside.append((f"data.counters[{at}].path", counter.path))
        if bool(counter.read) != bool(counter.write):
            raise reader.complain("config_missing_key", f"data.counters[{at}].write", "read and write go together")
    if len({counter.name for counter in data.counters}) < len(data.counters):
        raise reader.complain("config_bad_value", "data.counters", "two have the same name")
    for key, path in inside:
        if not path or path.startswith("/") or {"", ".", ".."} & set(path.split("/")):
            raise reader.complain("config_bad_value", key, "must be a path inside the data directory")
    if data.key == "pkcs11":
        for key in ("pkcs11_module", "pkcs11_token", "pkcs11_key", "pkcs11_pin_file"):
            if not getattr(data, key):
                raise reader.complain("config_missing_key", f"data.{key}", "needed for pkcs11")
