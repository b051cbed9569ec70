"""Generates the reference pages of the MCP server: tools, configuration, metrics and errors."""

from __future__ import annotations

import asyncio
import json
import os
import sys
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from mcp.client import Client
from mcp.client.stdio import StdioServerParameters
from mcp.types import Tool

SOURCE = Path(__file__).resolve().parent.parent / "server" / "src"
sys.path.insert(0, str(SOURCE))

from katago_mcp import config as configuration  # noqa: E402 - the path is set above
from katago_mcp import errors as catalogue  # noqa: E402 - the path is set above
from katago_mcp.metrics import Metrics  # noqa: E402 - the path is set above

Schema = Mapping[str, Any]

_OWN = "katago_"
_TYPES = {"number": "number", "integer": "integer", "string": "string", "boolean": "boolean", "null": "null"}


class Undescribed(Exception):
    """A key, argument or field has no description in the code. The text names it."""


def tools(notice: str) -> str:
    """The page of the tools, as clients see them: arguments and results."""
    listed_tools = asyncio.run(_list_tools())
    lines = [
        "# Tools",
        "",
        notice,
        "",
        "Arguments are passed by name. An omitted argument has its default. The answer contains",
        "`structuredContent` with the fields below, and a text for people. A failed call has one of the",
        "[errors](errors.md). `name.part` is a part of an object, `name[].part` of each object in a list.",
    ]
    for tool in listed_tools:
        scopes = " and ".join(f"`{scope}`" for scope in (tool.meta or {})["scopes"])
        lines += ["", f"## {tool.name}", "", _text(tool.description or ""), "", f"Scope: {scopes}."]
        if tool.input_schema.get("properties"):
            lines += ["", "| Argument | Type | Default | Description |", "|---|---|---|---|"]
            lines += _arguments(tool.input_schema, tool.name)
        output = tool.output_schema or {}
        lines += ["", "| Returns | Type | Description |", "|---|---|---|"]
        lines += _fields(output, tool.name)
    return "\n".join(lines) + "\n"


def config(notice: str) -> str:
    """The page of the configuration keys, by section."""
    lines = [
        "# Configuration of the server",
        "",
        notice,
        "",
        f"`{configuration.DEFAULT_PATH}`: a JSON object with these sections. The server reports all problems",
        "together; for an unknown key it suggests the nearest known key. The environment variable overrides",
        "the key: separate list entries by commas; an empty value means null. Relative paths are relative to",
        "the real directory of the file.",
    ]
    for section, model in configuration.SECTIONS.items():
        schema = model.model_json_schema(by_alias=True)
        lines += ["", f"## {section}", "", _text(model.__doc__ or ""), ""]
        lines += ["| Key | Type | Range | Default | Description | Variable |", "|---|---|---|---|---|---|"]
        for key, field in schema["properties"].items():
            default = "**required**" if key in schema.get("required", ()) else _value(field["default"])
            lines.append(
                f"| `{section}.{key}` | {_type(field)} | {_range(field)} | {default} "
                f"| {_described(field, f'{section}.{key}')} | `{configuration.variable_of(section, key)}` |"
            )
    return "\n".join(lines) + "\n"


def metrics(notice: str) -> str:
    """The page of the metrics, with labels and their values."""
    registry = Metrics("the server's version", "the release's name").registry
    families = sorted(registry.collect(), key=lambda family: (not family.name.startswith(_OWN), family.name))
    lines = [
        "# Metrics of the server",
        "",
        notice,
        "",
        "At `metrics.host`:`metrics.port`, path `/metrics`. All series exist from the first scrape on. No",
        "label contains a value from a client. Times are in seconds, sizes in bytes.",
        "",
        "| Name | Type | Labels | Description |",
        "|---|---|---|---|",
    ]
    for family in families:
        name = f"{family.name}_total" if family.type == "counter" else family.name
        labels: dict[str, list[str]] = {}
        for sample in family.samples:
            for label, value in sample.labels.items():
                labels.setdefault(label, [])
                if value not in labels[label]:
                    labels[label].append(value)
        text = _text(family.documentation)
        if bounds := labels.pop("le", None):
            text += f" Buckets up to {', '.join(bounds[:-1])}."
        # The values of Python's own labels differ between machines.
        shown = "; ".join(
            f"`{label}`: {', '.join(values)}" if name.startswith(_OWN) else f"`{label}`"
            for label, values in labels.items()
        )
        lines.append(f"| `{name}` | {family.type} | {shown} | {text} |")
    return "\n".join(lines) + "\n"


def errors(notice: str) -> str:
    """The page of the error codes."""
    lines = [
        "# Errors of the tools",
        "",
        notice,
        "",
        "A failed call has `isError`, a text that starts with one of these codes, and",
        "`structuredContent.error` with `code`, `message`, `field`, `accepted` and `retryAfterSeconds`",
        "(null where they do not apply). `Status` is the label in `katago_requests_total`. A failed call",
        "without one of these codes is a bug of the server, counted as `error`.",
        "",
        "| Code | Status | Meaning | Field | Accepted | Retry |",
        "|---|---|---|---|---|---|",
    ]
    lines += [
        f"| `{code}` | {entry.status} | {entry.meaning} | {', '.join(entry.fields) or 'none'} "
        f"| {entry.accepted} | {entry.retry} |"
        for code, entry in catalogue.CATALOGUE.items()
    ]
    return "\n".join(lines) + "\n"


async def _list_tools() -> list[Tool]:
    """Get the tools from a running server, which needs no engine for this."""
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory) / "config.json"
        engine = {"binaryPath": "katago", "modelPath": "network.bin.gz", "configPath": "analysis.cfg"}
        path.write_text(json.dumps({"katago": engine, "cache": {"enabled": False}}))
        parameters = StdioServerParameters(
            command=sys.executable,
            args=["-m", "katago_mcp.cli", "stdio", "--config", str(path)],
            env={"PATH": os.environ["PATH"], "PYTHONPATH": str(SOURCE), "KATAGO_LOGGING_LEVEL": "error"},
        )
        async with Client(parameters) as client:
            return (await client.list_tools()).tools


def _arguments(schema: Schema, owner: str) -> Iterator[str]:
    for name, field, is_required in _parts(schema):
        default = "**required**" if is_required else _value(field.get("default"))
        yield f"| `{name}` | {_type(field)} | {default} | {_described(field, f'{owner}.{name}')} |"


def _fields(schema: Schema, owner: str) -> Iterator[str]:
    for name, field, _ in _parts(schema):
        yield f"| `{name}` | {_type(field)} | {_described(field, f'{owner}.{name}')} |"


def _parts(schema: Schema, prefix: str = "") -> Iterator[tuple[str, Schema, bool]]:
    """The properties of an object and of the objects in it: path, schema, and whether it is required."""
    for name, field in schema["properties"].items():
        yield f"{prefix}{name}", field, name in schema.get("required", ())
        for arm in (field, *field.get("anyOf", ())):
            items, suffix = arm, "."
            if arm.get("type") == "array":
                items, suffix = arm["items"], "[]."
            if "properties" in items:
                yield from _parts(items, f"{prefix}{name}{suffix}")


def _type(field: Schema) -> str:
    """A JSON schema's type as text."""
    if "anyOf" in field:
        return " or ".join(_type(arm) for arm in field["anyOf"])
    if "const" in field or "enum" in field:
        return ", ".join(_value(value) for value in field.get("enum", [field.get("const")]))
    if field["type"] == "array":
        return f"list of {_type(field['items'])}"
    if field["type"] == "object" and "additionalProperties" not in field:
        return "object"
    if field["type"] == "object":
        keys = _type(field["propertyNames"]) if "propertyNames" in field else "string"
        return f"object: {keys} to {_type(field['additionalProperties'])}"
    return "path" if field.get("format") == "path" else _TYPES[field["type"]]


def _range(field: Schema) -> str:
    arms = [field, *field.get("anyOf", [])]
    bounds = [
        f"{sign} {arm[key]:g}" if abs(arm[key]) < 1e6 else f"{sign} {arm[key]:,}".replace(",", " ")
        for arm in arms
        for key, sign in (("minimum", "≥"), ("exclusiveMinimum", ">"), ("maximum", "≤"))
        if key in arm
    ]
    return ", ".join(bounds)


def _value(value: Any) -> str:
    return "" if value is None else f"`{json.dumps(value, ensure_ascii=False)}`"


def _described(field: Schema, name: str) -> str:
    if not field.get("description"):
        raise Undescribed(f"{name} has no description in the code: add one, this page is generated from it")
    return _text(field["description"])


def _text(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|")
