"""The house rules: who may import whom, who may touch the machine, which generated pages are fresh."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PACKAGE = ROOT / "posagent"
LINES_MAX = 350
LONG_MAX = 400
"""Of a module that says why it is long."""

ROOMS = (
    "core",
    "agent",
    "installer",
    "fetcher",
    "selftest",
    "console",
    "platform",
    "release",
    "sim",
    "crash",
    "doctor",
    "payment",
    "field",
    "support",
    "data",
)
SHARED = {"wire", "worker", "config", "log", "texts"}
ROOTS = {
    *("daemon", "cli", "installer.service", "fetcher.service", "selftest.service", "support.service", "data.service"),
    "fetcher.fleet_service",
    *("release.cli", "doctor.service", "installer.auditor", "field.cli"),
}
"""Composition roots: they put rooms together, and nobody imports them but where EXTRA says so."""

EXTRA = {
    "console": {"agent.api"},
    "fetcher": {"agent.api"},
    "cli": {"agent.api", "doctor.service", "installer.auditor"},
    # A zone that the system does not know is refused like any other value.
    "config_rules": {"platform.zone"},
    "serial_line": {"console", "platform"},
    "fleet_line": {"agent", "platform"},
    # It reads the agent's journal as the agent does.
    "support.service": {"agent.journal"},
    # What the builder tries out is what terminals do.
    "release": {"platform.codecs", "platform.schema"},
    # The doctor looks at the machine through the platform, and at slots and trust with the installer's own eyes.
    "doctor": {"platform"},
    "doctor.service": {"platform", "installer"},
}
"""What a room may see of a sibling besides core."""

ONLY_IN = {
    "transitions": {"core.machine"},
    "cryptography": {"core.seal", "installer.trust", "installer.certificate", "installer.notary", "release"},
    "tuf": {"core.signed", "installer.trust", "fetcher.signers", "release"},
    "securesystemslib": {"fetcher.signers", "release"},
    "fastjsonschema": {"platform.schema"},
    "sqlite3": {"platform.sqlite", "sim"},
    "pkcs11": {"platform.pkcs11"},
    "serial": {"console.port", "platform.peripherals", "field.ports", "field.passage"},
    "textual": {"field"},
    "rich": {"field"},
    "ctypes": {"platform.codecs", "platform.descendants", "sim.services"},
    "urllib3": {"fetcher"},
    "http": {"fetcher"},
    "ssl": {"fetcher"},
    "time": {"platform.host", "sim", "crash", "release", "cli", "payment", "field"},
    "xml": {"status_report"},
    "asyncio": set(),
    "threading": {"installer.ahead", "platform", "sim", "release", "field"},
}

PURE_FORBIDDEN = {"os", "io", "time", "socket", "asyncio", "logging", "structlog", "subprocess", "pathlib", "select"}
MACHINE_ROOMS = ("platform", "sim", "crash", "release", "payment", "field")
MACHINE_MODULES = {"worker", "wire", "daemon", "cli", "log", "config", "texts"} | ROOTS
MACHINE_IMPORTS = {"os", "socket", "subprocess", "fcntl", "select", "selectors", "mmap", "shutil", "tempfile"}


def modules() -> Iterator[tuple[str, Path]]:
    for path in sorted(PACKAGE.rglob("*.py")):
        parts = path.relative_to(PACKAGE).with_suffix("").parts
        yield ".".join(part for part in parts if part != "__init__") or "posagent", path


def imports(path: Path) -> set[str]:
    """Dotted names the module imports, at any depth of its code."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found.add(node.module)
            found |= {f"{node.module}.{alias.name}" for alias in node.names}
    return found


def within(module: str, places: set[str]) -> bool:
    return any(module == place or module.startswith(place + ".") for place in places)


def _may_see(module: str, room: str, target: str, other: str) -> bool:
    if other not in ROOMS or other in (room, "core") or room in ("sim", "crash"):
        return True
    if module in ROOTS and (other == "platform" or module == "daemon"):
        return True
    return any(within(target, {seen}) or within(seen, {target}) for seen in _extra(module, room))


def _extra(module: str, room: str) -> set[str]:
    return EXTRA.get(module, EXTRA.get(room, set()))


def breaches_of_import_law(module: str, names: set[str]) -> list[str]:
    room = module.split(".")[0]
    found = []
    for name in names:
        if not name.startswith("posagent."):
            continue
        target = name.removeprefix("posagent.")
        other = target.split(".")[0]
        if (
            within(target, ROOTS - {module})
            and room not in ("sim", "crash")
            and not within(target, _extra(module, room))
        ):
            found.append(f"{module} imports the composition root {target}")
        elif not _may_see(module, room, target, other):
            found.append(f"{module} imports {target}")
    if room == "core":
        found += [
            f"core must stay pure: {module} imports {name}"
            for name in names
            if name.split(".")[0] in PURE_FORBIDDEN
            or (name.startswith("posagent.") and not name.startswith("posagent.core"))
        ]
    return found


@pytest.mark.parametrize(("module", "path"), list(modules()), ids=lambda value: str(value) if "." in str(value) else "")
def test_the_import_law_holds(module: str, path: Path) -> None:
    assert breaches_of_import_law(module, imports(path)) == []


@pytest.mark.parametrize(
    ("module", "name"),
    [
        ("core.states", "os"),
        ("core.states", "posagent.agent.engine"),
        ("agent.engine", "posagent.platform.storage"),
        ("console.session", "posagent.installer.trust"),
        ("fetcher.http", "posagent.installer.slots"),
        ("agent.api", "posagent.daemon"),
        ("platform.host", "posagent.agent.engine"),
        ("daemon", "posagent.doctor.service"),
        ("installer.service", "posagent.doctor.service"),
        ("doctor.slots", "posagent.installer.slots"),
        ("doctor.boot", "posagent.doctor.service"),
        ("field.link", "posagent.console.machine"),
    ],
)
def test_a_breach_of_the_import_law_is_found(module: str, name: str) -> None:
    assert breaches_of_import_law(module, {name}) != []


def test_heavy_and_dangerous_modules_stay_where_they_belong() -> None:
    found = [
        f"{module} imports {name}"
        for module, path in modules()
        for name in {imported.split(".")[0] for imported in imports(path)}
        if name in ONLY_IN and not within(module, ONLY_IN[name])
    ]
    assert found == []


def test_only_the_platform_touches_the_machine() -> None:
    found = [
        f"{module} imports {name}"
        for module, path in modules()
        if module.split(".")[0] not in MACHINE_ROOMS and module not in MACHINE_MODULES
        for name in {imported.split(".")[0] for imported in imports(path)} & MACHINE_IMPORTS
    ]
    assert found == []


def test_no_room_opens_files_by_itself() -> None:
    found = []
    for module, path in modules():
        if module.split(".")[0] in MACHINE_ROOMS or module in MACHINE_MODULES:
            continue
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in ("open", "print"):
                found.append(f"{module}:{node.lineno}: {node.func.id}()")
    assert found == []


def test_the_payment_applications_library_needs_nothing_but_the_protocol() -> None:
    allowed = sys.stdlib_module_names | {"posagent"}
    for module, path in modules():
        if module.split(".")[0] == "payment":
            ours = {name for name in imports(path) if name.startswith("posagent.")}
            assert all(within(name, {"posagent.payment", "posagent.wire", "posagent.core.errors"}) for name in ours)
            assert {name.split(".")[0] for name in imports(path)} <= allowed


def test_the_laptop_needs_nothing_of_the_terminals_rooms() -> None:
    allowed = {"posagent.field", "posagent.core", "posagent.wire", "posagent.texts"}
    for module, path in modules():
        if module.split(".")[0] == "field":
            assert [name for name in imports(path) if name.startswith("posagent.") and not within(name, allowed)] == []


def test_the_laptops_program_does_without_what_only_unix_has() -> None:
    only_unix = {"fcntl", "termios", "tty", "pty", "pwd", "grp", "resource", "syslog", "select", "selectors"}
    found = {module: imports(path) & only_unix for module, path in modules() if module.split(".")[0] == "field"}
    assert {module: names for module, names in found.items() if names} == {"field.ports": {"termios"}}, "in a try"


def test_there_are_no_circles() -> None:
    graph = {
        module: {name.removeprefix("posagent.") for name in imports(path) if name.startswith("posagent.")}
        for module, path in modules()
    }
    done: set[str] = set()

    def visit(module: str, trail: tuple[str, ...]) -> None:
        assert module not in trail, " -> ".join((*trail, module))
        if module in done:
            return
        for target in graph[module] & graph.keys() - {module}:
            visit(target, (*trail, module))
        done.add(module)

    for module in graph:
        visit(module, ())


def test_every_module_says_first_what_it_is_for() -> None:
    silent = [module for module, path in modules() if not ast.get_docstring(ast.parse(path.read_text("utf-8")))]
    assert silent == []


def test_modules_can_be_read_in_one_sitting() -> None:
    texts = {module: path.read_text("utf-8") for module, path in modules()}
    most = {module: LONG_MAX if "Long, because" in text else LINES_MAX for module, text in texts.items()}
    long = [f"{module}: {n}" for module, text in texts.items() if (n := len(text.splitlines())) > most[module]]
    assert long == []


def test_generated_pages_are_fresh() -> None:
    result = subprocess.run(
        [sys.executable, str(ROOT / "docs" / "generate.py"), "--check"], capture_output=True, text=True, check=False
    )
    assert result.returncode == 0, result.stderr
