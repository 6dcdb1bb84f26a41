#!/bin/sh
# posagent as a wheel of this repository, with the aarch64 wheels it needs, ready to copy -> agent/tree. No emulation.
set -eu
root=$(cd "$(dirname "$0")/../.." && pwd)
python=$root/.venv/bin/python
out=$B/agent
site=$out/tree/opt/posagent
rm -rf "$out" && mkdir -p "$out/source" "$site" "$out/tree/usr/bin"
# A copy: setuptools would put files that are long gone from its old build directory into the wheel.
cp -r "$root/posagent" "$root/setup.cfg" "$root/pyproject.toml" "$root/README.md" "$root/LICENSE" "$out/source/"
pip="$python -m pip --disable-pip-version-check"
$pip wheel -q --no-deps --wheel-dir "$out/wheel" "$out/source"
$pip install -q --no-compile --target "$site" --only-binary=:all: --python-version 3.11 --implementation cp \
    --platform manylinux_2_28_aarch64 --platform manylinux_2_17_aarch64 --platform manylinux2014_aarch64 \
    "$out"/wheel/posagent-*.whl
for script in "$site"/bin/posagent*; do
    name=$(basename "$script")
    sed '1s|.*|#!/usr/bin/python3 -sP|; 2i import sys; sys.path.insert(0, "/opt/posagent")' "$script" >"$out/tree/usr/bin/$name"
    chmod 755 "$out/tree/usr/bin/$name"
done
rm -rf "$site/bin"
find "$site" -name __pycache__ -prune -exec rm -rf {} +
# The slot is read-only, so this is the only time to compile; bytecode of any 3.11 will do.
"$python" -c 'import sys; assert sys.version_info[:2] == (3, 11), "needs Python 3.11, as the terminal has it"'
"$python" -m compileall -q -j2 --invalidation-mode unchecked-hash -s "$out/tree" "$site"
touch "$out/.done"
