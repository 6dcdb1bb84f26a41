"""What the configuration says of the fleet server."""

from __future__ import annotations

from dataclasses import dataclass

from posagent.tables import between


@dataclass(frozen=True, slots=True, kw_only=True)
class FleetConfig:
    """The fleet server, Eclipse hawkBit (docs/fleet.md); an empty `server_url` switches it off. The address ends with
    the tenant. The terminal is called `controller` there, or by its own id. It says who it is with a token of its own,
    with one for a whole gateway (files of one line), or with a certificate that a proxy in front checks. `poll_s`
    counts until the server has said how often it is to be asked. An update that was not the server's wish is reported
    as a version of the distribution set `distribution`, where that is set."""

    server_url: str = ""
    controller: str = ""
    target_token_file: str = ""
    gateway_token_file: str = ""
    certificate_file: str = ""
    certificate_key_file: str = ""
    poll_s: int = between(1, 604_800, 300)
    distribution: str = ""
