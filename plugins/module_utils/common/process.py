"""One process in /proc."""

from __future__ import annotations

from pathlib import Path


def state(pid: int, proc: Path) -> str | None:
    """The state letter of a process, such as T if it is stopped; None if there is no such process."""
    try:
        return stat(proc / str(pid))[1][0]
    except OSError:
        return None


def stat(directory: Path) -> tuple[str, list[str]]:
    """A process's name, which may contain any character, and the fields of `stat` after it [proc(5)]."""
    text = (directory / "stat").read_text(errors="replace")
    end = text.rindex(")")
    return text[text.index("(") + 1 : end], text[end + 2 :].split()


def unit(directory: Path) -> str:
    """A process's systemd unit: by the unified hierarchy, or else by systemd's own; "-" without one."""
    for line in (directory / "cgroup").read_text().splitlines():
        hierarchy, controllers, path = line.split(":", 2)
        if hierarchy == "0" or controllers == "name=systemd":
            for part in reversed(path.split("/")):
                if part.endswith((".service", ".scope", ".slice")):
                    return part
    return "-"
