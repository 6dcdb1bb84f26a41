"""Texts for people, in English and Chinese: slots, power, network, log and what the doctor finds.

Rules: as those of posagent.texts.
"""

from __future__ import annotations

import datetime
from collections.abc import Mapping

from posagent import texts
from posagent.texts import Answer, duration, localized

WORDS: Mapping[str, tuple[str, str]] = {
    "floor": ("rollback floor: {}", "回退下限：{}"),
    "counter": ("security counter {}", "安全计数 {}"),
    "order": ("boot order: {}", "启动顺序：{}"),
    "may_go_back": ("can go back to {} (slot {})", "可恢复至 {}（分区 {}）"),
    "may_not_go_back": ("cannot go back: {}", "不能恢复：{}"),
    "battery": ("battery: {} %", "电量：{} %"),
    "battery_sags": ("battery: shows {} %, but can only have {} %", "电量：显示 {} %，实际约 {} %"),
    "no_battery": ("battery: none", "电池：无"),
    "battery_unknown": ("battery: its level is not known", "电量：未知"),
    "rising": ("rising {} % an hour", "每小时上升 {} %"),
    "falling": ("falling {} % an hour", "每小时下降 {} %"),
    "steady": ("stays where it is", "保持不变"),
    "charger": ("charger: connected, charging", "充电器：已连接，正在充电"),
    "idle": ("charger: connected, but the battery is not charged", "充电器：已连接，但未充电"),
    "weak": ("charger: connected, but too weak", "充电器：已连接，但功率不足"),
    "on_battery": ("charger: not connected", "充电器：未连接"),
    "health": ("it holds about {} % of what it held when new", "电池约为新电池容量的 {} %"),
    "temperature": ("{} °C", "{} °C"),
    "needs": ("an update needs {} %, for {} of work", "升级需要电量 {} %（操作约 {}）"),
    "enough": ("that is enough for an update", "电量足够升级"),
    "link": ("network link", "网络连接"),
    "dns": ("name of the server", "服务器名称解析"),
    "connect": ("way to the server", "连接服务器"),
    "tls": ("server's certificate", "服务器证书"),
    "repository": ("update repository", "升级仓库"),
    "rate": ("speed", "速度"),
    "ok": ("ok", "正常"),
    "fault": ("FAULT", "故障"),
    "network_ok": ("the update server can be reached", "可以连接升级服务器"),
    "network_fault": ("the update server cannot be reached", "无法连接升级服务器"),
    "no_log": ("nothing was noted yet", "尚无日志"),
    "version": ("agent {}, running version {}", "升级程序 {}，运行版本 {}"),
}


def say(name: str, lang: str, *values: object) -> str:
    """A text of this table, filled in."""
    return WORDS[name][lang == "zh"].format(*values)


def _next_step(answer: Answer, lang: str) -> list[str]:
    remedy = localized(answer, "remedy", lang)
    return [f"  {texts.say('next_step', lang)}: {remedy}"] if remedy else []


def slots_lines(answer: Answer, lang: str) -> list[str]:
    booted, lines = answer["booted"], []
    for name, slot in answer["slots"].items():
        state = ("booted_trial" if slot["unconfirmed"] else "booted") if name == booted else slot["state"]
        lines.append(texts.slot_line(name, {**slot, "state": state}, lang))
        lines.append(f"    {say('counter', lang, slot['counter'])}, {slot['digest'][:16] or '-'}")
    lines.append(f"{say('order', lang, ' '.join(answer['order']))}, {say('floor', lang, answer['floor'])}")
    return lines + back_lines(answer["rollback"], lang)


def back_lines(back: Answer, lang: str) -> list[str]:
    if not back["possible"]:
        why = f"{localized(back, 'detail', lang)} [{back['refusal']}]"
        return [say("may_not_go_back", lang, why), *_next_step(back, lang)]
    lines = [say("may_go_back", lang, back["version"] or "?", back["slot"])]
    return lines + [texts.span(name, back["estimate"][name], lang) for name in ("total", "outage")]


def power_lines(answer: Answer, lang: str) -> list[str]:
    lines = [_battery_line(answer, lang)]
    supply = str(answer["charger"]["supply"])
    lines.append(say("on_battery" if supply == "battery" else supply, lang))
    battery, needs, gate = answer["battery"], answer["needs"], answer["gate"]
    if battery["percent"] is not None:
        line = say("health", lang, battery["health_percent"])
        if battery["temperature_c"] is not None:
            line += f", {say('temperature', lang, round(battery['temperature_c']))}"
        lines.append(line)
    if needs is not None:
        lines.append(say("needs", lang, needs["percent"], duration(needs["seconds"], lang)))
    if gate["open"]:
        return [*lines, say("enough", lang)]
    return [*lines, localized(gate, "reason", lang), *_next_step(gate, lang)]


def _battery_line(answer: Answer, lang: str) -> str:
    battery, trend = answer["battery"], answer["trend"]
    percent, believed = battery["percent"], battery["believed_percent"]
    if percent is None:
        return say("no_battery" if battery["present"] is False else "battery_unknown", lang)
    line = say("battery", lang, percent) if believed == percent else say("battery_sags", lang, percent, believed)
    if trend["direction"] in ("rising", "falling"):
        line += f", {say(trend['direction'], lang, abs(round(trend['percent_per_h'])))}"
    elif trend["direction"] == "steady":
        line += f", {say('steady', lang)}"
    return line


def network_step_lines(step: Answer, lang: str) -> list[str]:
    took = "" if step["ms"] is None else f" ({step['ms']} ms)"
    line = f"{say('ok' if step['ok'] else 'fault', lang)}: {say(step['step'], lang)}: {step['detail']}{took}"
    if step["ok"]:
        return [line]
    return [f"{line} [{step['code']}]", *_next_step(step, lang)]


def network_lines(answer: Answer, lang: str) -> list[str]:
    lines = [line for step in answer["steps"] for line in network_step_lines(step, lang)]
    return [*lines, say("network_ok" if answer["ok"] else "network_fault", lang)]


def log_lines(answer: Answer, lang: str) -> list[str]:
    """`2026-11-28 22:29:01 warning stop_waits code=critical_section …`, in UTC."""
    return [_log_line(line) for line in answer["lines"]] or [say("no_log", lang)]


def _log_line(line: Answer) -> str:
    at = datetime.datetime.fromtimestamp(line["at"], datetime.UTC)
    told = {name: value for name, value in line.items() if name not in ("at", "level", "event") and value is not None}
    words = (f"{name}={value}" for name, value in told.items())
    return " ".join((f"{at:%Y-%m-%d %H:%M:%S}", str(line.get("level", "")), str(line.get("event", "")), *words))


def version_lines(answer: Answer, lang: str) -> list[str]:
    running = say("version", lang, answer["version"], answer["running"] or "?")
    return [f"{texts.say('terminal', lang)}: {answer['terminal']}", running]


def doctor_lines(answer: Answer, lang: str) -> list[str]:
    """What is in order first: what is wrong, with its remedies, stands next to the prompt."""
    levels = {
        "ok": texts.say("ok", lang),
        "skipped": texts.say("skipped", lang),
        "warning": texts.say("warning", lang),
        "fault": texts.say("fault", lang),
    }
    lines = []
    for level, word in levels.items():
        for finding in answer["findings"]:
            if finding["level"] != level:
                continue
            detail = f": {finding['detail']}" if finding["detail"] else ""
            lines.append(f"{word}: {localized(finding, 'title', lang)}{detail} [{finding['check']}]")
            if level in ("fault", "warning"):
                lines.append(f"  {texts.say('next_step', lang)}: {localized(finding, 'remedy', lang)}")
    counts = answer["counts"]
    numbers = (counts[level] for level in ("ok", "fault", "warning", "skipped"))
    return [*lines, texts.say("doctor_sum", lang, *numbers)]
