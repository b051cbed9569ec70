"""Failures of the engine, and their effect on waiting callers."""

import asyncio
import os
import signal
import time
from typing import Any

import pytest

from katago_mcp import progress
from katago_mcp.analysis import Request
from katago_mcp.errors import Broken, Invalid, Rejected, TimedOut, Unavailable
from katago_mcp.http import Operations, health
from katago_mcp.positions import Position
from katago_mcp.rules import RULES
from katago_mcp.session_ids import SessionIds
from katago_mcp.supervisor import EngineUnavailable
from rig import GAME, Rig, rig, until
from support import Site

pytestmark = pytest.mark.anyio


async def test_engine_becomes_ready_and_reports_its_identity(site: Site) -> None:
    async with rig(site) as made:
        await made.reaches("ready")
        status = made.supervisor.status()
        assert (status.version, status.network) == ("1.18.1", "fake-b1c1")
        assert made.supervisor.beating


async def test_engine_ends_with_the_supervisor(site: Site) -> None:
    async with rig(site) as made:
        await made.reaches("ready")
        pid = made.pid()
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)


async def test_a_killed_engine_is_restarted(site: Site) -> None:
    async with rig(site) as made:
        await made.reaches("ready")
        first = made.pid()
        os.kill(first, signal.SIGKILL)
        await made.reaches("backoff")
        assert "exited with signal 9" in str(made.supervisor.status().reason)
        await made.reaches("ready")
        assert made.pid() != first
        assert made.restarts("exited") == 1


async def test_a_stopped_engine_is_hung_and_replaced(site: Site) -> None:
    site.write(health={"heartbeatTimeoutSeconds": 0.3})
    async with rig(site) as made:
        await made.reaches("ready")
        first = made.pid()
        os.kill(first, signal.SIGSTOP)
        await made.reaches("hung", "backoff")
        await made.reaches("ready")
        assert made.restarts("hung") == 1
        with pytest.raises(ProcessLookupError):
            os.kill(first, 0)


async def test_engine_without_cpu_is_not_hung(site: Site) -> None:
    site.write(health={"heartbeatTimeoutSeconds": 0.3})
    samples: list[int] = []

    def starved(session: int) -> progress.Activity:
        samples.append(session)
        return progress.Activity({session: 0.0}, {}, runnable=True)

    async with rig(site, activity=starved) as made:
        await made.reaches("ready")
        samples.clear()
        os.kill(made.pid(), signal.SIGSTOP)
        await until(lambda: len(samples) >= 5)
        assert not made.supervisor.beating
        os.kill(made.pid(), signal.SIGCONT)
        await until(lambda: made.supervisor.beating)
        assert made.restarts("hung") == 0


def pause() -> None:
    """Let this process, and so the supervisor, do nothing."""
    time.sleep(1)


async def test_answer_that_comes_while_the_server_pauses_is_in_time(site: Site) -> None:
    site.write(health={"heartbeatTimeoutSeconds": 0.3})
    async with rig(site) as made:
        await made.reaches("ready")
        engine = made.supervisor.engine()
        os.kill(engine.pid, signal.SIGSTOP)
        await until(lambda: bool(engine._pending))
        os.kill(engine.pid, signal.SIGCONT)
        pause()
        await until(lambda: made.supervisor.beating or engine.ended.is_set())
        assert not engine.ended.is_set(), engine.end_text


async def test_engine_without_cpu_is_hung_after_the_maximum_time(site: Site) -> None:
    site.write(health={"heartbeatTimeoutSeconds": 0.2}, katago={"startTimeoutSeconds": 1})
    async with rig(site, activity=lambda _: progress.Activity(runnable=True)) as made:
        await made.reaches("ready")
        os.kill(made.pid(), signal.SIGSTOP)
        await until(lambda: made.restarts("hung") == 1)


async def test_an_engine_that_sends_garbage_is_replaced(site: Site) -> None:
    async with rig(site) as made:
        await made.reaches("ready")
        site.behave(analysis="garbage")
        with pytest.raises(Unavailable, match="not of its protocol"):
            await made.analyze()
        site.behave()
        await until(lambda: made.restarts("garbage") == 1)
        await made.reaches("ready")
        assert made.value("katago_engine_protocol_errors_total") == 3


async def test_caller_of_a_dying_engine_gets_an_error_with_a_retry_hint(site: Site) -> None:
    async with rig(site) as made:
        await made.reaches("ready")
        site.behave(analysis="die")
        with pytest.raises(Unavailable) as caught:
            await made.analyze()
        expected = "the engine ended during the analysis and is being restarted (exited with signal 9)"
        assert str(caught.value).startswith(f"engine_restarted: {expected}")
        assert caught.value.retry_after is not None
        assert caught.value.retry_after >= 1


async def test_all_waiting_callers_get_an_error(site: Site) -> None:
    site.write(katago={"maxConcurrent": 4})
    async with rig(site) as made:
        await made.reaches("ready")
        site.behave(analysis="slow", seconds=60)
        waiting = [asyncio.create_task(made.analyze(max_visits=n)) for n in (1, 2, 3)]
        await until(lambda: made.value("katago_engine_queries_in_flight") == 3)
        await until(lambda: bool(site.queries()))
        os.kill(made.pid(), signal.SIGKILL)
        results = await asyncio.gather(*waiting, return_exceptions=True)
        assert [type(result) for result in results] == [Unavailable] * 3


async def test_slow_tuning_engine_is_not_killed(site: Site) -> None:
    site.behave(start="tune", seconds=1.5)
    site.write(katago={"startTimeoutSeconds": 0.5})
    async with rig(site) as made:
        await made.reaches("tuning")
        with pytest.raises(Unavailable, match="engine_tuning"):
            await made.analyze()
        assert await made.reaches("ready", "backoff") == "ready"
        assert made.supervisor.status().restarts == 0


async def test_silent_working_engine_is_not_ended(site: Site) -> None:
    site.behave(start="work", seconds=1.5)
    site.write(katago={"startTimeoutSeconds": 0.5})
    async with rig(site) as made:
        assert await made.reaches("ready", "backoff") == "ready"
        assert made.supervisor.status().restarts == 0


async def test_building_caches_is_reported_before_the_engine_is_ready(site: Site) -> None:
    site.behave(start="trt", seconds=1.5)
    site.write(katago={"startTimeoutSeconds": 0.5, "homeDataDir": str(site.directory)})
    async with rig(site) as made:
        await made.reaches("tuning")
        assert "TensorRT's timing cache" in str(made.supervisor.status().reason)
        assert await made.reaches("ready", "backoff") == "ready"


async def test_engine_on_a_busy_host_is_not_ended(site: Site) -> None:
    """The engine neither writes nor runs, because other processes use all CPUs."""
    kept_waiting = iter(range(1_000_000))

    def starved(session: int) -> progress.Activity:
        return progress.Activity({session: 0.0}, {session: next(kept_waiting) / 10}, runnable=False)

    site.behave(start="frozen", seconds=1.5)
    site.write(katago={"startTimeoutSeconds": 0.5})
    async with rig(site, activity=starved) as made:
        assert await made.reaches("ready", "backoff") == "ready"
        assert made.supervisor.status().restarts == 0


async def test_engine_that_stalls_during_tuning_is_ended(site: Site) -> None:
    site.behave(start="frozen", seconds=600)
    site.write(katago={"startTimeoutSeconds": 1})
    async with rig(site) as made:
        await made.reaches("tuning")
        await made.reaches("backoff")
        reason = str(made.supervisor.status().reason)
        assert "gave no sign of progress for 1 s" in reason
        assert "its last log lines: Beginning GPU tuning for fake" in reason
        assert made.restarts("start_timeout") == 1


async def test_time_without_progress_is_shown_during_a_start(site: Site) -> None:
    site.behave(start="frozen", seconds=600)
    async with rig(site) as made:
        await made.reaches("tuning")
        await until(lambda: (made.supervisor.status().still_for or 0) > 0.3)
        assert (made.supervisor.status().starting_for or 0) > 0.3
        made.supervisor.stop("by the test")
        await made.reaches("stopped")
        assert made.supervisor.status().still_for is None


async def test_start_is_limited_even_with_progress(site: Site) -> None:
    site.behave(start="tune", seconds=600)
    async with rig(site) as made:
        await made.reaches("tuning")
        site.write(katago={"tuningTimeoutSeconds": 0.1})
        await made.reloader.reload()
        await made.reaches("backoff")
        assert "although it made progress" in str(made.supervisor.status().reason)
        assert made.restarts("start_timeout") == 1


async def test_engine_that_never_answers_is_ended(site: Site) -> None:
    site.behave(start="mute")
    site.write(katago={"startTimeoutSeconds": 0.5})
    async with rig(site) as made:
        await made.reaches("backoff")
        assert "gave no sign of progress" in str(made.supervisor.status().reason)
        assert "it wrote no output" in str(made.supervisor.status().reason)
        assert made.restarts("start_timeout") == 1


async def test_an_unusable_network_is_a_configuration_error(site: Site) -> None:
    site.behave(start="missing")
    async with rig(site) as made:
        await made.reaches("config_error")
        assert "Could not open file, does not exist" in str(made.supervisor.status().reason)
        assert made.restarts("config_error") == 1
        with pytest.raises(EngineUnavailable) as caught:
            made.supervisor.engine()
        assert caught.value.retry_after is not None
        assert caught.value.retry_after > 30


async def test_a_missing_program_is_a_configuration_error(site: Site) -> None:
    site.write(katago={"binaryPath": "/nonexistent/katago"})
    async with rig(site) as made:
        await made.reaches("config_error")
        reason = "/nonexistent/katago: No such file or directory"
        assert made.supervisor.status().reason == reason


async def test_operator_can_end_a_configuration_error(site: Site) -> None:
    site.behave(start="missing")
    async with rig(site) as made:
        await made.reaches("config_error")
        site.behave()
        assert made.supervisor.start()
        await made.reaches("ready")


async def test_exceeded_restart_budget_means_a_long_backoff(site: Site) -> None:
    site.behave(start="exit")
    site.write(katago={"restartBudget": 2, "restartBackoffSeconds": 0.01})
    async with rig(site) as made:
        await until(lambda: "exceed the restart budget" in str(made.supervisor.status().reason))
        assert made.supervisor.status().restarts == 3
        assert (made.supervisor.retry_after or 0) > 30


async def test_an_operator_restarts_without_backoff(site: Site) -> None:
    site.write(katago={"restartBackoffSeconds": 60})
    async with rig(site) as made:
        await made.reaches("ready")
        first = made.pid()
        made.supervisor.restart()
        await until(lambda: made.supervisor.status().pid not in (first, None))
        await made.reaches("ready")
        assert made.restarts("requested") == 1


async def test_a_stopped_engine_stays_stopped_until_started(site: Site) -> None:
    async with rig(site) as made:
        await made.reaches("ready")
        assert made.supervisor.stop("by the test")
        await made.reaches("stopped")
        assert made.supervisor.status().pid is None
        with pytest.raises(Unavailable, match="engine_stopped") as caught:
            await made.analyze()
        assert caught.value.retry_after is None
        assert made.supervisor.start()
        await made.reaches("ready")
        assert made.supervisor.status().restarts == 0


async def test_engine_that_is_being_stopped_is_reported_as_stopped(site: Site) -> None:
    async with rig(site) as made:
        await made.reaches("ready")
        made.supervisor.stop("by the test")
        assert made.supervisor.status().state == "ready"
        with pytest.raises(Unavailable, match=r"engine_stopped: .* its state is stopped: by the test"):
            await made.analyze()


async def test_the_supervisor_is_fresh_while_the_engine_is_not(site: Site) -> None:
    site.behave(start="mute")
    async with rig(site) as made:
        await asyncio.sleep(0.5)
        assert made.supervisor.fresh
        assert not made.supervisor.beating


async def test_a_supervisor_without_progress_is_not_healthy(site: Site) -> None:
    made = Rig(site, {})
    operations = Operations(
        settings=made.settings,
        reloader=made.reloader,
        supervisor=made.supervisor,
        analyst=made.analyst,
        cache=None,
        metrics=made.metrics,
        release=None,
        tokens=None,
        session_ids=SessionIds(lambda: [b"k" * 32], lambda: 3600),
        started=0,
    )
    assert health(operations)[0]
    # The loop does not run in this test, so its last step gets old.
    made.supervisor._marked -= 60
    alive, body = health(operations)
    assert not alive
    assert body["reason"] == "the supervisor makes no progress"


async def test_a_cancelled_call_terminates_its_search(site: Site) -> None:
    async with rig(site) as made:
        await made.reaches("ready")
        site.behave(analysis="slow", seconds=60)
        call = asyncio.create_task(made.analyze())
        await until(lambda: bool(site.queries()))
        call.cancel()
        with pytest.raises(asyncio.CancelledError):
            await call
        await until(lambda: bool(site.queries("terminate")))
        (terminate,) = site.queries("terminate")
        assert terminate["terminateId"] == site.queries()[0]["id"]
        assert made.analyst.busy == 0


async def test_search_without_an_answer_times_out(site: Site) -> None:
    site.write(katago={"maxTime": 0.1, "maxConcurrent": 1}, health={"heartbeatTimeoutSeconds": 0.5})
    async with rig(site) as made:
        await made.reaches("ready")
        site.behave(analysis="silent")
        with pytest.raises(TimedOut, match="analysis_timeout"):
            await made.analyze()
        await until(lambda: bool(site.queries("terminate")))


async def test_progress_is_reported_during_the_search(site: Site) -> None:
    async with rig(site) as made:
        await made.reaches("ready")
        site.behave(analysis="slow", seconds=60)
        reports: list[tuple[int, int]] = []

        async def report(visits: int, total: int) -> None:
            reports.append((visits, total))
            site.behave()

        await made.analyst.analyze(Request(GAME, max_visits=1000), report)
        assert reports
        assert all(total == 1000 and 0 < visits < 1000 for visits, total in reports)


async def test_unreadable_answer_is_reported_as_such(site: Site) -> None:
    async with rig(site) as made:
        await made.reaches("ready")
        site.behave(analysis="odd")
        with pytest.raises(Broken, match="engine_answer_unreadable"):
            await made.analyze()


async def test_rejection_by_the_engine_contains_its_message(site: Site) -> None:
    async with rig(site) as made:
        await made.reaches("ready")
        site.behave(analysis="refuse")
        with pytest.raises(Invalid, match="Illegal move 0: A1") as caught:
            await made.analyze()
        assert caught.value.field == "position.moves"


async def test_errors_without_an_id_are_counted_and_affect_no_query(site: Site) -> None:
    async with rig(site) as made:
        await made.reaches("ready")
        site.behave(analysis="anonymous")
        assert (await made.analyze()).visits == 200
        assert made.value("katago_engine_protocol_errors_total") == 1


async def test_queries_above_the_limit_are_rejected(site: Site) -> None:
    site.write(katago={"maxConcurrent": 1}, server={"maxQueued": 1})
    async with rig(site) as made:
        await made.reaches("ready")
        site.behave(analysis="slow", seconds=60)
        calls = [asyncio.create_task(made.analyze(max_visits=visits)) for visits in (1, 2)]
        await until(lambda: made.analyst.busy == 2)
        assert made.analyst.saturated
        with pytest.raises(Rejected, match="overloaded") as caught:
            await made.analyze()
        assert caught.value.retry_after is not None
        await until(lambda: bool(site.queries()))
        assert len(site.queries()) == 1
        for call in calls:
            call.cancel()
        await asyncio.gather(*calls, return_exceptions=True)


async def test_draining_server_rejects_new_analyses(site: Site) -> None:
    async with rig(site) as made:
        await made.reaches("ready")
        made.analyst.draining = True
        with pytest.raises(Rejected, match="draining"):
            await made.analyze()


@pytest.mark.parametrize(
    ("fields", "field"),
    [
        ({"max_visits": 0}, "maxVisits"),
        ({"max_visits": 1001}, "maxVisits"),
        ({"max_time": 31.0}, "maxTime"),
        ({"max_time": float("nan")}, "maxTime"),
        ({"top_moves": 0}, "topMoves"),
        ({"top_moves": 51}, "topMoves"),
        ({"pv_length": 0}, "pvLength"),
    ],
)
async def test_error_about_a_limit_has_the_accepted_range(
    site: Site, fields: dict[str, Any], field: str
) -> None:
    made = Rig(site, {})
    with pytest.raises(Invalid, match="limit_exceeded") as caught:
        await made.analyze(**fields)
    assert caught.value.field == field
    assert "on this server" in str(caught.value)


async def test_the_engine_inherits_nothing_that_leads_to_credentials(site: Site) -> None:
    secrets = {"CREDENTIALS_DIRECTORY": "/run/c", "NOTIFY_SOCKET": "/run/n", "MY_TOKEN": "secret"}
    async with rig(site, {"POCL_CACHE_DIR": "/var/cache/pocl", **secrets}) as made:
        await made.reaches("ready")
        environ = site.records()[0]["env"]
    assert environ["POCL_CACHE_DIR"] == "/var/cache/pocl"
    assert not environ.keys() & secrets.keys()


async def test_engine_exits_when_its_stdin_closes(site: Site) -> None:
    async with rig(site) as made:
        await made.reaches("ready")
        assert "-quit-without-waiting" in site.records()[0]["argv"]


async def test_query_overrides_the_engine_configuration(site: Site) -> None:
    async with rig(site) as made:
        await made.reaches("ready")
        await made.analyze(max_visits=7, max_time=3, pv_length=4, include_ownership=True)
        (query,) = site.queries()
    assert query["overrideSettings"] == {"maxTime": 3, "reportAnalysisWinratesAs": "BLACK"}
    assert (query["initialPlayer"], query["komi"]) == ("B", 7.5)
    assert query["rules"] == RULES["chinese"].parts()
    assert (query["maxVisits"], query["analysisPVLen"]) == (7, 3)
    assert query["moves"] == [["B", "D4"], ["W", "Q16"]]


@pytest.mark.parametrize(
    ("moves", "player", "lost"),
    [([("B", "D4")], "W", [0.0, 1.5]), ([], "B", [0.0, 1.5])],
)
async def test_points_lost_are_those_of_the_player_to_move(
    site: Site, moves: list[tuple[str, str]], player: str, lost: list[float]
) -> None:
    async with rig(site) as made:
        await made.reaches("ready")
        result = await made.analyst.analyze(Request(Position(moves=moves)))
    assert result.next_player == player
    assert [move.points_lost for move in result.moves] == lost


async def test_only_requested_parts_are_returned(site: Site) -> None:
    async with rig(site) as made:
        await made.reaches("ready")
        plain = await made.analyze(top_moves=1, pv_length=2)
        full = await made.analyze(include_ownership=True, include_policy=True)
    assert (plain.ownership, plain.policy) == (None, None)
    assert [move.pv for move in plain.moves] == [["A1", "A2"]]
    assert (len(full.ownership or []), len(full.policy or [])) == (361, 362)


async def test_the_first_call_waits_for_an_engine_that_is_starting(site: Site) -> None:
    site.behave(start="work", seconds=0.5)
    async with rig(site, cached=True) as made:
        assert (await made.analyze(max_visits=10)).visits == 10
        assert (await made.analyze(max_visits=10)).cached


async def test_a_call_waits_for_an_engine_that_restarts_soon(site: Site) -> None:
    async with rig(site) as made:
        await made.reaches("ready")
        os.kill(made.pid(), signal.SIGKILL)
        await made.reaches("backoff")
        assert (await made.analyze(max_visits=10)).visits == 10


async def test_a_call_waits_no_longer_than_its_time(site: Site) -> None:
    site.behave(start="mute")
    async with rig(site) as made:
        with pytest.raises(Unavailable) as caught:
            await made.analyze(max_visits=10, max_time=0.2)
    assert caught.value.code == "engine_starting"


async def test_a_call_does_not_wait_for_an_engine_that_restarts_later(site: Site) -> None:
    site.write(katago={"restartBackoffSeconds": 60})
    async with rig(site) as made:
        await made.reaches("ready")
        os.kill(made.pid(), signal.SIGKILL)
        await made.reaches("backoff")
        with pytest.raises(Unavailable) as caught:
            await made.analyze(max_visits=10)
    assert caught.value.code == "engine_backoff"


async def test_a_cached_answer_does_not_wait_for_the_engine(site: Site) -> None:
    site.write(katago={"restartBackoffSeconds": 20})
    async with rig(site, cached=True) as made:
        await made.reaches("ready")
        await made.analyze(max_visits=10)
        os.kill(made.pid(), signal.SIGKILL)
        await made.reaches("backoff")
        assert (await made.analyze(max_visits=10)).cached
        assert made.supervisor.status().state == "backoff"
