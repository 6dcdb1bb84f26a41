"""Copies kernel modules and all that they depend on out of an unpacked kernel package.

usage: modules.py SOURCE TARGET [--flat] NAME... (SOURCE holds modules.dep; --flat also writes the load order)
"""

from __future__ import annotations

import shutil
import sys
from pathlib import Path


def _name(path: str) -> str:
    return Path(path).name.removesuffix(".ko").replace("-", "_")


def closure(source: Path, wanted: list[str]) -> list[str]:
    """Paths of the modules in the order in which they can be loaded. Raises SystemExit for an unknown name."""
    needs = {}
    for line in (source / "modules.dep").read_text().splitlines():
        path, _, rest = line.partition(":")
        needs[path] = rest.split()
    paths = {_name(path): path for path in needs}
    builtin = {_name(path) for path in (source / "modules.builtin").read_text().split()}
    order: dict[str, None] = {}
    for name in map(_name, wanted):
        if name in paths:
            order |= dict.fromkeys([*reversed(needs[paths[name]]), paths[name]])
        elif name not in builtin:
            raise SystemExit(f"modules.py: the kernel has no module {name}")
    return list(order)


def main() -> None:
    flat = "--flat" in sys.argv
    source, target, *wanted = [word for word in sys.argv[1:] if word != "--flat"]
    order = closure(Path(source), wanted)
    for path in order:
        copy = Path(target) / (Path(path).name if flat else path)
        copy.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(Path(source) / path, copy)
    if flat:
        (Path(target) / "order").write_text("".join(f"{Path(path).name}\n" for path in order))
    else:
        for name in ("modules.builtin", "modules.builtin.modinfo", "modules.order"):
            shutil.copy2(Path(source) / name, Path(target) / name)


if __name__ == "__main__":
    main()
