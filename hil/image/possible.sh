#!/bin/sh
# Whether this machine can build the virtual terminal: `possible.sh machine OS_RELEASE`, `possible.sh means PYTHON`.
# What it lacks is told in lines that begin with "hil: lacks"; CI skips then, and takes any other failure for one.
set -u
lacks() {
    echo "hil: lacks $*"
    lacking=1
}
lacking=0
case $1 in
machine) # before anything is installed
    release=$(. "$2" 2>/dev/null && echo "${ID:-} ${VERSION_ID:-}")
    [ "$release" = "debian 12" ] || lacks "Debian 12, of which the image is made; this is ${release:-another system}"
    [ "$(id -u)" = 0 ] || lacks "root, who makes the image's file system"
    [ $lacking = 1 ] || [ -e /proc/sys/fs/binfmt_misc/status ] || mount -t binfmt_misc binfmt_misc /proc/sys/fs/binfmt_misc 2>/dev/null ||
        lacks "a kernel that runs foreign programs (binfmt_misc)"
    ;;
means) # with the tools, and apt's lists of packages
    version=$("$2" -c 'import sys; print("%d.%d" % sys.version_info[:2])' 2>/dev/null)
    [ "$version" = 3.11 ] || lacks "Python 3.11 in .venv, as the terminal has it; there it is ${version:-none}"
    said=$(apt-get -qq -c "$B/apt/apt.conf" --print-uris --only-source source u-boot 2>&1)
    case $said in
    */u-boot_*) ;;
    *"Unable to find a source package"*) lacks "source packages (deb-src) of its distribution, for U-Boot" ;;
    *) echo "$said" && exit 2 ;;
    esac
    ;;
esac
exit $lacking
