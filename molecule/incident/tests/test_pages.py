"""The pages for people, in a real browser: complete, without overflow, external loads or errors."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

from ansible_collections.katago.fleet.plugins.module_utils import timestamps
from ansible_collections.katago.fleet.plugins.module_utils.incident import state
from ansible_collections.katago.fleet.plugins.plugin_utils.incident import statuspage
from tests import browser, recorded

NOW = timestamps.parse("2026-11-03T03:00:00Z")
# A text without a place for a line break.
LONG = "https://status.go.net/" + "aVeryLongWord" * 12
PUBLISHED = (
    statuspage.Published(
        True,
        (
            state.Public(1, "2026-11-03T02:05:00Z", "investigating", recorded.HOSTILE),
            state.Public(2, "2026-11-03T02:15:00Z", "identified", LONG),
        ),
    ),
    statuspage.Published(
        False,
        (state.Public(1, "2026-11-01T02:05:00Z", "resolved", statuspage.TEXTS["resolved"]),),
    ),
)
NEEDED: Mapping[str, tuple[str, ...]] = {
    "status": (
        *("Our status", LONG, recorded.HOSTILE, "Identified", "Investigating", "2026-11-03 02:15 UTC"),
        *("Analyses work normally again", "Last updated: 2026-11-03 03:00 UTC"),
    ),
    "quiet": ("Our status", "Everything works normally.", "No incidents in the last seven days."),
    "review": (
        *("Review of the incident 2026-11-03-1", "highest P1", "The review is complete."),
        *("What happened", "Possible causes", "Limit threads by the host's memory", "Timeline"),
        *("katago-2", "rolled back to 0.1.0-1f0368f2a11c", "evidence/2026-11-03-1/katago-2/"),
        *(recorded.HOSTILE, "withheld: gpu.txt"),
    ),
    "2026Q4": (
        *("Incident report for 2026Q4", "Median time to resolve", "2 open, 1 of them overdue"),
        *("2026-12-01-1: recurrence of 2026-11-03-1", recorded.HOSTILE),
    ),
}


@pytest.fixture(scope="module")
def pages(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory with all pages, newly rendered."""
    directory = tmp_path_factory.mktemp("pages")
    documents = recorded.write_golden(tmp_path_factory.mktemp("records"))
    made = {
        "status": statuspage.render(PUBLISHED, "Our status", NOW),
        "quiet": statuspage.render([], "Our status", NOW),
        **{name: documents[f"{name}.html"] for name in ("review", "2026Q4")},
    }
    for name, html in made.items():
        (directory / f"{name}.html").write_text(html)
    return directory


@pytest.fixture(scope="module")
def chromium(tmp_path_factory: pytest.TempPathFactory) -> Iterator[browser.Browser]:
    with browser.started(tmp_path_factory.mktemp("profile")) as running:
        yield running


@pytest.mark.parametrize("width", [390, 1280])
@pytest.mark.parametrize("name", NEEDED)
def test_page_shows_everything_that_people_need_without_errors(
    pages: Path, chromium: browser.Browser, name: str, width: int
) -> None:
    page = pages / f"{name}.html"
    shown = chromium.show(page, width, pages / f"{name}-{width}.png")
    text = " ".join(shown.text.split())
    assert [words for words in NEEDED[name] if words not in text] == []
    assert shown.page_width <= width
    assert shown.trouble == []
    assert shown.asked == [page.as_uri()]


def test_browser_detects_an_invalid_page(chromium: browser.Browser, tmp_path: Path) -> None:
    """Checks the checks: each kind of error is detected."""
    page = tmp_path / "wrong.html"
    page.write_text(
        '<meta name="viewport" content="width=device-width"><p style="display:none">hidden</p>'
        f"<p>{LONG}</p><script>throw new Error('gone wrong')</script><img src='http://127.0.0.1:1/x.png'>"
    )
    shown = chromium.show(page, 390)
    assert "hidden" not in shown.text
    assert shown.page_width > 390
    assert shown.asked == [page.as_uri(), "http://127.0.0.1:1/x.png"]
    assert any("gone wrong" in each for each in shown.trouble)
