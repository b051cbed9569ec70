"""The error of what is done about a driver."""

from __future__ import annotations


class DriverError(Exception):
    """A step failed; the message says what was seen. `refused`: nothing was left changed."""

    def __init__(self, message: str, *, refused: bool = False) -> None:
        super().__init__(message)
        self.refused = refused
