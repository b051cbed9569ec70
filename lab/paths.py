"""Directories of the lab."""

from __future__ import annotations

import os
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
STATE = ROOT / ".lab"
CACHE = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "katago-mcp-fleet"
# Test assets beside the checkout. They are optional.
SHARED = ROOT.parent / "shared"


def lab_name() -> str:
    """The name of this process's lab: LAB_NAME, `molecule-SCENARIO` under Molecule, or `lab`."""
    if name := os.environ.get("LAB_NAME"):
        return name
    if scenario := os.environ.get("MOLECULE_SCENARIO_NAME"):
        return f"molecule-{scenario}"
    return "lab"
