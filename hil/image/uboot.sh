#!/bin/sh
# U-Boot for QEMU's aarch64 `virt` machine from Debian's source package, unpatched -> u-boot.bin
set -eu
here=$(cd "$(dirname "$0")" && pwd)
mkdir -p "$B/u-boot" && cd "$B/u-boot"
if [ ! -d source ]; then
    apt-get -q -c "$B/apt/apt.conf" source --download-only u-boot
    rm -rf unpacked && dpkg-source --no-check -x u-boot_*.dsc unpacked && mv unpacked source
fi
cp "$here/uboot.env" source/terminal.env # CONFIG_DEFAULT_ENV_FILE is looked up in the source tree
cd source
# The environment is read before PCI would be looked at, and the card is behind PCI.
build() { make O=../out CROSS_COMPILE=aarch64-linux-gnu- KCPPFLAGS=-DCONFIG_SYS_EARLY_PCI_INIT "$@"; }
build qemu_arm64_defconfig
scripts/kconfig/merge_config.sh -O ../out -m ../out/.config "$here/uboot.config"
build olddefconfig
build -j2 u-boot.bin
cp ../out/u-boot.bin "$B/u-boot.bin"
