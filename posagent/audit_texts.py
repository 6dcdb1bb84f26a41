"""Texts about the audit log, in English and Chinese: its records, and whether it is whole. Used by CLI and console.

Rules: pure functions from answers to lines, as in posagent.texts.
"""

from __future__ import annotations

import datetime
from collections.abc import Mapping
from typing import Any

from posagent.core.audit import Verdict

Answer = Mapping[str, Any]

WORDS: Mapping[str, tuple[str, str]] = {
    "none": ("nothing was recorded yet", "尚无审计记录"),
    "allowed": ("allowed: now ask for the update again", "已允许：请重新发起升级"),
    "whole": ("whole: records {} to {}, sealed up to {}", "完整：记录 {} 至 {}，已封存至 {}"),
    "unsealed": ("whole: records {} to {}, not sealed yet", "完整：记录 {} 至 {}，尚未封存"),
    "empty": ("empty", "空"),
    "key": ("key: {}", "密钥：{}"),
    "key_own": (
        "the key is the log's own word: compare it with the one you know",
        "密钥取自日志本身：请与已知密钥核对",
    ),
    "skipped": ("{} records were too many in a short time and not written", "{} 条记录因过于频繁未写入"),
    "lost": ("{} records could not be written", "{} 条记录写入失败"),
    "line": ("line {}: {}", "第 {} 行：{}"),
    "file": ("the file: {}", "整个文件：{}"),
}
_FIRST = ("at", "event", "verb", "args", "role", "name", "code")


def _say(name: str, lang: str, *values: object) -> str:
    return WORDS[name][lang == "zh"].format(*values)


def allowed_line(_: Answer, lang: str) -> str:
    return _say("allowed", lang)


def lines(answer: Answer, lang: str) -> list[str]:
    """A line a record, newest last."""
    return [_record(record) for record in answer["records"]] or [_say("none", lang)]


def _record(record: Answer) -> str:
    when = datetime.datetime.fromtimestamp(float(record.get("at", 0)), datetime.UTC)
    words = [f"{record['seq']}", f"{when:%Y-%m-%d %H:%M:%S}", str(record.get("event", "?")).replace("_", " ")]
    words += [_plain(record[name]) for name in _FIRST[2:] if name in record]
    rest = {name: value for name, value in record.items() if name not in ("seq", *_FIRST)}
    return " ".join((*words, *(f"{name}={_plain(value)}" for name, value in rest.items())))


def _plain(value: Any) -> str:
    if isinstance(value, Mapping):
        return ",".join(f"{name}={one}" for name, one in value.items())
    return str(value)


def verdict_lines(verdict: Verdict, lang: str, *, key_given: bool) -> list[str]:
    """Of a log, whole or not."""
    found = [
        _say("line" if number else "file", lang, *((number, what) if number else (what,)))
        for number, what in verdict.breaks
    ]
    if not found:
        kept = (verdict.first, verdict.size - 1, verdict.sealed - 1)
        what = ("whole" if verdict.sealed else "unsealed") if verdict.records else "empty"
        found.append(_say(what, lang, *kept))
    if verdict.key:
        found.append(_say("key", lang, verdict.key))
        if not key_given:
            found.append(_say("key_own", lang))
    found += [_say(name, lang, count) for name in ("skipped", "lost") if (count := getattr(verdict, name))]
    return found
