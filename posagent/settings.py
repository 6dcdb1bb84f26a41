"""What the configuration means in the words of core: limits, energy, the calendar."""

from __future__ import annotations

from collections.abc import Callable

from posagent.config import Config
from posagent.core import hours
from posagent.core.energy import EnergyLimits
from posagent.core.hours import Calendar, Zone
from posagent.core.model import Limits


def limits_of(config: Config) -> Limits:
    return Limits(
        fetch_attempts_max=config.fetch.attempts_max,
        install_attempts_max=config.install.attempts_max,
        selftest_attempts_max=config.selftest.attempts_max,
        fetch_backoff_s=config.fetch.backoff_s,
        fetch_backoff_s_max=config.fetch.backoff_s_max,
        install_backoff_s=config.install.backoff_s,
        gate_recheck_s=config.install.gate_recheck_s,
        reboot_timeout_s=config.boot.reboot_timeout_s,
    )


def power_limits_of(config: Config) -> EnergyLimits:
    power = config.power
    return EnergyLimits(
        battery_required=power.battery == "required",
        download_percent_min=power.download_battery_percent_min,
        install_percent_min=power.install_battery_percent_min,
        install_on_charger_percent_min=power.install_on_charger_battery_percent_min,
        install_needs_charger=power.install_needs_charger,
        charger_may_carry=power.charger_may_carry,
        install_power_w=power.install_power_mw / 1000,
        margin=power.energy_margin_percent / 100,
        reserve_percent=power.battery_reserve_percent,
        capacity_wh_default=power.battery_capacity_mwh / 1000,
        temperature_c_min=power.battery_temperature_c_min,
        temperature_c_max=power.battery_temperature_c_max,
        hysteresis_percent=power.battery_hysteresis_percent,
        charge_percent_per_h_default=power.charge_percent_per_h,
    )


def calendar_of(config: Config, zone_of: Callable[[str], Zone]) -> tuple[Calendar | None, Zone]:
    """When updates may be installed, None for at any time; and the zone."""
    window = config.window
    zone = zone_of(window.time_zone)
    if not window.counts:
        return None, zone
    calendar = hours.calendar(
        zone,
        install=window.install,
        blackout=window.blackout,
        daily_restart=window.daily_restart,
        spread_s=float(window.spread_s),
    )
    return calendar, zone
