"""Whether the client of a running call can still receive its answer.

In the older protocol generation, a closed connection does not cancel a call, and this server cannot send
the answer later. In the generation of 2026, it does cancel the call.
"""

import asyncio
import contextlib
from collections.abc import Iterator
from contextvars import ContextVar

_left: ContextVar[asyncio.Event | None] = ContextVar("client_left", default=None)


@contextlib.contextmanager
def exchange() -> Iterator[asyncio.Event]:
    """One request and its answer. Set the event when the client can no longer receive the answer."""
    left = asyncio.Event()
    token = _left.set(left)
    try:
        yield left
    finally:
        _left.reset(token)


def client_left() -> asyncio.Event | None:
    """The event of the current call; None without HTTP."""
    return _left.get()
