"""What a tool answers when it cannot do what it was asked: a code, and what would be accepted."""

from typing import Literal

from mcp.server.mcpserver.exceptions import ToolError

Status = Literal["ok", "invalid", "rejected", "unavailable", "timeout", "error", "cancelled"]
"""How a call ended, the `status` of `katago_requests_total`.

`invalid` is the caller's mistake; `rejected` is a limit (load, rate, scope, drain);
`unavailable`, `timeout` and `error` are the server's own.
"""


class Failure(ToolError):
    """An anticipated failure of a tool call.

    `code` is stable; `field` is the argument at fault; `accepted` says what would do;
    `retry_after` is in seconds.
    """

    status: Status = "invalid"

    def __init__(
        self,
        code: str,
        message: str,
        *,
        field: str | None = None,
        accepted: str | None = None,
        retry_after: float | None = None,
    ) -> None:
        self.code = code
        self.message = message
        self.field = field
        self.accepted = accepted
        self.retry_after = None if retry_after is None else max(1, round(retry_after))
        text = f"{code}: {message}"
        if field is not None:
            text += f" [{field}]"
        if accepted is not None:
            text += f"; accepted: {accepted}"
        if self.retry_after is not None:
            text += f"; retry in {self.retry_after} s"
        super().__init__(text)

    def details(self) -> dict[str, str | int | None]:
        """The failure as JSON: code, message, field, accepted, retryAfterSeconds."""
        return {
            "code": self.code,
            "message": self.message,
            "field": self.field,
            "accepted": self.accepted,
            "retryAfterSeconds": self.retry_after,
        }


class Invalid(Failure):
    """The arguments cannot be used as they are."""


class Rejected(Failure):
    """A limit of the server or of the token stands against the call."""

    status = "rejected"


class Unavailable(Failure):
    """The engine is not there to answer."""

    status = "unavailable"


class TimedOut(Failure):
    """The engine did not answer in time."""

    status = "timeout"


class Broken(Failure):
    """The engine answered what it should not have."""

    status = "error"
