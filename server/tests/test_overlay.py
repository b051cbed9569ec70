"""The overlay: accepted files, their effect, and errors about others."""

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from katago_mcp.config import Config, load
from katago_mcp.overlay import LOWERABLE, Overlay, OverlayError, read
from support import Site

WHOLE = {
    "set": {"katago.maxVisits": 100},
    "expiresAt": "2026-11-24T06:30:00Z",
    "why": "the queue is long",
    "who": "anna@control",
}


def written(directory: Path, **changes: Any) -> Path:
    path = directory / "overlay.json"
    path.write_text(json.dumps({**WHOLE, **changes}))
    return path


def overlay(directory: Path, **limits: Any) -> Overlay:
    result = read(written(directory, set={key.replace("_", "."): value for key, value in limits.items()}))
    assert result is not None
    return result


@pytest.fixture
def config(site: Site) -> Config:
    return load(site.path, {}).config


def problems(path: Path) -> str:
    with pytest.raises(OverlayError) as caught:
        read(path)
    return "\n".join(caught.value.problems)


def test_all_fields_of_a_complete_file_are_read(tmp_path: Path, config: Config) -> None:
    result = read(written(tmp_path))
    assert result is not None
    assert result.as_json(config) == {
        "keys": {"katago.maxVisits": 100, "katago.defaultVisits": 100},
        "expiresAt": WHOLE["expiresAt"],
        "why": WHOLE["why"],
        "who": WHOLE["who"],
    }


def test_no_file_is_no_overlay(tmp_path: Path) -> None:
    assert read(tmp_path / "overlay.json") is None


def test_every_lowerable_key_is_lowered(tmp_path: Path, config: Config) -> None:
    least = {key: 65_536 if key == "cache.maxSizeBytes" else 1 for key in LOWERABLE}
    result = read(written(tmp_path, set=least))
    assert result is not None
    assert result.lowered(config) == least
    assert result.over(config).server.max_queued == 1
    assert result.over(config).cache.max_size_bytes == 65_536


def test_a_value_above_the_configured_one_changes_nothing(tmp_path: Path, config: Config) -> None:
    result = overlay(tmp_path, katago_maxVisits=5000, katago_maxTime=3600, katago_maxConcurrent=2)
    assert result.lowered(config) == {}
    assert result.over(config) == config


def test_the_default_visits_are_lowered_along(tmp_path: Path, config: Config) -> None:
    lowered = overlay(tmp_path, katago_maxVisits=50, katago_defaultVisits=80).over(config)
    assert (lowered.katago.max_visits, lowered.katago.default_visits) == (50, 50)
    lowered = overlay(tmp_path, katago_maxVisits=500).over(config)
    assert (lowered.katago.max_visits, lowered.katago.default_visits) == (500, 200)


def test_overlay_expires_at_its_time(tmp_path: Path) -> None:
    result = read(written(tmp_path))
    assert result is not None
    end = datetime(2026, 11, 24, 6, 30, tzinfo=UTC)
    assert not result.expired(end - timedelta(seconds=1))
    assert result.expired(end)


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"set": {}}, "set: "),
        ({"set": {"katago.maxvisit": 1}}, "did you mean katago.maxVisits?"),
        ({"set": {"server.port": 1}}, "server.port is not a key that an overlay can lower"),
        ({"set": {"katago.maxVisits": 0}}, "katago.maxVisits: 0 is not accepted"),
        ({"set": {"katago.maxVisits": "100"}}, "katago.maxVisits: '100' is not accepted"),
        ({"set": {"katago.maxVisits": True}}, "katago.maxVisits: True is not accepted"),
        ({"set": {"katago.maxTime": -1}}, "katago.maxTime: -1 is not accepted"),
        ({"expiresAt": "2026-11-24T06:30:00"}, "expiresAt: the time must be in UTC"),
        ({"expiresAt": "2026-11-24T06:30:00+01:00"}, "expiresAt: the time must be in UTC"),
        ({"expiresAt": "2026-13-24T06:30:00Z"}, "expiresAt: "),
        ({"expiresAt": 1795501800}, "expiresAt: the time must be in UTC"),
        ({"why": ""}, "why: "),
        ({"who": None}, "who: "),
        ({"until": "tomorrow"}, "until: "),
    ],
)
def test_error_about_a_wrong_value_has_the_fix(
    tmp_path: Path, changes: dict[str, Any], expected: str
) -> None:
    message = problems(written(tmp_path, **changes))
    assert expected in message
    assert message.endswith("correct it, or remove the file")


def test_duplicate_key_is_rejected(tmp_path: Path) -> None:
    path = tmp_path / "overlay.json"
    path.write_text('{"set": {"katago.maxVisits": 1, "katago.maxVisits": 900}}')
    assert "occurs twice" in problems(path)


def test_directory_instead_of_a_file_is_an_error(tmp_path: Path) -> None:
    assert "cannot be read" in problems(tmp_path)


junk = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)
documents = st.fixed_dictionaries(
    {},
    optional={
        "set": junk | st.dictionaries(st.sampled_from(LOWERABLE), junk, min_size=1),
        "expiresAt": junk | st.datetimes().map(lambda moment: f"{moment:%Y-%m-%dT%H:%M:%SZ}"),
        "why": junk,
        "who": junk,
    },
).map(lambda document: json.dumps(document).encode())


@settings(max_examples=200)
@given(st.binary(max_size=64) | documents | st.just(b"1" * 5000) | st.just(b"[" * 100_000))
def test_any_content_is_an_overlay_or_an_error(
    tmp_path_factory: pytest.TempPathFactory, content: bytes
) -> None:
    path = tmp_path_factory.getbasetemp() / "any-overlay.json"
    path.write_bytes(content)
    try:
        result = read(path)
    except OverlayError as error:
        assert error.problems
    else:
        assert result is not None
        assert set(result.limits) <= set(LOWERABLE)
