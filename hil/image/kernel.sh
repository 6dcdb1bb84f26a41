#!/bin/sh
# Debian's arm64 kernel with the few modules of this board, the fake power supply, and an initramfs -> kernel/
set -eu
here=$(cd "$(dirname "$0")" && pwd)
# What the initramfs loads, and what the running system may load besides.
early="sdhci-pci mmc_block crc32c_generic ext4 i6300esb ramoops"
later="virtio_pci virtio_net virtio_console virtio_rng af_packet autofs4"

mkdir -p "$B/kernel/debs" && cd "$B/kernel" && rm -f .done
apt() { apt-get -q -c "$B/apt/apt.conf" "$@"; }
image=$(apt-cache -c "$B/apt/apt.conf" depends linux-image-arm64 | sed -n 's/.*Depends: \(linux-image-.*\)/\1/p')
version=${image#linux-image-}
common=${version%-arm64}-common
# linux-kbuild holds programs that run here, so it is of this machine's architecture.
kbuild=linux-kbuild-6.1:$(dpkg --print-architecture)
[ -e debs/.done ] || (cd debs && apt download "$image" busybox-static "linux-headers-$version" "linux-headers-$common" \
    linux-source-6.1 "$kbuild" && touch .done)
rm -rf x && mkdir x
for one in "$image" busybox-static "linux-headers-$version" "linux-headers-$common" linux-kbuild-6.1; do
    dpkg -x debs/"$one"_*.deb x
done
depmod -b x "$version"

# test_power: a charger and a battery that can be set by hand. Debian's kernel is built without it.
if [ ! -e test_power.ko ]; then
    rm -rf module && mkdir module
    dpkg --fsys-tarfile debs/linux-source-6.1_*.deb | tar xO ./usr/src/linux-source-6.1.tar.xz | xz -dc -T2 |
        tar x --strip-components=4 -C module linux-source-6.1/drivers/power/supply/test_power.c
    echo 'obj-m := test_power.o' >module/Makefile
    sed -i "s|include /usr/src/|include $PWD/x/usr/src/|" "x/usr/src/linux-headers-$version/Makefile"
    make ARCH=arm64 CROSS_COMPILE=aarch64-linux-gnu- -C "$PWD/x/usr/src/linux-headers-$version" M="$PWD/module" modules
    aarch64-linux-gnu-strip -g -o test_power.ko module/test_power.ko
fi

# tree/: what goes into the root file system.
rm -rf tree && mkdir -p tree/boot "tree/usr/lib/modules/$version/extra"
gzip -9nc "x/boot/vmlinuz-$version" >tree/boot/vmlinuz
python3 "$here/modules.py" "x/lib/modules/$version" "tree/usr/lib/modules/$version" $early $later
cp test_power.ko "tree/usr/lib/modules/$version/extra/"
ln -s usr/lib tree/lib && depmod -b tree "$version" && rm tree/lib

rm -rf ramdisk && mkdir -p ramdisk/bin ramdisk/proc ramdisk/dev ramdisk/root ramdisk/modules
cp x/bin/busybox ramdisk/bin/
cp "$here/initramfs-init" ramdisk/init && chmod 755 ramdisk/init
python3 "$here/modules.py" "x/lib/modules/$version" ramdisk/modules --flat $early
(cd ramdisk && find . | LC_ALL=C sort | cpio -o -H newc --quiet --owner=0:0 | gzip -9n) >tree/boot/initrd.img
touch .done
