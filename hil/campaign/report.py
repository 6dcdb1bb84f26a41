"""A campaign for people and for machines: campaign.json, and campaign.html with plots.

`recover_s` is the time from the return of the power until the agent knows which slot runs and what it does next,
`sells_s` until a payment was acknowledged; both only for cuts that were not followed by another before that.
"""

from __future__ import annotations

import html
import io
import json
import statistics
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TextIO

import matplotlib
from matplotlib.figure import Figure

Lives = Sequence[Mapping[str, Any]]
ORDER = (
    "u-boot",
    "kernel",
    "idle",
    "download",
    "verify",
    "ready",
    "install",
    "activate",
    "selftest",
    "commit",
    "rollback",
)
COLOURS = {"committed": "#2a7f46", "rolled_back": "#c05a00", "wrong": "#000000"}
MARKS = {"committed": "o", "rolled_back": "s", "wrong": "X"}
OFFSETS = {"committed": -0.15, "rolled_back": 0.15, "wrong": 0.0}


def tell(lives: Lives, out: TextIO) -> None:
    """One line about the newest life."""
    last, fallen = lives[-1], sum(len(one["fired"]) for one in lives)
    found = "; ".join([*last["wrong"], *last["lost"]])
    verdict = f"WRONG: {found}\n    make hil-campaign LIFE='{last['plan']}'" if found else last["outcome"]["outcome"]
    out.write(
        f"{fallen:4d} cuts, {len(lives)} lives; {len(last['fired'])} cuts in {last['seconds']:.0f} s: {verdict}\n"
    )
    out.flush()


def summary(lives: Lives, *, seconds: float) -> dict[str, Any]:
    """What build/campaign.json holds."""
    fired = [one for life in lives for one in life["fired"]]
    recover = [one["recover_s"] for one in fired if one["recover_s"] is not None]
    sells = [one["sells_s"] for one in fired if one["sells_s"] is not None]
    return {
        "cuts": sum(len(life["plan"].split()) - 1 for life in lives),
        "fired": len(fired),
        "lives": list(lives),
        "unbootable": sum(life["unbootable"] for life in lives),
        "wrong_outcome": sum(bool(life["wrong"]) for life in lives),
        "data_lost": sum(bool(life["lost"]) for life in lives),
        "payments": sum(life["payments"] for life in lives),
        "by_phase": _by_phase(fired),
        "recover_s": spread(recover),
        "sells_s": spread(sells),
        "seconds": round(seconds, 1),
    }


def _by_phase(fired: Sequence[Mapping[str, Any]]) -> dict[str, int]:
    count = Counter(one["phase"] for one in fired)
    return {phase: count[phase] for phase in (*ORDER, *sorted(set(count) - set(ORDER))) if count[phase]}


def spread(values: Sequence[float]) -> dict[str, float]:
    """p50, p90 and max; nothing of nothing."""
    if len(values) < 2:
        return {name: value for name in ("p50", "p90", "max") for value in values}
    cut = statistics.quantiles(values, n=10, method="inclusive")
    return {"p50": round(cut[4], 1), "p90": round(cut[8], 1), "max": round(max(values), 1)}


def is_clean(result: Mapping[str, Any]) -> bool:
    bad = any(result.get(name) for name in ("unbootable", "wrong_outcome", "data_lost"))
    return not bad and not result.get("writes", {}).get("found")


def totals(result: Mapping[str, Any]) -> str:
    """A line for each figure."""
    return "\n".join(f"{key.replace('_', ' '):16} {_shown(value)}" for key, value in _plain(result).items())


def _plain(result: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in result.items() if key not in ("lives", "by_phase")}


def write(result: Mapping[str, Any], out: Path) -> None:
    out.mkdir(parents=True, exist_ok=True)
    (out / "campaign.json").write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    (out / "campaign.html").write_text(page(result), encoding="utf-8")


# plots


def _verdict(life: Mapping[str, Any]) -> str:
    return "wrong" if life["wrong"] or life["lost"] else str(life["outcome"]["outcome"])


def _svg(figure: Figure) -> str:
    """The picture as markup for a page; text stays text."""
    with matplotlib.rc_context({"svg.fonttype": "none", "svg.hashsalt": "posagent"}):
        buffer = io.StringIO()
        figure.savefig(buffer, format="svg", metadata={"Date": None})
    picture = buffer.getvalue()
    return picture[picture.index("<svg") :]


def _where(lives: Lives, phases: Sequence[str]) -> Figure:
    """Every cut: its phase, how far into it, and how the update of that life ended."""
    figure = Figure(figsize=(9, 0.5 * len(phases) + 2.0), layout="constrained")
    axes = figure.subplots()
    for verdict, colour in COLOURS.items():
        hit = [one for life in lives if _verdict(life) == verdict for one in life["fired"]]
        if hit:
            rows = [phases.index(one["phase"]) + OFFSETS[verdict] for one in hit]
            axes.scatter([one["into_s"] for one in hit], rows, s=22, c=colour, marker=MARKS[verdict], alpha=0.75)
            axes.scatter([], [], s=22, c=colour, marker=MARKS[verdict], label=verdict.replace("_", " "))
    axes.set(
        yticks=range(len(phases)), yticklabels=phases, xlabel="seconds into the phase", title="Where the cuts fell"
    )
    axes.invert_yaxis()
    axes.grid(axis="x", alpha=0.3)
    figure.legend(loc="outside lower center", ncols=len(COLOURS), title="the update then was")
    return figure


def _starts(fired: Sequence[Mapping[str, Any]], phases: Sequence[str]) -> Figure:
    """Passes through the boot loader from the return of the power to a decided state."""
    decided = [one for one in fired if one["recover_s"] is not None]
    most = max([1, *(one["starts"] for one in decided)])
    figure = Figure(figsize=(9, 3), layout="constrained")
    axes = figure.subplots()
    base = [0] * len(phases)
    for starts in range(1, most + 1):
        count = Counter(one["phase"] for one in decided if one["starts"] == starts)
        high = [count[phase] for phase in phases]
        axes.bar(phases, high, bottom=base, label=f"{starts}", hatch="" if starts == 1 else "/" * (starts - 1))
        base = [a + b for a, b in zip(base, high, strict=True)]
    axes.set(title="Boots needed after a cut, by the phase it fell into", ylabel="cuts")
    axes.legend(title="boots")
    axes.tick_params(axis="x", rotation=30)
    return figure


def _times(fired: Sequence[Mapping[str, Any]]) -> Figure:
    """Share of the cuts after which the terminal had recovered within so many seconds."""
    figure = Figure(figsize=(9, 3), layout="constrained")
    axes = figure.subplots()
    for name, words, line in (("recover_s", "knows what it does", "-"), ("sells_s", "took a payment", "--")):
        values = sorted(one[name] for one in fired if one[name] is not None)
        if values:
            axes.ecdf(values, label=words, linestyle=line)
    axes.set(title="After the power came back", xlabel="seconds", ylabel="share of cuts", xlim=(0, None))
    axes.grid(alpha=0.3)
    axes.legend(loc="lower right")
    return figure


# the page

CSS = """body{font:15px/1.45 sans-serif;max-width:960px;margin:2em auto;padding:0 1em}table{border-collapse:collapse}
td,th{border-bottom:1px solid #ccc;padding:.2em .7em;text-align:right}td:first-child,th:first-child{text-align:left}
svg{max-width:100%;height:auto}.bad{font-weight:bold;background:#fdd}"""
INTRO = """Virtual terminals (U-Boot, Linux, systemd and posagent in QEMU) whose power was cut again and again while
they updated themselves and took payments. The life of each went on until its update had ended; then the outcome, the
digest of the running slot and every acknowledged payment were checked."""


MEANING = {
    "cuts": "planned; one that would have come after the end of the update does not fall",
    "fired": "power cuts",
    "unbootable": "lives in which the agent did not come up again",
    "wrong_outcome": "lives that ended in another outcome, or another slot content, than they had to",
    "data_lost": "lives in which an acknowledged payment was gone",
    "payments": "acknowledged in all lives",
    "recover_s": "from the return of the power until the agent knows which slot runs and what it does next",
    "sells_s": "from the return of the power until a payment was acknowledged",
    "writes": "of one update to the card; it was examined, and started, as a cut between two of them leaves it",
    "outage_s": "longest time without a payment in an update without cuts",
    "bare_reboot_s": "the same for a restart of the same image",
    "update_s": "from the request to the commit",
    "idle": "the agent when nothing happens",
    "seconds": "wall time of the lives",
}


def page(result: Mapping[str, Any]) -> str:
    """A page that needs nothing else."""
    lives = result.get("lives", ())
    fired = [one for life in lives for one in life["fired"]]
    phases = list(result.get("by_phase", ()))
    parts = [
        '<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8"><title>Power cuts in QEMU</title>',
        f"<style>{CSS}</style></head><body><h1>Power cuts in QEMU</h1>\n<p>{INTRO}</p>\n<table>",
        *(_row([key.replace("_", " "), _shown(value), MEANING.get(key, "")]) for key, value in _plain(result).items()),
        "</table>\n<h2>Findings</h2>\n" + _findings(lives, result.get("writes", {}).get("found", ())),
    ]
    if fired:
        parts += [_svg(_where(lives, phases)), _svg(_starts(fired, phases)), _svg(_times(fired))]
        parts += ["<h2>By phase</h2>\n<table>", _row(["cut while in", "cuts", "recovered p50 s", "p90 s", "max s"])]
        parts += [_row([phase, result["by_phase"][phase], *_recovered(fired, phase)]) for phase in phases]
        parts += ["</table>\n"]
    return "\n".join([*parts, "</body></html>\n"])


def _recovered(fired: Sequence[Mapping[str, Any]], phase: str) -> list[object]:
    found = spread([one["recover_s"] for one in fired if one["phase"] == phase and one["recover_s"] is not None])
    return [found.get(name, "-") for name in ("p50", "p90", "max")]


def _shown(value: object) -> str:
    return (
        ", ".join(f"{key.replace('_', ' ')} {_shown(one)}" for key, one in value.items())
        if isinstance(value, Mapping)
        else str(value or 0)
    )


def _row(cells: Sequence[object]) -> str:
    return "<tr>" + "".join(f"<td>{html.escape(str(cell))}</td>" for cell in cells) + "</tr>"


def _findings(lives: Lives, moments: Sequence[str]) -> str:
    items = [f"<li>{html.escape(found)}</li>" for found in moments]
    for life in lives:
        for found in (*life["wrong"], *life["lost"]):
            again = html.escape(f"make hil-campaign LIFE='{life['plan']}'")
            items.append(f"<li>{html.escape(found)}<br><code>{again}</code></li>")
    return f'<ul class="bad">{"".join(items)}</ul>' if items else "<p>None.</p>"
