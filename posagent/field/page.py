"""The visit report as a page to print: one HTML file that needs nothing else, every label in English and Chinese.

Rules: whatever comes from terminals or file names is escaped; no script, no link, nothing from outside.
"""

from __future__ import annotations

import hashlib
import html
import time
from collections.abc import Iterable, Mapping
from typing import Any

from posagent.field.diary import GOOD
from posagent.field.signing import Signed
from posagent.field.words import WORDS, word

_STYLE = """
@page { size: A4; margin: 14mm }
body { font: 10pt/1.35 "Noto Sans", "Helvetica Neue", Arial, "Noto Sans CJK SC", "Microsoft YaHei", sans-serif;
       color: #111; max-width: 190mm; margin: 1em auto; padding: 0 1em }
h1 { font-size: 16pt; margin: 0 0 .4em } h2 { font-size: 11.5pt; margin: 1.2em 0 .3em }
table { border-collapse: collapse; width: 100% } th, td { text-align: left; vertical-align: top; padding: .2em .5em }
th { font-weight: 600; border-bottom: 1.5px solid #111 } td { border-bottom: 1px solid #ccc }
.facts th { width: 30%; border-bottom: 1px solid #ccc; font-weight: 400; color: #444 }
.well { color: #17662e } .ill { color: #a4161a; font-weight: 600 }
.mono { font-family: ui-monospace, Consolas, monospace; font-size: 8.5pt; overflow-wrap: anywhere }
section { break-inside: avoid } thead { display: table-header-group }
.sign { margin-top: 2.5em; border-top: 1px solid #111; width: 60%; color: #444 }
"""


def of(report: Mapping[str, Any], data: bytes, signed: Signed | None) -> str:
    """The page. `data` are the bytes that are signed; `signed` who did, None for nobody."""
    terminals = report["terminals"]
    parts = [
        "<!doctype html><html lang='en'><head><meta charset='utf-8'>",
        f"<title>{_both('report')}</title><style>{_STYLE}</style></head><body>",
        f"<h1>{_both('report')}</h1>",
        _facts(_head(report)),
        _overview(terminals),
        *map(_terminal, terminals),
        f"<h2>{_both('digest')}</h2>",
        f"<p class='mono'>{hashlib.sha256(data).hexdigest()}</p>",
        f"<p>{_signed(signed)}</p><p class='sign'>{_both('signature_line')}</p></body></html>",
    ]
    return "\n".join(parts) + "\n"


def _both(name: str) -> str:
    english, chinese = WORDS[name]
    return html.escape(f"{english} / {chinese}")


def _said(name: str, *values: object) -> str:
    return " / ".join(html.escape(text.format(*values)) for text in WORDS[name])


def _ending(name: str) -> str:
    both = html.escape(f"{word(name, 'en')} / {word(name, 'zh')}")
    return f"<span class='{'well' if name in GOOD else 'ill'}'>{both}</span>"


def _facts(rows: Iterable[tuple[str, str]]) -> str:
    lines = "".join(f"<tr><th>{_both(name)}</th><td>{value}</td></tr>" for name, value in rows)
    return f"<table class='facts'>{lines}</table>"


def _head(report: Mapping[str, Any]) -> Iterable[tuple[str, str]]:
    who, bundle = report["engineer"], report["bundle"]
    yield "engineer", html.escape(str(who["name"]))
    yield "certificate", html.escape(str(who["serial"]))
    yield "key", f"<span class='mono'>{html.escape(str(who['key']))}</span>"
    yield "begun", _moment(report["started_at"])
    yield "ended", f"{_moment(report['ended_at'])} ({_both('laptop_time')})"
    if bundle is None:
        yield "bundle", _both("repository")
    else:
        text = f"{bundle['file']}, {bundle['version']}, {bundle['bytes'] / 1e6:.1f} MB"
        yield "bundle", f"{html.escape(text)}<br><span class='mono'>{html.escape(str(bundle['sha256']))}</span>"


def _overview(terminals: Iterable[Mapping[str, Any]]) -> str:
    head = "".join(f"<th>{_both(name)}</th>" for name in ("terminal", "before", "after", "outcome", "support"))
    rows = "".join(
        "<tr>"
        + "".join(f"<td>{html.escape(str(one[key]))}</td>" for key in ("terminal", "before", "after"))
        + f"<td>{_ending(one['outcome'])}</td><td>{html.escape(one['support'].get('code', ''))}</td></tr>"
        for one in terminals
    )
    return f"<table><thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table>"


def _terminal(one: Mapping[str, Any]) -> str:
    return f"<section><h2>{html.escape(str(one['terminal']))}</h2>{_facts(_of_terminal(one))}</section>"


def _of_terminal(one: Mapping[str, Any]) -> Iterable[tuple[str, str]]:
    outcome = _ending(one["outcome"])
    if one["code"] not in ("", "ok"):
        outcome += html.escape(f" - {one['detail']} [{one['code']}]")
    yield "port", html.escape(", ".join(one["ports"]))
    yield "version", html.escape(f"{one['before'] or '?'} → {one['after'] or '?'}")
    yield "outcome", outcome
    yield "begun", _moment(one["started_at"])
    yield "ended", _moment(one["ended_at"])
    phases = [
        f"{word(phase['phase'], 'en')} {word(phase['phase'], 'zh')} {phase['seconds']}" for phase in one["phases"]
    ]
    yield "phases", html.escape(", ".join(phases))
    yield "bytes_sent", f"{one['bytes_sent'] / 1e6:.2f} MB"
    yield "bytes_refetched", f"{one['bytes_refetched'] / 1e6:.2f} MB"
    if one["pulled"]["times"]:
        yield "pulls", _said("times", one["pulled"]["times"], one["pulled"]["seconds"])
    yield "gates", _lines(f"{gate['reason']} / {gate['reason_zh']} ({gate['seconds']} s)" for gate in one["gates"])
    yield "problems", _lines(f"{problem['detail']} [{problem['code']}]" for problem in one["problems"])
    if one["support"]:
        yield "support", html.escape(" ".join(one["support"].values()))


def _lines(texts: Iterable[str]) -> str:
    return "<br>".join(map(html.escape, texts)) or _both("none")


def _moment(at_s: float | None) -> str:
    return "-" if at_s is None else time.strftime("%Y-%m-%d %H:%M:%S", time.gmtime(at_s))


def _signed(signed: Signed | None) -> str:
    if signed is None:
        return f"<span class='ill'>{_both('unsigned')}</span>"
    return f"{_said('signed_by', signed.by.name)} <span class='mono'>{html.escape(signed.by.fingerprint)}</span>"
