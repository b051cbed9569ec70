"""Where the lab keeps things."""

from __future__ import annotations

import os
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
STATE = ROOT / ".lab"
CACHE = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "katago-mcp-fleet"
# Test assets that may lie beside a checkout; everything works without them.
SHARED = ROOT.parent / "shared"


def lab_name() -> str:
    """The lab that this process works with: `lab`, or one of its own for every Molecule scenario."""
    if name := os.environ.get("LAB_NAME"):
        return name
    if scenario := os.environ.get("MOLECULE_SCENARIO_NAME"):
        return f"molecule-{scenario}"
    return "lab"
