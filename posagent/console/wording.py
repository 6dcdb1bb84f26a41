"""What the line itself says to people, in English and Chinese: help, unlocking, uploads.

Rules: as those of posagent.texts. A verb is told in one line, without the verb itself.
"""

from __future__ import annotations

from collections.abc import Mapping

WORDS: Mapping[str, tuple[str, str]] = {
    # what each command is for
    "verb_status": ("what runs here and what the update does", "当前运行版本与升级状态"),
    "verb_why": (
        "why nothing happens, or why the last update ended so",
        "当前为何未进行，或上次升级为何如此结束",
    ),
    "verb_estimate": ("how long it takes, and how long without payments", "所需时间及不能收款的时间"),
    "verb_version": ("which agent this is, and which version runs", "升级程序与当前系统版本"),
    "verb_help": ("this list, or one command with an example", "命令列表，或某一命令的说明与示例"),
    "verb_lang": ("the language of this line: English or Chinese", "本串口的语言：英文或中文"),
    "verb_unlock": ("prove an engineer's key for a role", "用工程师密钥解锁某一角色"),
    "verb_logout": ("lock again", "重新锁定"),
    "verb_check": ("is there something newer, and can it begin", "是否有新版本，能否开始"),
    "verb_history": ("how earlier updates ended", "历次升级结果"),
    "verb_slots": ("what is in both slots, and can the terminal go back", "两个分区的内容，能否恢复旧版本"),
    "verb_power": ("battery and charger, and what an update needs of them", "电池与充电器，及升级所需电量"),
    "verb_network": ("try the way to the update server, step by step", "逐步检测到升级服务器的网络"),
    "verb_log": ("the last things that the agent did", "升级程序最近的日志"),
    "verb_audit": ("who did what on this terminal", "本终端的操作审计记录"),
    "verb_update": (
        "fetch and install: the offer, a URL, a file or usb (a stick)",
        "下载并安装：来自仓库、网址、文件或 U 盘（usb）",
    ),
    "verb_cancel": ("stop the update, unless it must not be interrupted", "取消升级（不可中断阶段除外）"),
    "verb_defer": ("put the update off for some hours", "将升级推迟若干小时"),
    "verb_confirm": ("agree that the update that asks may be installed", "同意安装等待确认的升级"),
    "verb_allow": ("have an expired bundle installed (signed for again)", "允许安装已过期的升级包（须再次签名）"),
    "verb_upload": ("send a bundle over this line by ZMODEM", "通过本串口以 ZMODEM 发送升级包"),
    "verb_selftest": ("run the self-tests now, on the version that runs", "立即对当前版本运行自检"),
    "verb_rollback": (
        "go back to the version in the other slot (signed for again)",
        "恢复另一分区中的版本（须再次签名）",
    ),
    "verb_data": ("is the merchant's data whole, what is in a backup", "检查商户数据与备份"),
    "verb_support": ("make an encrypted bundle for the vendor's support", "生成加密的支持信息包"),
    "verb_machine": (
        "frames for programs instead of lines (docs/console.md)",
        "供程序使用的帧模式（见 docs/console.md）",
    ),
    # help
    "with_role": ("with role {}:", "角色 {}："),
    "all_of": ("all of {}", "{} 的全部命令"),
    "how_to_unlock": (
        "To unlock: sign the challenge line on the laptop and paste the signature here:",
        "解锁：在电脑上签名挑战行，并将签名粘贴到此处：",
    ),
    "sign_command": (
        "echo 'CHALLENGE' | ssh-keygen -Y sign -n posagent-console -f KEY-cert.pub",
        "echo '挑战行' | ssh-keygen -Y sign -n posagent-console -f KEY-cert.pub",
    ),
    "json_behind": (
        "--json behind a command answers in one line of JSON; TAB completes words",
        "命令后加 --json 以一行 JSON 回答；TAB 键补全",
    ),
    "everybody": ("for everybody", "无需解锁"),
    "roles": ("with role {}", "需要角色 {}"),
    "example": ("example: {}", "示例：{}"),
    # the session
    "unlocked": ("unlocked: {}", "已解锁：{}"),
    "signed": ("signed: {}", "已签名：{}"),
    "locked": ("locked: {}", "已锁定：{}"),
    "logged out": ("logged out", "已退出"),
    "session over": ("session over", "会话时间已到"),
    "idle": ("idle", "长时间无操作"),
    "lang_now": ("this line speaks English now", "本串口现使用中文"),
    "goes_on": ("the update goes on; see: status", "升级继续进行；请用 status 查看"),
    # uploads
    "about_upload": ("at {} baud 1 MB takes about {}; at most {}", "波特率 {} 时 1 MB 约需 {}；最多 {}"),
    "upload_takes": ("{} take about {} at {} baud", "{} 约需 {}（波特率 {}）"),
    "goes_on_from": ("{} is here up to {} and goes on from there", "{} 已有 {}，将从此处继续"),
    "send_now": (
        "Send it by ZMODEM now: picocom C-a C-s, minicom C-a s, or sz FILE.",
        "请立即以 ZMODEM 发送：picocom C-a C-s，minicom C-a s，或 sz 文件。",
    ),
    "give_up": ("Five times ^X gives up.", "连按五次 ^X 放弃。"),
    "received": ("received: {}, {} bytes in {}", "已接收：{}，{} 字节，用时 {}"),
    "digest": ("sha256: {}", "sha256（校验值）：{}"),
    "then_update": ("to install it: {}", "安装请输入：{}"),
    # support
}


def say(name: str, lang: str, *values: object) -> str:
    """A text of the table, filled in."""
    return WORDS[name][lang == "zh"].format(*values)
