"""The forms of answers: text and pictures, and structured content beside them.

Some clients show the model only the structured content of an answer if there is any, so pictures never
reach it. Such a client can use the address `/mcp?content=text`. `server.structuredContent` is the default
of all other callers.
"""

import contextlib
from collections.abc import Iterator
from contextvars import ContextVar
from urllib.parse import parse_qs

FORMS = {"text": False, "all": True}
"""The values of `content` in the address, and whether answers then have structured content."""

_requested: ContextVar[bool | None] = ContextVar("structured_content", default=None)


def requested_form(query: bytes) -> str | None:
    """The value of `content` in the query of an address; None if it is missing."""
    values = parse_qs(query.decode("latin-1")).get("content")
    return values[-1] if values else None


@contextlib.contextmanager
def using(form: str | None) -> Iterator[None]:
    """Answer the calls of this context in a form of `FORMS`; None means the configured one."""
    token = _requested.set(None if form is None else FORMS[form])
    try:
        yield
    finally:
        _requested.reset(token)


def are_structured(default: bool) -> bool:
    """Whether answers of the current call have structured content."""
    requested = _requested.get()
    return default if requested is None else requested
