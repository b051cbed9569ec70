"""The format of the log."""

import json
import logging

import pytest

from katago_mcp import logs
from katago_mcp.logs import Log

pytestmark = pytest.mark.usefixtures("restored_logging")


def test_an_event_is_one_line_of_json(capsys: pytest.CaptureFixture[str]) -> None:
    logs.configure("info", "json")
    Log("katago_mcp.test").warning("engine_state", state="backoff", reason="two\nlines")
    (line,) = capsys.readouterr().err.splitlines()
    event = json.loads(line)
    assert event["ts"].endswith("+00:00")
    del event["ts"]
    assert event == {
        "level": "warning",
        "event": "engine_state",
        "logger": "katago_mcp.test",
        "state": "backoff",
        "reason": "two\nlines",
    }


def test_text_that_is_not_unicode_is_logged(capsys: pytest.CaptureFixture[str]) -> None:
    logs.configure("info", "json")
    Log("katago_mcp.test").info("file", name=b"caf\xe9".decode(errors="surrogateescape"))
    assert json.loads(capsys.readouterr().err)["name"] == "caf\udce9"


def test_text_format_is_readable(capsys: pytest.CaptureFixture[str]) -> None:
    logs.configure("info", "text")
    Log("katago_mcp.test").info("listening", port=8080)
    assert capsys.readouterr().err.endswith("info    listening port=8080\n")


def test_level_is_respected(capsys: pytest.CaptureFixture[str]) -> None:
    logs.configure("warning", "json")
    Log("katago_mcp.test").info("listening")
    assert capsys.readouterr().err == ""


def test_exception_is_logged_with_its_type(capsys: pytest.CaptureFixture[str]) -> None:
    logs.configure("info", "json")
    try:
        raise KeyError("x")
    except KeyError:
        logging.getLogger("mcp").exception("Tool raised")
    event = json.loads(capsys.readouterr().err)
    assert (event["level"], event["errorType"]) == ("error", "KeyError")
    assert "Traceback" in event["traceback"]


def test_a_repeating_error_is_logged_at_a_bounded_rate(capsys: pytest.CaptureFixture[str]) -> None:
    logs.configure("info", "json")
    for _ in range(500):
        logging.getLogger("asyncio").error("socket.accept() out of system resource")
        Log("katago_mcp.test").warning("http_refused", reason="misdirected")
        Log("katago_mcp.test").info("call", tool="analyzePosition")
    events = [json.loads(line)["event"] for line in capsys.readouterr().err.splitlines()]
    assert events.count("socket.accept() out of system resource") == 60
    assert events.count("http_refused") == 60
    assert events.count("call") == 500


def test_the_next_event_states_how_many_were_left_out(capsys: pytest.CaptureFixture[str]) -> None:
    logs.configure("info", "json")
    now = 0.0
    handler = logging.getLogger().handlers[0]
    handler.filters[:] = [logs.Bounded(burst=2, seconds=60.0, clock=lambda: now)]
    for _ in range(5):
        Log("katago_mcp.test").warning("http_refused", reason="misdirected")
    now = 61.0
    Log("katago_mcp.test").warning("http_refused", reason="misdirected")
    events = [json.loads(line) for line in capsys.readouterr().err.splitlines()]
    assert [event.get("suppressed") for event in events] == [None, None, 3]
    assert events[-1]["reason"] == "misdirected"
