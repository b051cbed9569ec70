"""Keeps the volatile evidence of a host on the host itself before a repair, redacted but not signed."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

from ansible_collections.katago.fleet.plugins.module_utils.common import digest, directories, files
from ansible_collections.katago.fleet.plugins.module_utils.evidence import items, runner

MANIFEST = "manifest.json"
KEPT = 20
"""How many directories of evidence stay on the host. The budget makes at most four a day, each drill more."""
_MODE = 0o600
_PARTS: tuple[items.Part, ...] = ("host", "service")


def keep(root: Path, name: str) -> Path:
    """Collect the volatile items into a new directory below `root`; return it. Raises OSError."""
    directory = root / name
    directories.make(directory, own=root, mode=directories.PRIVATE)
    entries = [_write(directory, item) for item in runner.collect("hot", _PARTS)]
    files.write(directory / MANIFEST, (json.dumps(entries, indent=1) + "\n").encode(), mode=_MODE)
    _prune(root)
    return directory


def _write(directory: Path, item: dict[str, Any]) -> dict[str, Any]:
    """Write an item; return its entry in the manifest. A withheld item has no file."""
    entry = {name: item[name] for name in ("name", "began", "problem", "redacted", "withheld")}
    if item["withheld"]:
        return {**entry, "sha256": None}
    limit = next(collector.limit for collector in items.of("hot", _PARTS) if collector.name == item["name"])
    # Redaction marks may be longer than the secrets that they replace.
    content = runner.unpack(item["content"], 4 * limit)
    path = directory / item["name"]
    path.write_bytes(content)
    path.chmod(_MODE)
    return {**entry, "sha256": digest.of_bytes(content)}


def _prune(root: Path) -> None:
    # The names begin with the time.
    for old in sorted(path for path in root.iterdir() if path.is_dir())[:-KEPT]:
        shutil.rmtree(old)
