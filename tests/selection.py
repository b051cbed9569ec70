"""Selects the tests of `bin/test`: named ones, the default ones, all, or those of changed files.

python3 tests/selection.py [all | changed [REV] | NAME ...]   prints one name a line
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterable, Sequence
from fnmatch import fnmatchcase
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
SCENARIOS = tuple(sorted(path.parent.name for path in (ROOT / "molecule").glob("*/molecule.yml")))
TESTS = ("lint", "unit", "server", "clients", "fuzz", "mutants", "receiver", "soak", *SCENARIOS)
# These run by name and at night. Together they take too long for every change.
LONG = (
    *("backup", "clients", "collection", "drill", "evidence", "fleet", "fuzz", "gpu", "hosts", "incident"),
    *("mitigation", "monitoring", "mutants", "receiver", "recovery", "rollout", "security", "self_healing"),
    *("soak", "triage", "watch"),
)
DEFAULT = tuple(name for name in TESTS if name not in LONG)
# These run for every change.
ALWAYS = frozenset({"lint", "unit"})

# This scenario runs the code of all procedures.
EVERY_PROCEDURE = "smoke"
# The scenarios of each subject. A subject is the name of a role, a package, a module or a playbook, or a
# part of the name: roles/backup/tasks/run.yml, plugins/module_utils/backup/survey.py and
# plugins/modules/backup_restore.py belong to the subject backup.
SUBJECTS = {
    "backup": "backup",
    "baseline": "triage",
    "cache": "mitigation",
    "caches": "default packaged",
    "common": "default recovery",
    "deploy": "default bad_release rollout",
    "drill": "drill",
    "engine": "default packaged engine_faults",
    "evidence": "evidence",
    "fleet": "hosts fleet",
    "gpu": "gpu",
    "fleet_healing": "monitoring receiver",
    "healing": "self_healing",
    "healing_programs": "monitoring receiver",
    "host": "recovery",
    "host_remove": "hosts",
    "host_replacement": "hosts",
    "host_selection": "hosts",
    "incident": "incident",
    "katago": "default packaged",
    "katago_mcp": "default bad_release recovery",
    "limits": "mitigation",
    # HAProxy itself is tested in the unit tests; the servers must accept load balancers.
    "load_balancer": "fleet",
    "mitigate": "mitigation",
    "monitoring": "monitoring",
    "network": "default packaged",
    "overview": "hosts",
    "preflight": "default bad_release",
    "procedure": "recovery incident",
    "release": "bad_release recovery",
    "removal": "hosts",
    "remove_host": "hosts",
    "replace_host": "hosts",
    "replacement": "hosts",
    "restart": "recovery",
    "restore": "backup",
    "review": "incident",
    "rollback": "recovery rollout",
    "rollout": "rollout",
    "rotation": "recovery fleet",
    "run": "collection recovery",
    "security": "security",
    "self_healing": "self_healing",
    "service": "default recovery",
    "site": "default",
    "timeline": "incident",
    "transfer": "default evidence",
    "triage": "triage",
    "traffic": "monitoring smoke",
    "unit_current": "monitoring",
    "validate": "default bad_release",
    "watch": "watch",
}

# More tests by path. A file without a subject that matches nothing here gets the default tests.
PATHS: tuple[tuple[str, str], ...] = (
    ("playbooks/report*.yml", "incident"),
    ("playbooks/plays/rollout.yml", "rollout"),
    ("roles/katago_mcp/tasks/survey*.yml", "rollout"),
    ("roles/katago_mcp/tasks/reject.yml", "rollout"),
    ("roles/katago_mcp/tasks/limits.yml", "mitigation"),
    ("roles/katago_mcp/tasks/*_cache.yml", "mitigation"),
    ("plugins/module_utils/service/overlay.py", "mitigation"),
    ("plugins/module_utils/service/cache.py", "mitigation"),
    ("server/*", "server default engine_faults smoke"),
    ("server/src/katago_mcp/schemas.py", "clients"),
    ("server/tests/clients/*", "clients"),
    ("server/tests/test_client_libraries.py", "clients"),
    ("server/src/katago_mcp/sgf*.py", "fuzz"),
    ("server/src/katago_mcp/charsets.py", "fuzz"),
    ("server/src/katago_mcp/gameinfo.py", "fuzz"),
    ("server/src/katago_mcp/komi.py", "fuzz"),
    ("server/src/katago_mcp/lines.py", "fuzz"),
    ("server/src/katago_mcp/numerals.py", "fuzz"),
    ("server/src/katago_mcp/engine.py", "soak"),
    ("server/src/katago_mcp/supervisor.py", "soak"),
    ("server/src/katago_mcp/overlay.py", "mitigation"),
    ("server/src/katago_mcp/cache.py", "mitigation"),
    ("server/tests/fuzz/*", "fuzz"),
    ("tests/bench/*", "server"),
    ("tests/bench/soak.py", "soak"),
    ("tests/*.py", "default smoke"),
    ("tests/browser.py", "incident hosts monitoring"),
    ("tests/mutants.py", "mutants"),
    ("plugins/plugin_utils/monitoring/alerts.py", "mutants"),
    ("plugins/plugin_utils/monitoring/recordings.py", "mutants"),
    ("tests/bad_releases.py", "bad_release fleet rollout"),
    ("tests/recorded.py", "incident"),
    ("tests/loopback.py", "incident security"),
    ("tests/callbacks/*", "recovery"),
    ("molecule/shared/*", "default smoke"),
    ("lab/*", "server packaged smoke"),
    ("inventories/lab/*", "default packaged smoke"),
    ("collections/*", "collection default smoke"),
    ("ansible.cfg", "collection default smoke"),
    (".config/molecule/*", "default smoke"),
    ("galaxy.yml", "collection"),
    ("meta/*", "collection"),
    ("requirements.txt", "collection"),
    ("bindep.txt", "collection"),
    ("execution-environment.yml", "collection"),
    ("plugins/lookup/*", "collection"),
    ("plugins/callback/*", "collection"),
    ("playbooks/*/*", "collection"),
    ("pyproject.toml", " ".join(DEFAULT)),
    ("requirements.lock", " ".join(DEFAULT)),
    ("bin/lab", "packaged"),
    ("bin/prepare", "packaged"),
    ("bin/evidence", "evidence"),
    ("bin/fleet", "collection"),
)
# Lint and unit tests are enough for these.
NO_MORE: tuple[str, ...] = (
    *("*.md", "LICENSE", "docs/*", "inventories/production/*", "inventories/examples/*", "tests/unit/*"),
    "tests/selection.py",
    "tests/glossary.py",
    *(".ansible-lint", ".gitignore", ".yamllint", ".ci/*", "bin/bench", "bin/test"),
)


class Refused(Exception):
    """The arguments cannot be used. The message has the reason and what is accepted."""


def subject(path: str) -> str | None:
    """The role, package, module or playbook to which a file belongs; None for other files."""
    parts = path.split("/")
    if parts[0] in ("plugins", "playbooks", "roles"):
        depth = 1 if parts[0] != "plugins" else 2
        return Path(parts[depth]).stem
    return None


def tests_of(path: str) -> frozenset[str] | None:
    """The tests that a change of this file may break; None if the file is not mapped."""
    if any(fnmatchcase(path, pattern) for pattern in NO_MORE):
        return ALWAYS
    tests = [names for pattern, names in PATHS if fnmatchcase(path, pattern)]
    if (name := subject(path)) is not None:
        parts_of_name = [name] if name in SUBJECTS else name.split("_")
        tests += [EVERY_PROCEDURE, *(SUBJECTS.get(word, "") for word in parts_of_name)]
    if path.startswith("molecule/") and (scenario := path.split("/")[1]) in SCENARIOS:
        tests.append(scenario)
    return ALWAYS.union(*(names.split() for names in tests)) if tests else None


def touched(paths: Iterable[str]) -> list[str]:
    """The tests that a change of these files may break, in the order in which they run."""
    names: set[str] = set()
    for path in paths:
        names |= tests_of(path) or set(DEFAULT)
    return [name for name in TESTS if name in names]


def base(revision: str = "") -> str:
    """The commit that the working tree is compared with.

    By default the commit at which the branch left main. On main itself, the last pushed commit or the
    parent.
    """
    if revision:
        return _git("merge-base", revision, "HEAD")
    head = _git("rev-parse", "HEAD")
    for name in ("main", "origin/main"):
        try:
            commit = _git("merge-base", name, "HEAD")
        except Refused:
            continue
        if commit != head:
            return commit
    return _git("rev-parse", "HEAD~1")


def changed(commit: str) -> list[str]:
    """The files that differ from a commit, including uncommitted and untracked files."""
    tracked = _git("diff", "--name-only", "--no-renames", "-z", commit)
    untracked = _git("ls-files", "--others", "--exclude-standard", "-z")
    return sorted({path for path in (tracked + "\0" + untracked).split("\0") if path})


def selected(arguments: Sequence[str]) -> list[str]:
    """The tests that the arguments of `bin/test` select."""
    if not arguments:
        return list(DEFAULT)
    if list(arguments) == ["all"]:
        return list(TESTS)
    if arguments[0] == "changed" and len(arguments) <= 2:
        commit = base(*arguments[1:])
        paths = changed(commit)
        names = touched(paths)
        print(
            f"{len(paths)} files differ from {commit[:12]}. Tests: {' '.join(names) or 'none'}",
            file=sys.stderr,
        )
        return names
    if unknown := [name for name in arguments if name not in TESTS]:
        raise Refused(f"there is no test {unknown[0]!r}. Tests: {' '.join(TESTS)}")
    return list(arguments)


def _git(*arguments: str) -> str:
    done = subprocess.run(["git", *arguments], cwd=ROOT, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        reason = done.stderr.strip().partition("\n")[0]
        raise Refused(
            f"git {arguments[0]}: {reason}. Name the revision to compare with: bin/test changed REV"
        )
    return done.stdout.strip("\n")


if __name__ == "__main__":
    try:
        print("\n".join(selected(sys.argv[1:])))
    except Refused as refusal:
        print(f"bin/test: {refusal}", file=sys.stderr)
        sys.exit(2)
