"""Writes docs/reference/ from the roles' argument specs, the plugins' documentation and the server's code,
and Grafana's dashboard.

PYTHONPATH=collections python docs/generate.py          writes the pages
PYTHONPATH=collections python docs/generate.py --check  fails if a page is not current
"""

from __future__ import annotations

import ast
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

import dashboard
import monitoring_reference
import server_reference
from ansible_collections.katago.fleet.plugins.plugin_utils.run import procedures

ROOT = Path(__file__).resolve().parent.parent
REFERENCE = ROOT / "docs" / "reference"
DASHBOARD = ROOT / "roles" / "monitoring" / "files" / "grafana" / "katago-fleet.json"
ROLES = (
    *("procedure", "preflight", "gpu_driver", "katago", "katago_mcp", "validate", "rollout"),
    *("load_balancer", "rotation", "triage", "evidence", "incident", "security", "watch", "review"),
    *("backup", "restore", "removal", "replacement", "overview", "monitoring", "self_healing"),
    *("fleet_healing", "drill"),
)
FLEET = {
    "fleet_address": (
        "`ansible_host`, else the name of the host",
        "The IP address at which other hosts of the fleet reach the host.",
    ),
    "fleet_environment": (
        "`production`",
        "What the fleet is used for, the same on all hosts. Drills and load on production need permission.",
    ),
    "fleet_min_available": (
        "`50%`",
        "The least number (`2`) or share (`50%`) of hosts that must stay up, and in rotation.",
    ),
    "fleet_name": (
        "the name of the inventory's directory",
        "The name of the fleet in its backups, alerts and drills, the same for all hosts.",
    ),
}
"""Variables that several roles read: the default and the meaning of each."""
LONGEST_CELL = 120
"""The most characters of a cell."""
NOTICE = "<!-- Written by docs/generate.py; change the code, not this file. -->"


def roles() -> str:
    """The variables of the fleet, then every role with its options, in the order of a deployment."""
    lines = [
        "# Roles",
        "",
        NOTICE,
        "",
        "## Variables of the fleet",
        "",
        "Several roles read these variables.",
    ]
    lines += ["", "| Variable | Default | What |", "|---|---|---|"]
    lines += [f"| `{name}` | {default} | {meaning} |" for name, (default, meaning) in FLEET.items()]
    for name in ROLES:
        text = (ROOT / "roles" / name / "meta" / "argument_specs.yml").read_text()
        for entry_point, spec in yaml.safe_load(text)["argument_specs"].items():
            heading = f"## {name}" if entry_point == "main" else f"### {name}: {entry_point}"
            lines += ["", heading, "", f"{_plain(spec['short_description'])}."]
            lines += [_plain(sentence) for sentence in _sentences(spec.get("description", []))]
            lines += _options(spec["options"])
    return "\n".join(lines) + "\n"


def plugins() -> str:
    """Every module, filter, lookup and callback."""
    lines = ["# Modules and other plugins", "", NOTICE]
    for kind in ("modules", "filter", "lookup", "callback"):
        # A filter's documentation is a file of its own.
        for path in sorted((ROOT / "plugins" / kind).glob("*.yml" if kind == "filter" else "*.py")):
            documented = _documented(path)
            documentation = documented["DOCUMENTATION"]
            lines += ["", f"## katago.fleet.{path.stem}", "", f"{documentation['short_description']}."]
            lines += [_plain(sentence) for sentence in documentation["description"]]
            lines += _options(documentation["options"])
            if kind == "callback":
                continue
            lines += ["", "```yaml", documented["EXAMPLES"].strip(), "```"]
            if returned := documented["RETURN"]:
                lines += ["", "| Returns | Type | What |", "|---|---|---|"]
                lines += [
                    f"| `{name}` | {spec['type']} | {_joined(spec['description'])} |"
                    for name, spec in returned.items()
                ]
    return "\n".join(lines) + "\n"


def inputs() -> str:
    """Every procedure with its inputs, by situation."""
    lines = [
        "# Procedures and their inputs",
        "",
        NOTICE,
        "",
        "Give an input with `-e NAME=VALUE`, or as an option of `bin/fleet`. A misspelt input is refused,",
        "and so is an input of another procedure. Ansible cuts a value at its first space unless quoted:",
        "`-e 'why=\"two words\"'`. `bin/fleet` needs no second quotes.",
    ]
    for situation, members in procedures.by_situation().items():
        lines += ["", f"## {situation}"]
        for each in members:
            lines += ["", f"### {each.name}", "", f"{each.summary}.", ""]
            command = " ".join(each.command)
            lines += [f"`bin/fleet {command}`, `ansible-playbook playbooks/{each.name}.yml`", ""]
            lines += ["| Input | Option | Type | Default | What | In the timeline |"]
            lines += ["|---|---|---|---|---|---|"]
            lines += [_input(one) for one in procedures.inputs_of(each.name).values()]
    return "\n".join(lines) + "\n"


def _input(declared: procedures.Input) -> str:
    kind = ", ".join(f"`{choice}`" for choice in declared.choices) or declared.type
    if declared.required:
        default = "**required**"
    elif declared.default in (None, ""):
        default = ""
    else:
        default = f"`{str(declared.default).lower()}`"
    recorded = "its value" if declared.recorded else "its name"
    return (
        f"| `{declared.name}` | `{declared.option}` | {kind} | {default} | {declared.summary} | {recorded} |"
    )


def _sentences(description: str | list[str]) -> list[str]:
    return [description] if isinstance(description, str) else description


def pages() -> dict[Path, str]:
    """Every page of the reference, and the dashboard."""
    texts = {
        "inputs": inputs(),
        "roles": roles(),
        "plugins": plugins(),
        "tools": server_reference.tools(NOTICE),
        "config": server_reference.config(NOTICE),
        "metrics": server_reference.metrics(NOTICE),
        "errors": server_reference.errors(NOTICE),
        "alerts": monitoring_reference.alerts(NOTICE),
        "monitoring-metrics": monitoring_reference.metrics(NOTICE),
    }
    written = {REFERENCE / f"{name}.md": "\n".join(_readable(text)) + "\n" for name, text in texts.items()}
    return {**written, DASHBOARD: dashboard.text()}


def _readable(page: str) -> Iterator[str]:
    """The lines of a page; what a cell of a table has no room for stands in a list below the table."""
    notes: list[str] = []
    for line in page.splitlines():
        if not line.startswith("| "):
            if notes and not line.startswith("|"):
                yield from ("", *notes)
                notes = []
            yield line
            continue
        first, *others = re.split(r"(?<!\\) \| ", line.removeprefix("| ").removesuffix(" |"))
        notes += [f"- {first}: {text}" for text in others if len(text) > LONGEST_CELL]
        yield f"| {' | '.join([first, *map(_start, others)])} |"
    if notes:
        yield from ("", *notes)


def _start(cell: str) -> str:
    """A cell, or as many of its sentences as fit."""
    if len(cell) <= LONGEST_CELL:
        return cell
    sentences = cell[: LONGEST_CELL - len(" See below.")].rpartition(". ")[0]
    return f"{sentences}. See below." if sentences else "see below"


def _options(options: dict[str, Any]) -> Iterator[str]:
    if not options:
        return
    yield from ("", "| Option | Type | Default | What |", "|---|---|---|---|")
    yield from _rows(options, "")


def _rows(options: dict[str, Any], prefix: str) -> Iterator[str]:
    for name, spec in options.items():
        kind = f"{spec['type']} of {spec['elements']}" if "elements" in spec else spec["type"]
        if spec.get("required"):
            default = "**required**"
        elif spec.get("default") in (None, ""):
            default = ""
        else:
            default = f"`{spec['default']}`"
        choices = f" One of: {', '.join(spec['choices'])}." if "choices" in spec else ""
        yield f"| `{prefix}{name}` | {kind} | {default} | {_joined(spec['description'])}{choices} |"
        yield from _rows(spec.get("options") or spec.get("suboptions") or {}, f"{prefix}{name}.")


def _joined(description: str | list[str]) -> str:
    return _plain(" ".join(_sentences(description))).replace("|", "\\|")


def _plain(text: str) -> str:
    return re.sub(r"[CIBM]\(([^)]*)\)|P\(([^)#]*)#\w+\)", lambda match: f"`{match[1] or match[2]}`", text)


def _documented(path: Path) -> dict[str, Any]:
    """The parts of a plugin's documentation by name, from its code or from the file beside it."""
    if path.suffix == ".yml":
        found: dict[str, Any] = yaml.safe_load(path.read_text())
        return found
    documentation = _literal(path, "DOCUMENTATION")
    for fragment in documentation.pop("extends_documentation_fragment", []):
        if "." not in fragment:
            # One of ansible-core, whose documentation has its options.
            documentation.setdefault("options", {})
            continue
        shared = _literal(
            ROOT / "plugins" / "doc_fragments" / f"{fragment.split('.')[-1]}.py", "DOCUMENTATION"
        )
        documentation["options"] = shared["options"] | documentation.get("options", {})
    parts = {"DOCUMENTATION": documentation}
    if path.parent.name != "callback":
        parts |= {"EXAMPLES": _text(path, "EXAMPLES"), "RETURN": _literal(path, "RETURN")}
    return parts


def _text(path: Path, name: str) -> str:
    # A fragment's documentation is in a class.
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Assign) and getattr(node.targets[0], "id", None) == name:
            return str(ast.literal_eval(node.value))
    raise ValueError(f"{path} has no {name}")


def _literal(path: Path, name: str) -> Any:
    return yaml.safe_load(_text(path, name))


def main() -> int:
    """Write the pages, or check them."""
    made = pages()
    stale = [path for path, text in made.items() if not path.exists() or path.read_text() != text]
    if "--check" in sys.argv:
        for path in stale:
            print(
                f"{path.relative_to(ROOT)} is not current: run PYTHONPATH=collections python docs/generate.py"
            )
        return 1 if stale else 0
    REFERENCE.mkdir(exist_ok=True)
    for path, text in made.items():
        path.write_text(text)
    return 0


if __name__ == "__main__":
    sys.exit(main())
