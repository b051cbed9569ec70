"""Modules that run before a host is refused for its old Python must themselves run on that Python."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

PLUGINS = Path(__file__).resolve().parents[3] / "plugins"
PREFIX = "ansible_collections.katago.fleet.plugins."
# Debian 11's Python.
OLD = (3, 9)
NEWER = {
    "datetime": {"UTC"},
    "enum": {"StrEnum"},
    "typing": {"NotRequired", "Required", "Self", "assert_never"},
}


def sent(module: str) -> set[Path]:
    """A module's file, and the files of module_utils that Ansible sends with it."""
    files: set[Path] = set()
    waiting = [PLUGINS / "modules" / f"{module}.py"]
    while waiting:
        path = waiting.pop()
        if path in files:
            continue
        files.add(path)
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.ImportFrom) and (node.module or "").startswith(PREFIX):
                base = PLUGINS / str(node.module).removeprefix(PREFIX).replace(".", "/")
                names = (base / f"{alias.name}.py" for alias in node.names)
                waiting += [each for each in (base.with_suffix(".py"), *names) if each.is_file()]
    return files


@pytest.mark.parametrize("module", ["host_lock", "preflight", "service_info"])
def test_modules_that_run_before_the_check_support_an_old_python(module: str) -> None:
    files = sent(module)
    assert len(files) > 3
    for path in files:
        tree = ast.parse(path.read_text(), feature_version=OLD)
        for node in ast.walk(tree):
            if isinstance(node, ast.ImportFrom):
                newer = NEWER.get(str(node.module), set()) & {alias.name for alias in node.names}
                assert not newer, f"{path} imports {newer}"
        assert re.search(r"^from __future__ import annotations$", path.read_text(), re.M), path
