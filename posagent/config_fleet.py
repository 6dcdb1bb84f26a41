"""What the configuration says of the fleet server."""

from __future__ import annotations

from dataclasses import dataclass

from posagent.tables import between, one_of


@dataclass(frozen=True, slots=True, kw_only=True)
class FleetConfig:
    """The fleet (docs/fleet.md). With `kind = "hawkbit"` its server is Eclipse hawkBit; an empty `server_url` switches
    it off, else it ends with the tenant. With `kind = "repository"` there is no server: terminals follow the signed
    channel of `[fetch]`, and of the rest only `poll_s` and `metrics_url` mean anything. The terminal is called
    `controller` by the server, or by its own id. It says who it is with a token of its own, with one for a whole
    gateway (files of one line), or with a certificate that a proxy in front checks. `poll_s` counts until the server
    has said how often it is to be asked. An update that was not the server's wish is reported as a version of the
    distribution set `distribution`, where that is set. With each request figures go to `metrics_url`, in which
    `{terminal}` stands for the terminal's id; empty: none do."""

    kind: str = one_of("hawkbit", "repository", default="hawkbit")
    server_url: str = ""
    controller: str = ""
    target_token_file: str = ""
    gateway_token_file: str = ""
    certificate_file: str = ""
    certificate_key_file: str = ""
    poll_s: int = between(1, 604_800, 300)
    distribution: str = ""
    metrics_url: str = ""

    @property
    def is_on(self) -> bool:
        return bool(self.server_url) or self.kind == "repository"
