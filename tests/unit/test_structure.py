"""Packages depend on each other in one direction, and a module sends only what it needs to a host."""

from __future__ import annotations

import ast
from collections.abc import Iterator, Mapping
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PLUGINS = ROOT / "plugins"
PREFIX = "ansible_collections.katago.fleet.plugins"

# From the lowest to the highest. A package imports only from earlier ones. `gpu` is below `release`, because
# the size of a release depends on the devices of the host.
LAYERS = (
    "module_utils.paths",
    "module_utils.timestamps",
    "module_utils.severity",
    "module_utils.common",
    "module_utils.transfer",
    "module_utils.gpu",
    "module_utils.release",
    "module_utils.service",
    "module_utils.procedure",
    "module_utils.load_balancer",
    "module_utils.triage",
    "module_utils.rollout",
    "module_utils.watch",
    "module_utils.backup",
    "module_utils.fleet",
    "module_utils.removal",
    "module_utils.replacement",
    "module_utils.evidence",
    "module_utils.self_healing",
    "module_utils.monitoring",
    "module_utils.incident",
    "module_utils.drill",
    "modules",
    "plugin_utils.run",
    "plugin_utils.transfer",
    "plugin_utils.deploy",
    "plugin_utils.evidence",
    "plugin_utils.reports",
    "plugin_utils.incident",
    "plugin_utils.review",
    "plugin_utils.fleet",
    "plugin_utils.rollout",
    "plugin_utils.self_healing",
    "plugin_utils.monitoring",
    "plugin_utils.traffic",
    "plugin_utils.drill",
    "filter",
    "lookup",
    "callback",
    "action",
)
MOST_LINES = 2500
LARGER = {
    "backup_restore": "assesses all that a host depends on, and plans, fetches and installs what repairs it",
    **dict.fromkeys(
        (
            "gpu_driver_finish",
            "gpu_driver_install",
            "gpu_driver_load",
            "gpu_driver_plan",
            "gpu_driver_record",
            "gpu_driver_restore",
            "gpu_driver_verify",
        ),
        "checks the whole host again, because a reboot or another run may have happened between two steps",
    ),
    "drill_fault": "injects every fault with the code of the procedures, and can undo each of them",
    "drill_snapshot": "reads the host through the same class as the faults",
    "fleet_info": "reads what releases, backups, triage and security mode record, with their own code",
    "host_remove": "removes the table of security mode, and names the repository without its secrets",
    "release_build": "removes what an interrupted run left, and corrects owners and modes",
    "service_start_check": "checks whatever a start needs, with the release's own program and its sandbox",
    "release_switch": "checks that the service would start with the release, and redacts its secrets",
    **dict.fromkeys(
        (
            "asset_share",
            "backup",
            "backup_access",
            "backup_info",
            "backup_repository",
            "cache_purge",
            "cache_quarantine",
            "engine",
            "engine_caches",
            "engine_tuning",
            "evidence",
            "gpu_driver_finish",
            "gpu_driver_restore",
            "gpu_query",
            "healing_programs",
            "incident_reminders",
            "load_balancer",
            "load_balancer_address",
            "load_balancer_rotation",
            "release_trial",
            "rollout_sample",
            "security_mode",
            "self_healing",
            "service_enable",
            "service_info",
            "service_limits",
            "service_restart",
        ),
        "reports what programs print, so it ships the redaction of secrets with all their forms",
    ),
    "service_validate": "checks every field of the answers, and redacts the secrets of the host",
    "triage": "measures everything that the runbook asks about, in one connection",
    "watch": "takes a sample to decide whether a finished window may be joined",
}
"""Modules that send more than `MOST_LINES` lines to a host, and why."""


def modules_below(directory: Path) -> dict[str, Path]:
    """Every Python module below a directory by its dotted name. `__init__` has the name of its package."""
    modules = {}
    for path in sorted(directory.rglob("*.py")):
        parts = path.relative_to(directory).with_suffix("").parts
        modules[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return modules


def imports(path: Path, prefix: str, modules: Mapping[str, Path]) -> Iterator[str]:
    """The modules below `prefix` that a file imports, also inside functions."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and f"{node.module}.".startswith(f"{prefix}."):
            parent = str(node.module).removeprefix(prefix).removeprefix(".")
            for alias in node.names:
                name = f"{parent}.{alias.name}".removeprefix(".")
                yield name if name in modules else parent
        elif isinstance(node, ast.Import):
            for alias in node.names:
                if alias.name.startswith(f"{prefix}."):
                    yield alias.name.removeprefix(f"{prefix}.")


def graph(directory: Path, prefix: str) -> dict[str, set[str]]:
    """The modules of the directory that each of them imports."""
    modules = modules_below(directory)
    return {name: set(imports(path, prefix, modules)) - {name} for name, path in modules.items()}


def cycle(edges: Mapping[str, set[str]]) -> list[str]:
    """The modules of a cycle in order; [] if there is none."""
    try:
        TopologicalSorter(edges).prepare()
    except CycleError as error:
        return list(error.args[1])
    return []


def layer_of(module: str) -> str:
    """The entry of LAYERS to which a module of the plugins belongs."""
    parts = module.split(".")
    return ".".join(parts[:2]) if parts[0] in ("module_utils", "plugin_utils") else parts[0]


def upward(edges: Mapping[str, set[str]]) -> list[str]:
    """The imports from a package above the importing one."""
    return [
        f"{module} imports {imported}"
        for module, targets in edges.items()
        for imported in sorted(targets)
        if LAYERS.index(layer_of(imported)) > LAYERS.index(layer_of(module))
    ]


def shipped(module: str, edges: Mapping[str, set[str]]) -> set[str]:
    """The parts of module_utils that Ansible sends to a host with a module."""
    sent: set[str] = set()
    waiting = [*edges[f"modules.{module}"]]
    while waiting:
        name = waiting.pop()
        if name not in sent:
            sent.add(name)
            waiting.extend(edges[name])
    return sent


def lines(names: set[str]) -> int:
    """The lines of modules below plugins/."""
    modules = modules_below(PLUGINS)
    return sum(len(modules[name].read_text().splitlines()) for name in names)


@pytest.fixture(scope="module")
def plugins() -> dict[str, set[str]]:
    """The imports of each module of plugins/, without packages and documentation fragments."""
    everything = graph(PLUGINS, PREFIX)
    files = {name for name, path in modules_below(PLUGINS).items() if path.name != "__init__.py"}
    return {name: everything[name] for name in files if not name.startswith("doc_fragments.")}


def test_every_package_is_in_a_layer(plugins: dict[str, set[str]]) -> None:
    assert {layer_of(module) for module in plugins} == set(LAYERS)


def test_no_package_imports_from_one_above_it(plugins: dict[str, set[str]]) -> None:
    assert upward(plugins) == []


def test_plugins_have_no_import_cycle(plugins: dict[str, set[str]]) -> None:
    assert cycle(plugins) == []


def test_server_has_no_import_cycle() -> None:
    edges = graph(ROOT / "server" / "src" / "katago_mcp", "katago_mcp")
    assert len(edges) > 20
    assert cycle(edges) == []


def test_modules_import_only_from_module_utils(plugins: dict[str, set[str]]) -> None:
    outside = {
        module: {each for each in imported if not each.startswith("module_utils.")}
        for module, imported in plugins.items()
        if module.startswith(("modules.", "module_utils."))
    }
    assert {module: names for module, names in outside.items() if names} == {}


def test_every_package_of_module_utils_has_an_init_file() -> None:
    directories = {path.parent for path in (PLUGINS / "module_utils").glob("*/*.py")}
    assert [path.name for path in directories if not (path / "__init__.py").is_file()] == []


def test_large_modules_have_a_reason(plugins: dict[str, set[str]]) -> None:
    names = [name.removeprefix("modules.") for name in plugins if name.startswith("modules.")]
    sizes = {name: lines(shipped(name, plugins)) for name in names}
    assert {name: size for name, size in sizes.items() if size > MOST_LINES and name not in LARGER} == {}
    assert [name for name in LARGER if sizes.get(name, 0) <= MOST_LINES] == []
    assert sizes["service_restart"] <= 4600


def test_cycle_is_detected() -> None:
    assert set(cycle({"a": {"b"}, "b": {"c"}, "c": {"a"}, "d": {"a"}})) == {"a", "b", "c"}


def test_import_from_a_higher_package_is_detected() -> None:
    edges = {"module_utils.common.files": {"module_utils.service.unit", "module_utils.paths"}}
    assert upward(edges) == ["module_utils.common.files imports module_utils.service.unit"]


def test_imports_in_functions_are_detected(tmp_path: Path) -> None:
    (tmp_path / "a.py").write_text("")
    (tmp_path / "b.py").write_text("def f():\n    from p.a import x\n    import p.c\n    return x, p.c\n")
    (tmp_path / "c.py").write_text("from p import a, b\n")
    assert graph(tmp_path, "p") == {"a": set(), "b": {"a", "c"}, "c": {"a", "b"}}
