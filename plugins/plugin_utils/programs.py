"""Programs for hosts, made of module_utils: one executable file that needs nothing but Python."""

from __future__ import annotations

import ast
import io
import zipfile
from pathlib import Path

PACKAGE = "ansible_collections.katago.fleet.plugins.module_utils"
_DIRECTORY = Path(__file__).resolve().parents[1] / "module_utils"
_SHEBANG = b"#!/usr/bin/python3 -I\n"
# The earliest time that a zip file can hold, so that the same sources give the same bytes.
_EPOCH = (1980, 1, 1, 0, 0, 0)


def pack(module: str, directory: Path = _DIRECTORY) -> bytes:
    """A zipapp that runs `main()` of a module of `directory`, with all that it imports from there."""
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
        parts = PACKAGE.split(".")
        for depth in range(1, len(parts) + 1):
            _add(archive, "/".join([*parts[:depth], "__init__.py"]), b"")
        for name in sorted(needed(module, directory)):
            _add(archive, "/".join([*parts, f"{name}.py"]), (directory / f"{name}.py").read_bytes())
        start = f"import sys\n\nfrom {PACKAGE}.{module} import main\n\nsys.exit(main())\n"
        _add(archive, "__main__.py", start.encode())
    return _SHEBANG + packed.getvalue()


def needed(module: str, directory: Path = _DIRECTORY) -> set[str]:
    """The module and every other of `directory` that it imports, itself or through another."""
    found: set[str] = set()
    waiting = [module]
    while waiting:
        name = waiting.pop()
        if name not in found:
            found.add(name)
            waiting.extend(_imports((directory / f"{name}.py").read_text()))
    return found


def _imports(source: str) -> list[str]:
    found = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.ImportFrom) and node.module == PACKAGE:
            found += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and (node.module or "").startswith(f"{PACKAGE}."):
            found.append(str(node.module).removeprefix(f"{PACKAGE}."))
    return found


def _add(archive: zipfile.ZipFile, name: str, content: bytes) -> None:
    archive.writestr(zipfile.ZipInfo(name, _EPOCH), content, zipfile.ZIP_DEFLATED)
