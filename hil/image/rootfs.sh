#!/bin/sh
# The root file system of a slot, version 1.0.0: Debian, kernel, agent, units, this board's configuration -> rootfs.ext4
set -eu
here=$(cd "$(dirname "$0")" && pwd)
tree=$B/rootfs
units=$here/../../systemd
rm -rf "$tree" && mkdir "$tree"
tar xf "$B/base.tar" -C "$tree" --exclude='./dev/*'
cp -a --no-preserve=ownership "$B/kernel/tree/." "$B/agent/tree/." "$tree/"

# The agent's units at their places, as the README says; then this board's own files.
mkdir -p "$tree/usr/lib/sysusers.d" "$tree/usr/lib/tmpfiles.d" "$tree/usr/share/polkit-1/rules.d" \
    "$tree/usr/lib/posagent/migrate.d"
cp "$units"/*.service "$units"/*.socket "$units"/*.timer "$tree/usr/lib/systemd/system/"
cp "$units"/sysusers.d/* "$tree/usr/lib/sysusers.d/"
cp "$units"/tmpfiles.d/* "$tree/usr/lib/tmpfiles.d/"
cp "$units"/udev/* "$tree/usr/lib/udev/rules.d/"
cp "$units"/polkit/* "$tree/usr/share/polkit-1/rules.d/"
cp -a --no-preserve=ownership "$here/overlay/." "$tree/"
cp "$B/keys/1.root.json" "$tree/etc/posagent/root.json"
cp "$B/keys/engineer-ca.pub" "$tree/etc/posagent/"
echo 'IMAGE_VERSION=1.0.0' >>"$tree/usr/lib/os-release"
printf '\n[trust]\nimage_built_at = %s\n' "$(date +%s)" >>"$tree/etc/posagent/posagent.toml"

# The root file system is read-only, so users are made now.
systemd-sysusers --root="$tree"
for user in posagent posagent-fetch posagent-test posagent-support pos; do # it only warns about lines that it does not take
    grep -q "^$user:" "$tree/etc/passwd"
done
systemctl -q --root="$tree" enable posagentd.service posagent-shutdown.service posagent-installer.socket \
    posagent-fetcher.socket posagent-selftest.socket posagent-support.socket posagent-data.socket \
    posagent-data-select.service posagent-trial@a.timer posagent-trial@b.timer payment.path terminal-network.service
systemctl -q --root="$tree" set-default multi-user.target
# What this terminal has no use for costs seconds of each start under emulation.
systemctl -q --root="$tree" mask apt-daily.timer apt-daily-upgrade.timer dpkg-db-backup.timer e2scrub_all.timer \
    e2scrub_reap.service fstrim.timer getty@tty1.service systemd-networkd.service systemd-timesyncd.service \
    systemd-hwdb-update.service systemd-update-utmp.service systemd-update-utmp-runlevel.service \
    systemd-journal-flush.service systemd-random-seed.service systemd-binfmt.service systemd-pcrphase.service \
    systemd-pcrphase-sysinit.service proc-sys-fs-binfmt_misc.automount dev-hugepages.mount dev-mqueue.mount \
    sys-kernel-debug.mount sys-kernel-tracing.mount kmod-static-nodes.service modprobe@efi_pstore.service \
    modprobe@dm_mod.service modprobe@loop.service user@.service modprobe@fuse.service modprobe@configfs.service modprobe@drm.service
: >"$tree/etc/motd"
rm -rf "$tree/etc/apt" "$tree/var/lib/dpkg" "$tree/var/lib/apt" "$tree/var/cache/debconf" "$tree/usr/share/perl5" \
    "$tree"/usr/lib/udev/hwdb.* "$tree"/usr/lib/aarch64-linux-gnu/perl-base "$tree"/usr/bin/perl*
for rule in alsa cdrom drm evdev fido input infiniband sensor camera joystick mouse touchpad seat probe_mtd sound \
    e2scrub power-switch memory vconsole v4l tape; do
    rm -f "$tree"/usr/lib/udev/rules.d/*"$rule"*
done

rm -f "$B/rootfs.new"
truncate -s "${SLOT_MIB}M" "$B/rootfs.new"
# U-Boot 2023.01 cannot read file systems with these two features.
mke2fs -q -t ext4 -L rootfs -m 0 -O ^metadata_csum_seed,^orphan_file -E lazy_itable_init=0 -d "$tree" "$B/rootfs.new"
du -sm "$tree"
rm -rf "$tree"
mv "$B/rootfs.new" "$B/rootfs.ext4"
