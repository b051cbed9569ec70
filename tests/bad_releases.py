"""Releases that must not stay in service, each for another reason."""

from __future__ import annotations

import shutil
from pathlib import Path

from lab import paths

# A setting that the server's own validation does not check and that the engine refuses.
NO_ENGINE = {"katago_analysis_settings": {"nnMaxBatchSize": -1}}
# More memory than any host has, so that the validation with an engine is deferred until after the switch.
DEFERRED = {"katago_mcp_preflight_memory_mb": 1 << 40}
# After the three analyses of the validation every further one takes far longer, or fails.
FAULTS = {
    "slow": "await asyncio.sleep(12)",
    "failing": 'raise RuntimeError("the fault of the test")',
}
_CHECK = "        checked = positions.check(request.position)\n"
_CRASHING = """
import os, socket, sys, time
from katago_mcp import whole_cli
def main():
    if "serve" not in sys.argv:
        sys.exit(whole_cli.main())
    address = os.environ["NOTIFY_SOCKET"]
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as notify:
        notify.sendto(b"READY=1", "\\0" + address[1:] if address[0] == "@" else address)
    time.sleep(0.2)
    sys.exit(1)
"""


def copied(directory: Path) -> tuple[Path, Path]:
    """A copy of the server to damage, and its package."""
    server = directory / "server"
    shutil.copytree(paths.ROOT / "server", server, ignore=shutil.ignore_patterns("__pycache__", ".*"))
    return server, server / "src" / "katago_mcp"


def that_does_not_import(directory: Path) -> Path:
    """A server whose command ends with an ImportError."""
    server, package = copied(directory)
    (package / "cli.py").write_text("import no_such_module\n")
    return server


def that_crashes(directory: Path) -> Path:
    """A server that passes the validation before the switch, and ends as soon as it is ready."""
    server, package = copied(directory)
    (package / "cli.py").rename(package / "whole_cli.py")
    (package / "cli.py").write_text(_CRASHING)
    return server


def that_misbehaves(directory: Path, fault: str) -> Path:
    """A server that passes its validation; afterwards its analyses have one of `FAULTS`."""
    server, package = copied(directory)
    module = package / "analysis.py"
    text = module.read_text()
    assert text.count(_CHECK) == 1
    counted = f"        _CALLS.append(1)\n        if len(_CALLS) > 3:\n            {FAULTS[fault]}\n"
    module.write_text(f"{text.replace(_CHECK, counted + _CHECK)}\n\n_CALLS: list[int] = []\n")
    if "asyncio" not in text.partition("class ")[0]:
        module.write_text(module.read_text().replace("\nimport ", "\nimport asyncio\nimport ", 1))
    return server
