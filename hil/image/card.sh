#!/bin/sh
# The SD card as it leaves the factory: both copies of the boot environment, slot a filled, slot b and data empty -> card.img
set -eu
here=$(cd "$(dirname "$0")" && pwd)
card=$B/card.new
slot_b=$((2 + SLOT_MIB))
data=$((slot_b + SLOT_MIB))
data_mib=$((CARD_MIB - data - 1)) # the last MiB holds the second partition table
rm -f "$card" "$B/data.ext4"
truncate -s "${CARD_MIB}M" "$card"
# The first partition begins at 2 MiB: the boot environment lies before it.
sfdisk -q "$card" <<EOF
label: gpt
start=2MiB, size=${SLOT_MIB}MiB, name=slot-a
start=${slot_b}MiB, size=${SLOT_MIB}MiB, name=slot-b
start=${data}MiB, size=${data_mib}MiB, name=data
EOF
sed "s|^/dev/mmcblk0|$card|" "$here/overlay/etc/fw_env.config" >"$B/fw_env.config"
for left in 2 3; do # one write for each copy: what would not change is not written
    fw_setenv -c "$B/fw_env.config" -f "$here/uboot.env" BOOT_a_LEFT $left
done
dd if="$B/rootfs.ext4" of="$card" bs=1M seek=2 conv=notrunc,sparse status=none
truncate -s "${data_mib}M" "$B/data.ext4"
mke2fs -q -t ext4 -L data -m 0 "$B/data.ext4"
dd if="$B/data.ext4" of="$card" bs=1M seek="$data" conv=notrunc,sparse status=none
rm "$B/data.ext4"
mv "$card" "$B/card.img"
sed -i "s|$card|$B/card.img|" "$B/fw_env.config"
