"""The configuration of a simulated terminal, to be filled in: as a real one, with some tests of every suite."""

CONFIG = """\
# A simulated terminal. Every path lies inside its directory; the rest is what a real terminal would have.
[terminal]
id = "{terminal}"
hardware = "{hardware}"
state_dir = "{root}/data/posagent"
installer_dir = "{root}/data/installer"
run_dir = "{root}/run"
os_release_file = "{root}/booted/os-release"

[slots.a]
device = "{root}/slots/a.img"
[slots.b]
device = "{root}/slots/b.img"

[boot]
env_config = "{root}/etc/fw_env.config"
fw_setenv = "{fw_setenv}"
fw_printenv = "{fw_printenv}"
cmdline_file = "{root}/proc/cmdline"
boot_id_file = "{root}/proc/boot_id"
reboot_command = ["{python}", "-m", "posagent.sim.cli", "reboot", "{root}"]
reboot_timeout_s = 30

[trust]
root_file = "{root}/etc/root.json"
group_key_file = "{group_key_file}"

[fetch]
repository_url = "{repository_url}"
allow_http = true
spool_dir = "{root}/data/spool"
media_dir = "{root}/media"
stall_timeout_s = 20
backoff_s = 1
backoff_s_max = 30

[fleet]
kind = "{fleet_kind}"
server_url = "{fleet_url}"
target_token_file = "{fleet_token_file}"
poll_s = 2
metrics_url = "{metrics_url}"

[install]
backoff_s = 1
gate_recheck_s = 2

[support]
vendor_key_file = "{vendor_key_file}"

[power]
supply_dir = "{root}/sys/class/power_supply"

[payment]
application = "{application}"

[watchdog]
device = "{root}/dev/watchdog"
device_timeout_s = {watchdog_timeout_s}

[console]
device = "{root}/dev/serial"
engineer_ca_file = "{root}/etc/engineer-ca.pub"

[selftest]
deadline_s = {selftest_deadline_s}

[[selftest.checks]]
name = "payment program answers"
kind = "tcp"
port = {payment_port}
timeout_s = {check_timeout_s}
retry_for_s = 5

[[selftest.checks]]
name = "room on the data partition"
kind = "free_space"
path = "{root}/data"
free_bytes_min = 1048576

[[selftest.checks]]
name = "dummy payment"
kind = "payment"
port = {payment_port}
timeout_s = 2

[[selftest.checks]]
name = "payment host"
kind = "payment"
test = "host"
port = {payment_port}
timeout_s = 2

[[selftest.checks]]
name = "printer"
kind = "serial"
device = "{root}/dev/printer"
send_hex = "10 04 01"
expect = '\\x12'

[[selftest.checks]]
name = "card reader"
kind = "serial"
device = "{root}/dev/reader"
send_hex = "02 56 03"
expect = '\\x02SIMREADER [\\d.]+\\x03'

[[selftest.checks]]
name = "PIN pad"
kind = "serial"
device = "{root}/dev/pin_pad"
send_hex = "05"
expect = '\\x06'

[[selftest.checks]]
name = "boot"
kind = "boot_time"
path = "{root}/proc/ready_s"
ms_max = 60000

[[selftest.checks]]
name = "payment program starts"
kind = "start_time"
port = {payment_port}
ms_max = 20000
timeout_s = 2

[[selftest.checks]]
name = "speed of payments"
kind = "transaction_time"
port = {payment_port}
timeout_s = 2
count = 5
runs = 2
ms_max = 5000
worse_percent_max = 500

[[selftest.checks]]
name = "free memory"
kind = "free_memory"
kib_min = 8192

[[selftest.checks]]
name = "speed of the data partition"
kind = "write_rate"
path = "{root}/data"
write_bytes = 65536
kib_per_s_min = 1

[[selftest.checks]]
name = "running slot"
kind = "slot"

[[selftest.checks]]
name = "configuration is nobody's to change"
kind = "permissions"
paths = ["{root}/etc/posagent.toml"]
mode_max = "0644"

[[selftest.checks]]
name = "tamper circuit"
kind = "state"
path = "{root}/sys/tamper"
expect = "intact"
"""
