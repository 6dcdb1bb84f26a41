"""Draws what the terminals of the guide told hawkBit, as hawkBit has it: one line a terminal, each roll-out over time.

tests/fleet/test_guide.py goes through the guide and leaves the picture in build/; docs/ has one of them.
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

TOLD = "told.jsonl"
COLLECT = """
for n in 1 2 3 4; do
    for action in $(hawkbit GET "targets/shop-$n/actions?sort=id:ASC" | jq -r '.content[].id'); do
        name=$(hawkbit GET targets/shop-$n/actions/$action | jq -r .rolloutName)
        hawkbit GET "targets/shop-$n/actions/$action/status?sort=id:ASC&limit=100" |
            jq -c '{shop: "shop-'$n'", rollout: "'$name'", told: .content}'
    done
done >/tmp/guide/told.jsonl
"""
"""In the shell of the guide."""
KINDS: Mapping[str, tuple[str, str]] = {
    "finished": ("success", "#2a7f46"),
    "error": ("failure", "#b02a37"),
    "canceling": ("cancelled", "#9e9e9e"),
    "canceled": ("cancelled", "#9e9e9e"),
}
"""What hawkBit's words mean, and their colours; all others are an action under way."""
UNDER_WAY = ("under way", "#90caf9")
VERSIONS = {"two": "2.0.0", "three": "3.0.0", "four": "4.0.0"}


def draw(folder: Path, out: Path) -> None:
    """From what COLLECT has left in `folder`."""
    import matplotlib

    matplotlib.use("svg")
    from matplotlib import pyplot

    every: list[dict[str, Any]] = [json.loads(line) for line in (folder / TOLD).read_text().splitlines()]
    actions = [one for one in every if one["told"]]  # without those that a roll-out has not begun yet
    began = min(one["told"][0]["reportedAt"] for one in actions)
    shops = sorted({one["shop"] for one in actions}, reverse=True)
    with pyplot.rc_context({"svg.fonttype": "none", "svg.hashsalt": "posagent"}):
        figure, axes = pyplot.subplots(figsize=(9, 2.6))
        seen: dict[str, str] = {}
        for one in actions:
            row = shops.index(one["shop"])
            moments = [((status["reportedAt"] - began) / 1000, status["type"]) for status in one["told"]]
            for (at, kind), (until, _) in itertools.pairwise(moments):
                name, colour = KINDS.get(kind, UNDER_WAY)
                seen.setdefault(name, colour)
                axes.barh(row, until - at, left=at, height=0.5, color=colour)
            end, kind = moments[-1]
            name, colour = KINDS.get(kind, UNDER_WAY)
            seen.setdefault(name, colour)
            axes.plot(end, row, marker="X" if kind == "error" else "o", color=colour, markersize=9)
            axes.annotate(VERSIONS.get(one["rollout"], one["rollout"]), (moments[0][0], row + 0.3), fontsize=8)
        for name, colour in seen.items():
            axes.plot([], [], marker="s", linestyle="", color=colour, label=name)
        axes.set(yticks=range(len(shops)), yticklabels=shops, xlabel="seconds", ylim=(-0.6, len(shops) - 0.2))
        axes.legend(fontsize=7, loc="center left", bbox_to_anchor=(1, 0.5))
        figure.tight_layout()
        figure.savefig(out, metadata={"Date": None})
