"""The kernel modules that DKMS built, and the errors of failed builds."""

from __future__ import annotations

import re
from pathlib import Path

from ansible_collections.katago.fleet.plugins.module_utils.gpu import programs


def modules(status: str) -> dict[str, str]:
    """The version of NVIDIA's module by kernel, for modules that `dkms status` lists as installed.

    A line looks like `nvidia-current/535.309.01, 6.1.0-44-amd64, x86_64: installed`, possibly with a
    warning in parentheses. The driver is called nvidia-current on Debian, and nvidia or nvidia-srv on
    Ubuntu; the open module adds -open. Other NVIDIA modules such as nvidia-fs have their own versions.
    """
    name = r"nvidia(?:-current|-srv)?(?:-open)?"
    rows = re.findall(rf"^{name}[/,] ?([\w.]+), ([^,\s]+), \w+: installed\b", status, re.M)
    return {kernel: version for version, kernel in rows}


def compiler_errors(log: str, most: int = 4) -> list[str]:
    """The first errors in a make log; its last lines if it has no errors. At most `most` lines."""
    lines = [line.strip() for line in log.splitlines() if line.strip()]
    errors = [line for line in lines if re.search(r"\berror:|\*\*\* |undefined!", line)]
    return (errors or lines[-most:])[:most]


def build_failure(since: float) -> str:
    """The compiler's errors if a DKMS build has failed since `since` (epoch seconds); empty otherwise."""
    logs = sorted(Path("/var/lib/dkms").glob("*/*/build/make.log"), key=lambda path: path.stat().st_mtime)
    if not logs or logs[-1].stat().st_mtime < since - 1:
        return ""
    module = "/".join(logs[-1].parts[-4:-2])
    errors = compiler_errors(logs[-1].read_text(errors="replace"))
    return f"\nDKMS could not build {module}:\n" + "\n".join(errors)


def built() -> dict[str, str]:
    """The version of the module that DKMS built, by kernel."""
    status, output = programs.ask(["dkms", "status"])
    return modules(output) if status == 0 else {}
