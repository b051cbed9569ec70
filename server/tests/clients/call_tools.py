"""Lists and calls the tools of a server with one client library, and prints a JSON report.

    python call_tools.py LIBRARY URL < CALLS

CALLS is JSON: [[tool, arguments], ...]. The token is in MCP_TOKEN. The report is {"tools": [names],
"schemas": {tool: the strict schema that the library makes for a model, if it makes one}, "results": [{"text",
"structured", "error" (null: the library does not tell)}]}. Each library has an environment of its own.
"""

# mypy: ignore-errors
# The libraries are in environments that mypy does not see.

import asyncio
import json
import os
import sys

HEADERS = {"Authorization": f"Bearer {os.environ['MCP_TOKEN']}"}


def result(content, structured, error):
    """One result in the form of the report."""
    texts = [part.text for part in content if getattr(part, "text", None) is not None]
    return {"text": "\n".join(texts), "structured": structured, "error": bool(error)}


async def fastmcp(url, calls):
    """FastMCP's client."""
    from fastmcp import Client
    from fastmcp.client.transports import StreamableHttpTransport

    async with Client(StreamableHttpTransport(url, headers=HEADERS)) as client:
        tools = await client.list_tools()
        results = []
        for tool, arguments in calls:
            answer = await client.call_tool(tool, arguments, raise_on_error=False)
            results.append(result(answer.content, answer.structured_content, answer.is_error))
    return [tool.name for tool in tools], {}, results


async def langchain_mcp_adapters(url, calls):
    """LangChain's tools, with their conversion to strict functions of OpenAI."""
    from langchain_core.tools import ToolException
    from langchain_core.utils.function_calling import convert_to_openai_tool
    from langchain_mcp_adapters.client import MultiServerMCPClient

    server = {"transport": "streamable_http", "url": url, "headers": HEADERS}
    tools = {tool.name: tool for tool in await MultiServerMCPClient({"katago": server}).get_tools()}
    schemas = {
        name: convert_to_openai_tool(tool, strict=True)["function"]["parameters"]
        for name, tool in tools.items()
    }
    results = []
    for name, arguments in calls:
        try:
            answer = await tools[name].ainvoke(arguments)
        except ToolException as error:
            results.append({"text": str(error), "structured": None, "error": True})
        else:
            parts = [answer] if isinstance(answer, str) else answer
            text = "\n".join(part if isinstance(part, str) else part.get("text", "") for part in parts)
            # The library also returns refusals as text, without a mark.
            results.append({"text": text, "structured": None, "error": None})
    return list(tools), schemas, results


async def pydantic_ai(url, calls):
    """Pydantic AI's toolset, with its conversion to strict functions of OpenAI and Google."""
    from pydantic_ai.exceptions import ModelRetry
    from pydantic_ai.mcp import MCPToolset
    from pydantic_ai.profiles.google import GoogleJsonSchemaTransformer
    from pydantic_ai.profiles.openai import OpenAIJsonSchemaTransformer

    async with MCPToolset(url, headers=HEADERS) as server:
        tools = await server.list_tools()
        schemas = {
            tool.name: OpenAIJsonSchemaTransformer(_schema(tool), strict=True).walk() for tool in tools
        }
        for tool in tools:
            GoogleJsonSchemaTransformer(_schema(tool), strict=True).walk()
        results = []
        for name, arguments in calls:
            try:
                answer = await server.direct_call_tool(name, arguments)
            except ModelRetry as error:
                results.append({"text": str(error), "structured": None, "error": True})
            else:
                structured = answer if isinstance(answer, dict) else None
                results.append({"text": str(answer), "structured": structured, "error": False})
    return [tool.name for tool in tools], schemas, results


async def openai_agents(url, calls):
    """The OpenAI Agents SDK's server, with its conversion to strict functions."""
    from agents.mcp import MCPServerStreamableHttp, MCPUtil

    async with MCPServerStreamableHttp(params={"url": url, "headers": HEADERS}) as server:
        tools = await server.list_tools()
        functions = {tool.name: MCPUtil.to_function_tool(tool, server, True) for tool in tools}
        assert all(function.strict_json_schema for function in functions.values()), "not strict"
        schemas = {name: function.params_json_schema for name, function in functions.items()}
        results = []
        for name, arguments in calls:
            answer = await server.call_tool(name, arguments)
            structured = _first(answer, "structuredContent", "structured_content")
            results.append(result(answer.content, structured, _first(answer, "isError", "is_error")))
    return list(functions), schemas, results


def _schema(tool):
    return _first(tool, "inputSchema", "input_schema")


def _first(model, *names):
    """The attribute with one of two names, of the older and the newer SDK."""
    return next((getattr(model, name) for name in names if hasattr(model, name)), None)


LIBRARIES = {
    "fastmcp": fastmcp,
    "langchain-mcp-adapters": langchain_mcp_adapters,
    "pydantic-ai-slim": pydantic_ai,
    "openai-agents": openai_agents,
}


def main():
    """Print the report."""
    library, url = sys.argv[1:]
    tools, schemas, results = asyncio.run(LIBRARIES[library](url, json.load(sys.stdin)))
    print(json.dumps({"tools": tools, "schemas": schemas, "results": results}))


if __name__ == "__main__":
    main()
