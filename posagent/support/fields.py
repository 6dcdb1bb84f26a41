"""Which fields may leave the terminal in a support bundle, by their names. What is not named here stays.

Rules: a name is added after thought: what can be in it, from whom, and what service does with it. Never: people
(`requested_by`, `consent_by`, `deferred_by`, a log's `user`), what commands are run with, all texts of the
configuration.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import fields, is_dataclass
from typing import Any

from posagent.core.redact import Redactor

ALLOWED = frozenset(
    """
    seq prev v event state at begins update failure measured progressed commands outcome snapshot ticket
    id source spool target previous version from_version length bytes_expected sha256 bundle kind refused streamed
    downloads bytes_fetched bytes_lost bytes_refetched digest image_size requested_at bytes_done bytes_total conditions
    not_after contents reason profile at_once consent_at deferred_until deferrals predicted took_s steps found armed
    armed_at tried goes_back boot_id power_cycles attempts outcomes measurements code detail cause stage checks log
    started_at restarted estimates name passed seconds deadline retry_after_s step
    terminal agent_version meaning critical expected_s booted slots tries_left estimate phases total outage p50 p90
    begins_at moved gates gate needed_for open remedy power battery_percent charging mains last_outcome problems help
    who text of why doing since_s ends_in phase order counter unconfirmed floor contradictions reset traceless
    battery_present battery_full battery_full_wh battery_design_wh cycles temperature_c voltage_v draw_w technology
    level timestamp slot verb worker pid check path line key port role signal records dropped limit tries cut title
    findings bytes
    entered_at waited s measures measure value record digests backup migrated parameters baseline bytes_large
    bytes_small action fleet heard_at failures letters sleep_s
    made_at versions agent python kernel system left_out redacted parts
    """.split()
)
BY_NAME = frozenset(
    "slots attempts phases measured measurements predicted took_s estimates profile versions redacted parts"
    " waited digests".split()
)
"""Fields with an object in which the names are values: of slots, phases, commands."""
TEXTS = frozenset(
    """id hardware device boot_name kind order_variable tries_variable cmdline_key reset_key channel repository_url
    mirrors battery application time_zone install blackout daily_restart name state_dir installer_dir run_dir spool_dir
    media_dir supply_dir root_file vendor_key_file ca_file os_release_file env_config root_dir link owner steps_dir
    sources excluded parameters_schema server_url controller distribution""".split()
)
"""Of the configuration. Numbers and switches go as they are, other texts stay."""
DEPTH_MAX = 12


def kept(value: Any, redactor: Redactor, by_name: bool = False, depth: int = 0) -> Any:
    """The JSON value with nothing but allowed fields; their texts and numbers redacted."""
    if depth > DEPTH_MAX:
        return None
    if isinstance(value, Mapping):
        return {
            redactor.text(str(name)): kept(part, redactor, name in BY_NAME, depth + 1)
            for name, part in value.items()
            if by_name or name in ALLOWED
        }
    if isinstance(value, Sequence) and not isinstance(value, str | bytes):
        return [kept(part, redactor, by_name, depth + 1) for part in value]
    return plain(value, redactor)


def plain(value: Any, redactor: Redactor) -> Any:
    if isinstance(value, str):
        return redactor.text(value)
    if isinstance(value, bool) or value is None:
        return value
    return redactor.number(value) if isinstance(value, int | float) else None


def configured(config: Any, redactor: Redactor, path: str = "") -> dict[str, Any]:
    """`{"fetch.attempts_max": 20, …}` of a configuration: numbers, switches, and the texts named in TEXTS."""
    assert is_dataclass(config)
    found: dict[str, Any] = {}
    for field in fields(config):
        value, here = getattr(config, field.name), f"{path}{field.name}"
        if is_dataclass(value):
            found |= configured(value, redactor, f"{here}.")
        elif isinstance(value, tuple) and any(map(is_dataclass, value)):
            for number, one in enumerate(value):
                found |= configured(one, redactor, f"{here}.{number}.")
        elif isinstance(value, int) or field.name in TEXTS:
            parts = value if isinstance(value, tuple) else (value,)
            shown = [plain(part, redactor) for part in parts]
            found[here] = shown if isinstance(value, tuple) else shown[0]
    return found
