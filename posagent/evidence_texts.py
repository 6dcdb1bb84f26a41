"""Texts about the records of updates, in English and Chinese: one line each, one in full, and the printable ticket.

Rules: as in posagent.texts; what is shown is core.update_record.shown's, so nothing here looks into the journal. A
ticket fits the columns of a receipt printer, where a Chinese character takes two, and so may every other that is not
ASCII.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Iterator, Mapping

from posagent import texts
from posagent.core.errors import CATALOGUE
from posagent.core.update_record import Record, outage_s

WIDTHS = (24, 32, 48)
"""Columns of receipt printers."""
TICKET_DIGEST_CHARACTERS = 16

WORDS: Mapping[str, tuple[str, str]] = {
    "title": ("SOFTWARE UPDATE", "软件升级凭证"),
    "terminal": ("terminal", "终端"),
    "update": ("update", "升级编号"),
    "began": ("began", "开始"),
    "ended": ("ended", "结束"),
    "from": ("from", "原版本"),
    "to": ("to", "目标版本"),
    "back_to": ("back to", "恢复至"),
    "result": ("result", "结果"),
    "code": ("code", "代码"),
    "detail": ("detail", "详情"),
    "next_step": ("next step", "下一步"),
    "cause": ("ended by", "中断原因"),
    "outage": ("no payments for", "不能收款"),
    "phase": ("phase {}", "阶段 {}"),
    "gate": ("waited for {}", "等待 {}"),
    "by": ("asked for by", "发起人"),
    "at_once": ("at once", "立即"),
    "consent": ("agreed to by", "确认人"),
    "deferrals": ("put off", "推迟"),
    "times": ("{} times, last by {}", "{} 次，最后由 {}"),
    "reason": ("why", "原因"),
    "passed": ("self-tests passed", "自检通过"),
    "failed": ("failed test", "未通过自检"),
    "digest": ("digest of {}", "{} 摘要"),
    "warning": ("warning", "警告"),
    "delta_refused": ("the delta could not be used", "差分包无法使用"),
    "fetched_again": ("a download was corrupt", "下载内容曾损坏"),
    "power_cycles": ("power was cut during the trial", "试运行期间断电"),
    "backup": ("backup", "备份"),
    "migrated": ("data taken over", "数据迁移"),
    "parameters": ("parameters", "参数"),
    "support": ("support code", "服务代码"),
    "none_yet": ("no update yet", "尚无升级记录"),
    "exported": ("{} updates written to {}", "已将 {} 条升级记录写入 {}"),
}

GATES: Mapping[str, tuple[str, str]] = {
    "window": ("the window", "升级时段"),
    "consent": ("the merchant", "商户确认"),
    "payment": ("payments", "付款"),
    "payment_restart": ("payments, before the restart", "付款（重启前）"),
    "power_download": ("power to download", "下载所需电源"),
    "power_install": ("power to install", "安装所需电源"),
    "power_restart": ("power to restart", "重启所需电源"),
    "boot_control": ("the slots", "启动分区"),
}
"""What a gate waits for; one of a later release is told by its name."""


def say(name: str, lang: str, *values: object) -> str:
    return WORDS[name][lang == "zh"].format(*values)


def shown(record: Record, lang: str, *, full: bool) -> list[str]:
    """In `full`, a line a fact; else in one line."""
    return lines(record, lang) if full else [line(record, lang)]


def line(record: Record, lang: str) -> str:
    """The whole update in one line: `name=value` for what is long, so that it can be searched."""
    seconds = texts.duration(max(record["ended"] - record["began"], 0), lang)
    words = [moment(record["ended"]), record["terminal"], record["id"], record["from_version"] or "?", "->"]
    words += [record["version"] or "?", _outcome(record, lang), record["result"], record["code"], seconds]
    words += [f"{name}={seconds:g}s" for name, seconds in record["phases"].items()]
    words += [f"waited_{gate['gate']}={gate['seconds']:g}s" for gate in record["gates"]]
    consent = record["consent"]
    told = {
        "by": record["by"],
        "agreed": consent["by"] if consent else "",
        "deferrals": f"{record['deferrals']:g}" if record["deferrals"] else "",
        "tests": _tests(record),
        **record["digests"],
        "warnings": ",".join(record["warnings"]),
    }
    return " ".join((*words, *(f"{name}={value}" for name, value in told.items() if value)))


def lines(record: Record, lang: str) -> list[str]:
    """The update in full, a line a fact."""
    return [f"{label}: {value}" for label, value in _facts(record, lang)]


def ticket(record: Record, lang: str, width: int) -> list[str]:
    """For a receipt printer of so many columns."""
    title = say("title", lang)
    rule = "-" * width
    body = [printed for label, value in _facts(record, lang, short=True) for printed in _row(label, value, width)]
    return [" " * ((width - columns(title)) // 2) + title, rule, *body, rule]


def moment(at_s: float) -> str:
    return f"{texts.moment(at_s)} UTC"


def _facts(record: Record, lang: str, *, short: bool = False) -> Iterator[tuple[str, str]]:
    """Label and value; `short` leaves out what a merchant does not need on paper."""
    yield say("terminal", lang), record["terminal"]
    yield say("update", lang), record["id"]
    yield say("began", lang), moment(record["began"])
    yield say("ended", lang), moment(record["ended"])
    yield say("from", lang), record["from_version"] or "?"
    yield say("back_to" if record["kind"] == "rollback" else "to", lang), record["version"] or "?"
    yield say("result", lang), f"{_outcome(record, lang)} {record['result']}"
    if record["code"] != "ok":
        yield say("code", lang), record["code"]
        yield say("detail", lang), record["detail"]
        if (spec := CATALOGUE.get(record["code"])) is not None:
            yield say("next_step", lang), spec.remedy_zh if lang == "zh" else spec.remedy
    if record["cause"]:
        yield say("cause", lang), texts.cause(record["cause"], lang)
    for name in record["warnings"]:
        yield say("warning", lang), say(name, lang)
    if (seconds := outage_s(record)) is not None:
        yield say("outage", lang), texts.duration(seconds, lang)
    if not short:
        for name, seconds in record["phases"].items():
            yield say("phase", lang, name), f"{seconds:g} s"
    for gate in record["gates"]:
        why = f" ({gate['why']})" if gate["why"] and not short else ""
        waited_for = GATES[gate["gate"]][lang == "zh"] if gate["gate"] in GATES else gate["gate"]
        yield say("gate", lang, waited_for), texts.duration(gate["seconds"], lang) + why
    yield from _people(record, lang)
    yield from _tested(record, lang)
    for name, digest in record["digests"].items():
        if not short or name == "image":
            yield say("digest", lang, name), digest[:TICKET_DIGEST_CHARACTERS] if short else digest
    for name in ("backup", "migrated", "parameters"):
        if record[name]:
            yield say(name, lang), record[name]
    if record["support_code"]:
        yield say("support", lang), record["support_code"]


def _people(record: Record, lang: str) -> Iterator[tuple[str, str]]:
    if record["by"]:
        yield say("by", lang), record["by"] + (f", {say('at_once', lang)}" if record["at_once"] else "")
    if record["reason"]:
        yield say("reason", lang), texts.reason(record["reason"], lang)
    if record["consent"]:
        yield say("consent", lang), f"{record['consent']['by']}, {moment(record['consent']['at'])}"
    if record["deferrals"]:
        times = (f"{record['deferrals']:g}", record["deferred_by"] or "?")
        yield say("deferrals", lang), say("times", lang, *times)


def _tested(record: Record, lang: str) -> Iterator[tuple[str, str]]:
    if record["measures"]:
        yield say("passed", lang), _tests(record)
    for one in record["measures"]:
        if not one["passed"]:
            yield say("failed", lang), f"{one['name']}: {one['detail']}" if one["detail"] else one["name"]


def _tests(record: Record) -> str:
    passed = [one["passed"] for one in record["measures"]]
    return f"{sum(passed)}/{len(passed)}" if passed else ""


def _outcome(record: Record, lang: str) -> str:
    return texts.ending(record["outcome"], lang)


# columns


def columns(text: str) -> int:
    """What a text takes on paper: printers for Chinese print all but the narrow characters in two columns."""
    return sum(map(_columns, text))


def _columns(character: str) -> int:
    return 2 if unicodedata.east_asian_width(character) in "WFA" else 1


def _row(label: str, value: str, width: int) -> Iterator[str]:
    """The value at the right of its label, or below it where that is too narrow."""
    gap = width - columns(label) - columns(value)
    if gap > 0:
        yield label + " " * gap + value
        return
    yield from _wrapped(label, width, "")
    yield from _wrapped(value, width, "  ")


def _wrapped(text: str, width: int, indent: str) -> Iterator[str]:
    """Lines of at most `width` columns, broken between words where there is one to break at."""
    at = 0
    while at < len(text):
        end = _fitting(text, at, width - len(indent))
        if end < len(text) and (blank := text.rfind(" ", at + 1, end + 1)) > 0:
            end = blank
        yield indent + text[at:end].rstrip()
        at = end + (text[end : end + 1] == " ")


def _fitting(text: str, begin: int, width: int) -> int:
    end, used = begin, 0
    while end < len(text) and used + _columns(text[end]) <= width:
        used += _columns(text[end])
        end += 1
    return end
