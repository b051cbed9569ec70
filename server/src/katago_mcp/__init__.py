"""An MCP server that lets an AI assistant analyse Go games with KataGo."""

from importlib.metadata import version

__version__ = version("katago-mcp")
