"""The campaign in pictures: when updates ran over the day's payments, foretold against real, energy left, waits.

One self-contained page: no network, pictures as SVG.
"""

from __future__ import annotations

import html
import io
import math
from collections.abc import Sequence
from pathlib import Path
from statistics import mean
from typing import Any

import matplotlib

matplotlib.use("svg")
import matplotlib.pyplot as plt
from matplotlib.figure import Figure

from posagent.sim.shops import SHOPS
from tests.days.battery import AGES
from tests.days.campaign import RESERVE_PERCENT, wall_of

PLANNED, FORCED, PAYMENTS = "#1f77b4", "#d62728", "#c8d4c0"
LINK_COLOURS = {
    "gprs": "#7f3b08",
    "edge": "#e08214",
    "3g": "#8073ac",
    "4g": "#2166ac",
    "wifi": "#1b7837",
    "lan": "#666666",
}
plt.rcParams.update({"font.size": 9, "axes.spines.top": False, "axes.spines.right": False, "svg.hashsalt": "days"})

Lives = Sequence[dict[str, Any]]


def _svg(figure: Figure) -> str:
    stream = io.StringIO()
    figure.savefig(stream, format="svg", bbox_inches="tight", metadata={"Date": None})
    plt.close(figure)
    text = stream.getvalue()
    return text[text.index("<svg") :]


def over_the_day(lives: Lives) -> str:
    """Outages over the payments of a mean day, for each kind of shop, from noon to noon."""
    figure, places = plt.subplots(2, 3, figsize=(12, 5.6), sharex=True)
    for place, shop in zip(places.flat, sorted(SHOPS), strict=True):
        week = SHOPS[shop]
        day = [mean(week[half::48]) for half in range(48)]
        shown = day[24:] + day[:24]
        place.bar(
            [half / 2 + 0.25 for half in range(48)], shown, width=0.5, color=PAYMENTS, label="payments a half hour"
        )
        counted = {PLANNED: [0] * 48, FORCED: [0] * 48}
        for one in lives:
            if one["role"]["shop"] != shop:
                continue
            wall = wall_of(one["role"])
            for begin_s, _, forced, _ in one["outages"]:
                local = wall.local(begin_s)
                counted[FORCED if forced else PLANNED][((local.hour - 12) % 24) * 2 + local.minute // 30] += 1
        twin = place.twinx()
        bottom = [0] * 48
        for colour, name in ((PLANNED, "outages planned"), (FORCED, "asked for at once, or deadline")):
            twin.bar([half / 2 + 0.25 for half in range(48)], counted[colour], 0.42, bottom, color=colour, label=name)
            bottom = [low + more for low, more in zip(bottom, counted[colour], strict=True)]
        twin.set_ylim(0, max(4, max(bottom) * 1.3))
        twin.yaxis.get_major_locator().set_params(integer=True)
        twin.spines["right"].set_visible(True)
        place.set_title(shop.replace("_", " "))
        place.set_xticks(range(0, 25, 3), [f"{(hour + 12) % 24:02}" for hour in range(0, 25, 3)])
        if place in places[:, 0]:
            place.set_ylabel("payments")
        if place in places[:, 2]:
            twin.set_ylabel("outages")
        handles = (*place.get_legend_handles_labels()[0], *twin.get_legend_handles_labels()[0])
        labels = (*place.get_legend_handles_labels()[1], *twin.get_legend_handles_labels()[1])
    figure.legend(handles, labels, loc="upper center", ncols=3, frameon=False, bbox_to_anchor=(0.5, 1.04))
    figure.supxlabel("local hour of the day, noon to noon")
    figure.tight_layout()
    return _svg(figure)


def foretold(lives: Lives) -> str:
    """Downloads foretold ten seconds after their start, and outages foretold when all was checked."""
    figure, (left, right) = plt.subplots(1, 2, figsize=(12, 4.6))
    outcomes = [outcome for one in lives for outcome in one["outcomes"] if outcome["estimates"]]
    for place, phase, title in (
        (left, "download", "download, foretold 10 s after its start"),
        (right, "outage", "outage, foretold before the installation"),
    ):
        low, high = math.inf, 0.0
        for kind, colour in LINK_COLOURS.items():
            told = [one["estimates"][phase] for one in outcomes if one["link"] == kind and phase in one["estimates"]]
            if not told:
                continue
            took, p50 = [one["took_s"] for one in told], [one["p50"] for one in told]
            up = [max(one["p90"] - one["p50"], 0) for one in told]
            place.errorbar(took, p50, yerr=[[0] * len(up), up], fmt="o", ms=3.5, lw=0.6, color=colour, label=kind)
            low, high = min(low, *took, *p50), max(high, *took, *p50)
        if high:
            place.plot([low, high], [low, high], color="black", lw=0.8)
        if phase == "download":
            place.set_xscale("log")
            place.set_yscale("log")
            place.legend(frameon=False)
        place.set_xlabel("seconds it took")
        place.set_ylabel("seconds foretold: p50 (dot) to p90 (line)")
        place.set_title(title)
    figure.tight_layout()
    return _svg(figure)


def energy(lives: Lives) -> str:
    """What is left in the battery when the update has ended."""
    figure, place = plt.subplots(figsize=(8, 3.6))
    for number, age in enumerate(AGES):
        ended = [o for one in lives for o in one["outcomes"] if o["battery"] == age and o["began_s"] is not None]
        for plugged, colour, shift in ((True, "#7fbf7b", -0.17), (False, FORCED, 0.17)):
            left = [one["percent"] for one in ended if one["plugged"] is plugged]
            spots = [number + shift + 0.1 * ((7 * at) % 11 - 5) / 5 for at in range(len(left))]
            label = ("on a charger" if plugged else "on battery") if number == 0 else None
            place.scatter(spots, left, s=12, color=colour, label=label, alpha=0.8)
    place.axhline(RESERVE_PERCENT, color="black", lw=0.8, ls="--")
    place.text(len(AGES) - 0.5, RESERVE_PERCENT + 1, "reserve", ha="right")
    place.set_xticks(range(len(AGES)), [f"{name.replace('_', ' ')}\n{age.full_wh} Wh" for name, age in AGES.items()])
    place.set_ylim(0, 104)
    place.set_ylabel("battery left at the end, %")
    place.legend(frameon=False, loc="center left")
    figure.tight_layout()
    return _svg(figure)


def waits(lives: Lives) -> str:
    """For how long `ready` waited for each gate."""
    hours: dict[str, float] = {}
    for one in lives:
        for name, value in one["waits"].items():
            hours[name] = hours.get(name, 0.0) + value / 3600
    figure, (left, right) = plt.subplots(1, 2, figsize=(12, 3.2))
    names = sorted(hours, key=lambda name: hours[name])
    left.barh(names, [hours[name] for name in names], color=PLANNED)
    left.set_xlabel("hours in which this gate was closed (several at once count each)")
    waited = [o["waited_s"] / 3600 for one in lives for o in one["outcomes"] if o["began_s"] is not None]
    right.hist(waited, bins=[3 * step for step in range(2 + int(max(waited, default=1) / 3))], color=PLANNED)
    right.set_xlabel("hours from the request to the installation")
    right.set_ylabel("updates")
    figure.tight_layout()
    return _svg(figure)


def _row(cells: Sequence[object], tag: str = "td") -> str:
    return "<tr>" + "".join(f"<{tag}>{html.escape(str(one))}</{tag}>" for one in cells) + "</tr>"


def _percent(value: float | None) -> str:
    return "" if value is None else f"{100 * value:.1f} %"


def _estimates(found: dict[str, Any]) -> str:
    told = found["estimate"]
    rows = [(f"download, {kind}", one) for kind, one in told["links"].items()]
    rows += [("download, all", told), ("installation", told["install"]), ("outage", told["outage"])]
    lines = [_row(("foretold", "how many", "median error", "within p50", "within p90"), "th")]
    for name, one in rows:
        shares = (_percent(one.get(key)) for key in ("median_error", "within_p50", "within_p90"))
        lines.append(_row((name, one["count"], *shares)))
    return f"<table>{''.join(lines)}</table>"


HEADLINES = (
    ("terminal_days", "terminal-days"),
    ("updates", "updates"),
    ("payments", "payments"),
    ("gate_violations", "starts with a closed gate"),
    ("payments_interrupted", "payments interrupted"),
    ("window_overruns", "starts whose p90 passes the window's end"),
    ("ends_after_window", "updates that really ended after it"),
    ("reboots_per_24h_max", "restarts a day, at most"),
    ("energy_left_percent_min", "lowest battery at the end, %"),
    ("customers_turned_away_by_updates", "customers turned away by updates"),
)
STYLE = """body{font:15px/1.5 system-ui,sans-serif;max-width:1100px;margin:2em auto;padding:0 1em;color:#222}
h1{font-size:1.5em}h2{font-size:1.15em;margin-top:2em}svg{max-width:100%;height:auto}
table{border-collapse:collapse}td,th{padding:.2em .9em .2em 0;text-align:left;border-bottom:1px solid #ddd}
.figures{display:flex;flex-wrap:wrap;gap:.6em 2em}.figures b{font-size:1.5em;display:block}"""


def page(found: dict[str, Any], lives: Lives) -> str:
    figures = "".join(f"<div><b>{html.escape(str(found[key]))}</b>{name}</div>" for key, name in HEADLINES)
    planned = found["outages"].get("planned", {})
    more = found["days_with_more_because_of"]
    excused = ", ".join(f"{count} {why}" for why, count in more.items()) or "none"
    return f"""<!doctype html><html lang="en"><meta charset="utf-8"><title>posagent: simulated days</title>
<style>{STYLE}</style><h1>posagent: {found["terminal_days"]:.0f} terminal-days in shops</h1>
<p>The real agent, installer and fetcher in virtual time, on a simulated medium, battery, link and shop
(<code>make sim-days</code>, seed {found["seed"]}, {found["seconds"]:.0f} s). A judge with rules of its own looks at
every start.</p><div class="figures">{figures}</div>
<h2>When updates ran, over the day's payments</h2>{over_the_day(lives)}
<p>Of {planned.get("count", 0)} planned outages {_percent(planned.get("in_quietest_half_hours"))} were in one of the
day's quietest half hours; together they cost {planned.get("payments_expected")} payments where a random moment would
have cost {planned.get("payments_expected_at_random")}.</p>
<h2>Foretold, and what it took</h2>{foretold(lives)}{_estimates(found)}
<h2>Energy left at the end</h2>{energy(lives)}
<h2>Waiting</h2>{waits(lives)}
<h2>Restarts</h2><p>Days (noon to noon) by restarts: {html.escape(str(found["days_by_reboots"]))}. More than one because
of: {html.escape(excused)}.</p></html>
"""


def write(found: dict[str, Any], lives: Lives, path: Path) -> None:
    path.write_text(page(found, lives), encoding="utf-8")
