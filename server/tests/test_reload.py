"""Reloads of configuration and overlay by a running server."""

import copy
import signal
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from support import ADMIN_TOKEN, ANALYZE_TOKEN, Running, Site, eventually

RELOAD = "/admin/reload"


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Site, Running]]:
    site = Site(tmp_path_factory.mktemp("reload"))
    with site.serving() as running:
        yield site, running


@pytest.fixture
def shared(served: tuple[Site, Running]) -> Iterator[tuple[Site, Running]]:
    """A server with its initial configuration, which is restored after each test."""
    site, running = served
    document = copy.deepcopy(site.document)
    yield served
    site.document = document
    site.write()
    site.overlay.unlink(missing_ok=True)
    assert running.post(RELOAD).status_code == 200


def status(site: Site) -> dict[str, Any]:
    """The answer of getEngineStatus."""
    result: dict[str, Any] = site.call(("getEngineStatus", {}))["results"][0]["structured"]
    return result


def reloads(running: Running) -> dict[str, float]:
    """The number of reloads by result."""
    return {
        result: running.metric("katago_mcp_reloads_total", result=result) or 0
        for result in ("applied", "refused")
    }


def events(running: Running, name: str) -> list[dict[str, Any]]:
    return [event for event in running.events() if event["event"] == name]


def test_a_changed_limit_is_in_force_at_once(shared: tuple[Site, Running]) -> None:
    site, running = shared
    engine = running.engine()["pid"]
    site.write(katago={"maxVisits": 300, "maxReviewTime": 60})
    answer = running.post(RELOAD)
    assert answer.status_code == 200
    assert answer.json() == {
        "ok": True,
        "changed": [
            {"key": "katago.maxVisits", "from": 1000, "to": 300},
            {"key": "katago.maxReviewTime", "from": 900.0, "to": 60.0},
        ],
        "needsRestart": [],
        "overlay": None,
        "overlayProblems": [],
    }
    assert (status(site)["maxVisits"], status(site)["maxReviewTime"]) == (300, 60)
    report = site.call(("analyzePosition", {"position": {}, "maxVisits": 301}))
    assert "accepted: 1 to 300 on this server" in report["results"][0]["text"]
    assert running.engine()["pid"] == engine


def test_changes_that_need_a_restart_are_reported_and_not_applied(shared: tuple[Site, Running]) -> None:
    site, running = shared
    engine = running.engine()["pid"]
    site.write(server={"port": 1024}, katago={"modelPath": "other.bin.gz", "maxTime": 5})
    for changed in (["katago.maxTime"], []):
        answer = running.post(RELOAD).json()
        assert [change["key"] for change in answer["changed"]] == changed
        assert answer["needsRestart"] == [
            {"key": "server.port", "from": site.port, "to": 1024},
            {
                "key": "katago.modelPath",
                "from": str(site.directory / "net.bin.gz"),
                "to": str(site.directory / "other.bin.gz"),
            },
        ]
    running.post("/admin/engine/restart")
    eventually(lambda: running.engine()["pid"] not in (None, engine), "a new engine")
    eventually(lambda: running.answers("/ready") == 200, "ready again")


def test_invalid_configuration_is_rejected_as_a_whole(shared: tuple[Site, Running]) -> None:
    site, running = shared
    before = reloads(running)
    site.write(katago={"maxVisits": 300, "maxTime": -1}, logging={"level": "loud"})
    answer = running.post(RELOAD)
    assert answer.status_code == 422
    assert answer.json()["error"] == "invalid_config"
    keys = {problem.split(":")[0] for problem in answer.json()["problems"]}
    assert keys == {"katago.maxTime", "logging.level"}
    assert status(site)["maxVisits"] == 1000
    assert reloads(running) == {**before, "refused": before["refused"] + 1}
    event = events(running, "reload_refused")[-1]
    assert (event["level"], len(event["problems"])) == ("error", 2)


@pytest.mark.parametrize("content", ["{", "", '{"katago": ' + "9" * 5000 + "}"])
def test_file_that_is_not_json_is_rejected(shared: tuple[Site, Running], content: str) -> None:
    site, running = shared
    site.path.write_text(content)
    assert running.post(RELOAD).status_code == 422
    assert status(site)["maxVisits"] == 1000


def test_configuration_of_another_release_is_rejected(site: Site, tmp_path: Path) -> None:
    with site.serving() as running:
        release = tmp_path / "releases" / "2.0-abc"
        release.mkdir(parents=True)
        (release / "manifest.json").write_text("{}")
        site.write(katago={"maxVisits": 300}).rename(release / "config.json")
        site.path.symlink_to(release / "config.json")
        answer = running.post(RELOAD)
        assert answer.status_code == 422
        assert "belongs to release 2.0-abc" in answer.json()["problems"][0]
        assert status(site)["maxVisits"] == 1000


def test_sighup_reloads(shared: tuple[Site, Running]) -> None:
    site, running = shared
    before = reloads(running)
    site.write(katago={"maxVisits": 300})
    running.process.send_signal(signal.SIGHUP)
    eventually(lambda: reloads(running)["applied"] > before["applied"], "a reload")
    assert status(site)["maxVisits"] == 300
    site.path.write_text("{")
    running.process.send_signal(signal.SIGHUP)
    eventually(lambda: reloads(running)["refused"] > before["refused"], "a refusal")
    assert status(site)["maxVisits"] == 300


def test_a_reload_needs_the_scope_admin(site: Site) -> None:
    site.write_tokens()
    with site.serving() as running:
        assert running.post(RELOAD).status_code == 401
        assert running.post(RELOAD, ANALYZE_TOKEN).status_code == 403
        assert running.post(RELOAD, ADMIN_TOKEN).status_code == 200


def test_every_part_uses_the_new_configuration(shared: tuple[Site, Running]) -> None:
    site, running = shared
    assert running.post("/admin/undrain", Host="go.example.org").status_code == 421
    site.write(
        server={"allowedHosts": ["go.example.org"]},
        cache={"maxSizeBytes": 65_536},
        rateLimit={"enabled": True, "requestsPerMinute": 1, "burst": 1},
        logging={"level": "error"},
    )
    running.post(RELOAD)
    assert running.post("/admin/undrain", Host="go.example.org").status_code == 200
    assert running.metric("katago_cache_max_size_bytes") == 65_536
    report = site.call(("getEngineStatus", {}), ("getEngineStatus", {}))
    assert [result["ok"] for result in report["results"]] == [True, False]
    assert report["results"][1]["text"].startswith("rate_limited: ")
    count = len(events(running, "call"))
    status(site)
    assert len(events(running, "call")) == count
    site.write(server={"allowedHosts": []}, logging={"level": "info"}, rateLimit={"enabled": False})
    running.post(RELOAD)
    assert running.post("/admin/undrain", Host="go.example.org").status_code == 421
    status(site)
    assert len(events(running, "call")) == count + 1


def test_drain_uses_the_new_timeout(site: Site) -> None:
    site.write(server={"drainTimeoutSeconds": 600})
    with site.serving() as running:
        site.behave(analysis="silent")
        call = threading.Thread(target=site.call, args=(("analyzePosition", {"position": {}}),))
        call.start()
        eventually(lambda: bool(site.queries()), "the search has started")
        site.write(server={"drainTimeoutSeconds": 0})
        running.post(RELOAD)
        running.process.terminate()
        eventually(lambda: running.process.poll() == 0, "the end")
        call.join()


def test_an_overlay_is_in_force_from_the_start(site: Site) -> None:
    site.lay({"katago.maxVisits": 100, "katago.maxTime": 3600})
    with site.serving() as running:
        overlay = running.get("/health").json()["overlay"]
        assert overlay["keys"] == {"katago.maxVisits": 100, "katago.defaultVisits": 100}
        assert (overlay["why"], overlay["who"]) == ("a test", "tests")
        limits = status(site)
        assert (limits["maxVisits"], limits["defaultVisits"], limits["maxTime"]) == (100, 100, 30)
        assert limits["loweredUntil"].startswith(overlay["expiresAt"][:-1])
        assert running.metric("katago_mcp_overlay_active") == 1
        assert (running.metric("katago_mcp_overlay_expires_timestamp_seconds") or 0) > 1e9
        report = site.call(("analyzePosition", {"position": {}, "maxVisits": 101}))
        assert report["results"][0]["text"].startswith("limit_exceeded: ")
        report = site.call(("analyzePosition", {"position": {}}))
        assert report["results"][0]["structured"]["visits"] == 100


def test_reload_applies_and_removes_an_overlay(shared: tuple[Site, Running]) -> None:
    site, running = shared
    assert running.get("/health").json()["overlay"] is None
    assert running.metric("katago_mcp_overlay_active") == 0
    assert running.metric("katago_mcp_overlay_expires_timestamp_seconds") == 0
    site.lay({"katago.maxVisits": 100})
    assert running.post(RELOAD).json()["overlay"]["keys"]["katago.maxVisits"] == 100
    assert status(site)["maxVisits"] == 100
    site.overlay.unlink()
    assert running.post(RELOAD).json()["overlay"] is None
    assert (status(site)["maxVisits"], status(site)["loweredUntil"]) == (1000, None)
    assert running.metric("katago_mcp_overlay_active") == 0


def test_overlay_ends_automatically(shared: tuple[Site, Running]) -> None:
    site, running = shared

    def in_force() -> bool:
        site.lay({"katago.maxVisits": 100}, seconds=1)
        return running.post(RELOAD).json()["overlay"] is not None

    eventually(in_force, "a reload before the overlay's end")
    eventually(lambda: running.metric("katago_mcp_overlay_active") == 0, "the overlay's end")
    assert running.get("/health").json()["overlay"] is None
    assert status(site)["maxVisits"] == 1000
    assert events(running, "overlay_lifted")[-1]["expired"] is True


def test_an_expired_overlay_is_ignored_at_the_start(site: Site) -> None:
    site.lay({"katago.maxVisits": 100}, seconds=-1)
    with site.serving() as running:
        health = running.get("/health").json()
        assert (health["overlay"], health["overlayProblems"]) == (None, [])
        assert status(site)["maxVisits"] == 1000


def test_invalid_overlay_does_not_stop_the_server_from_starting(site: Site) -> None:
    site.overlay.write_text('{"set": {"katago.maxVisits": 0}, "why": "x"')
    with site.serving() as running:
        health = running.get("/health").json()
        assert health["overlay"] is None
        assert "is not valid JSON" in health["overlayProblems"][0]
        assert running.metric("katago_mcp_overlay_invalid") == 1
        (event,) = events(running, "overlay_refused")
        assert event["level"] == "error"
        site.lay({"katago.maxVisits": 100})
        assert running.post(RELOAD).json()["overlayProblems"] == []
        assert running.metric("katago_mcp_overlay_invalid") == 0


def test_invalid_overlay_keeps_the_previous_one_in_force(shared: tuple[Site, Running]) -> None:
    site, running = shared
    site.lay({"katago.maxVisits": 100})
    running.post(RELOAD)
    site.overlay.write_text("{}")
    answer = running.post(RELOAD)
    assert answer.status_code == 200
    assert answer.json()["overlay"]["keys"]["katago.maxVisits"] == 100
    assert len(answer.json()["overlayProblems"]) == 4
    assert status(site)["maxVisits"] == 100


def test_overlay_is_applied_although_the_configuration_is_rejected(shared: tuple[Site, Running]) -> None:
    site, running = shared
    site.path.write_text("{")
    site.lay({"katago.maxVisits": 100})
    answer = running.post(RELOAD)
    assert answer.status_code == 422
    assert answer.json()["overlay"]["keys"]["katago.maxVisits"] == 100
    assert status(site)["maxVisits"] == 100


def test_overlay_stays_in_force_over_a_new_configuration(shared: tuple[Site, Running]) -> None:
    site, running = shared
    site.lay({"katago.maxVisits": 100, "katago.maxTime": 10})
    site.write(katago={"maxVisits": 50, "defaultVisits": 40})
    answer = running.post(RELOAD).json()
    assert answer["overlay"]["keys"] == {"katago.maxTime": 10.0}
    assert (status(site)["maxVisits"], status(site)["maxTime"]) == (50, 10)
