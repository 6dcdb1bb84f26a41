"""Texts for people, in English and Chinese: status, gates, progress, history, why. Used by the CLI and the console.

Rules: pure functions from the API's answers to lines; a line fits 80 columns where its content allows.
"""

from __future__ import annotations

import datetime
from collections.abc import Mapping
from typing import Any

from posagent import texts_selftest
from posagent.core.ladder import step_names
from posagent.core.manifest import REASONS
from posagent.texts_words import PHASES_ZH, WORDS

Answer = Mapping[str, Any]

_CAUSES = {"power": "power_loss", "unknown": "unknown_cause"}
_SLOT_STATES = {"booted": "running", "booted_trial": "on_trial"}


def language(setting: str) -> str:
    """ "zh" for a Chinese locale such as zh_CN.UTF-8, else "en"."""
    return "zh" if setting.lower().startswith("zh") else "en"


def say(name: str, lang: str, *values: object) -> str:
    """A text of the table, filled in."""
    return WORDS[name][lang == "zh"].format(*values)


def localized(answer: Answer, name: str, lang: str) -> str:
    """A text of an answer in the language, or in English where there is no other."""
    return str((lang == "zh" and answer.get(f"{name}_zh")) or answer.get(name, ""))


def duration(seconds: float, lang: str) -> str:
    """12 s, 3 min, 2 h."""
    units = (("s", "秒"), ("min", "分钟"), ("h", "小时"))
    for (english, chinese), size, limit in zip(units, (1, 60, 3600), (90, 5400, float("inf")), strict=True):
        if seconds < limit:
            return f"{max(round(seconds / size), 0)} {chinese if lang == 'zh' else english}"
    raise AssertionError("unreachable")


def slot_line(name: str, slot: Answer, lang: str) -> str:
    state = str(slot["state"])
    name_of_state = _SLOT_STATES.get(state, state)
    word = say(name_of_state, lang) if name_of_state in WORDS else state
    version = slot["version"] or say("unknown", lang)
    return f"  {say('slot', lang)} {name}: {version}, {word}, {say('tries', lang, slot['tries_left'])}"


def state_line(status: Answer, lang: str) -> str:
    text = f"{say('state', lang)}: {status['state']} - {localized(status, 'meaning', lang)}"
    if status["critical"]:
        text += f" ({say('critical', lang)})"
    if status.get("expected_s") is not None:
        text += f", {say('about', lang, duration(status['expected_s'], lang))}"
    return text


def power_line(power: Answer, lang: str) -> str:
    percent = power["battery_percent"]
    battery = say("battery_unknown", lang) if percent is None else say("battery", lang, percent)
    charger = "" if power["mains"] is None else ", " + say("charger" if power["mains"] else "no_charger", lang)
    return f"{say('power', lang)}: {battery}{charger}"


def gate_lines(gates: list[Answer], lang: str) -> list[str]:
    """One line a closed gate, with what a person can do."""
    return [
        f"{say('gate', lang)}: {localized(gate, 'reason', lang)} -> {localized(gate, 'remedy', lang)}"
        for gate in gates
        if not gate["open"]
    ]


def status_lines(status: Answer, lang: str) -> list[str]:
    lines = [f"{say('terminal', lang)}: {status['terminal']}", state_line(status, lang)]
    lines += [slot_line(name, slot, lang) for name, slot in status["slots"].items()]
    lines.append(power_line(status["power"], lang))
    if status.get("estimate"):
        lines += estimate_lines(status["estimate"], lang, short=True)
    if status["update"] is not None:
        lines.append(f"{say('update', lang)}: {progress_line(status, lang)}")
        if refused := status["update"].get("refused"):
            lines.append(f"  {say('refused', lang)} [{refused}]")
        elif kind := status["update"].get("kind"):
            lines.append(f"  {say(kind, lang)}")
        if status["update"].get("streamed"):
            lines.append(f"  {say('streamed', lang)}")
    lines += gate_lines(status["gates"], lang)
    lines += [f"{say('problem', lang)}: {problem['detail']} [{problem['code']}]" for problem in status["problems"]]
    lines += [help_line(told, lang) for told in (status.get("help"),) if told]
    last = status["last_outcome"]
    lines.append(f"{say('last', lang)}: {outcome_line(last, lang) if last else say('none_yet', lang)}")
    return lines


def closed_gate(status: Answer) -> Answer | None:
    """What keeps the update from going on now; in `ready` that is what the installation needs. Work that is critical
    and has a time to go has begun, and waits for nothing."""
    if status["critical"] and status.get("expected_s") is not None:
        return None
    work = "install" if status["state"] == "ready" else status["state"]
    return next((gate for gate in status.get("gates", ()) if gate["needed_for"] == work and not gate["open"]), None)


def progress_line(status: Answer, lang: str, width: int = 24) -> str:
    """What is waited for, else a bar where bytes are counted, else the phase in words."""
    update = status["update"]
    if update is None:
        return state_line(status, lang)
    text = f"{update['version'] or '?'} {status['state']}"
    closed = closed_gate(status)
    if closed is not None:
        return f"{text} - {say('gate', lang)}: {localized(closed, 'reason', lang)}"
    if status.get("help"):
        text += f" - {help_line(status['help'], lang)}"
    done, total = update["bytes_done"], update["bytes_total"]
    if total:
        filled = min(width, int(width * done / total))
        text += (
            f" [{'#' * filled}{'.' * (width - filled)}] {100 * done // total} % {done / 1e6:.1f}/{total / 1e6:.1f} MB"
        )
    elif not status["critical"] and not status.get("help"):
        text += f" - {localized(status, 'meaning', lang)}"
    to_go_s = status.get("expected_s") or ((status.get("estimate") or {}).get("total") or {}).get("p50")
    if to_go_s is not None:
        text += f", {say('about', lang, duration(to_go_s, lang))}"
    return text


def help_line(told: Answer, lang: str) -> str:
    return say("step", lang, told["step"], told["of"], localized(told, "text", lang))


def support_lines(answer: Answer, lang: str) -> list[str]:
    made = (answer["path"], answer["size"], answer["redacted"])
    return [say("bundle_made", lang, *made), say("ticket", lang, answer["code"])]


def outcome_line(outcome: Answer, lang: str) -> str:
    when = datetime.datetime.fromtimestamp(outcome.get("at", 0), datetime.UTC)
    name = outcome["version"] or "?"
    name = say("back_to", lang, name) if outcome.get("kind") == "rollback" else name
    text = f"{name} {say(outcome['outcome'], lang)} {when:%Y-%m-%d %H:%M} UTC"
    if outcome["code"] != "ok":
        text += f" - {outcome['detail'] or outcome['code']} [{outcome['code']}]"
    if outcome.get("ticket"):
        text += f" - {say('ticket', lang, outcome['ticket']['code'])}"
    return text


def ending(outcome: str, lang: str) -> str:
    """How an update ended; a word of a later release stays as it is."""
    return say(outcome, lang) if outcome in WORDS else outcome


def reason(name: str, lang: str) -> str:
    """Why an update is needed (core.manifest.REASONS)."""
    return say(name, lang) if name in REASONS else name


def cause(name: str, lang: str) -> str:
    """Why a start was necessary."""
    word = _CAUSES.get(name, name)
    return say(word, lang) if word in WORDS else name


def evidence_lines(outcome: Answer, lang: str) -> list[str]:
    """What is known of why a version was not kept: cause, stage, failed checks, the last lines it left behind."""
    lines = []
    if outcome.get("steps"):
        lines.append(f"  {say('steps', lang, ', '.join(step_names(outcome['steps'], lang)))}")
    if "cause" in outcome:
        lines.append(f"  {say('cause', lang)}: {cause(str(outcome['cause']), lang)}")
        lines.append(f"  {say('stage', lang)}: {outcome.get('stage', '?')}")
    failed = [check for check in outcome.get("checks", ()) if not check["passed"]]
    for check in failed:
        words = (check["name"], texts_selftest.measured(check, lang), check["detail"])
        lines.append(f"  {say('failed_check', lang)}: {': '.join(word for word in words if word)}")
    if outcome.get("log"):
        lines += [f"  {say('log', lang)}:", *(f"    {line}" for line in outcome["log"])]
    return lines


def moment(at_s: float) -> str:
    return f"{datetime.datetime.fromtimestamp(at_s, datetime.UTC):%Y-%m-%d %H:%M}"


def _phase(name: str, lang: str) -> str:
    return PHASES_ZH.get(name, name) if lang == "zh" else name


def span(name: str, seconds: Answer, lang: str, *before: object) -> str:
    """A text with how long it takes in half of all cases, and in nine of ten."""
    return say(name, lang, *before, *(duration(seconds[key], lang) for key in ("p50", "p90")))


def estimate_lines(estimate: Answer, lang: str, *, short: bool = False) -> list[str]:
    lines = [] if short else [span("phase", one, lang, _phase(name, lang)) for name, one in estimate["phases"].items()]
    lines += [span("total", estimate["total"], lang), span("outage", estimate["outage"], lang)]
    if estimate.get("begins_at") is not None:
        lines.append(say("begins", lang, moment(estimate["begins_at"])))
    if estimate.get("moved"):
        lines.append(localized(estimate, "moved", lang))
    return lines


def estimates_lines(answer: Answer, lang: str) -> list[str]:
    """What was foretold of past updates, beside what it took."""
    lines = []
    for outcome in answer["history"]:
        if outcome.get("estimates"):
            lines.append(outcome_line(outcome, lang))
            lines += [
                say(
                    "foretold",
                    lang,
                    _phase(name, lang),
                    *(duration(one[key], lang) for key in ("p50", "p90", "took_s")),
                )
                for name, one in outcome["estimates"].items()
            ]
    return lines or [say("no_estimates", lang)]


def why_lines(answer: Answer, lang: str) -> list[str]:
    lines = []
    if answer["state"] != "idle":
        text = localized(answer, "doing", lang)
        if answer.get("since_s") is not None:
            text += f", {say('since', lang, duration(answer['since_s'], lang))}"
        lines.append(text)
        if answer.get("ends_in") is not None:
            lines.append(span("over_in", answer["ends_in"], lang))
    for reason in answer["why"]:
        lines.append(f"{localized(reason, 'detail', lang)} [{reason['code']}]")
        if localized(reason, "remedy", lang):
            lines.append(f"  {say('next_step', lang)}: {localized(reason, 'remedy', lang)}")
    lines += [help_line(told, lang) for told in (answer.get("help"),) if told]
    last = answer.get("last_outcome")
    if last is not None and last["outcome"] != "committed":
        lines += evidence_lines(last, lang)
    return lines or [say("nothing", lang)]


def check_lines(answer: Answer, lang: str) -> list[str]:
    offer = answer["offer"]
    if offer is None:
        return [say("no_offer", lang, answer["booted_version"] or "?"), *gate_lines(answer["gates"], lang)]
    lines = [say("offer", lang, offer["version"], f"{offer['length'] / 1e6:.1f}")]
    if offer["reason"]:
        lines.append(say("reason", lang, say(offer["reason"], lang)))
    if offer["contents"]:
        lines.append(say("contains", lang, ", ".join(offer["contents"])))
    lines.append(say("bytes", lang, f"{answer['bytes'] / 1e6:.2f}"))
    if packing := answer.get("packing"):
        lines.append(say(f"packed_{packing}", lang))
    lines.append(say("staged" if offer["staged"] else "streamed", lang))
    if answer["estimate"] is not None:
        lines += estimate_lines(answer["estimate"], lang)
    return [*lines, say(answer["verdict"], lang), *gate_lines(answer["gates"], lang)]


def history_lines(answer: Answer, lang: str) -> list[str]:
    lines = [line for one in answer["history"] for line in (outcome_line(one, lang), *evidence_lines(one, lang))]
    return lines or [say("none_yet", lang)]


def help_lines(answer: Answer) -> list[str]:
    return [f"{verb:10}{text}" for verb, text in answer["verbs"].items()]


def error_lines(error: Answer, lang: str) -> list[str]:
    return [
        f"{localized(error, 'detail', lang)} [{error['code']}]",
        f"  {say('next_step', lang)}: {localized(error, 'remedy', lang)}",
    ]
