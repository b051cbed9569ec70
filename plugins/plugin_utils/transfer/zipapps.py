"""Builds programs for hosts from module_utils: one executable file that only needs Python."""

from __future__ import annotations

import ast
import io
import zipfile
from collections.abc import Iterator
from pathlib import Path

PACKAGE = "ansible_collections.katago.fleet.plugins.module_utils"
_DIRECTORY = Path(__file__).resolve().parents[2] / "module_utils"
_SHEBANG = b"#!/usr/bin/python3 -I\n"
# The earliest time that a zip file can store. A fixed time makes the same sources give the same bytes.
_EPOCH = (1980, 1, 1, 0, 0, 0)


def pack(module: str, directory: Path = _DIRECTORY) -> bytes:
    """A zipapp that runs `main()` of a module in `directory`, with everything that it imports from there.

    `module`: the name below module_utils, such as `watch.sampler`.
    """
    modules = sorted(needed(module, directory))
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
        for package in sorted({PACKAGE, *(f"{PACKAGE}.{name}".rpartition(".")[0] for name in modules)}):
            parts = package.split(".")
            for depth in range(1, len(parts) + 1):
                init = "/".join([*parts[:depth], "__init__.py"])
                if init not in archive.namelist():
                    _add(archive, init, b"")
        for name in modules:
            _add(
                archive, f"{PACKAGE}.{name}".replace(".", "/") + ".py", _source(directory, name).read_bytes()
            )
        start = f"import sys\n\nfrom {PACKAGE}.{module} import main\n\nsys.exit(main())\n"
        _add(archive, "__main__.py", start.encode())
    return _SHEBANG + packed.getvalue()


def needed(module: str, directory: Path = _DIRECTORY) -> set[str]:
    """The module and all modules of `directory` that it imports, directly or indirectly."""
    names: set[str] = set()
    queue = [module]
    while queue:
        name = queue.pop()
        if name not in names:
            names.add(name)
            queue.extend(_imports(_source(directory, name).read_text(), directory))
    return names


def _imports(source: str, directory: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(source)):
        if not isinstance(node, ast.ImportFrom) or not f"{node.module}.".startswith(f"{PACKAGE}."):
            continue
        parent = str(node.module).removeprefix(PACKAGE).removeprefix(".")
        for alias in node.names:
            # The alias is a module of a package, or a name in a module.
            name = f"{parent}.{alias.name}".removeprefix(".")
            yield name if _source(directory, name).is_file() else parent


def _source(directory: Path, module: str) -> Path:
    return directory / f"{module.replace('.', '/')}.py"


def _add(archive: zipfile.ZipFile, name: str, content: bytes) -> None:
    archive.writestr(zipfile.ZipInfo(name, _EPOCH), content, zipfile.ZIP_DEFLATED)
