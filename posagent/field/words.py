"""The words of the engineer's laptop, in English and Chinese: stages, endings, columns, the visit report."""

from __future__ import annotations

from collections.abc import Mapping

WORDS: Mapping[str, tuple[str, str]] = {
    # stages
    "looking": ("looking", "连接"),
    "unlocking": ("unlocking", "解锁"),
    "assessing": ("assessing", "检查"),
    "sending": ("sending", "传送"),
    "idle": ("idle", "空闲"),
    "download": ("download", "下载"),
    "verify": ("verify", "校验"),
    "ready": ("ready", "就绪"),
    "install": ("install", "安装"),
    "activate": ("activate", "重启"),
    "selftest": ("self-test", "自检"),
    "commit": ("commit", "确认"),
    "rollback": ("rollback", "回退"),
    "done": ("done", "结束"),
    # endings
    "committed": ("committed", "已完成"),
    "current": ("up to date", "已是最新"),
    "rolled_back": ("rolled back", "已回退"),
    "failed": ("failed", "失败"),
    "cancelled": ("cancelled", "已取消"),
    "refused": ("refused", "被拒绝"),
    "left": ("left at work", "离开时进行中"),
    "lost": ("lost", "失去连接"),
    # what happens to a cable
    "pulled": ("cable out", "线缆断开"),
    "plugged": ("cable in again", "线缆已接回"),
    # columns and labels
    "port": ("port", "端口"),
    "terminal": ("terminal", "终端"),
    "version": ("version", "版本"),
    "state": ("state", "状态"),
    "part": ("progress", "进度"),
    "left_s": ("to go", "剩余"),
    "power": ("power", "电源"),
    "waits": ("waits for", "等待"),
    "slots": ("slots", "分区"),
    "log": ("last lines", "最近记录"),
    "nobody": ("no terminal yet: plug a cable in", "尚未发现终端：请插入线缆"),
    "touch": ("touch the key", "请触摸安全密钥"),
    "sum": ("{} of {} done, {} not well", "已完成 {}/{}，异常 {}"),
    "still": (
        "{} still at work: they go on without the laptop; q again to leave",
        "{} 台仍在升级：离开后会继续；再按 q 退出",
    ),
    "leave": ("leave", "退出"),
    "language": ("language", "语言"),
    "reported": ("visit report: {}", "上门报告：{}"),
    "not_signed": ("the visit report is not signed: {}", "上门报告未签名：{}"),
    "answers": ("{}: {} {}, {}", "{}：{} {}，{}"),
    "silent": ("{}: no terminal answers", "{}：无终端应答"),
    "denied": (
        "{}: not allowed; add the user to the group that owns the port (Linux: mostly dialout), then log in anew",
        "{}：无权限；请将用户加入串口所属的组（Linux 多为 dialout）后重新登录",
    ),
    "no_ports": (
        "no ports here; plug an adapter in, or name one with --ports",
        "没有串口；请插入转换器或用 --ports 指定",
    ),
    "console": ("{}: Ctrl-] leaves", "{}：Ctrl-] 退出"),
    "console_over": ("the line is gone", "线路已断开"),
    "to_sign": ("{} does this once it is signed:\n  {}", "签名后 {} 将执行：\n  {}"),
    "whole_line": ("the line that is signed:\n  {}", "被签名的整行：\n  {}"),
    "sign_it": ("Sign it? Type yes: ", "是否签名？请输入 yes："),
    "agreed_to": ("agreed to: {}; to be signed: {}", "已同意：{}；待签名：{}"),
    "nobody_to_ask": ("nobody to ask here; agree to it with --sign '{}'", "无人可询问；请用 --sign '{}' 表示同意"),
    "declined": ("not signed: {}", "未签名：{}"),
    "allowed": (
        "{} is allowed on {} until a version was confirmed; now: posagent-field run",
        "已允许 {} 在 {} 上安装，直至下一版本确认；现在请执行 posagent-field run",
    ),
    "support_made": ("support bundle {}, code {}", "支持包 {}，代码 {}"),
    # the visit report
    "report": ("Visit report", "上门服务报告"),
    "engineer": ("engineer", "工程师"),
    "certificate": ("certificate no.", "证书编号"),
    "key": ("key", "密钥"),
    "begun": ("begun", "开始"),
    "ended": ("ended", "结束"),
    "laptop_time": ("times are the laptop's, UTC", "时间为电脑时间（UTC）"),
    "bundle": ("bundle", "升级包"),
    "repository": ("from the terminals' repository", "由终端从仓库下载"),
    "before": ("before", "升级前"),
    "after": ("after", "升级后"),
    "outcome": ("outcome", "结果"),
    "phases": ("phases, seconds", "各阶段（秒）"),
    "bytes_sent": ("sent over the line", "经串口传送"),
    "bytes_refetched": ("fetched again", "重复下载"),
    "gates": ("waited for", "等待条件"),
    "problems": ("problems", "问题"),
    "pulls": ("cable out", "线缆断开"),
    "times": ("{} times, {} s", "{} 次，{} 秒"),
    "support": ("support code", "支持代码"),
    "none": ("none", "无"),
    "signed_by": ("signed by {}", "签名人：{}"),
    "unsigned": ("not signed", "未签名"),
    "digest": ("SHA-256 of the signed file", "签名文件的 SHA-256"),
    "signature_line": ("signature, date", "签字、日期"),
    "good_report": ("{} signed this report, and {} certified the key", "{} 已签署本报告，密钥由 {} 认证"),
    "unproven": (
        "the report is as {} signed it; who that is was not checked: give --ca",
        "报告与 {} 签署时一致；未核实签名人身份：请给出 --ca",
    ),
}


def say(name: str, lang: str, *values: object) -> str:
    """A text of the table, filled in."""
    return WORDS[name][lang == "zh"].format(*values)


def word(name: str, lang: str) -> str:
    """A stage or ending in the language; what is no word of ours stays as it is."""
    return WORDS[name][lang == "zh"] if name in WORDS else name
