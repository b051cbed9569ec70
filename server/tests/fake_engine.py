#!/usr/bin/env python3
"""A fake engine that speaks KataGo's analysis protocol without searching, and fails on command.

Its behaviour is in the JSON file of `-config`, which it reads at its start and before every
analysis: `{"start": ..., "analysis": ..., "seconds": ...}`.
start: "ready", "tune" (logs tuning for `seconds`, a line every 0.05 s), "frozen" (logs that it tunes and
then does nothing for `seconds`), "work" (uses the CPU for `seconds` and logs nothing), "trt" (builds caches
in homeDataDir for `seconds` with the log lines of TensorRT's backend, or uses existing ones), "mute" (never
answers), "missing" (aborts as with a missing network), "exit" (ends with status 3).
analysis: "answer", "slow" (answers after `seconds`, or when set to "answer"; reports
progress), "silent" (never answers), "die" (kills itself), "garbage" (sends no JSON), "odd" (sends an answer
without fields), "refuse" (answers with an error), "anonymous" (an error without id, then the answer),
"warn" (a warning about the query, then the answer), "nothing" (a search that ended before it had a
result), "hasty" (one visit only).
turns: {"<turn>": behaviour} overrides `analysis` for one turn of a query with analyzeTurns.
leads: scoreLead by turn; the last value is used for all later turns.
ownership, ownershipStdev: values instead of 0.5 and 0.1 everywhere, by candidate move; "" for the
position itself, and for other moves: {"": [...], "D4": [...]}.
brief: names of fields; a query with one of them gets only one visit.
policy: {"D4": 0.5, "pass": 0.1}, replaces the equal values for all moves.
illegal: moves that it does not play even with allowMoves.
neglected: moves to which a search gives no visit unless they are the only ones allowed.
It appends every query to the file `<config>.queries` next to the configuration.
"""

import json
import os
import queue
import signal
import sys
import threading
import time
from pathlib import Path
from typing import Any

COLUMNS = "ABCDEFGHJKLMNOPQRST"


def main() -> None:
    """Run until stdin ends."""
    config = Path(sys.argv[sys.argv.index("-config") + 1])
    behaviour = _behaviour(config)
    start = behaviour.get("start", "ready")
    if start == "missing":
        sys.stderr.write("terminate called after throwing an instance of 'StringError'\n")
        sys.stderr.write("  what():  Could not open file, does not exist: net.bin.gz\n")
        sys.stderr.flush()
        os.abort()
    if start == "exit":
        sys.exit(3)
    if start in ("tune", "frozen"):
        _log("Beginning GPU tuning for fake modelVersion 8 channels 96")
    if start == "tune":
        _tune(behaviour["seconds"])
    if start == "frozen":
        # In one piece: on a busy machine, a process that wakes up waits for a CPU, which counts as progress.
        time.sleep(behaviour["seconds"])
    if start == "trt":
        _build_caches(behaviour["seconds"])
    if start == "work":
        end = time.process_time() + behaviour["seconds"]
        while time.process_time() < end:
            pass
    terminated: set[str] = set()
    jobs: queue.SimpleQueue[tuple[dict[str, Any], int]] = queue.SimpleQueue()
    threading.Thread(target=_search, args=(config, jobs, terminated), daemon=True).start()
    record = config.with_name(config.name + ".queries").open("a", encoding="utf-8")
    for line in sys.stdin.buffer:
        query = json.loads(line)
        read = {"argv": sys.argv[1:], "env": dict(os.environ), "line": line.hex(), "query": query}
        record.write(json.dumps(read) + "\n")
        record.flush()
        if start == "mute":
            continue
        action = query.get("action")
        if action == "query_version":
            _send({"id": query["id"], "action": action, "version": "1.18.1", "git_hash": "fake"})
        elif action == "query_models":
            models = [{"name": "fake.bin.gz", "internalName": "fake-b1c1"}]
            if "-human-model" in sys.argv:
                models.append({"name": "human.bin.gz", "internalName": "fake-human"})
            _send({"id": query["id"], "action": action, "models": models})
        elif action == "terminate":
            terminated.add(query["terminateId"])
            _send(query)
        else:
            for turn in query.get("analyzeTurns", [len(query["moves"])]):
                jobs.put((query, turn))
    # As with -quit-without-waiting: running queries are dropped.
    os._exit(0)


def _log(line: str) -> None:
    sys.stderr.write(f"{line}\n")
    sys.stderr.flush()


def _tune(seconds: float) -> None:
    steps = max(1, round(seconds / 0.05))
    for step in range(steps):
        _log(f"Tuning {step}/{steps} ...")
        time.sleep(0.05)


def _build_caches(seconds: float) -> None:
    overrides = sys.argv[sys.argv.index("-override-config") + 1]
    home = dict(pair.split("=", 1) for pair in overrides.split(","))["homeDataDir"]
    directory = Path(home, "trtcache")
    directory.mkdir(exist_ok=True)
    for kind, name in (("timing", "trt-10_gpu-fake_tune-0"), ("plan", "trt-10_gpu-fake_net-fake")):
        file = directory / name
        if file.exists():
            _log(f"Using existing {kind} cache at {file}")
            continue
        _log(f"Creating new {kind} cache")
        end = time.process_time() + seconds / 2
        while time.process_time() < end:
            pass
        file.write_bytes(b"cache")
        _log(f"Saved new {kind} cache to {file}")


def _search(
    config: Path, jobs: "queue.SimpleQueue[tuple[dict[str, Any], int]]", terminated: set[str]
) -> None:
    while True:
        query, turn = jobs.get()
        if "analyzeTurns" in query:
            query = query | {"moves": query["moves"][:turn]}
        behaviour = _behaviour(config)
        how = behaviour.get("turns", {}).get(str(turn), behaviour.get("analysis", "answer"))
        if query["id"] in terminated or how == "nothing":
            _send({"id": query["id"], "isDuringSearch": False, "noResults": True, "turnNumber": turn})
        elif how == "die":
            os.kill(os.getpid(), signal.SIGKILL)
        elif how == "garbage":
            for _ in range(10):
                sys.stdout.write("this is not of the protocol\n")
            sys.stdout.flush()
        elif how == "odd":
            _send({"id": query["id"], "turnNumber": turn})
        elif how == "refuse":
            _send({"id": query["id"], "error": "Illegal move 0: A1", "field": "moves"})
        elif how in ("answer", "anonymous", "warn"):
            if how == "anonymous":
                _send({"error": "Request did not have an id"})
            if how == "warn" and turn == query.get("analyzeTurns", [turn])[0]:
                _send({"id": query["id"], "field": "komi", "warning": "Unexpected or unused field"})
            brief = any(name in query for name in behaviour.get("brief", []))
            _send(_answer(query, 1 if brief else query["maxVisits"], behaviour))
        elif how == "hasty":
            _send(_answer(query, 1, behaviour))
        elif how == "slow":
            _slowly(query, config, terminated)


def _slowly(query: dict[str, Any], config: Path, terminated: set[str]) -> None:
    steps = max(1, round(_behaviour(config)["seconds"] / 0.05))
    for step in range(1, steps):
        if query["id"] in terminated:
            _send(_answer(query, step, {}))
            return
        if _behaviour(config).get("analysis") != "slow":
            break
        if "reportDuringSearchEvery" in query:
            _send(_answer(query, step, {}, during=True))
        time.sleep(0.05)
    _send(_answer(query, query["maxVisits"], _behaviour(config)))


def _answer(
    query: dict[str, Any], visits: int, behaviour: dict[str, Any], *, during: bool = False
) -> dict[str, Any]:
    width, height = query["boardXSize"], query["boardYSize"]
    moves = query["moves"]
    last = moves[-1][0] if moves else None
    player = {"B": "W", "W": "B", None: query["initialPlayer"]}[last]
    leads = behaviour.get("leads", [0.25])
    lead = leads[min(len(moves), len(leads) - 1)]
    candidates = [("A1", 2.0), ("B1", 0.5)]
    allowed = [move for rule in query.get("allowMoves", []) for move in rule["moves"]]
    avoided = [move for rule in query.get("avoidMoves", []) for move in rule["moves"]]
    if allowed:
        illegal = behaviour.get("illegal", [])
        if len(allowed) > 1:
            illegal = [*illegal, *behaviour.get("neglected", [])]
        candidates = [(move, -1.0) for move in allowed if move not in illegal]
    candidates = [(move, gain) for move, gain in candidates if move not in avoided]
    infos = [
        {
            "move": move,
            "winrate": 0.5,
            "scoreLead": gain if player == "B" else -gain,
            "visits": max(1, visits // 2),
            "prior": 0.25,
            "order": order,
            "pv": [move, "A2", "B2"],
        }
        for order, (move, gain) in enumerate(candidates)
    ]
    if visits < 2:
        # The first visit evaluates the position itself.
        infos = []
    answer: dict[str, Any] = {
        "id": query["id"],
        "isDuringSearch": during,
        "turnNumber": len(moves),
        "rootInfo": {
            "currentPlayer": player,
            "winrate": 0.48 + lead / 100,
            "scoreLead": lead,
            "scoreStdev": 20.0,
            "visits": visits,
        },
        "moveInfos": infos,
    }
    if "humanSLProfile" in query["overrideSettings"]:
        for info in infos:
            info["humanPrior"] = 0.125
        answer["humanPolicy"] = [0.5] * (width * height + 1)
    if query.get("includeMovesOwnership"):
        for info in infos:
            info["ownership"] = _map(behaviour, "ownership", str(info["move"]), [0.5] * (width * height))
    if query.get("includeOwnership"):
        answer["ownership"] = _map(behaviour, "ownership", "", [0.5] * (width * height))
    if query.get("includeOwnershipStdev"):
        answer["ownershipStdev"] = _map(behaviour, "ownershipStdev", "", [0.1] * (width * height))
    if query.get("includePolicy"):
        points = [f"{column}{row}" for row in range(height, 0, -1) for column in COLUMNS[:width]]
        chances = behaviour.get("policy", {})
        answer["policy"] = [chances.get(move, 1 / (width * height + 1)) for move in [*points, "pass"]]
    return answer


def _map(behaviour: dict[str, Any], name: str, move: str, default: list[float]) -> list[float]:
    maps: dict[str, list[float]] = behaviour.get(name, {})
    return maps.get(move, maps.get("", default))


def _behaviour(config: Path) -> dict[str, Any]:
    behaviour: dict[str, Any] = json.loads(config.read_text(encoding="utf-8"))
    return behaviour


_lock = threading.Lock()


def _send(reply: dict[str, Any]) -> None:
    with _lock:
        sys.stdout.write(json.dumps(reply) + "\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
