#!/bin/sh
# A private apt state for the terminal's architecture (and sources), from the package sources of this machine.
# Private, because a deb-src line of our own in /etc/apt would clash with what is there.
set -eu
rm -rf "$B/apt"
mkdir -p "$B/apt/sources.list.d" "$B/apt/state/lists/partial" "$B/apt/cache/archives/partial"
for one in /etc/apt/sources.list.d/*.sources; do
    [ -e "$one" ] && sed 's/^Types:.*/Types: deb deb-src/' "$one" >"$B/apt/sources.list.d/${one##*/}"
done
if [ -s /etc/apt/sources.list ]; then
    sed -n 's/^deb \(.*\)/deb \1\ndeb-src \1/p' /etc/apt/sources.list >"$B/apt/sources.list.d/machine.list"
fi
: >"$B/apt/status"
cat >"$B/apt/apt.conf.new" <<EOF
APT::Architecture "arm64";
APT::Architectures { "arm64"; "$(dpkg --print-architecture)"; };
APT::Sandbox::User "root";
Acquire::Languages "none";
Dir::Etc::SourceList "/dev/null";
Dir::Etc::SourceParts "$B/apt/sources.list.d";
Dir::State "$B/apt/state";
Dir::State::status "$B/apt/status";
Dir::Cache "$B/apt/cache";
EOF
apt-get -q -c "$B/apt/apt.conf.new" update
mv "$B/apt/apt.conf.new" "$B/apt/apt.conf"
