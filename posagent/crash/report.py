"""An exploration for people: a map of all cuts of one update, what a cut leads to in a table, a page with everything.

Rules: everything shown is derived from the JSON that campaign.write makes; a cut that was not explored, and a violation
that belongs to no cut of the run without cuts, are shown as such and never left out. The pictures stand alone, carry
their meaning in words, and differ in pattern as well as in colour.
"""

from __future__ import annotations

import html as markup
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import Any

from posagent.crash.explorer import REBOOTS
from posagent.crash.stage import INSTALLER_DIR, SPOOL_DIR, STATE_DIR

BEGIN, END = "<!-- generated: crash table -->", "<!-- end -->"
UNEXPLORED = "not explored"
"""Of cuts that the exploration had no time for."""
STAGES = ("bootloader", "agent starts", *"idle download verify ready install activate selftest commit rollback".split())
ENVIRONMENT, SLOT, OTHER = "boot environment", "slot", "other files"
DEVICES = ("journal", "spool", "slot records and floor", "trust record", SLOT, ENVIRONMENT)
PAGE_SCENARIOS = {
    "good": "a good new version",
    "test-fails": "a new version whose self-test fails",
    "panic": "a new version whose kernel panics",
}
_PLACES = (
    (SPOOL_DIR, "spool"),
    (f"{INSTALLER_DIR}/trust", "trust record"),
    (INSTALLER_DIR, "slot records and floor"),
    (STATE_DIR, "journal"),
)
_FIRST_CUT = re.compile(r"'cut=(\d+) choices=[-0.]+[ ']")
"""The first cut of a path, where it is one of the run whose operations are shown: all its choices are the first."""


@dataclass(frozen=True, slots=True)
class _Cut:
    """A cut before one operation; `ends` are the outcomes that may follow, each with the boots until then."""

    number: int
    operation: str
    stage: str
    ends: frozenset[tuple[str, int]]
    violations: tuple[str, ...]

    @property
    def kind(self) -> str:
        """One of KINDS."""
        outcomes = {kinds for kinds, _ in self.ends}
        if self.violations or not outcomes:
            return "violation" if self.violations else "unexplored"
        last = outcomes.pop().rpartition(", ")[2]
        return "mixed" if outcomes else last if last in KINDS else "other"


def device(operation: str) -> str:
    """What an operation touches: one of DEVICES, or OTHER."""
    word, _, rest = operation.partition(" ")
    path = rest.partition(" ")[0]
    if word in ("env", "pwrite", "flush"):
        return ENVIRONMENT if word == "env" else SLOT
    if path and STATE_DIR.startswith(path + "/"):
        return "journal"  # directories above it are made for its sake
    return next((name for place, name in _PLACES if path == place or path.startswith(place + "/")), OTHER)


def _cuts(scenario: Mapping[str, Any]) -> list[_Cut]:
    violations: dict[int, list[str]] = {}
    for found in scenario["found"]:
        if at := _FIRST_CUT.search(found["replay"]):
            violations.setdefault(int(at[1]), []).append(f"{found['oracle']}: {found['detail']}")
    cuts = []
    for number, one in enumerate(scenario["coverage"], 1):
        ends = frozenset((str(end["outcomes"]), int(end["boots"])) for end in one["after"])
        cuts.append(_Cut(number, one["operation"], one["stage"], ends, tuple(violations.get(number, ()))))
    return cuts


def _phrase(cuts: Sequence[_Cut]) -> str:
    """What happens after these cuts, in a few words."""
    oracles = sorted({text.partition(":")[0] for cut in cuts for text in cut.violations})
    words = [f"VIOLATION of {', '.join(oracles)}"] if oracles else []
    for kinds, some in groupby(sorted({end for cut in cuts for end in cut.ends}), key=lambda end: end[0]):
        boots = [count for _, count in some]
        outcome = "no outcome" if kinds == "none" else kinds.replace("_", " ").replace(", ", ", then ")
        times = f"{boots[0]}–{boots[-1]}" if boots[0] < boots[-1] else str(boots[0])
        words.append(f"{outcome} ({times} boot{'s' * (times != '1')})")
    if any(cut.kind == "unexplored" for cut in cuts):
        words.append(f"some {UNEXPLORED}" if words else UNEXPLORED)
    return "; ".join(words)


def _unplaced(scenario: Mapping[str, Any]) -> int:
    """How many violations belong to none of the cuts that are shown."""
    return int(scenario["violations"]) - sum(len(cut.violations) for cut in _cuts(scenario))


# the table


def table(scenario: Mapping[str, Any]) -> str:
    """Markdown: the stage at the cut, what the operation would have touched, and what happens then."""
    places: dict[tuple[str, str], list[_Cut]] = {}
    for cut in _cuts(scenario):
        places.setdefault((cut.stage, device(cut.operation)), []).append(cut)
    cells = {place: _phrase(cuts) for place, cuts in places.items()}
    columns = [*DEVICES, *([OTHER] if any(name == OTHER for _, name in cells) else [])]
    stages = sorted({stage for stage, _ in cells}, key=lambda one: ([*STAGES, one].index(one), one))
    lines = [_row(["cut while in", *(f"before {name}" for name in columns)]), "|---" * (len(columns) + 1) + "|"]
    lines += [_row([stage, *(cells.get((stage, name), "-") for name in columns)]) for stage in stages]
    if missing := _unplaced(scenario):
        lines += ["", f"**{missing} violations are not in this table.**"]
    return "\n".join(lines) + "\n"


def _row(cells: Iterable[str]) -> str:
    return "| " + " | ".join(markup.escape(cell, quote=False).replace("|", "\\|") for cell in cells) + " |"


def page(old: str, result: Mapping[str, Any]) -> str:
    """The text with its generated block made anew. Raises ValueError where it has none or there is nothing to show."""
    before, begins, rest = old.partition(BEGIN)
    _, ends, after = rest.partition(END)
    tables: dict[tuple[str, str], list[str]] = {}
    for scenario in PAGE_SCENARIOS:
        for name, one in result["scenarios"].items():
            if name.startswith(f"{scenario}/"):
                tables.setdefault((scenario, table(one)), []).append(f"`{name.partition('/')[2]}`")
    if not begins or not ends or not tables:
        raise ValueError(f"needs {BEGIN}, {END}, and a run of {', '.join(PAGE_SCENARIOS)}")
    blocks = [
        f"### `{scenario}`: {PAGE_SCENARIOS[scenario]} (on {', '.join(profiles)})\n\n{text}"
        for (scenario, text), profiles in tables.items()
    ]
    return f"{before}{BEGIN}\n\n" + "\n".join(blocks) + f"\n{END}{after}"


# the map

KINDS: Mapping[str, tuple[str, str, str]] = {
    "committed": ("#7fc08f", "", "the new version is committed"),
    "rolled_back": ("#c05a00", "M-1,1 l2,-2 M0,6 l6,-6 M5,7 l2,-2", "rolled back: the old version runs on"),
    "failed": ("#6a3d9a", "M0,0 l6,6 M0,6 l6,-6", "failed: the old version runs on"),
    "cancelled": ("#555", "M1,3 h2 M4,6 h2 M4,0 h2", "cancelled by the operator"),
    "mixed": ("#1f5fa8", "M0,1.5 h6 M0,4.5 h6", "more than one of these ends is possible"),
    "violation": ("#000", "", "VIOLATION of a rule"),
    "other": ("#1f5fa8", "M3,0 v6", "no outcome"),
    "unexplored": ("#999", "M0,0", "not explored"),
}
"""Colour, pattern (solid where it is empty), words."""
ALWAYS = ("committed", "rolled_back", "failed", "mixed", "violation")
DATA = "data partition"
LANES = {DATA: "M-2.5,-2.5 h5 v5 h-5 z", SLOT: "M0,-3.5 L3.5,3 H-3.5 z", ENVIRONMENT: "M0,-4 L4,0 L0,4 L-4,0 z"}
"""What an operation may touch, with its mark."""
WIDTH, HEAD, FOOT, LEFT = 1010, 62, 142, 112
PITCH, BAR, GAP, LANE, HIGH, LABEL = 9, 7, 9, 13, 66, 92
ROW = LABEL + HIGH + LANE * 3 + 34
STYLE = """text{font:11px sans-serif;fill:#111}.small{font-size:9px}.head{font:bold 15px sans-serif}
.alarm{font-weight:bold}.cut rect{stroke-width:.8}.hit{fill:#fff;opacity:0}.cut:hover .hit{fill:#f5d000;opacity:.35}
.band{fill:#f1f1f1;stroke:#bbb;stroke-width:.5}"""
INTRO = "Each column is one of {} storage operations of an update, in order: what a power cut before it leads to."
NOTES = (
    "Height: boots (passes through the bootloader) from the return of power until nothing moves any more,",
    "that of the trial included. Filled: needed whatever the cut left of unflushed data; outlined: for some of it.",
    "Several updates in one run: the pattern is that of the last. Marks below: what the operation changes.",
    f"At the end of the run the terminal is started {REBOOTS} more times, which must move nothing.",
)
_NOT_XML = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


def _text(value: object) -> str:
    return markup.escape(_NOT_XML.sub("?", str(value)))


def coverage_svg(scenario: Mapping[str, Any], name: str = "") -> str:
    """One update as a picture; `name` is shown, and keeps pictures on one page apart."""
    cuts, prefix = _cuts(scenario), "k" + re.sub(r"[^A-Za-z0-9-]", "-", name)
    most = max([3, *(count for cut in cuts for _, count in cut.ends)])
    rows = _packed([list(some) for _, some in groupby(cuts, key=lambda cut: cut.stage)])
    foot = HEAD + len(rows) * ROW
    title = f"What a power cut does to this update{': ' * bool(name)}{_text(name)}"
    size = f'width="{WIDTH}" height="{foot + FOOT}"'
    parts = (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {foot + FOOT}" {size} role="img">',
        f"<title>{title}</title><style>{STYLE}</style>",
        f'<rect {size} fill="#fff"/>{_label(8, 20, title, "head")}',
        _label(8, 38, INTRO.format(len(cuts)), "") + _label(8, 54, _verdict(scenario, cuts), "alarm"),
        *(piece for at, row in enumerate(rows) for piece in _drawn(row, HEAD + at * ROW, most, prefix)),
        *_legend(sorted({*ALWAYS, *(cut.kind for cut in cuts)}, key=list(KINDS).index), foot, prefix),
        "</svg>\n",
    )
    return "\n".join(parts)


def _label(x: float, y: float, markup_text: str, style: str = "small", more: str = "") -> str:
    return f'<text class="{style}" x="{x:g}" y="{y:g}"{more}>{markup_text}</text>'


def _verdict(scenario: Mapping[str, Any], cuts: Iterable[_Cut]) -> str:
    count, missing = scenario["violations"], sum(cut.kind == "unexplored" for cut in cuts)
    found = f"{count} violations, {_unplaced(scenario)} of them at no cut shown." if count else "No violation found."
    return found + f" {missing} cuts were not explored." * bool(missing)


def _packed(groups: list[list[_Cut]]) -> list[list[list[_Cut]]]:
    """Groups in rows that fit the width; one that is longer than a row is continued."""
    room = (WIDTH - LEFT - GAP) // PITCH
    rows: list[list[list[_Cut]]] = []
    used = WIDTH
    for piece in (group[at : at + room] for group in groups for at in range(0, len(group), room)):
        width = len(piece) * PITCH + GAP
        if LEFT + used + width > WIDTH:
            rows.append([])
            used = 0
        rows[-1].append(piece)
        used += width
    return rows


def _drawn(row: list[list[_Cut]], top: int, most: int, prefix: str) -> Iterator[str]:
    floor, x = top + LABEL + HIGH, LEFT
    yield _label(8, floor - HIGH + 4, "boots needed")
    for count in range(1, most + 1, -(-most // 6)):
        yield _label(LEFT - 12, round(floor - HIGH * count / most + 3, 1), str(count), more=' text-anchor="end"')
    for at, lane in enumerate([*LANES, "operation number"], 1):
        yield _label(8, floor + LANE * at + 3, lane)
    for group in row:
        yield from _band(group, x, top, floor)
        for at, cut in enumerate(group):
            yield from _column(cut, x + at * PITCH, floor, most, prefix)
        x += len(group) * PITCH + GAP


def _band(group: list[_Cut], x: int, top: int, floor: int) -> Iterator[str]:
    width, stage, high = len(group) * PITCH, group[0].stage, LABEL + HIGH + LANE * 3
    yield f'<rect class="band" x="{x - 2}" y="{top + 6}" width="{width + 2}" height="{high}"/>'
    turned = f' transform="translate({x + width / 2 + 3:g},{floor - HIGH - 14}) rotate(-90)"'
    yield (
        _label(0, 0, _text(stage), "", turned) if width < len(stage) * 7 else _label(x + 2, top + 20, _text(stage), "")
    )
    yield _label(x, top + high + 16, str(group[0].number))


def _column(cut: _Cut, x: int, floor: int, most: int, prefix: str) -> Iterator[str]:
    boots, colour, touched = sorted(count for _, count in cut.ends), KINDS[cut.kind][0], device(cut.operation)
    says = f"{cut.number}. {cut.stage}: {cut.operation} ({touched}): {_phrase([cut])}"
    yield f'<g class="cut"><title>{_text(". ".join([says, *cut.violations]))}</title>'
    full = boots[-1] if boots else most
    sure = full if cut.violations else boots[0] if boots else 0
    dashes = ' stroke-dasharray="1.5"' * (cut.kind == "unexplored")
    for count, fill in {full: "#fff", sure: f"url(#{prefix}-{cut.kind})"}.items():
        high = HIGH * count / most
        place = f'x="{x}" y="{floor - high:.1f}" width="{BAR}" height="{high:.1f}"'
        yield f'<rect {place} fill="{fill}" stroke="{colour}"{dashes}/>'
    if cut.violations:
        yield _label(x + 1, floor - HIGH - 1, "!", "alarm")
    lane = list(LANES).index(touched if touched in LANES else DATA)
    yield f'<path transform="translate({x + BAR / 2},{floor + LANE * (lane + 1)})" d="{[*LANES.values()][lane]}"/>'
    yield f'<rect class="hit" x="{x - 1}" y="{floor - HIGH}" width="{PITCH}" height="{HIGH + LANE * 3 + 6}"/></g>'


def _legend(kinds: Sequence[str], top: int, prefix: str) -> Iterator[str]:
    for at, kind in enumerate(kinds):
        x, y, (colour, path, words) = 8 + at % 3 * 330, top + 12 + at // 3 * 18, KINDS[kind]
        line = f'<path d="{path}" stroke="{colour}" stroke-width="1.4"/>' * bool(path)
        yield f'<pattern id="{prefix}-{kind}" width="6" height="6" patternUnits="userSpaceOnUse">'
        yield f'<rect width="6" height="6" fill="{"#fff" if path else colour}"/>{line}</pattern>'
        fill = f'fill="url(#{prefix}-{kind})" stroke="{colour}"'
        yield f'<rect x="{x}" y="{y - 10}" width="18" height="12" {fill}/>{_label(x + 24, y, words, "")}'
    for at, line in enumerate(NOTES):
        yield _label(8, top + 72 + at * 15, line, "")


# the page for a browser

TITLE = "Power cuts, explored"
_COLUMNS = "operations cut_points executions states cuts_deep fixpoint violations seconds".split()
_CSS = """body{font:15px/1.45 sans-serif;max-width:1040px;margin:2em auto;padding:0 1em}table{border-collapse:collapse}
td,th{border-bottom:1px solid #ccc;padding:.2em .7em;text-align:right}td:first-child,th:first-child{text-align:left}
svg{max-width:100%;height:auto}summary{cursor:pointer;margin:.6em 0}.bad{font-weight:bold;background:#fdd}"""


def html(result: Mapping[str, Any]) -> str:
    """Totals, all scenarios, violations, a map of each scenario: one page that needs nothing else."""
    scenarios = result["scenarios"]
    parts = (
        f'<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8"><title>{TITLE}</title>',
        f"<style>{_CSS}</style></head><body><h1>{TITLE}</h1>\n<table>",
        *(_cells([key.replace("_", " "), value]) for key, value in result["totals"].items()),
        "</table>\n<h2>Scenarios</h2>\n<table>",
        _cells(["scenario / device", *(key.replace("_", " ") for key in _COLUMNS)]),
        *(_cells([name, *map(one.get, _COLUMNS)], bad=one["violations"] > 0) for name, one in scenarios.items()),
        f"</table>\n<h2>Violations</h2>\n{_violations(scenarios)}\n<h2>Maps</h2>",
        *(
            f"<details><summary>{_text(at)}</summary>\n{coverage_svg(one, at)}</details>"
            for at, one in scenarios.items()
        ),
        "</body></html>\n",
    )
    return "\n".join(parts)


def _cells(values: Iterable[object], *, bad: bool = False) -> str:
    shown = ({True: "yes", False: "no"}[one] if isinstance(one, bool) else _text(one) for one in values)
    return f"<tr{' class=bad' * bad}>{''.join(f'<td>{one}</td>' for one in shown)}</tr>"


def _violations(scenarios: Mapping[str, Mapping[str, Any]]) -> str:
    items = []
    for name, one in scenarios.items():
        for found in one["found"]:
            what = _text(f"{name}: {found['oracle']}: {found['detail']}")
            items.append(f"<li>{what}<br><code>{_text(found['replay'])}</code></li>")
    missing = sum(one["violations"] for one in scenarios.values()) - len(items)
    items += [f"<li>{missing} more, not kept.</li>"] * bool(missing)
    return f"<ul>{''.join(items)}</ul>" if items else "<p>None.</p>"


def write(result: Mapping[str, Any], out: Path) -> None:
    """crash.html, and power-loss.svg: the map of the good update, or of the first scenario there is."""
    scenarios = result["scenarios"]
    out.mkdir(parents=True, exist_ok=True)
    (out / "crash.html").write_text(html(result), encoding="utf-8")
    for chosen in sorted(scenarios, key=lambda name: not name.startswith("good/"))[:1]:
        (out / "power-loss.svg").write_text(coverage_svg(scenarios[chosen], chosen), encoding="utf-8")
