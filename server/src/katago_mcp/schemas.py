"""The schemas of the tools as published: short, and in the subset of JSON Schema that strict clients accept.

Some clients and gateways reject a tool whose array has no `items`, resolve no `$ref`, or pass every byte to
the model. The types of the tools stay as they are; only what `tools/list` publishes is rewritten here.
"""

from collections.abc import Mapping
from typing import Any

from mcp.types import Tool

from katago_mcp.errors import Details

_NULL = {"type": "null"}
_CHILDREN = ("properties", "patternProperties")
_IMPLIED = frozenset({"minItems", "maxItems"})
"""Limits that descriptions and errors state, and that not all clients accept in schemas."""


def published(tool: Tool, *, with_output: bool) -> Tool:
    """A tool as clients see it. Without `with_output`, it has no output schema."""
    output = tool.output_schema
    return tool.model_copy(
        update={
            "description": " ".join((tool.description or "").split()),
            "input_schema": portable(tool.input_schema, short=True),
            "output_schema": portable(_allowing_errors(output)) if with_output and output else None,
        }
    )


def portable(schema: Mapping[str, Any], *, short: bool = False) -> dict[str, Any]:
    """The schema without `$ref`, `prefixItems` and generated titles.

    With `short`, a property that may be null is published as optional instead, because callers leave it out,
    and so are defaults without content, such as false. Answers contain nulls, so their schemas keep them.

    Raises:
        ValueError: if the schema refers to itself, or the items of an array have different types.
    """
    definitions = schema.get("$defs", {})
    root = {key: value for key, value in schema.items() if key != "$defs"}
    return _rewritten(root, definitions, (), short)


def _rewritten(
    schema: Mapping[str, Any], definitions: Mapping[str, Any], path: tuple[str, ...], short: bool
) -> dict[str, Any]:
    def again(part: Mapping[str, Any], path: tuple[str, ...] = path) -> dict[str, Any]:
        return _rewritten(part, definitions, path, short)

    if "$ref" in schema:
        name = str(schema["$ref"]).rpartition("/")[2]
        if name in path:
            raise ValueError(f"the schema {name!r} refers to itself")
        return again(
            {**definitions[name], **{key: value for key, value in schema.items() if key != "$ref"}},
            (*path, name),
        )
    result: dict[str, Any] = {}
    for key, value in schema.items():
        if _is_dropped(key, value, path, short):
            continue
        if key in _CHILDREN:
            result[key] = {name: again(child) for name, child in value.items()}
        elif key == "prefixItems":
            result["items"] = again(_common(value))
        elif key in ("anyOf", "oneOf", "allOf"):
            result[key] = [again(part) for part in value]
        elif key == "items" or (key == "additionalProperties" and isinstance(value, dict)):
            result[key] = again(value)
        else:
            result[key] = value
    if short and _NULL in result.get("anyOf", []):
        arms = [arm for arm in result.pop("anyOf") if arm != _NULL]
        result = {**(arms[0] if len(arms) == 1 else {"anyOf": arms}), **result}
    return result


def _is_dropped(key: str, value: object, path: tuple[str, ...], short: bool) -> bool:
    if key == "title" or (key == "default" and value is None):
        return True
    is_empty_default = key == "default" and not value
    is_inner = key == "additionalProperties" and bool(path)
    return short and (is_empty_default or is_inner or key in _IMPLIED)


def _common(items: list[dict[str, Any]]) -> dict[str, Any]:
    first, *rest = items
    if any(item != first for item in rest):
        raise ValueError("the items of an array have different types")
    return first


def _allowing_errors(schema: Mapping[str, Any]) -> dict[str, Any]:
    """An output schema that failed calls match too.

    Clients also validate the structured content of an error against it [TypeScript SDK 1.x, callTool].
    """
    allowing = dict(schema)
    required = allowing.pop("required", [])
    error = {**Details.model_json_schema(by_alias=True), "description": "Why the call failed; the only key."}
    summary = {"type": "string", "description": "The answer as a short text."}
    allowing["properties"] = {**allowing["properties"], "summary": summary, "error": error}
    allowing["anyOf"] = [{"required": required}, {"required": ["error"]}]
    return allowing
