"""The error type of driver operations."""

from __future__ import annotations


class DriverError(Exception):
    """A step failed; the message states the cause. `refused`: nothing was changed on the host."""

    def __init__(self, message: str, *, refused: bool = False) -> None:
        super().__init__(message)
        self.refused = refused
