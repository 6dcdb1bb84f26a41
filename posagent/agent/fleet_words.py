"""What the fleet server is told of this terminal, and what people here are told of the server's gate."""

from __future__ import annotations

from collections.abc import Mapping

import posagent
from posagent.agent.engine import Engine

ATTRIBUTE_CHARACTERS_MAX = 128


def attributes_of(engine: Engine, hardware: str, revision: int) -> dict[str, str]:
    """What the server is told of this terminal, for groups and roll-outs."""
    seen, last = engine.observation, engine.situation.last_outcome or {}
    running = seen.slots[seen.booted] if seen is not None else None
    told = {
        "agent": posagent.__version__,
        "hardware": hardware,
        "hardware_revision": str(revision),
        "version": running.version if running is not None else "",
        "slot": seen.booted if seen is not None else "",
        "last_outcome": str(last.get("outcome", "")),
        "last_code": str(last.get("code", "")),
        "last_version": str(last.get("version", "")),
    }
    return {name: value[:ATTRIBUTE_CHARACTERS_MAX] for name, value in told.items() if value}


WORDS: Mapping[str, tuple[str, str]] = {
    "open": ("the fleet server lets it be installed", "车队服务器允许安装"),
    "asks": ("the fleet server waits for the merchant's consent to arrive", "等待商户同意送达车队服务器"),
    "window": ("the fleet's maintenance window is closed", "车队维护时段未开始"),
    "download": ("the fleet server lets it only be downloaded, so far", "车队服务器目前仅允许下载"),
}
REMEDY = ("It goes on by itself; `posagent cancel` ends it.", "将自动继续；posagent cancel 可取消。")
