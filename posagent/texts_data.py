"""Lines for people about the merchant's data: what is there, whether it is whole, what a backup would bring back."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from posagent import texts
from posagent.core.errors import CATALOGUE

Answer = Mapping[str, Any]

WORDS: Mapping[str, tuple[str, str]] = {
    "current": ("data: generation {}, format {}", "数据：第 {} 代，格式 {}"),
    "payments": ("{} payments not settled, STAN {} to {}", "{} 笔未结算交易，流水号 {} 至 {}"),
    "no_payments": ("no payment that is not settled", "没有未结算交易"),
    "no_ledger": ("how the money is read is not declared", "未声明账目读取方式"),
    "total": ("  {} {}: {}, sum {}", "  {} {}：{} 笔，合计 {}"),
    "reversals": ("{} reversals wait to be sent", "{} 笔冲正待发送"),
    "counter": ("counter {}: {}", "计数器 {}：{}"),
    "parameters": ("parameters: {}", "参数：{}"),
    "backup": ("backup {} of {} (before {})", "备份 {}，时间 {}（升级 {} 之前）"),
    "backup_whole": ("whole", "完好"),
    "no_backup": ("no backup", "没有备份"),
    "whole": ("the data is whole", "数据完好"),
    "step": ("{}: {} %", "{}：{} %"),
    "seal": ("reading", "读取"),
    "test": ("trying it out", "试恢复"),
    "look": ("looking", "检查"),
    "then": ("in the backup: {}", "备份中：{}"),
    "now": ("on the terminal now: {}", "终端当前：{}"),
    "lost": ("would be lost: {}: {} of {}", "将丢失：{}：{}（现有 {}）"),
    "again": ("would be charged again: {}: {} in the backup, {} still there", "将重复入账：{}：备份中 {}，当前 {}"),
    "nothing_lost": ("nothing would be lost, and nothing charged again", "不会丢失数据，也不会重复入账"),
    "restored": (
        "restored: generation {} is the data now; the terminal restarts",
        "已恢复：当前数据为第 {} 代；终端将重启",
    ),
    "restores": (
        "This replaces the payment application's data by what is in the backup, and restarts the terminal. Data that"
        " cannot be read any more is replaced without a comparison: what was settled since is charged again.",
        "此操作将用备份替换支付应用的数据并重启终端。若当前数据无法读取则不作比对：此后已结算的交易将重复入账。",
    ),
    "dry_run": ("this was a dry run: nothing was changed", "仅为试运行：未作任何更改"),
}


def say(name: str, lang: str, *values: object) -> str:
    return WORDS[name][lang == "zh"].format(*values)


def step_line(step: Answer, lang: str) -> str:
    phase = str(step["step"])
    return say(phase if phase in ("seal", "test") else "look", lang)


def lines(answer: Answer, lang: str) -> list[str]:
    """`answer` is that of the verb `data`."""
    return (_restore_lines if "dry_run" in answer else _verify_lines)(answer, lang)


def _verify_lines(answer: Answer, lang: str) -> list[str]:
    current = answer["current"]
    lines = [say("current", lang, current["name"], current["format"])]
    if "ledger" in current:
        lines += _ledger_lines(current["ledger"], lang)
        lines += [say("counter", lang, name, value) for name, value in current["counters"].items()]
    if current.get("parameters"):
        lines.append(say("parameters", lang, current["parameters"]))
    for one in answer["backups"]:
        told = say("backup", lang, one["name"], texts.moment(one["at"]), one["version"])
        lines.append(f"{told}: {_wrong(one['problem'], lang) if one['problem'] else say('backup_whole', lang)}")
    if not answer["backups"]:
        lines.append(say("no_backup", lang))
    for code in answer["problems"]:
        lines += [_wrong(code, lang), f"  {texts.say('next_step', lang)}: {_remedy(code, lang)}"]
    return lines if answer["problems"] else [*lines, say("whole", lang)]


def _restore_lines(answer: Answer, lang: str) -> list[str]:
    lines = [say(name, lang, _payments(answer[name], lang)) for name in ("now", "then")]
    lines += [say("lost", lang, one["measure"], one["after"], one["before"]) for one in answer["lost"]]
    lines += [say("again", lang, one["measure"], one["before"], one["after"]) for one in answer["again"]]
    if not answer["lost"] and not answer["again"]:
        lines.append(say("nothing_lost", lang))
    return [*lines, say("dry_run", lang) if answer["dry_run"] else say("restored", lang, answer["generation"])]


def _ledger_lines(ledger: Answer | None, lang: str) -> list[str]:
    if ledger is None:
        return [say("no_ledger", lang)]
    lines = [_payments(ledger, lang)]
    lines += [say("total", lang, *total) for total in ledger["totals"]]
    return lines + ([say("reversals", lang, ledger["reversals"])] if ledger["reversals"] else [])


def _payments(ledger: Answer | None, lang: str) -> str:
    if ledger is None:
        return say("no_ledger", lang)
    if not ledger["payments"]:
        return say("no_payments", lang)
    return say("payments", lang, ledger["payments"], ledger["stan_first"], ledger["stan_last"])


def _wrong(code: str, lang: str) -> str:
    spec = CATALOGUE[code]
    return f"{spec.meaning} [{code}]" if lang != "zh" else f"[{code}] {spec.meaning}"


def _remedy(code: str, lang: str) -> str:
    spec = CATALOGUE[code]
    return spec.remedy_zh if lang == "zh" else spec.remedy
