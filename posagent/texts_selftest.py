"""Texts for people, in English and Chinese: what self-tests found, with measure, value and limit.

Rules: as those of posagent.texts. What a check says in its own words stays as it is.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

Answer = Mapping[str, Any]

WORDS: Mapping[str, tuple[str, str]] = {
    "passed": ("passed", "通过"),
    "not_passed": ("FAILED", "未通过"),
    "note": ("note", "说明"),
    "all_passed": ("all {} self-tests passed", "全部 {} 项自检通过"),
    "some_failed": ("{} of {} self-tests failed", "{} 项自检未通过（共 {} 项）"),
    "functional": ("functional", "功能"),
    "performance": ("performance", "性能"),
    "security": ("security", "安全"),
    "found": ("{}: {} (limit {})", "{}：{}（限值 {}）"),
    "only_limit": ("{} (limit {})", "{}（限值 {}）"),
}

MEASURES: Mapping[str, tuple[str, str]] = {
    "boot_time_ms": ("time to boot, ms", "启动时间（毫秒）"),
    "start_time_ms": ("start of the payment application, ms", "支付应用启动时间（毫秒）"),
    "transaction_p95_ms": ("p95 of dummy transactions, ms", "模拟交易 p95 时间（毫秒）"),
    "free_memory_kib": ("free memory, KiB", "可用内存（KiB）"),
    "write_rate_kib_per_s": ("storage write rate, KiB/s", "存储写入速率（KiB/s）"),
    "free_bytes": ("free space, bytes", "可用空间（字节）"),
    "duration_s": ("time taken, s", "用时（秒）"),
    "exit_code": ("exit code", "退出码"),
    "connection": ("connection", "连接"),
    "unit_state": ("state of the service", "服务状态"),
    "unit_file": ("enabled at start", "开机启用"),
    "handshake": ("answer of the device", "设备应答"),
    "transaction_outcome": ("outcome of a dummy transaction", "模拟交易结果"),
    "host_outcome": ("payment host", "支付主机"),
    "printer_outcome": ("printer", "打印机"),
    "reader_outcome": ("card reader", "读卡器"),
    "pin_pad_outcome": ("PIN pad", "密码键盘"),
    "start_outcome": ("payment application", "支付应用"),
    "sha256": ("digest", "摘要"),
    "slot_sha256": ("digest of the whole slot", "整个分区摘要"),
    "files_too_open": ("files with wrong owner or permissions", "属主或权限不正确的文件数"),
    "open_ports": ("open ports that are not allowed", "未允许的开放端口数"),
    "debug_interfaces": ("open debug interfaces", "开放的调试接口数"),
    "keys_missing_or_changed": ("keys missing or changed", "缺失或变化的密钥数"),
    "state": ("state", "状态"),
    "checks": ("configured tests", "已配置的自检数"),
}


def say(name: str, lang: str, *values: object) -> str:
    return WORDS[name][lang == "zh"].format(*values)


def measure_word(name: str, lang: str) -> str:
    """One that is not known, such as an approved file's digest, is its own word."""
    return MEASURES[name][lang == "zh"] if name in MEASURES else name.replace("_", " ")


def step_line(step: Answer, lang: str) -> str:
    word = say("passed" if step["passed"] else "not_passed", lang)
    return f"{step['done']}/{step['total']} {step['check']}: {word}"


def lines(answer: Answer, lang: str) -> list[str]:
    """The failures with measure, limit and evidence, what there is to note, and the sum."""
    checks = answer["checks"]
    failed = [check for check in checks if not check["passed"]]
    told = [line for check in failed for line in failure_lines(check, lang)]
    noted = [check for check in checks if check["passed"] and check["detail"]]
    told += [f"{say('note', lang)}: {check['name']}: {check['detail']}" for check in noted]
    if not failed:
        return [*told, say("all_passed", lang, len(checks))]
    return [*told, say("some_failed", lang, len(failed), len(checks))]


def failure_lines(check: Answer, lang: str) -> list[str]:
    """Its name and suite, what was measured, and in the next line what was wrong. Old agents tell no measure."""
    suite = str(check.get("suite", ""))
    where = f" [{say(suite, lang)}]" if suite in WORDS else ""
    head, found = f"{say('not_passed', lang)}: {check['name']}{where}", measured(check, lang)
    return [f"{head}: {found}", f"  {check['detail']}"] if found else [f"{head}: {check['detail']}"]


def measured(check: Answer, lang: str) -> str:
    """Measure, value and limit, as far as there are any."""
    if not check.get("measure"):
        return ""
    word, value, limit = measure_word(check["measure"], lang), check.get("value", ""), check.get("limit", "")
    if limit == "":
        return f"{word}: {value}" if value != "" else word
    return say("found", lang, word, value, limit) if value != "" else say("only_limit", lang, word, limit)
