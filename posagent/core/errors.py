"""Every coded trouble a person can meet, with what it means and the next step for whoever stands there.

Owns: the catalogue (docs/errors.md is generated from it) and the exception families, one per source.
Never: text made up elsewhere. Code raises a family with a code from here and a detail of its own.
Rules: `retry` says what the agent may do by itself; `remedy` is for the person in front of the terminal,
in English and Chinese.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from posagent.core import redact


class Retry(StrEnum):
    """What the agent may do by itself after this trouble."""

    NEVER = "never"
    BACKOFF = "backoff"
    WHEN_POWERED = "when_powered"
    OPERATOR = "operator"


class Kind(StrEnum):
    """How a command that met this trouble ends; fixes the exit code."""

    USAGE = "usage"
    REFUSED = "refused"
    FAILED = "failed"
    UNREACHABLE = "unreachable"


EXIT_CODES: Mapping[Kind, int] = {Kind.USAGE: 2, Kind.REFUSED: 3, Kind.FAILED: 4, Kind.UNREACHABLE: 5}


@dataclass(frozen=True, slots=True, kw_only=True)
class ErrorSpec:
    code: str
    kind: Kind
    retry: Retry
    meaning: str
    remedy: str
    remedy_zh: str


def _catalogue(*rows: tuple[str, Kind, Retry, str, str, str]) -> dict[str, ErrorSpec]:
    specs = {
        code: ErrorSpec(code=code, kind=kind, retry=retry, meaning=meaning, remedy=remedy, remedy_zh=zh)
        for code, kind, retry, meaning, remedy, zh in rows
    }
    assert len(specs) == len(rows), "a code stands twice in the catalogue"
    return specs


_N, _B, _W, _O = Retry.NEVER, Retry.BACKOFF, Retry.WHEN_POWERED, Retry.OPERATOR
_U, _R, _F, _X = Kind.USAGE, Kind.REFUSED, Kind.FAILED, Kind.UNREACHABLE
# fmt: off
_GET_GOOD = ("Get the bundle again from the release desk.", "请向发布部门重新获取升级包。")
_FREE_SPACE = ("Free space on the data partition, then try again.", "请清理数据分区空间后重试。")
_SERVICE = ("Call service with this code; the old version keeps working.", "请将此代码告知服务商；旧版本可继续使用。")
_DATA = ("Call service with this code; keep the terminal as it is: nothing of the data was removed.", "请将此代码告知服务商，并保持终端现状；数据未被删除。")
_NETWORK = ("Check the network cable, SIM or Wi-Fi; the next try or request resumes what was fetched.", "请检查网线、SIM 卡或 Wi-Fi；下次重试或重新请求会从已下载处继续。")
_FIX_CONFIG = ("Correct the named line of the configuration, then start again.", "请修正配置文件中指出的行后重新启动。")
_WAIT_END = ("Wait until the update has ended; `posagent status` shows how long.", "请等待升级结束；可用 posagent status 查看剩余时间。")
_REPO_ADMIN = ("Ask the release desk to check the server's repository.", "请联系发布部门检查服务器上的升级仓库。")

CATALOGUE: Mapping[str, ErrorSpec] = _catalogue(
    # what people ask for
    ("critical_section", _R, _N, "The update is in a section that must not be interrupted.", *_WAIT_END),
    ("nothing_to_cancel", _R, _N, "No update is under way.", "Nothing to do.", "无需操作。"),
    ("busy", _R, _N, "Another update is under way.", "Cancel it first, or wait until it has ended.", "请先取消当前升级，或等待其结束。"),
    ("gate_closed", _R, _W, "A condition for updating is not met now.", "See the gates in `posagent status`.", "请查看 posagent status 中的条件。"),
    ("defer_spent", _R, _N, "The update was put off as often as allowed, or its deadline has passed.", "Let it run at the time that `posagent why` shows, or cancel it.", "请按 posagent why 显示的时间进行，或取消升级。"),
    ("nothing_asked", _R, _N, "Nothing waits for a confirmation now.", "Nothing to do.", "无需操作。"),
    ("same_bundle", _R, _N, "This very bundle is already waiting to be installed.", "Nothing to do.", "无需操作。"),
    ("no_update", _R, _N, "The repository offers nothing newer than what runs here.", "Nothing to do.", "无需操作。"),
    ("rollback_no_version", _R, _N, "The other slot holds no version that was ever confirmed here.", "Install the wanted version as an update.", "请以升级方式安装所需版本。"),
    ("rollback_floor", _R, _N, "The version in the other slot is below this terminal's rollback floor: it has holes that a newer one closed.", "Install a newer release as an update.", "请以升级方式安装更新的版本。"),
    ("data_none", _R, _N, "This terminal has no data of the merchant's to keep: `data.format` is not configured.", "Nothing is to be done; docs/data.md says what a payment application has to declare.", "无需操作；支付应用的声明方法见 docs/data.md。"),
    ("rollback_data", _R, _N, "The merchant's data was migrated since the version in the other slot ran: that version cannot read it.", "Install a newer release as an update; the data stays as it is.", "请以升级方式安装更新的版本；数据保持不变。"),
    ("unknown_verb", _U, _N, "There is no such command.", "Type `help` for the list of commands.", "请输入 help 查看命令列表。"),
    ("bad_request", _U, _N, "The command or its words are not understood.", "Type `help` for how to write it.", "请输入 help 查看命令格式。"),
    ("line_too_long", _U, _N, "The line is longer than is accepted here.", "Send a shorter line.", "请发送较短的命令行。"),
    ("not_allowed", _R, _O, "This user or session may not do that.", "Unlock with an engineer's key, or run it as an administrator.", "请使用工程师密钥解锁，或以管理员身份运行。"),
    ("agent_unreachable", _X, _B, "The agent does not answer on its socket.", "Check that posagentd runs: systemctl status posagentd.", "请检查 posagentd 是否运行。"),
    ("already_running", _F, _N, "Another agent already works on this state directory.", "Stop the other one, or use another state directory.", "请先停止另一个进程。"),
    ("test_refused", _R, _O, "This test of the board is not made here and now.", "Mend what stands in the way, then ask for the test again.", "请排除所述原因后重新发起测试。"),
    # payment applications
    ("payment_silent", _F, _O, "A payment application is connected but has not been heard of for longer than its lease.", "Start the payment application again; if this stays, call service.", "请重新启动支付应用；如仍有问题请联系服务商。"),
    ("payment_absent", _F, _O, "The configuration requires a payment application, and none is connected.", "Start the payment application; if this stays, call service.", "请启动支付应用；如仍有问题请联系服务商。"),
    ("payment_full", _R, _B, "As many payment applications as allowed are connected.", "End one of them first.", "请先结束其中一个支付应用。"),
    # engineers
    ("unlock_refused", _R, _B, "The answer does not prove an engineer's key for this challenge.", "Ask for a new challenge with `unlock ROLE` and sign exactly that line.", "请用 unlock 重新获取挑战并签名该行。"),
    ("unlock_expired", _R, _N, "The challenge or the certificate is no longer valid.", "Ask for a new challenge, or renew the certificate.", "请重新获取挑战，或更新证书。"),
    ("unlock_wait", _R, _B, "Too many failed answers; the next try must wait.", "Wait the seconds that are shown, then ask for a new challenge.", "请等待提示的秒数后重试。"),
    ("no_zmodem", _R, _O, "Files cannot be received by ZMODEM here: the program rz is missing.", "Use a USB stick or posagent-field; for later, install the package lrzsz on the terminal (console.rz).", "请改用 U 盘或 posagent-field；以后可在终端上安装 lrzsz 软件包（console.rz）。"),
    ("upload_failed", _F, _B, "The file did not arrive whole.", "Check the cable, then `upload --resume` and send the same file again: it goes on from what has come.", "请检查线缆，然后输入 upload --resume 并重新发送同一文件，将从已收到处继续。"),
    # the engineer's laptop
    ("engineer_key", _F, _O, "The engineer's key or certificate cannot be used.", "Get a certificate for this role from the office; a key with a passphrase has to be in the SSH agent (ssh-add).", "请向办公室申请该角色的证书；带口令的密钥需先加入 SSH 代理（ssh-add）。"),
    ("challenge_differs", _F, _N, "What the terminal wants signed is not what was asked of it; nothing was signed.", "Check which terminal this cable leads to, and that nothing is between; if this stays, tell the release desk.", "请确认线缆连接的终端，且中间无其他设备；如仍有问题请通知发布部门。"),
    ("not_signed", _R, _N, "The engineer did not sign for it; nothing was done.", "Ask for it again when it is what you want.", "未执行任何操作；确认无误后请重新发起。"),
    ("no_terminal", _X, _B, "No terminal answers on this port.", "Check the cable, its plug and the speed of the line; `posagent-field ports` shows what is there.", "请检查线缆、插头和串口速率；可用 posagent-field ports 查看。"),
    ("report_altered", _F, _N, "The visit report is not what was signed.", "Ask the engineer for the report as it was written, with its .sig file.", "请向工程师索取原始报告及其 .sig 文件。"),
    ("report_signer", _F, _N, "The visit report is not signed by an engineer of this authority.", "Check --ca, and ask the engineer who signed it.", "请检查 --ca，并向工程师确认签名人。"),
    ("laptop_io", _F, _O, "A file on the laptop cannot be read or written.", "Check the path and the free space, then try again.", "请检查路径和可用空间后重试。"),
    # the machine mode of the serial line
    ("machine_version", _R, _N, "The laptop and the terminal speak no common version of the machine mode.", "Bring posagent-field on the laptop to a version for this terminal, or use the human mode.", "请更换与此终端匹配的 posagent-field 版本，或使用人工模式。"),
    ("line_lost", _X, _B, "The terminal does not answer on its serial line.", "Check the cable and that the terminal is on; what was sent is gone on with.", "请检查线缆及终端是否开机；重连后从已传处继续。"),
    ("upload_differs", _F, _N, "What arrived is not the file that was announced.", "Check the file on the laptop, then send it again.", "请检查电脑上的文件后重新发送。"),
    ("sign_again", _R, _N, "This is signed for once more, over exactly what is to be done.", "Sign the challenge that is shown, within a minute, and paste the signature here.", "请在一分钟内对所示挑战签名，并将签名粘贴到此处。"),
    ("revocation_unclear", _F, _O, "The list of revoked engineers' keys cannot be read, or has lines that are not understood; the others hold.", "Correct the named lines in the next image (docs/console.md).", "请在下一版映像中修正指出的行（见 docs/console.md）。"),
    # the audit log
    ("audit_broken", _F, _O, "The audit log is not whole: records were changed, removed or damaged.", "Keep the file as evidence and tell the release desk.", "请保留该文件作为证据并通知发布部门。"),
    ("audit_unreadable", _F, _O, "The audit log, its key or its memory cannot be read.", "Run it as root on the terminal, or name a file that can be read.", "请在终端上以 root 身份运行，或指定可读取的文件。"),
    ("evidence_io", _F, _O, "The file for the status report cannot be written.", "Check the path and the free space, then try again.", "请检查路径和可用空间后重试。"),
    # configuration
    ("config_unreadable", _U, _O, "The configuration file cannot be read or is not TOML.", *_FIX_CONFIG),
    ("config_unknown_key", _U, _O, "The configuration has a key that does not exist.", *_FIX_CONFIG),
    ("config_missing_key", _U, _O, "The configuration lacks a key that has no safe default.", *_FIX_CONFIG),
    ("config_bad_value", _U, _O, "A value in the configuration is of the wrong type or out of range.", *_FIX_CONFIG),
    ("config_same_device", _U, _O, "The configuration names one device twice.", *_FIX_CONFIG),
    # bundle and trust
    ("bundle_unreadable", _F, _N, "The bundle is not a bundle, or is cut short.", *_GET_GOOD),
    ("bundle_partial", _F, _N, "The bundle lacks the part of it that this terminal needs.", "Get the whole bundle: this one was cut down for other terminals.", "请获取完整的升级包；此包已为其他终端裁剪。"),
    ("bundle_too_large", _F, _N, "A part of the bundle is larger than allowed.", *_GET_GOOD),
    ("signature_invalid", _F, _N, "The bundle is not signed by enough of the trusted keys.", *_GET_GOOD),
    ("repository_expired", _F, _N, "The bundle's signed validity has ended.", "Get a freshly signed bundle, or set the terminal's clock if it is wrong; an engineer on the serial line may `allow` it.", "请获取重新签名的升级包，如时钟错误请校准；工程师也可在串口用 allow 允许。"),
    ("repository_rollback", _F, _N, "The bundle is older than what this terminal has already seen.", *_GET_GOOD),
    ("counter_too_low", _F, _N, "The bundle's security counter is below this terminal's rollback floor.", "Use a newer release.", "请使用更新的版本。"),
    ("bundle_sealed", _F, _N, "The bundle is encrypted for other terminals than this one.", "Get the bundle that was made for this group of terminals.", "请获取为本机所属终端组制作的升级包。"),
    ("wrong_hardware", _F, _N, "The bundle is for other hardware.", "Get the bundle for this model and revision.", "请获取适用于本机型号的升级包。"),
    ("payload_corrupt", _F, _N, "The payload does not match its signed digest.", *_GET_GOOD),
    ("source_differs", _F, _N, "The delta was made from another version than the one that runs here.", "Get a bundle with the full payload.", "请获取包含完整镜像的升级包。"),
    ("codec_differs", _F, _N, "The delta needs a compression library that packs into the same bytes; this terminal's does not.", *_GET_GOOD),
    ("bundle_incomplete", _F, _B, "A part of the bundle that is needed was not fetched.", "Nothing to do; the next try fetches it.", "无需操作；下次重试会自动获取。"),
    ("trust_store_damaged", _F, _O, "The trusted root is missing or unreadable.", *_SERVICE),
    # slots and boot control
    ("slot_missing", _F, _O, "There is no second slot to install to.", *_SERVICE),
    ("slot_too_small", _F, _N, "The image is larger than the slot.", *_SERVICE),
    ("slot_is_booted", _F, _N, "Refused to write to the running slot.", *_SERVICE),
    ("slot_not_complete", _F, _N, "Refused to start a slot that is not completely written and read back.", *_SERVICE),
    ("slot_changed", _F, _N, "The terminal was started from another slot in the meantime.", "Ask for the update again.", "请重新发起升级。"),
    ("slot_io", _F, _B, "Reading or writing the slot failed.", "If it happens again, the flash may be worn: call service.", "如再次发生，闪存可能老化，请联系服务商。"),
    ("read_back_differs", _F, _B, "What was read back from the slot is not what was written.", "If it happens again, the flash may be worn: call service.", "如再次发生，闪存可能老化，请联系服务商。"),
    ("boot_env_missing", _F, _O, "The boot environment cannot be read.", *_SERVICE),
    ("boot_env_not_redundant", _F, _O, "The boot environment has only one copy and would not survive a power cut.", *_SERVICE),
    ("boot_env_write", _F, _B, "The boot environment could not be written.", *_SERVICE),
    ("booted_slot_unknown", _F, _O, "The kernel does not say which slot is running.", *_SERVICE),
    # fetch
    ("fetch_network", _F, _B, "The server cannot be reached or the connection broke.", *_NETWORK),
    ("fetch_source", _F, _N, "The local file cannot be read.", "Check the path and whether the stick is plugged in, then ask again.", "请检查路径及 U 盘是否插好后重试。"),
    ("fetch_stalled", _F, _B, "No bytes arrived for too long.", *_NETWORK),
    ("fetch_timeout", _F, _B, "The download took longer than allowed.", *_NETWORK),
    ("fetch_tls", _F, _O, "The server's certificate is not trusted.", "Check the terminal's date and the CA file; do not switch verification off.", "请检查终端日期和 CA 证书；切勿关闭校验。"),
    ("fetch_portal", _F, _B, "The network answered with a web page of its own instead of the update server.", "Sign in to this network (guest Wi-Fi), or connect the terminal to another one.", "请登录此网络（访客 Wi-Fi），或改用其他网络。"),
    ("fetch_proxy", _F, _B, "A proxy on this network asks for a name and a password, which a terminal has not.", "Ask whoever runs this network to let the terminal reach the update server without them, or use another network.", "请让网络管理员允许终端直接访问升级服务器，或改用其他网络。"),
    ("fetch_link_changed", _F, _B, "The terminal's network link changed; the download goes on over the new one.", "Nothing to do.", "无需操作。"),
    ("fetch_status", _F, _B, "The server answered with an error.", *_REPO_ADMIN),
    ("fetch_length", _F, _B, "The server sent another length than it announced.", *_REPO_ADMIN),
    ("fetch_too_large", _F, _N, "The server offers more bytes than allowed.", *_REPO_ADMIN),
    ("fetch_changed", _F, _B, "The file changed on the server during the download.", *_REPO_ADMIN),
    ("fetch_metered", _F, _B, "This update needs more bytes than allowed on a metered link.", "Connect the terminal to Ethernet or Wi-Fi, or raise fetch.metered_bytes_max.", "请改用有线网络或 Wi-Fi，或调高 fetch.metered_bytes_max。"),
    ("fetch_insecure", _F, _N, "The address is not https, or a redirect leads away from it.", *_REPO_ADMIN),
    ("fetch_pointer", _F, _B, "The repository's announcement is not understood.", *_REPO_ADMIN),
    ("fetch_no_stick", _F, _N, "No stick with an update for this terminal is plugged in.", "Plug in a FAT, exFAT or ext4 stick that has the bundle in its top directory, wait a few seconds, ask again.", "请插入根目录中有升级包的 U 盘（FAT、exFAT 或 ext4），稍候重试。"),
    ("net_link", _F, _B, "No network link is up.", "Plug in the network cable, switch Wi-Fi on, or check the SIM card and its signal.", "请插好网线、打开 Wi-Fi，或检查 SIM 卡与信号。"),
    ("net_dns", _F, _B, "The name of the update server could not be looked up.", "Restart the router or the access point; if this stays, use another network or ask whoever runs this one for its DNS server.", "请重启路由器或热点；如仍有问题请改用其他网络，或向网络管理员询问 DNS 服务器。"),
    ("net_connect", _F, _B, "The update server does not answer.", "If other things on this network work, a firewall or proxy is in between: ask whoever runs it to allow this address and port.", "如此网络的其他应用正常，可能被防火墙或代理拦截：请让网络管理员放行该地址和端口。"),
    ("tls_clock", _F, _O, "The server's certificate is not valid at this terminal's date.", "Compare the terminal's date with today's and set it; if it is right, tell the release desk to renew the certificate.", "请核对并校准终端日期；如日期正确，请通知发布部门更新证书。"),
    ("tls_authority", _F, _O, "The server's certificate is signed by an authority that this terminal does not know.", "Something on this network opens encrypted connections (a sign-in page, a proxy), or fetch.ca_file lacks the authority: try another network; do not switch verification off.", "此网络可能拦截加密连接（登录页或代理），或 fetch.ca_file 缺少该机构证书：请改用其他网络；切勿关闭校验。"),
    ("tls_name", _F, _O, "The server's certificate is for another name: this is not the update server.", "Sign in to this network (guest Wi-Fi), or connect the terminal to another one.", "请登录此网络（访客 Wi-Fi），或改用其他网络。"),
    ("repository_stale", _F, _O, "The signature of what the repository offers has ended.", "Compare the terminal's date with today's; if it is right, ask the release desk to sign the repository again.", "请核对终端日期；如正确，请联系发布部门重新签名升级仓库。"),
    ("spool_full", _F, _B, "There is not enough free space for the download.", *_FREE_SPACE),
    ("spool_io", _F, _B, "Writing the download to the data partition failed.", *_FREE_SPACE),
    # trial boot
    ("boot_failed", _F, _N, "The new version did not start; the bootloader went back to the old one.", *_SERVICE),
    ("selftest_failed", _F, _N, "The new version started but failed a self-test.", *_SERVICE),
    ("selftest_deadline", _F, _N, "The self-test did not end in time.", *_SERVICE),
    ("selftest_daily", _F, _O, "The running version failed a self-test of its daily round.", "Look at `posagent selftest security`; if it fails again, take no payments and call service.", "请运行 posagent selftest security；若仍未通过，请停止收款并联系服务商。"),
    ("commit_lost", _F, _N, "The terminal fell back before the new version was confirmed.", *_SERVICE),
    ("no_way_back", _F, _N, "The new version failed, but there is no good one to go back to: it keeps running.", "Call service with this code now, or install another version.", "请立即将此代码告知服务商，或安装其他版本。"),
    ("restart_put_off", _F, _B, "Payments have put off the daily restart for hours; the next one is tomorrow.", "Nothing to do; restart the terminal by hand if it has to be today.", "无需操作；如需当天重启请手动重启终端。"),
    ("reboot_failed", _F, _B, "The terminal does not restart when asked to.", "Switch it off and on once.", "请关机后重新开机一次。"),
    # support
    ("support_no_key", _R, _O, "No support bundle is made, because the vendor's public key is missing: it would be readable for whoever steals it.", "Put the vendor's key (`posagent-release keys init` makes it) into the signed image and name it in support.vendor_key_file.", "请将厂商公钥放入签名镜像，并在 support.vendor_key_file 中指定。"),
    ("support_failed", _F, _B, "The support bundle could not be made.", "Try again; if this stays, call service with this code.", "请重试；如仍有问题请将此代码告知服务商。"),
    ("support_unreadable", _F, _N, "This is no support bundle, or it is damaged, or made for another vendor's key.", "Fetch it from the terminal again, compare its code, and open it with the private key that belongs to that terminal's vendor_key_file.", "请重新从终端获取并核对代码，使用与终端 vendor_key_file 对应的私钥打开。"),
    # the merchant's data
    ("data_newer", _F, _N, "The merchant's data is of a newer form than this version's payment application reads.", "Install the newer version again, or a newer one: it reads the data; nothing of it is lost.", "请重新安装较新版本（或更新的版本），它可读取该数据；数据未丢失。"),
    ("data_older", _F, _O, "The merchant's data is of an older form than this version's payment application reads, and was not brought to it.", *_DATA),
    ("data_no_space", _F, _O, "There is no room for the copy of the merchant's data that the new version works on.", *_FREE_SPACE),
    ("fleet_credentials", _X, _O, "The fleet server does not accept this terminal's credentials, or they cannot be read.", "Ask the fleet's operator for the terminal's token or certificate; updates by console, stick or repository go on.", "请向车队管理员获取终端令牌或证书；通过控制台、U 盘或升级仓库仍可升级。"),
    ("fleet_answer", _X, _B, "The fleet server's answer is not understood.", "Ask the fleet's operator to check the server; the terminal asks again by itself.", "请联系车队管理员检查服务器；终端会自动重试。"),
    ("data_step_failed", _F, _N, "A migration step could not bring the merchant's data to the new form.", *_SERVICE),
    ("data_money_differs", _F, _N, "After the migration the payments in the merchant's data are not the same as before.", *_SERVICE),
    ("parameters_invalid", _F, _N, "The schema of the version that runs does not accept these parameters.", "Nothing was changed; the acquirer has to send a corrected set.", "未做任何更改；请收单机构发送修正后的参数。"),
    ("parameters_alone", _F, _N, "The payment application of this version takes new parameters only together with a new version.", "Nothing was changed; send the parameters in the next update of the system.", "未做任何更改；请随下一次系统升级下发参数。"),
    ("parameters_reload", _F, _B, "The payment application could not be made to read its parameters.", "posagent tries again; if it stays, restart the terminal.", "系统会自动重试；如仍失败请重启终端。"),
    ("data_unreadable", _F, _O, "The merchant's data cannot be read.", *_DATA),
    ("data_io", _F, _B, "The merchant's data cannot be copied or written.", *_FREE_SPACE),
    ("data_key", _F, _O, "The key of the backups is missing or cannot be used.", "Bring the key or the secure element back; without it the old backups stay closed, and `posagent data` tells how to begin new ones.", "请恢复密钥或安全元件；否则旧备份无法打开，可用 posagent data 查看如何重新开始备份。"),
    ("data_backup_corrupt", _F, _N, "This backup is damaged, or of another terminal.", "Keep the file for service; take another backup.", "请保留该文件供服务商检查，并使用其他备份。"),
    ("data_secret_found", _F, _N, "There are keys or sensitive authentication data in the merchant's data: they must not get into a backup.", "Tell the vendor of the payment application which file it is; nothing was backed up or installed.", "请将所示文件告知支付应用厂商；未进行备份和安装。"),
    ("data_restore_doubles", _R, _N, "Payments in this backup are not in the data any more: they were settled, and would be charged again.", "Keep the present data; call service if something is missing in it.", "请继续使用当前数据；如有缺失请联系服务商。"),
    ("data_restore_loses", _R, _N, "Payments that are in the data now are not in this backup: they would be lost.", "Keep the present data; call service if something is missing in it.", "请继续使用当前数据；如有缺失请联系服务商。"),
    # the release desk
    ("keys_exist", _R, _N, "There are release keys in this directory already.", "Choose an empty directory; keys are never overwritten.", "请选择空目录；密钥不会被覆盖。"),
    ("keys_unusable", _F, _O, "A release key is missing or cannot be opened.", "Check the keys directory and POSAGENT_KEY_PASSPHRASE.", "请检查密钥目录和 POSAGENT_KEY_PASSPHRASE。"),
    ("release_io", _F, _O, "A file of the release cannot be read or written.", "Check the path and the free space, then try again.", "请检查路径和可用空间后重试。"),
    # inside
    ("interrupted", _F, _B, "The work was interrupted too often to come to an end.", "Keep the terminal powered, then ask for the update again.", "请保持供电后重新发起升级。"),
    ("worker_lost", _F, _B, "A worker process ended before it had finished.", *_SERVICE),
    ("worker_stalled", _F, _B, "A worker process made no progress for too long.", *_SERVICE),
    ("journal_damaged", _F, _O, "The journal was damaged; what could be read was kept.", *_SERVICE),
    ("journal_io", _F, _O, "The journal cannot be written.", *_FREE_SPACE),
    ("cancelled", _F, _N, "The update was cancelled by a person.", "Ask for the update again when it suits.", "方便时请重新发起升级。"),
    ("superseded", _F, _N, "A newer request took the place of this update before it was installed.", "Nothing to do; `posagent status` shows the newer one.", "无需操作；可用 posagent status 查看新的升级。"),
    ("internal", _F, _B, "The agent met a fault of its own.", *_SERVICE),
)
# fmt: on


class PosagentError(Exception):
    """Trouble of the world with a code from the catalogue. `facts` are small JSON values shown beside it. What a worker
    or a file said may be in the detail: card numbers are taken out."""

    def __init__(self, code: str, detail: str = "", **facts: Any) -> None:
        self.spec = CATALOGUE[code]
        self.code = code
        self.detail = redact.cards(detail) or self.spec.meaning
        self.facts = facts
        super().__init__(f"{code}: {self.detail}")

    def as_dict(self) -> dict[str, Any]:
        """The JSON form used on every socket and by `--json`."""
        return {
            "code": self.code,
            "kind": self.spec.kind.value,
            "detail": self.detail,
            "remedy": self.spec.remedy,
            "remedy_zh": self.spec.remedy_zh,
            **self.facts,
        }

    @staticmethod
    def from_dict(data: Mapping[str, Any]) -> PosagentError:
        """The error another process reported; an unknown code becomes `internal` rather than a crash."""
        code = data.get("code")
        known = code if isinstance(code, str) and code in CATALOGUE else "internal"
        shown = ("code", "kind", "detail")  # what it advised stays: it may know better than the catalogue
        facts = {str(k): v for k, v in data.items() if k not in shown}
        return PosagentError(known, str(data.get("detail", "")), **facts)


class Refusal(PosagentError):
    """A person or peer asked for something that must not happen now."""


class ConfigError(PosagentError):
    """The configuration cannot be used."""


class BundleError(PosagentError):
    """The bundle's shape or content is wrong."""


class TrustError(PosagentError):
    """The bundle is not authentic, not fresh, or not for this terminal."""


class SlotError(PosagentError):
    """A slot cannot be read, written or started."""


class BootControlError(PosagentError):
    """The boot environment cannot be read or written."""


class FetchError(PosagentError):
    """Bytes could not be moved into the spool."""


class JournalError(PosagentError):
    """The journal cannot be read or written."""


class ReleaseError(PosagentError):
    """The release desk's keys or files cannot be used."""


class WorkerError(PosagentError):
    """A worker process was lost or stalled."""
