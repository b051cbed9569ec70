"""Bearer tokens and the rate limit."""

import hashlib
import json
import os
from collections.abc import Mapping
from pathlib import Path
from types import SimpleNamespace

import pytest

from katago_mcp.auth import Identity, RateLimiter, Tokens
from katago_mcp.config import ConfigError, RateLimit
from katago_mcp.errors import Rejected

SECRET = "correct-horse-battery"
DIGEST = hashlib.sha256(SECRET.encode()).hexdigest()


def write(path: Path, *tokens: Mapping[str, object]) -> Path:
    path.write_text(json.dumps({"tokens": tokens}))
    return path


@pytest.mark.parametrize("secret", [{"token": SECRET}, {"sha256": DIGEST}])
def test_token_is_recognised_as_plain_text_or_digest(tmp_path: Path, secret: dict[str, object]) -> None:
    tokens = Tokens(write(tmp_path / "t", {"name": "a", "scopes": ["analyze"], **secret}))
    assert tokens.identify(SECRET) == Identity("a", ("analyze",))


@pytest.mark.parametrize("wrong", ["", "correct-horse-batterz", SECRET + " ", DIGEST, "ü", "\udc00"])
def test_unknown_token_is_rejected(tmp_path: Path, wrong: str) -> None:
    tokens = Tokens(write(tmp_path / "t", {"name": "a", "scopes": ["analyze"], "sha256": DIGEST}))
    assert tokens.identify(wrong) is None


@pytest.mark.parametrize(
    "token",
    [
        {"name": "a", "scopes": ["analyze"]},
        {"name": "a", "scopes": ["analyze"], "token": SECRET, "sha256": DIGEST},
        {"name": "a", "scopes": ["root"], "token": SECRET},
        {"name": "a", "scopes": [], "token": SECRET},
        {"name": "a b", "scopes": ["analyze"], "token": SECRET},
        {"name": "a", "scopes": ["analyze"], "sha256": SECRET},
        {"name": "a", "scopes": ["analyze"], "token": "short-secret"},
        {"name": "a", "scopes": ["analyze"], "token": SECRET, "secret": SECRET},
    ],
)
def test_error_about_an_invalid_token_does_not_contain_the_token(
    tmp_path: Path, token: dict[str, object]
) -> None:
    with pytest.raises(ConfigError) as caught:
        Tokens(write(tmp_path / "t", token))
    assert "auth.tokensFile" in str(caught.value)
    assert SECRET not in str(caught.value)
    assert "short-secret" not in str(caught.value)


def test_two_tokens_of_one_name_are_refused(tmp_path: Path) -> None:
    token = {"name": "a", "scopes": ["analyze"], "token": SECRET}
    with pytest.raises(ConfigError, match="occurs twice"):
        Tokens(write(tmp_path / "t", token, token))


def test_a_missing_file_is_a_configuration_error(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="cannot be read"):
        Tokens(tmp_path / "none")


def touch_later(path: Path) -> None:
    status = path.stat()
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns + 1_000_000_000))


def test_a_changed_file_is_read_again(tmp_path: Path) -> None:
    path = write(tmp_path / "t", {"name": "a", "scopes": ["analyze"], "token": SECRET})
    tokens = Tokens(path)
    write(path, {"name": "b", "scopes": ["admin"], "token": SECRET})
    touch_later(path)
    assert tokens.identify(SECRET) == Identity("b", ("admin",))


def test_invalid_changed_file_keeps_the_previous_tokens(tmp_path: Path) -> None:
    path = write(tmp_path / "t", {"name": "a", "scopes": ["analyze"], "token": SECRET})
    tokens = Tokens(path)
    path.write_text("{")
    touch_later(path)
    assert tokens.identify(SECRET) == Identity("a", ("analyze",))


def test_bucket_allows_its_burst_and_then_returns_the_wait() -> None:
    limiter = RateLimiter(lambda: RateLimit(enabled=True, requests_per_minute=1, burst=3))
    assert [limiter.take("a") for _ in range(3)] == [None, None, None]
    wait = limiter.take("a")
    assert wait is not None
    assert 50 < wait <= 60


def test_call_after_the_returned_wait_is_allowed(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 0.0
    monkeypatch.setattr("katago_mcp.auth.time", SimpleNamespace(monotonic=lambda: now))
    limiter = RateLimiter(lambda: RateLimit(enabled=True, requests_per_minute=42, burst=1))
    assert limiter.take("a") is None
    wait = Rejected("rate_limited", "too many calls", retry_after=limiter.take("a")).retry_after
    assert wait is not None
    now += wait
    assert limiter.take("a") is None


def test_each_token_has_its_own_bucket() -> None:
    limiter = RateLimiter(lambda: RateLimit(enabled=True, requests_per_minute=1, burst=1))
    assert limiter.take("a") is None
    assert limiter.take("b") is None
    assert limiter.take("a") is not None


def test_disabled_limit_allows_everything() -> None:
    limiter = RateLimiter(lambda: RateLimit(enabled=False, requests_per_minute=1, burst=1))
    assert [limiter.take("a") for _ in range(5)] == [None] * 5
