"""Replacement of tokens while the server runs."""

import hashlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from support import ADMIN_TOKEN, Running, Site

RELOAD = "/admin/tokens/reload"
OPERATOR = {"name": "operator", "scopes": ["admin"], "token": ADMIN_TOKEN}
OLD, NEW = "the-old-token-of-anna", "the-new-token-of-anna"


def token(name: str, secret: str) -> dict[str, Any]:
    return {
        "name": name,
        "scopes": ["analyze"],
        "sha256": hashlib.sha256(secret.encode()).hexdigest(),
    }


@pytest.fixture
def rotating(tmp_path: Path) -> Iterator[tuple[Site, Running]]:
    """A server with a client token and an operator token."""
    site = Site(tmp_path)
    site.write_tokens()
    site.replace_tokens(token("anna", OLD), OPERATOR)
    with site.serving() as running:
        yield site, running


def accepted(site: Site, secret: str) -> bool:
    """Whether a client with the token is accepted; otherwise it gets 401."""
    report = site.call(("getEngineStatus", {}), token=secret)
    if not report["ok"]:
        assert report["error"].startswith("the server rejected the request: HTTP 401")
    return bool(report["ok"])


def content(site: Site) -> str:
    return hashlib.sha256((site.directory / "tokens.json").read_bytes()).hexdigest()


def test_tokens_are_rotated_without_a_restart(rotating: tuple[Site, Running]) -> None:
    site, running = rotating
    engine = running.engine()["pid"]
    assert (accepted(site, OLD), accepted(site, NEW)) == (True, False)
    site.replace_tokens(token("anna", OLD), token("anna-2", NEW), OPERATOR)
    assert (accepted(site, OLD), accepted(site, NEW)) == (True, True)
    site.replace_tokens(token("anna-2", NEW), OPERATOR)
    assert (accepted(site, OLD), accepted(site, NEW)) == (False, True)
    assert running.process.poll() is None
    assert running.engine()["pid"] == engine
    counts = [event["tokens"] for event in running.events() if event["event"] == "tokens_reloaded"]
    assert counts == [3, 2]


@pytest.mark.parametrize("broken", ["{", '{"tokens": []}', None])
def test_invalid_file_keeps_the_previous_tokens(rotating: tuple[Site, Running], broken: str | None) -> None:
    site, running = rotating
    before = content(site)
    path = site.directory / "tokens.json"
    if broken is None:
        path.unlink()
    else:
        path.write_text(broken)
    assert accepted(site, OLD)
    answer = running.post(RELOAD, ADMIN_TOKEN)
    assert answer.status_code == 422
    body = answer.json()
    assert (body["ok"], body["error"], body["tokens"]) == (False, "invalid_tokens", 2)
    assert body["sha256"] == before
    assert all(problem.startswith("auth.tokensFile: ") for problem in body["problems"])
    assert "tokens_not_reloaded" in [event["event"] for event in running.events()]
    site.replace_tokens(token("anna-2", NEW), OPERATOR)
    assert running.post(RELOAD, ADMIN_TOKEN).json() == {"ok": True, "tokens": 2, "sha256": content(site)}
    assert (accepted(site, OLD), accepted(site, NEW)) == (False, True)


def test_report_about_the_tokens_contains_no_token(rotating: tuple[Site, Running]) -> None:
    site, running = rotating
    answer = running.post(RELOAD, ADMIN_TOKEN)
    assert answer.status_code == 200
    assert answer.json() == {"ok": True, "tokens": 2, "sha256": content(site)}
    assert hashlib.sha256(OLD.encode()).hexdigest() not in answer.text


def test_reloading_the_tokens_requires_the_scope_admin(rotating: tuple[Site, Running]) -> None:
    _, running = rotating
    assert [running.post(RELOAD, secret).status_code for secret in (None, NEW, OLD)] == [401, 401, 403]


def test_server_without_tokens_cannot_reload_them(tmp_path: Path) -> None:
    with Site(tmp_path).serving(ready=False) as running:
        answer = running.post(RELOAD)
        assert (answer.status_code, answer.json()["error"]) == (409, "no_tokens")
