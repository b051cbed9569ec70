"""Writes game trees as SGF, for tests that read them back."""

from dataclasses import dataclass, field


@dataclass
class Tree:
    """A node with its properties (unescaped values) and children; the first child is the main line."""

    properties: dict[str, list[str]] = field(default_factory=dict)
    children: list["Tree"] = field(default_factory=list)


def escape(text: str) -> str:
    """A value as written between brackets."""
    return text.replace("\\", "\\\\").replace("]", "\\]")


def write(root: Tree) -> str:
    """The tree as SGF, without recursion."""
    parts: list[str] = []
    pending: list[Tree | str] = [")", root, "("]
    while pending:
        item = pending.pop()
        if isinstance(item, str):
            parts.append(item)
            continue
        parts.append(";")
        for identifier, values in item.properties.items():
            parts.append(identifier + "".join(f"[{escape(value)}]" for value in values))
        if len(item.children) == 1:
            pending.append(item.children[0])
        else:
            for child in reversed(item.children):
                pending += [")", child, "("]
    return "".join(parts)
