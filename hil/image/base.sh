#!/bin/sh
# Debian for the terminal, without kernel and agent -> base.tar. Needs root, and qemu-user to run the packages' scripts.
set -eu
packages=usr-is-merged,systemd,systemd-sysv,udev,dbus,polkitd,kmod,python3,libubootenv-tool,e2fsprogs,util-linux,mount
packages=$packages,procps,iproute2,login,passwd
[ -e /proc/sys/fs/binfmt_misc/status ] || mount -t binfmt_misc binfmt_misc /proc/sys/fs/binfmt_misc
[ -e /proc/sys/fs/binfmt_misc/qemu-aarch64 ] || update-binfmts --enable qemu-aarch64
set --
for path in doc man info locale i18n bash-completion zsh lintian; do # not perl5: debconf needs it
    set -- "$@" "--dpkgopt=path-exclude=/usr/share/$path/*"
done
mmdebstrap --variant=essential --architectures=arm64 --include=$packages \
    --hook-dir=/usr/share/mmdebstrap/hooks/merged-usr "$@" \
    --dpkgopt='path-exclude=/usr/lib/*/gconv/*' --dpkgopt='path-exclude=/usr/share/zoneinfo/*' \
    bookworm "$B/base.new.tar" "$B"/apt/sources.list.d/*
mv "$B/base.new.tar" "$B/base.tar"
