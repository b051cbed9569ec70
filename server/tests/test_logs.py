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
