"""An MCP server that lets an AI assistant analyse Go games with KataGo."""

__version__ = "0.2.0"
