"""Every check of `posagent doctor`: its stable name, what should be, and what to do where it is not so.

docs/checks.md is generated from it. Rules: one row a check, English and Chinese; a title says how it should be.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Entry:
    title: str
    title_zh: str
    remedy: str
    remedy_zh: str


# fmt: off
CATALOGUE: Mapping[str, Entry] = {
    "root": Entry("It runs as root", "以 root 身份运行", "Run it as root.", "请以 root 身份运行。"),
    "internal": Entry("Every check comes to an end", "所有检查均能完成", "Report this line as a fault of posagent; the other findings hold.", "请将此行作为 posagent 的缺陷报告；其他结果仍然有效。"),
    # configuration
    "config.loads": Entry("The configuration can be used", "配置文件可用", "Correct the named line; docs/configuration.md has every key.", "请修正指出的行；所有配置项见 docs/configuration.md。"),
    "config.root": Entry("The root of trust can be read", "信任根可读", "Put root.json of the release desk's keys directory into the image, where trust.root_file names it.", "请将发布部门密钥目录中的 root.json 放入映像中 trust.root_file 所指位置。"),
    "config.engineer": Entry("The engineers' authority can be read", "工程师 CA 可读", "Put engineer-ca.pub of the release desk's keys directory into the image, where console.engineer_ca_file names it, or set console.device to empty; correct the lines of console.revoked_file that are named.", "请将发布部门的 engineer-ca.pub 放入映像中 console.engineer_ca_file 所指位置，或将 console.device 设为空；并修正 console.revoked_file 中指出的行。"),
    "config.version": Entry("The running system has a version", "当前系统有版本号", "Write IMAGE_VERSION into os-release when the image is built.", "请在构建映像时把 IMAGE_VERSION 写入 os-release。"),
    "config.programs": Entry("Files and programs that the configuration names exist", "配置所指的文件和程序均存在", "Install what is missing (fw_setenv: libubootenv), or correct its path in the configuration.", "请安装缺少的程序（fw_setenv 属于 libubootenv），或修正配置中的路径。"),
    "config.selftests": Entry("A new version is tested before it is kept", "新版本须先通过自检", "Configure at least one [[selftest.checks]]; without any every update is rolled back.", "请至少配置一个 [[selftest.checks]]；否则每次升级都会回退。"),
    "config.repository": Entry("Updates come from an https repository", "升级来自 https 仓库", "Set fetch.repository_url to an https address.", "请将 fetch.repository_url 设为 https 地址。"),
    "config.support": Entry("Support bundles can be sealed for the vendor", "支持包可为厂商加密", "Put vendor.pub.pem of the release desk's keys directory into the image and name it in support.vendor_key_file; without it no support bundle is made.", "请将发布部门密钥目录中的 vendor.pub.pem 放入映像，并在 support.vendor_key_file 中指定；否则无法生成支持包。"),
    # boot environment
    "boot.counts_down": Entry("The boot script counts tries down", "启动脚本会递减尝试次数", "Let the boot script take one from the slot's counter and save the environment before it starts the kernel: docs/integrating.md.", "请让启动脚本在启动内核前将该分区计数减一并保存环境，见 docs/integrating.md。"),
    "boot.readable": Entry("The boot environment can be read and has two copies", "启动环境可读且有两份", "Name both copies in fw_env.config exactly as the bootloader was built, and write both in the factory.", "请在 fw_env.config 中按引导程序的编译配置写明两份环境，并在出厂时写入两份。"),
    "boot.places": Entry("The copies of the boot environment lie apart", "两份启动环境互不重叠", "Correct offsets and sizes in fw_env.config; they must be those of the bootloader (CONFIG_ENV_OFFSET, CONFIG_ENV_OFFSET_REDUND, CONFIG_ENV_SIZE).", "请修正 fw_env.config 中的偏移和大小，须与引导程序（CONFIG_ENV_OFFSET、CONFIG_ENV_OFFSET_REDUND、CONFIG_ENV_SIZE）一致。"),
    "boot.copies": Entry("Each copy of the boot environment is whole", "每份启动环境均完整", "Write the factory environment into both copies: one must be enough to start the terminal. If it comes back, bootloader and fw_env.config disagree.", "请在出厂时将环境写入两份：任一份都须能启动终端。若再次出现，说明引导程序与 fw_env.config 不一致。"),
    "boot.booted": Entry("The kernel's command line names the running slot", "内核命令行指明当前分区", "Let the boot script append boot.cmdline_key=SLOT to the kernel's command line.", "请让启动脚本在内核命令行末尾加上 boot.cmdline_key=分区名。"),
    "boot.order": Entry("The boot order names the running slot first", "启动顺序以当前分区为首", "Set boot.order_variable and the boot names of the slots to what the boot script uses; factory state: only the filled slot.", "请使 boot.order_variable 和分区启动名与启动脚本一致；出厂状态只含已写入的分区。"),
    "boot.tries": Entry("Try counters are plausible", "尝试次数合理", "Set boot.tries_variable and boot.tries_full to what the boot script uses; factory state: the filled slot full, the other 0.", "请使 boot.tries_variable 和 boot.tries_full 与启动脚本一致；出厂状态：已写入的分区为满，另一分区为 0。"),
    "boot.fallback": Entry("The boot order has only slots with a good image", "启动顺序只含有可用映像的分区", "Take the slot out of the boot order and set its tries to 0, or write a tested image into it.", "请将该分区移出启动顺序并将其次数设为 0，或写入经过测试的映像。"),
    "boot.writable": Entry("The boot environment can be written", "启动环境可写", "Check the device's write protection, its place in fw_env.config, and that /run/lock exists.", "请检查设备写保护、fw_env.config 中的位置，以及 /run/lock 是否存在。"),
    "boot.reset_word": Entry("A hang can be told from a power cut", "可区分死机与断电", "Let the boot script put boot.reset_key= and the reset register's meaning on the kernel's command line: docs/integrating.md. Without it, see what --watchdog-test says.", "请让启动脚本将 boot.reset_key= 及复位寄存器的含义写入内核命令行，见 docs/integrating.md。若无法做到，请查看 --watchdog-test 的结果。"),
    # watchdog
    "watchdog.bites": Entry("The watchdog resets a board that hangs, and the agent knows it", "看门狗能复位死机的主板，且代理能识别", "Check the driver and the board's reset line; give the boot script's word (boot.reset_key) where the driver does not report its resets.", "请检查驱动和主板复位线路；若驱动不报告复位原因，请由启动脚本提供 boot.reset_key。"),
    "watchdog.present": Entry("There is a hardware watchdog", "有硬件看门狗", "Build the SoC's watchdog driver into the kernel, or correct watchdog.device.", "请在内核中启用 SoC 的看门狗驱动，或修正 watchdog.device。"),
    "watchdog.owner": Entry("Exactly one program pets the watchdog", "只有一个程序负责喂狗", "Either set RuntimeWatchdogSec= in /etc/systemd/system.conf, or watchdog.device in posagent.toml; end whatever else holds the device.", "请在 /etc/systemd/system.conf 中设置 RuntimeWatchdogSec=，或在 posagent.toml 中设置 watchdog.device，二者择一；并停止占用设备的其他程序。"),
    "watchdog.timeout": Entry("The watchdog's time-out is sensible", "看门狗超时合理", "Choose a time-out that the driver can do, 30 to 60 s for most boards.", "请选择驱动支持的超时，多数主板为 30 至 60 秒。"),
    "watchdog.service": Entry("systemd watches the agent where the agent pets systemd", "systemd 对代理的监视与配置一致", "Keep WatchdogSec=60s in posagentd.service and watchdog.systemd = true, or remove both.", "请同时保留 posagentd.service 的 WatchdogSec=60s 和 watchdog.systemd = true，或同时去掉。"),
    # slots
    "slots.exist": Entry("Both slots exist", "两个分区均存在", "Correct slots.a.device and slots.b.device, or the partition table.", "请修正 slots.a.device、slots.b.device 或分区表。"),
    "slots.apart": Entry("The slots are two devices that do not overlap", "两个分区是不同设备且互不重叠", "Correct the slots' names or the partition table (look where links in /dev/disk point): an installation would destroy the running system.", "请修正分区名称或分区表（检查 /dev/disk 中的链接）：否则安装会破坏当前系统。"),
    "slots.root": Entry("What is mounted as / is the slot that the command line names", "根文件系统即命令行所指分区", "Let the boot script derive root= and boot.cmdline_key= from the same variable.", "请让启动脚本由同一变量得出 root= 和 boot.cmdline_key=。"),
    "slots.spare": Entry("Nobody uses the spare slot", "备用分区未被占用", "Take it out of fstab and of automatic mounting; the installer must have it alone.", "请从 fstab 和自动挂载中去掉备用分区；安装程序须独占它。"),
    "slots.size": Entry("Each slot can hold the image", "每个分区都容得下映像", "Make both partitions equally large, with room for the image to grow.", "请使两个分区大小相等，并为映像增长留出余量。"),
    # clock
    "clock.sane": Entry("The clock is plausible", "时钟合理", "Set trust.image_built_at when the image is built (date +%s), and set the clock.", "请在构建映像时设置 trust.image_built_at（date +%s），并校准时钟。"),
    "clock.rtc": Entry("A clock goes on without power", "断电后时钟继续运行", "Enable the RTC's driver and set it once (hwclock --systohc).", "请启用 RTC 驱动并设置一次（hwclock --systohc）。"),
    "window.daily_restart": Entry("An update can take the place of the daily restart", "升级可与每日重启合并", "Move window.daily_restart into a window of window.install, some minutes before its end, or change the window; else each update restarts the terminal a second time on that day.", "请将 window.daily_restart 移至 window.install 的某个时段内（结束前留出数分钟），或调整时段；否则每次升级当天会重启两次。"),
    # holding off a shutdown
    "inhibitor.works": Entry("The agent may hold off a shutdown", "代理可推迟关机", "Install systemd-logind, D-Bus and polkit, and copy systemd/polkit/posagent.rules to /etc/polkit-1/rules.d/; without them a shutdown is not held off in the critical section.", "请安装 systemd-logind、D-Bus 和 polkit，并将 systemd/polkit/posagent.rules 复制到 /etc/polkit-1/rules.d/；否则关键阶段无法推迟关机。"),
    # units
    "units.installed": Entry("The units are installed and enabled, and the agent runs", "systemd 单元已安装并启用，且代理正在运行", "Copy systemd/posagent* to /usr/lib/systemd/system and systemctl enable the named units when the image is built; for one that failed look at systemctl status.", "请将 systemd/posagent* 复制到 /usr/lib/systemd/system，并在构建映像时对指出的单元执行 systemctl enable；失败的单元请查看 systemctl status。"),
    "units.programs": Entry("The programs that the units start exist", "单元启动的程序均存在", "Install the programs to /usr/bin, or link them there from where pip has put them (/usr/local/bin).", "请将程序安装到 /usr/bin，或从 pip 的安装位置（/usr/local/bin）链接到那里。"),
    "units.paths": Entry("Units and configuration name the same directories", "单元与配置的目录一致", "Use the default directories, or give each named unit a drop-in with yours.", "请使用默认目录，或为指出的单元添加附加配置。"),
    "units.devices": Entry("The sandboxes open the devices", "沙箱允许访问所需设备", "Add the DeviceAllow lines in a drop-in of the named unit.", "请在指出单元的附加配置中加入 DeviceAllow 行。"),
    "units.timers": Entry("The trial timers recognise their slots", "试运行定时器能识别分区", "Give the timer and its service a drop-in whose ConditionKernelCommandLine= has your key and boot name.", "请为该定时器及其服务添加附加配置，使 ConditionKernelCommandLine= 与您的键和启动名一致。"),
    "units.sockets": Entry("The workers' sockets listen, for the agent alone", "工作进程套接字仅供代理使用", "Enable and start the socket units; run_dir must be the one they name.", "请启用并启动套接字单元；run_dir 须与其一致。"),
    # users and places
    "users.exist": Entry("The users exist", "用户存在", "Copy systemd/sysusers.d/posagent.conf to /usr/lib/sysusers.d and run systemd-sysusers when the image is built.", "请将 systemd/sysusers.d/posagent.conf 复制到 /usr/lib/sysusers.d，并在构建映像时执行 systemd-sysusers。"),
    "users.groups": Entry("The groups of administrators exist", "管理员组存在", "Create the group, or correct api.admin_groups.", "请创建该组，或修正 api.admin_groups。"),
    "users.payment": Entry("The payment application may hold, and no more", "支付应用只能请求暂缓，别无其他权限", "Put the payment application's user into the group posagent-payment (api.payment_groups), and into none of api.admin_groups: docs/payment.md.", "请将支付应用的用户加入 posagent-payment 组（api.payment_groups），且不要加入 api.admin_groups 中的任何组，见 docs/payment.md。"),
    "places.owners": Entry("Each directory belongs to its process", "目录属主正确", "Copy systemd/tmpfiles.d/posagent.conf to /usr/lib/tmpfiles.d and run systemd-tmpfiles --create after the data partition is mounted.", "请将 systemd/tmpfiles.d/posagent.conf 复制到 /usr/lib/tmpfiles.d，并在挂载数据分区后执行 systemd-tmpfiles --create。"),
    "places.above": Entry("Only root can exchange the installer's directory", "只有 root 能替换安装程序目录", "Let every directory above terminal.installer_dir belong to root, writable by nobody else.", "请使 terminal.installer_dir 的所有上级目录属于 root 且他人不可写。"),
    "data.mounted": Entry("State lies on a data partition of its own", "状态位于独立的数据分区", "Mount a data partition where the three directories are, /var/lib for one; it must be no slot and not the root file system.", "请在三个目录所在处（如 /var/lib）挂载数据分区；它不能是升级分区或根文件系统。"),
    "data.kind": Entry("The data partition's file system is fit", "数据分区文件系统合适", "Use ext4 or f2fs; ubifs on raw flash.", "请使用 ext4 或 f2fs；裸闪存用 ubifs。"),
    "data.options": Entry("The data partition is mounted as it should be", "数据分区挂载选项合适", "Mount it read-write with noatime, and leave barriers on.", "请以可读写、noatime 方式挂载，并保持 barrier 开启。"),
    "data.merchants": Entry("The merchant's data can be kept over updates", "商户数据可在升级中保留", "Set data.owner to the payment application's user, data.root_dir to the data partition, data.link to a directory on tmpfs; migration steps belong to root and nobody else writes to them (docs/data.md).", "请将 data.owner 设为支付应用的用户，data.root_dir 放在数据分区，data.link 放在 tmpfs；迁移步骤须属于 root 且他人不可写（见 docs/data.md）。"),
    "data.room": Entry("The data partition has room for a bundle", "数据分区容得下升级包", "Make the partition larger, or free space on it.", "请扩大该分区或清理空间。"),
    # power and console
    "power.gates": Entry("The agent can tell when there is enough energy", "代理能判断电量是否足够", "Let the driver report capacity and status; peripherals' batteries need scope Device; set power.battery as the terminal is built.", "请让驱动报告 capacity 和 status；外设电池的 scope 须为 Device；power.battery 应符合终端实际。"),
    "console.device": Entry("The agent may open the serial console", "代理可打开串口", "Correct console.device, or give the line's group dialout mode 0660.", "请修正 console.device，或将该串口设为 dialout 组、权限 0660。"),
    "console.free": Entry("Nobody else talks on the serial console", "串口未被他人占用", "Take console= of this line off the kernel's command line and disable its getty, or use another line.", "请从内核命令行去掉该串口的 console= 并停用其 getty，或使用其他串口。"),
    "console.inbox": Entry("Bundles can come over the serial console", "可经串口接收升级包", "Copy systemd/sysusers.d/posagent.conf and systemd/tmpfiles.d/posagent.conf into the image, and run systemd-sysusers when it is built, systemd-tmpfiles --create after the data partition is mounted.", "请将 systemd/sysusers.d/posagent.conf 与 systemd/tmpfiles.d/posagent.conf 复制到映像中；构建时运行 systemd-sysusers，挂载数据分区后执行 systemd-tmpfiles --create。"),
}
# fmt: on
