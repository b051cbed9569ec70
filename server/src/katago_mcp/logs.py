"""Logging to stderr: one JSON object or one line of text for each event."""

import json
import logging
import sys
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Literal

import anyio
from pydantic_core import PydanticSerializationError, to_json
from starlette.requests import ClientDisconnect

_FIELDS = "katago_mcp_fields"
_EVENTS_REMEMBERED = 1000


class Log:
    """A logger for events with a short name and fields.

    Fields contain states, reasons, counts and times; never game records or tokens.
    """

    def __init__(self, name: str) -> None:
        self._logger = logging.getLogger(name)

    def debug(self, event: str, **fields: object) -> None:
        """Log an event for developers."""
        self._logger.debug(event, extra={_FIELDS: fields})

    def info(self, event: str, **fields: object) -> None:
        """Log a normal event."""
        self._logger.info(event, extra={_FIELDS: fields})

    def warning(self, event: str, **fields: object) -> None:
        """Log an event that the server handled and operators should know."""
        self._logger.warning(event, extra={_FIELDS: fields})

    def error(self, event: str, **fields: object) -> None:
        """Log an event that needs action by an operator."""
        self._logger.error(event, extra={_FIELDS: fields})


def configure(level: str, form: Literal["json", "text"]) -> None:
    """Send all logging of the process to stderr at `level` ("debug" ... "error")."""
    # None of this is shown, and finding the source line costs more than logging the event
    # [Python's Logging HOWTO, Optimization].
    logging._srcfile = None
    logging.logThreads = logging.logProcesses = logging.logMultiprocessing = False
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_Json() if form == "json" else _Text())
    handler.addFilter(Bounded())
    logging.basicConfig(level=level.upper(), handlers=[handler], force=True)
    logging.captureWarnings(True)
    # The SDK logs tool errors and sessions at INFO. The server already logs calls.
    for chatty in ("mcp", "uvicorn", "httpx2", "httpcore2"):
        logging.getLogger(chatty).setLevel("DEBUG" if level == "debug" else "WARNING")
    # A disconnected client is not an error. The code that serves requests logs the result.
    logging.getLogger("mcp.server.streamable_http").addFilter(_not_a_disconnect)
    # It logs client headers verbatim. The server logs these rejections itself.
    logging.getLogger("mcp.server.transport_security").setLevel("ERROR")


class Bounded(logging.Filter):
    """Limits how often the same warning or error is logged.

    A condition can repeat a thousand times a second, such as a limit of file descriptors. Each event of a
    logger is logged at most `burst` times in `seconds`. The next one then states in `suppressed` how many
    were left out. Events below warning level pass.
    """

    def __init__(
        self, burst: int = 60, seconds: float = 60.0, clock: Callable[[], float] = time.monotonic
    ) -> None:
        super().__init__()
        self._burst = burst
        self._seconds = seconds
        self._clock = clock
        self._windows: OrderedDict[tuple[str, str], _Window] = OrderedDict()

    def filter(self, record: logging.LogRecord) -> bool:
        """Whether the record is logged."""
        if record.levelno < logging.WARNING:
            return True
        now = self._clock()
        key = (record.name, str(record.msg)[:200])
        window = self._windows.setdefault(key, _Window(now))
        self._windows.move_to_end(key)
        if len(self._windows) > _EVENTS_REMEMBERED:
            self._windows.popitem(last=False)
        if now - window.since >= self._seconds:
            if window.suppressed:
                setattr(record, _FIELDS, {**getattr(record, _FIELDS, {}), "suppressed": window.suppressed})
            window.since, window.logged, window.suppressed = now, 0, 0
        if window.logged >= self._burst:
            window.suppressed += 1
            return False
        window.logged += 1
        return True


@dataclass
class _Window:
    since: float
    logged: int = 0
    suppressed: int = 0


def _not_a_disconnect(record: logging.LogRecord) -> bool:
    kind = record.exc_info[0] if record.exc_info else None
    return kind is None or not issubclass(kind, (anyio.ClosedResourceError, ClientDisconnect))


def _fields(record: logging.LogRecord) -> dict[str, object]:
    fields = dict(getattr(record, _FIELDS, {}))
    if record.exc_info and record.exc_info[0] is not None:
        fields["errorType"] = record.exc_info[0].__name__
        fields["traceback"] = logging.Formatter().formatException(record.exc_info)
    return fields


class _Json(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        """Render one line of JSON."""
        line = {
            "ts": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "event": record.getMessage(),
            "logger": record.name,
            **_fields(record),
        }
        try:
            return to_json(line, fallback=str).decode()
        except PydanticSerializationError:
            # Escape text that is not valid Unicode, such as file names.
            return json.dumps(line, default=str)


class _Text(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        """Render one line for a person."""
        fields = " ".join(f"{key}={value!s}" for key, value in _fields(record).items())
        time = datetime.fromtimestamp(record.created, UTC).strftime("%H:%M:%S")
        return f"{time} {record.levelname.lower():7} {record.getMessage()} {fields}".rstrip()
