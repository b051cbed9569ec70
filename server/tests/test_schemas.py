"""The published tools: short, and in the part of JSON Schema that strict clients accept."""

import json
from collections.abc import Iterator
from typing import Any

import pytest
from mcp import Client
from mcp.types import Tool

from katago_mcp import tools
from katago_mcp.auth import RateLimiter
from katago_mcp.config import RateLimit
from katago_mcp.metrics import TOOLS
from katago_mcp.schemas import portable
from rig import Rig
from support import Site

pytestmark = pytest.mark.anyio

MOST_BYTES = 12_000
"""Bytes of the input schemas and descriptions of all tools, which every conversation of a model contains."""

KEYWORDS = {
    *("type", "properties", "required", "items", "enum", "anyOf", "additionalProperties"),
    *("description", "default", "minimum"),
}
"""Keywords that strict clients accept in input schemas."""


async def listed(site: Site) -> list[Tool]:
    made = Rig(site, {})
    service = tools.Service(
        supervisor=made.supervisor,
        analyst=made.analyst,
        metrics=made.metrics,
        limiter=RateLimiter(lambda: RateLimit()),
        settings=made.settings,
        secured=False,
    )
    async with Client(tools.build(service, None)) as session:
        return (await session.list_tools()).tools


def subschemas(schema: dict[str, Any], path: str = "") -> Iterator[tuple[str, dict[str, Any]]]:
    """A schema and all schemas in it, with their paths."""
    yield path, schema
    for name, child in schema.get("properties", {}).items():
        yield from subschemas(child, f"{path}.{name}")
    for arm in schema.get("anyOf", []):
        yield from subschemas(arm, f"{path}|")
    for key in ("items", "additionalProperties"):
        if isinstance(schema.get(key), dict):
            yield from subschemas(schema[key], f"{path}[]")


async def test_descriptions_and_input_schemas_are_short(site: Site) -> None:
    size = sum(
        len(json.dumps(tool.input_schema, separators=(",", ":")).encode())
        + len((tool.description or "").encode())
        for tool in await listed(site)
    )
    assert size <= MOST_BYTES


async def test_input_schemas_have_only_keywords_that_strict_clients_accept(site: Site) -> None:
    for tool in await listed(site):
        assert tool.input_schema["type"] == "object"
        assert tool.input_schema["additionalProperties"] is False
        for path, schema in subschemas(tool.input_schema):
            where = f"{tool.name}{path}"
            assert schema.keys() <= KEYWORDS, where
            assert "type" in schema or "anyOf" in schema, where
            assert schema.get("default", "") is not None, where


async def test_every_array_has_items(site: Site) -> None:
    for tool in await listed(site):
        for published in (tool.input_schema, tool.output_schema or {}):
            for path, schema in subschemas(published):
                if schema.get("type") == "array":
                    assert "items" in schema, f"{tool.name}{path}"


async def test_output_schemas_contain_no_references_and_titles(site: Site) -> None:
    for tool in await listed(site):
        assert tool.output_schema is not None
        for path, schema in subschemas(tool.output_schema):
            assert not schema.keys() & {"$ref", "$defs", "title", "prefixItems"}, f"{tool.name}{path}"


async def test_every_argument_is_described(site: Site) -> None:
    for tool in await listed(site):
        for path, schema in subschemas(tool.input_schema):
            if path and not path.endswith("[]"):
                assert schema.get("description"), f"{tool.name}{path}"


async def test_descriptions_have_no_indentation_of_code(site: Site) -> None:
    for tool in await listed(site):
        assert tool.description
        assert "  " not in tool.description
        assert "\n" not in tool.description


async def test_without_structured_content_the_tools_have_no_output_schema(site: Site) -> None:
    site.write(server={"structuredContent": False})
    published = await listed(site)
    assert {tool.name for tool in published} == set(TOOLS)
    assert all(tool.output_schema is None for tool in published)


def test_properties_keep_their_names_even_if_they_are_keywords() -> None:
    schema = {"type": "object", "properties": {"title": {"type": "string", "title": "Title"}}}
    assert portable(schema, short=True) == {"type": "object", "properties": {"title": {"type": "string"}}}


def test_schema_that_refers_to_itself_is_refused() -> None:
    tree = {"type": "object", "properties": {"child": {"$ref": "#/$defs/Tree"}}}
    with pytest.raises(ValueError, match="refers to itself"):
        portable({"$ref": "#/$defs/Tree", "$defs": {"Tree": tree}})


def test_array_of_different_types_is_refused() -> None:
    pair = {"type": "array", "prefixItems": [{"type": "string"}, {"type": "integer"}]}
    with pytest.raises(ValueError, match="different types"):
        portable(pair)
