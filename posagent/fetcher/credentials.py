"""By what the fleet server knows this terminal: read from files each time, because they may be exchanged."""

from __future__ import annotations

from pathlib import Path

from posagent.config_fleet import FleetConfig
from posagent.core.errors import FetchError
from posagent.fetcher.http import Credentials

BYTES_MAX = 4096


def credentials_of(config: FleetConfig) -> Credentials | None:
    """None where there is no fleet server. Raises FetchError `fleet_credentials`, which says nothing of what is in the
    file."""
    if not config.server_url:
        return None
    header = ""
    for kind, path in (("TargetToken", config.target_token_file), ("GatewayToken", config.gateway_token_file)):
        if path:
            header = f"{kind} {_token(path)}"
    return Credentials(
        url=config.server_url,
        authorization=header,
        certificate_file=config.certificate_file,
        certificate_key_file=config.certificate_key_file,
    )


def _token(path: str) -> str:
    try:
        with Path(path).open("rb") as file:
            text = file.read(BYTES_MAX).decode("ascii").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise FetchError("fleet_credentials", f"{path}: {type(error).__name__}") from None
    if not text or not text.isprintable() or " " in text:
        raise FetchError("fleet_credentials", f"{path} must have one token")
    return text
