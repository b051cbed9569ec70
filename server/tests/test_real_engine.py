"""Tests with the real KataGo of the assumptions in the fake engine and in the checks of positions.

They run if `KATAGO_TEST_BINARY` and `KATAGO_TEST_NETWORK` are the paths of an engine and a network;
`KATAGO_TEST_HOME` is a `homeDataDir` in which the engine is already tuned.
"""

import asyncio
import contextlib
import itertools
import json
import os
import random
import subprocess
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, get_args

import pytest

from katago_mcp.analysis import Request
from katago_mcp.config import load
from katago_mcp.desk import options_of
from katago_mcp.engine import Command, Engine, EngineGone, EngineRefused, launch
from katago_mcp.errors import Invalid
from katago_mcp.explanation import ExplanationRequest, explain_move
from katago_mcp.metrics import Metrics
from katago_mcp.positions import Board, Colour, Position, check, opponent_of, points_top_down, vertex
from katago_mcp.review import PRIORITY, ReviewRequest, find_mistakes
from katago_mcp.rules import RULES, Ko, Rules
from katago_mcp.sgf import read
from katago_mcp.territory import TerritoryRequest, evaluate_territory, handicap_bonus
from katago_mcp.validate import validate
from rig import Rig, asking, rig
from support import PATIENCE, Site

BINARY, NETWORK = os.environ.get("KATAGO_TEST_BINARY"), os.environ.get("KATAGO_TEST_NETWORK")
START_SECONDS = 600
"""An untuned engine takes minutes to start."""

pytestmark = [
    pytest.mark.anyio,
    pytest.mark.skipif(
        not (BINARY and NETWORK), reason="KATAGO_TEST_BINARY and KATAGO_TEST_NETWORK are not set"
    ),
]

ANALYSIS_CONFIG = """\
logToStderr = true
logAllRequests = false
numAnalysisThreads = 2
numSearchThreadsPerAnalysisThread = 1
nnMaxBatchSize = 4
nnCacheSizePowerOfTwo = 12
nnMutexPoolSizePowerOfTwo = 10
reportAnalysisWinratesAs = SIDETOMOVE
"""

GTP_CONFIG = """\
rules = chinese
logAllGTPCommunication = false
logSearchInfo = false
numSearchThreads = 1
maxVisits = 1
"""


def with_the_real_engine(site: Site) -> Site:
    site.engine_config.write_text(ANALYSIS_CONFIG)
    home = os.environ.get("KATAGO_TEST_HOME", str(site.directory))
    site.write(
        katago={
            "binaryPath": BINARY,
            "modelPath": NETWORK,
            "homeDataDir": home,
            "startTimeoutSeconds": 60,
        }
    )
    return site


@contextlib.asynccontextmanager
async def started(site: Site) -> AsyncIterator[Engine]:
    katago = load(site.path, {}).config.katago
    command = Command(katago.binary_path, katago.model_path, katago.config_path, katago.home_data_dir)
    async with launch(command, os.environ, Metrics("1", None)) as engine:
        async with asyncio.timeout(START_SECONDS):
            await engine.query({"action": "query_version"})
        yield engine


@pytest.fixture
def real(site: Site) -> Site:
    return with_the_real_engine(site)


@pytest.fixture(scope="module")
def anyio_backend() -> str:
    """One event loop for all tests of the module, because they share an engine."""
    return "asyncio"


@pytest.fixture(scope="module")
async def engine(anyio_backend: str, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Engine]:
    async with started(with_the_real_engine(Site(tmp_path_factory.mktemp("shared")))) as running:
        yield running


async def ask(engine: Engine, **query: Any) -> dict[str, Any]:
    base = {"rules": "chinese", "boardXSize": 9, "boardYSize": 9, "moves": [], "maxVisits": 2}
    async with asyncio.timeout(PATIENCE):
        return (await engine.query({**base, **query})).reply


def network_bytes() -> bytes:
    return Path(str(NETWORK)).read_bytes()


REFUSED_BY_BOTH: list[tuple[dict[str, Any], dict[str, Any]]] = [
    ({"moves": [("B", "Z99")]}, {}),
    ({"moves": [("B", "I5")]}, {}),
    ({"moves": [("B", "pd")]}, {}),
    ({"moves": [("B", "K5")]}, {}),
    ({"moves": [("B", "D4"), ("W", "D4")]}, {}),
    ({"moves": [("W", "A2"), ("W", "B1"), ("B", "A1")]}, {}),
    ({"moves": [], "rules": "go!"}, {}),
    ({"moves": [], "komi": 6.25}, {}),
    ({"moves": [], "komi": 1000}, {}),
    ({"moves": []}, {"boardXSize": 20}),
    ({"moves": []}, {"boardYSize": 1}),
]


@pytest.mark.parametrize(("fields", "sizes"), REFUSED_BY_BOTH)
async def test_input_that_the_engine_rejects_is_rejected_by_the_server(
    engine: Engine, fields: dict[str, Any], sizes: dict[str, int]
) -> None:
    sizes = {"boardXSize": 9, "boardYSize": 9, **sizes}
    with pytest.raises(EngineRefused):
        await ask(engine, **fields, **sizes)
    with pytest.raises(Invalid):
        check(Position.model_validate({**fields, **sizes}))


ONE_MOVE: dict[str, Any] = {"boardXSize": 9, "boardYSize": 9, "moves": [["B", "D4"]]}

NEVER_SENT: list[tuple[dict[str, Any], str | None, str, dict[str, Any], str]] = [
    ({"maxVisits": 0}, r"1 to 2\^50", "analyzePosition", {"maxVisits": 0}, "limit_exceeded"),
    ({"maxVisits": -1}, r"1 to 2\^50", "evaluateTerritory", {"maxVisits": -1}, "limit_exceeded"),
    ({"maxVisits": "x"}, r"1 to 2\^50", "findMistakes", {"maxVisits": "x"}, "invalid_arguments"),
    ({"analyzeTurns": [5]}, "Invalid turn number: 5", "findMistakes", {"lastMove": 5}, "invalid_range"),
    (
        {"analyzeTurns": [5]},
        "Invalid turn number: 5",
        "analyzePosition",
        {"position": None, "sgf": "(;SZ[9];B[df])", "moveNumber": 5},
        "invalid_move_number",
    ),
    (
        {"allowMoves": [{"player": "W", "moves": ["D4"], "untilDepth": 1}], "maxVisits": 20},
        None,
        "analyzePosition",
        {"allowMoves": ["D4"]},
        "illegal_move",
    ),
    ({"komi": "6.25"}, "half-integer", "analyzePosition", {"position": {"komi": "6.25"}}, "invalid_komi"),
]
"""A query, the engine's error (None: a result without moves), and a call that would send it."""


@pytest.mark.parametrize(("query", "expected", "tool", "arguments", "code"), NEVER_SENT)
async def test_query_that_breaks_the_engine_is_never_sent(
    engine: Engine,
    site: Site,
    query: dict[str, Any],
    expected: str | None,
    tool: str,
    arguments: dict[str, Any],
    code: str,
) -> None:
    query = {"moves": ONE_MOVE["moves"], **query}
    if expected is None:
        assert (await ask(engine, **query))["moveInfos"] == []
    else:
        with pytest.raises(EngineRefused, match=expected):
            await ask(engine, **query)
    # These tools run without an engine.
    async with asking(Rig(site, {})) as call:
        assert (await call(tool, **{"position": ONE_MOVE, **arguments}))["code"] == code


async def test_a_komi_in_quotes_reaches_the_engine_as_a_number(engine: Engine) -> None:
    with pytest.raises(EngineRefused, match="half-integer"):
        await ask(engine, komi="6.5")
    position = check(Position.model_validate({**ONE_MOVE, "komi": "6.5"}))
    assert "rootInfo" in await ask(engine, **position.query())


@pytest.mark.parametrize(
    ("extra", "field"),
    [
        ({"foo": 1}, "foo"),
        ({"ü": "囲"}, "ü"),
        ({"maxTime": 1}, "maxTime"),
        ({"overrideSettings": {"foo": 1}}, "overrideSettings"),
        ({"foo": 1, "analyzeTurns": [0, 1]}, "foo"),
    ],
)
async def test_engine_warns_once_of_an_unknown_field(
    engine: Engine, extra: dict[str, Any], field: str
) -> None:
    turns: list[int] = []

    async def received(reply: dict[str, Any]) -> None:
        turns.append(reply["turnNumber"])

    query = {"rules": "chinese", **ONE_MOVE, "maxVisits": 2, **extra}
    async with asyncio.timeout(PATIENCE):
        if "analyzeTurns" in extra:
            warnings = await engine.query_turns(query, received)
        else:
            answer = await engine.query(query)
            await received(answer.reply)
            warnings = answer.warnings
    assert sorted(turns) == extra.get("analyzeTurns", [1])
    (warning,) = warnings
    assert warning.startswith(f"{field}: ")


QUERY = '"rules":"chinese","boardXSize":9,"boardYSize":9,"moves":[["B","D4"]],"maxVisits":2'

HARMLESS: list[tuple[list[str], int]] = [
    (["not JSON"], 1),
    (["[]"], 1),
    ([f"{{{QUERY}}}"], 1),
    ([f'{{"id":5,{QUERY}}}'], 1),
    (['{"id":"x","action":"think"}'], 1),
    ([f'{{"id":"x",{QUERY},"komi":NaN}}'], 1),
    ([f'{{"id":"\\ud800",{QUERY}}}'], 1),
    ([f'{{"id":"x",{QUERY},"analyzeTurns":[]}}'], 0),
    ([f'{{"id":"x",{QUERY},"analyzeTurns":[0,0]}}'], 0),
    ([f'{{"id":"x",{QUERY}}}'] * 2, 0),
]
"""Lines that the server never writes, and the number of the engine's replies without an id."""


@pytest.mark.parametrize(("lines", "anonymous"), HARMLESS)
async def test_invalid_line_does_not_affect_other_queries(
    engine: Engine, lines: list[str], anonymous: int
) -> None:
    before = protocol_errors(engine)
    stdin = engine._process.stdin
    assert stdin is not None
    stdin.write("".join(f"{line}\n" for line in lines).encode())
    for _ in range(2):
        assert (await ask(engine, moves=ONE_MOVE["moves"]))["turnNumber"] == 1
    assert protocol_errors(engine) - before == anonymous


def protocol_errors(engine: Engine) -> float:
    return engine._metrics.registry.get_sample_value("katago_engine_protocol_errors_total") or 0


async def test_invalid_utf8_ends_the_engine(real: Site) -> None:
    async with started(real) as engine:
        stdin = engine._process.stdin
        assert stdin is not None
        stdin.write(b'{"id":"\xff"}\n')
        with pytest.raises(EngineGone, match="exited with signal 6"):
            await ask(engine, maxVisits=1_000_000)


SILENTLY_ACCEPTED: list[tuple[dict[str, Any], bool]] = [
    ({"moves": [("B", "D4"), ("B", "E5")]}, True),
    ({"moves": [("B", "pass"), ("W", "pass"), ("B", "E5")]}, True),
    ({"moves": [], "initialStones": [("B", "D4"), ("B", "D4")]}, False),
    ({"moves": [], "initialStones": [("B", "A1"), ("W", "A2"), ("W", "B1")]}, False),
    (
        {
            "moves": [
                *(("B", "B1"), ("W", "C1"), ("B", "A2"), ("W", "D2"), ("B", "B3"), ("W", "C3")),
                *(("B", "C2"), ("W", "B2"), ("B", "C2")),
            ]
        },
        False,
    ),
]


@pytest.mark.parametrize(("fields", "warned"), SILENTLY_ACCEPTED)
async def test_suspicious_position_that_the_engine_accepts_gives_a_warning_or_an_error(
    engine: Engine, fields: dict[str, Any], warned: bool
) -> None:
    assert "rootInfo" in await ask(engine, **fields)
    position = Position.model_validate({"boardXSize": 9, "boardYSize": 9, **fields})
    if warned:
        assert check(position).warnings
    else:
        with pytest.raises(Invalid):
            check(position)


def test_every_rule_set_matches_the_one_of_katago(real: Site) -> None:
    katago = load(real.path, {}).config.katago
    config = real.directory / "gtp.cfg"
    config.write_text(GTP_CONFIG)
    argv = [str(katago.binary_path), "gtp", "-config", str(config), "-model", str(katago.model_path)]
    argv += ["-override-config", f"homeDataDir={katago.home_data_dir}"]
    commands = "".join(f"kata-set-rules {name}\nkata-get-rules\n" for name in RULES)
    done = subprocess.run(
        argv, input=f"{commands}quit\n", capture_output=True, text=True, check=True, timeout=START_SECONDS
    )
    answers = [json.loads(line[2:]) for line in done.stdout.splitlines() if line.startswith("= {")]
    assert dict(zip(RULES, answers, strict=True)) == {name: rules.parts() for name, rules in RULES.items()}


PARTS = [
    {},
    *({"ko": ko} for ko in ("SIMPLE", "POSITIONAL", "SITUATIONAL")),
    *(
        {"scoring": scoring, "tax": tax}
        for scoring in ("AREA", "TERRITORY")
        for tax in ("NONE", "SEKI", "ALL")
    ),
    *({"whiteHandicapBonus": bonus} for bonus in ("0", "N-1", "N")),
    {"suicide": False, "hasButton": True, "friendlyPassOk": True},
]


async def test_engine_accepts_every_part_of_rules_without_a_warning(engine: Engine) -> None:
    for parts in PARTS:
        position = check(Position.model_validate({"rules": parts, "boardXSize": 9, "boardYSize": 9}))
        async with asyncio.timeout(PATIENCE):
            answer = await engine.query(position.query() | options_of(2, 10))
        assert answer.warnings == (), parts
        assert answer.reply["rootInfo"]["visits"] == 2


async def test_rules_that_the_engine_rejects_are_rejected_by_the_server(engine: Engine) -> None:
    for rules in (
        {"ko": "NONE"},
        {"tax": 2},
        {"suicide": "yes"},
        {"whiteHandicapBonus": 0},
        {"kos": "SIMPLE"},
    ):
        with pytest.raises(EngineRefused):
            await ask(engine, rules=rules)
        with pytest.raises(Invalid):
            Position.model_validate({"rules": rules})


@pytest.mark.parametrize(
    "name",
    [
        *(
            "goe",
            "ing",
            "french",
            "nz",
            "newzealand",
            "new zealand",
            "tromptaylor",
            "tromp_taylor",
            "aga_button",
        ),
        *("ancient-area", "ancient territory", "stonescoring", "chinese_ogs", "chinesekgs", "JAPANESE"),
        *("koPOSITIONALscoreAREAtaxNONEsui1", "scoreAREAkoSIMPLE", '{"ko":"SIMPLE","scoring":"TERRITORY"}'),
        *("ko SIMPLE score AREA tax NONE", "scoringTERRITORYwhbN-1", '{"ko":"SIMPLE","score":"TERRITORY"}'),
    ],
)
async def test_name_of_rules_that_the_engine_accepts_is_accepted(engine: Engine, name: str) -> None:
    await ask(engine, rules=name)
    checked = check(Position(rules=name))
    await ask(engine, rules=checked.rules.parts())


@pytest.mark.parametrize("moves", [";B[gc];B[cg];W[ee]", ";B[gc];W[cg];W[ee]", ";B[gc];W[cg];B[];B[ee]"])
async def test_next_player_of_a_record_is_to_move(engine: Engine, moves: str) -> None:
    record = read(f"(;SZ[9]RU[Chinese]KM[0]{moves})")
    for number, move in enumerate(record.main.moves):
        reply = await ask(engine, **check(record.position(number)).query())
        assert reply["rootInfo"]["currentPlayer"] == move.colour


async def test_legality_of_suicide_agrees_with_the_engine(engine: Engine) -> None:
    # Black's stones on A1 and B1 have one liberty left, A2. The engine lets a game's moves commit
    # suicide under any rules, so the test takes the legal moves from its policy.
    stones = [("W", "A3"), ("W", "B2"), ("W", "C1"), ("B", "A1"), ("B", "B1")]
    for rules in (*RULES.values(), Rules(ko="SIMPLE", scoring="TERRITORY")):
        reply = await ask(
            engine, rules=rules.parts(), initialStones=stones, initialPlayer="B", includePolicy=True
        )
        assert (reply["policy"][7 * 9] >= 0) == rules.suicide, rules.name


def random_game(
    rules: Rules, size: int, length: int, seed: int
) -> tuple[list[tuple[Colour, str]], list[str]]:
    """A game of legal moves with few passes, and the legal moves at each turn."""
    dice = random.Random(seed)
    board = Board(size, size, rules.suicide, rules.ko)
    points = points_top_down(size, size)
    moves: list[tuple[Colour, str]] = []
    legal = []
    colour: Colour = "B"
    for _ in range(length):
        open_ = [point for point in points if board.refusal(colour, point) is None]
        legal.append(" ".join(map(vertex, open_)))
        passed = bool(moves) and moves[-1][1] == "pass"
        point = dice.choice(open_) if open_ and (passed or dice.random() > 0.05) else None
        board.play(colour, point)
        moves.append((colour, vertex(point)))
        colour = opponent_of(colour)
    return moves, legal


async def test_legality_of_moves_agrees_with_the_engine(engine: Engine) -> None:
    size, length = 3, 40
    points = points_top_down(size, size)
    repetitions = 0
    for seed, (ko, suicide) in enumerate(itertools.product(get_args(Ko), (True, False))):
        rules = Rules(ko=ko, suicide=suicide)
        moves, legal = random_game(rules, size, length, seed)
        position = Position(board_x_size=size, board_y_size=size, rules=rules, moves=[*moves])
        query = check(position).query() | options_of(1, 10) | {"includePolicy": True}
        theirs: dict[int, str] = {}

        async def received(reply: dict[str, Any], theirs: dict[int, str] = theirs) -> None:
            allowed = [point for point, chance in zip(points, reply["policy"], strict=False) if chance >= 0]
            theirs[reply["turnNumber"]] = " ".join(map(vertex, allowed))

        async with asyncio.timeout(PATIENCE):
            await engine.query_turns(query | {"analyzeTurns": list(range(length))}, received)
        assert [theirs[turn] for turn in range(length)] == legal, (rules.name, moves)
        free = random_game(rules.model_copy(update={"ko": "SIMPLE"}), size, length, seed)[1]
        repetitions += ko != "SIMPLE" and free != legal
    assert repetitions


@pytest.mark.parametrize(("width", "height"), [(2, 2), (9, 13), (19, 2), (19, 19)])
async def test_every_board_is_analysed(engine: Engine, width: int, height: int) -> None:
    reply = await ask(engine, boardXSize=width, boardYSize=height, includeOwnership=True)
    assert len(reply["ownership"]) == width * height


async def test_a_terminated_search_ends(engine: Engine) -> None:
    call = asyncio.create_task(ask(engine, maxVisits=1_000_000))
    await asyncio.sleep(0.3)
    call.cancel()
    with pytest.raises(asyncio.CancelledError):
        await call
    # Both threads are free again; otherwise this would wait for the million visits.
    await asyncio.gather(ask(engine), ask(engine))


async def test_the_configuration_of_a_real_engine_is_valid(real: Site) -> None:
    report = await validate(real.path, os.environ, engine=True)
    assert report.ok, report.as_text()
    assert report.engine_version
    assert report.network


@pytest.mark.parametrize(
    "damage", [b"", b"\x1f\x8b\x08\x00not a network", b"plain text"], ids=["empty", "bad", "text"]
)
async def test_a_damaged_network_is_explained(real: Site, damage: bytes) -> None:
    network = real.directory / "damaged.bin.gz"
    network.write_bytes(damage)
    real.write(katago={"modelPath": str(network)})
    report = await validate(real.path, os.environ, engine=True)
    (failed,) = (check for check in report.checks if not check.ok)
    assert failed.name == ("engine" if damage else "network")
    assert str(network) in failed.message


async def test_a_truncated_network_is_a_configuration_error(real: Site) -> None:
    network = real.directory / "truncated.bin.gz"
    network.write_bytes(network_bytes()[:100_000])
    real.write(katago={"modelPath": str(network)})
    report = await validate(real.path, os.environ, engine=True)
    assert "the engine did not start" in report.checks[-1].message
    assert not report.ok


def test_winrates_are_blacks_despite_the_engine_configuration(real: Site) -> None:
    # White has stones on most of a small board: Black loses, whoever moves.
    stones = [["W", f"{column}{row}"] for column in "BDFH" for row in range(1, 10)]
    position = {"boardXSize": 9, "boardYSize": 9, "initialStones": stones}
    with real.serving():
        report = real.call(
            *(
                ("analyzePosition", {"position": {**position, "initialPlayer": player}})
                for player in ("B", "W")
            )
        )
    assert report["ok"], report
    for result in report["results"]:
        assert result["structured"]["winrate"] < 0.1
        assert result["structured"]["scoreLead"] < -10


async def test_every_requested_turn_gets_one_reply(engine: Engine) -> None:
    moves = [("B", "E5"), ("W", "C3"), ("B", "G3")]
    query = {"rules": "chinese", "komi": 7.5, "boardXSize": 9, "boardYSize": 9, "maxVisits": 2}
    turns: list[int] = []

    async def received(reply: dict[str, Any]) -> None:
        assert "rootInfo" in reply
        turns.append(reply["turnNumber"])

    async with asyncio.timeout(PATIENCE):
        await engine.query_turns({**query, "moves": moves, "analyzeTurns": [0, 1, 3]}, received)
    assert sorted(turns) == [0, 1, 3]


async def test_another_query_runs_before_the_turns_of_a_review(engine: Engine) -> None:
    received: list[int] = []

    async def note(reply: dict[str, Any]) -> None:
        received.append(reply["turnNumber"])

    moves = [
        (colour, f"{column}{row}") for row in range(1, 6) for column, colour in zip("AC", "BW", strict=True)
    ]
    query = {"rules": "chinese", "boardXSize": 9, "boardYSize": 9, "maxVisits": 30, "moves": moves}
    turns = {**query, "analyzeTurns": list(range(len(moves) + 1)), "priority": PRIORITY}
    async with asyncio.timeout(PATIENCE * 3):
        review = asyncio.create_task(engine.query_turns(turns, note))
        # The engine gets both queries at once, so the load of the machine does not matter.
        await asyncio.sleep(0)
        await ask(engine)
        assert len(received) <= len(moves) // 2
        await review


async def test_a_terminated_review_frees_the_engine(engine: Engine) -> None:
    async def received(_: dict[str, Any]) -> None:
        raise AssertionError("a million visits were searched")

    query = {"rules": "chinese", "boardXSize": 9, "boardYSize": 9, "maxVisits": 1_000_000}
    moves = [("B", "E5"), ("W", "C3"), ("B", "G3")]
    call = asyncio.create_task(
        engine.query_turns({**query, "moves": moves, "analyzeTurns": [0, 1, 2, 3]}, received)
    )
    await asyncio.sleep(0.3)
    call.cancel()
    with pytest.raises(asyncio.CancelledError):
        await call
    await asyncio.gather(ask(engine), ask(engine))


async def test_engine_rejects_both_restrictions_together_too(engine: Engine) -> None:
    only = [{"player": "B", "moves": ["A1"], "untilDepth": 1}]
    with pytest.raises(EngineRefused, match="both allowMoves and avoidMoves"):
        await ask(engine, allowMoves=only, avoidMoves=only, initialPlayer="B")


@pytest.mark.parametrize("move", ["A1", "pass"])
async def test_a_move_nobody_would_play_is_searched_when_it_is_the_only_one(
    engine: Engine, move: str
) -> None:
    only = [{"player": "B", "moves": [move], "untilDepth": 1}]
    reply = await ask(
        engine,
        allowMoves=only,
        initialPlayer="B",
        maxVisits=10,
        includeMovesOwnership=True,
        includePolicy=True,
    )
    (info,) = reply["moveInfos"]
    assert (info["move"], len(info["ownership"]), len(reply["policy"])) == (move, 81, 82)


async def test_named_moves_are_compared_even_if_the_engine_would_not_play_them(real: Site) -> None:
    async with rig(real, os.environ) as made:
        async with asyncio.timeout(START_SECONDS):
            await made.supervisor.wait_for("ready")
        result = await made.analyst.analyze(
            Request(Position(moves=[("B", "Q16")]), max_visits=40, allow_moves=("A1", "D4", "C3", "pass"))
        )
    assert sorted(move.move for move in result.moves) == ["A1", "C3", "D4", "pass"]
    assert all(move.visits >= 9 for move in result.moves)
    assert result.moves[0].move in ("D4", "C3")
    assert result.moves[-1].points_lost > 5


async def test_policy_ignores_restrictions(engine: Engine) -> None:
    plain = await ask(engine, includePolicy=True)
    best = max(plain["policy"])
    avoided = [{"player": "B", "moves": [plain["moveInfos"][0]["move"]], "untilDepth": 1}]
    restricted = await ask(engine, includePolicy=True, avoidMoves=avoided)
    assert max(restricted["policy"]) == pytest.approx(best, abs=0.05)


HANDICAPS: list[tuple[list[tuple[str, str]], list[tuple[str, str]]]] = [
    ([("B", "C3"), ("B", "G7")], []),
    ([("B", "C3")], [("B", "E5"), ("W", "E6")]),
    ([("B", "C3")], []),
    ([], [("B", "C3"), ("W", "pass"), ("B", "G7"), ("W", "C5")]),
    ([("B", "C3"), ("B", "G7"), ("W", "E5")], []),
]


@pytest.mark.parametrize("rules", RULES)
async def test_handicap_bonus_agrees_with_the_engine(engine: Engine, rules: str) -> None:
    for stones, moves in HANDICAPS:
        position = Position(
            board_x_size=9, board_y_size=9, rules=rules, initial_stones=stones, moves=moves, komi=0
        )
        checked = check(position)
        fields = {"rules": rules, "initialStones": stones, "moves": moves, "maxVisits": 1}
        fields["initialPlayer"] = checked.initial_player
        leads = []
        for extra in ({"komi": 0}, {"komi": handicap_bonus(checked), "whiteHandicapBonus": "0"}):
            reply = await ask(engine, **fields, **extra)
            leads.append(reply["rootInfo"]["rawLead"])
        # The network evaluates a randomly mirrored board, so equal positions differ slightly. A
        # difference of one stone would be a point.
        assert leads[0] == pytest.approx(leads[1], abs=0.6), (stones, moves)


async def test_a_game_is_reviewed(real: Site) -> None:
    moves = [("B", "E5"), ("W", "E3"), ("B", "A1"), ("W", "E7"), ("B", "C5"), ("W", "G5")]
    game = Position(board_x_size=9, board_y_size=9, moves=moves)
    async with rig(real, os.environ, cached=True) as made:
        async with asyncio.timeout(START_SECONDS):
            await made.supervisor.wait_for("ready")
        review = await find_mistakes(made.analyst, ReviewRequest(game, max_visits=40, all_moves=True))
        again = await find_mistakes(made.analyst, ReviewRequest(game, max_visits=40))
    assert (review.partial, review.unanalysed, review.turns_analysed) == (False, [], 7)
    assert [move.number for move in review.moves] == [1, 2, 3, 4, 5, 6]
    assert review.mistakes[0] == 3
    worst = review.moves[2]
    assert worst.points_lost > 3
    assert worst.policy_rank > 20
    assert worst.better_move not in (None, "A1")
    assert worst.better_pv[0] == worst.better_move
    assert again.cached


async def test_move_is_explained_even_if_the_engine_does_not_consider_it(real: Site) -> None:
    position = Position(board_x_size=9, board_y_size=9, moves=[("B", "E5"), ("W", "E3")])
    async with rig(real, os.environ) as made:
        async with asyncio.timeout(START_SECONDS):
            await made.supervisor.wait_for("ready")
        bad = await explain_move(made.analyst, ExplanationRequest(position, "A1", max_visits=40))
        good = await explain_move(
            made.analyst, ExplanationRequest(position, bad.alternatives[0].move, max_visits=40)
        )
    assert (bad.best, bad.searched_order) == (False, None)
    assert bad.points_lost > 3
    assert bad.continuation
    assert bad.swings
    assert good.points_lost < 1
    assert good.move not in [other.move for other in good.alternatives]


async def test_single_visit_evaluates_the_position_and_no_move(real: Site) -> None:
    position = Position(board_x_size=9, board_y_size=9, moves=[("B", "E5"), ("W", "A1"), ("B", "E3")])
    async with rig(real, os.environ) as made:
        async with asyncio.timeout(START_SECONDS):
            await made.supervisor.wait_for("ready")
        desk = made.analyst
        once = await desk.analyze(Request(position, max_visits=1, include_policy=True))
        review = await find_mistakes(desk, ReviewRequest(position, max_visits=1, all_moves=True))
        territory = await evaluate_territory(desk, TerritoryRequest(position, max_visits=1))
        with pytest.raises(Invalid, match="limit_exceeded: maxVisits cannot be 1"):
            await explain_move(desk, ExplanationRequest(position, "D4", max_visits=1))
        twice = await explain_move(desk, ExplanationRequest(position, "D4", max_visits=2))
    assert (once.visits, once.moves, once.partial) == (1, [], False)
    assert [move.better_pv for move in review.moves if not move.best] == [
        [move.better_move] for move in review.moves if not move.best
    ]
    assert (review.moves[1].best, review.mistakes[0], review.partial) == (False, 2, False)
    assert (territory.visits, territory.partial) == (1, False)
    assert (twice.visits, twice.partial) == (1, False)


TERRITORY_GAME = [
    *(("B", f"{column}{row}") for row in range(1, 10) for column in "D"),
    *(("W", f"{column}{row}") for row in range(1, 10) for column in "E"),
    ("W", "B3"),
]
"""Black's wall on the D line, White's on the E line, no moves left, and a dead stone."""


@pytest.mark.parametrize("rules", ["chinese", "japanese"])
async def test_finished_board_is_scored(real: Site, rules: str) -> None:
    position = Position(
        board_x_size=9,
        board_y_size=9,
        rules=rules,
        initial_stones=TERRITORY_GAME,
        initial_player="B",
        komi=-8.5,
    )
    async with rig(real, os.environ) as made:
        async with asyncio.timeout(START_SECONDS):
            await made.supervisor.wait_for("ready")
        result = await evaluate_territory(made.analyst, TerritoryRequest(position, max_visits=100))
    assert result.dead_white == ["B3"]
    assert result.dead_black == []
    assert (len(result.black_territory), len(result.white_territory)) == (27, 36)
    # Area: 36 to 45; territory: 27 and a dead stone to 36.
    assert result.score.black_lead == (-0.5 if rules == "chinese" else 0.5)
    assert abs(result.score_lead - result.score.black_lead) < 4


async def test_engine_rejects_a_human_profile_without_a_human_network_too(engine: Engine) -> None:
    with pytest.raises(EngineRefused, match="humanSLProfile"):
        await ask(engine, overrideSettings={"humanSLProfile": "rank_5k"})


HUMAN_NETWORK = os.environ.get("KATAGO_TEST_HUMAN_NETWORK")


async def test_engine_rejects_a_network_that_was_not_trained_on_human_games(real: Site) -> None:
    real.write(katago={"humanModelPath": NETWORK})
    async with rig(real, os.environ) as made:
        async with asyncio.timeout(START_SECONDS):
            await made.supervisor.wait_for("ready")
        with pytest.raises(Invalid, match=r"engine_refused: .*humanSLProfile"):
            await made.analyze(human_profile="rank_5k")


@pytest.mark.skipif(not HUMAN_NETWORK, reason="KATAGO_TEST_HUMAN_NETWORK is not set")
async def test_human_network_predicts_the_moves_of_a_rank(real: Site) -> None:
    real.write(katago={"humanModelPath": HUMAN_NETWORK})
    async with rig(real, os.environ) as made:
        async with asyncio.timeout(START_SECONDS):
            await made.supervisor.wait_for("ready")
        weak, strong = [
            await made.analyze(human_profile=profile, include_policy=True, max_visits=4)
            for profile in ("rank_20k", "rank_9d")
        ]
        assert made.supervisor.status().human_network is not None
    for answer in (weak, strong):
        assert answer.human_policy is not None
        assert sum(chance for chance in answer.human_policy if chance > 0) == pytest.approx(1, abs=0.01)
        assert all(move.human_prior is not None for move in answer.moves)
    assert weak.human_policy != strong.human_policy


async def test_symmetric_moves_are_one_candidate(real: Site) -> None:
    empty = Position()
    corner = Position(initial_stones=[("B", "D4")], initial_player="W")
    diagonal = Position(moves=[("B", "D4"), ("W", "Q16")])
    none = Position(moves=[("B", "D4"), ("W", "Q3")])
    async with rig(real, os.environ) as made:
        async with asyncio.timeout(START_SECONDS):
            await made.supervisor.wait_for("ready")
        answers = [
            await made.analyst.analyze(Request(position, max_visits=40))
            for position in (empty, corner, diagonal, none)
        ]
        best = answers[0].moves[0]
        explained = await explain_move(
            made.analyst, ExplanationRequest(empty, best.symmetric_moves[0], max_visits=20)
        )
    for answer, most in zip(answers, (8, 2, 4, 1), strict=True):
        moves = [name for move in answer.moves for name in (move.move, *move.symmetric_moves)]
        assert len(moves) == len(set(moves))
        assert all(len(move.symmetric_moves) < most for move in answer.moves)
        assert [move.order for move in answer.moves] == [*range(len(answer.moves))]
    assert all(move.symmetric_moves for move in answers[0].moves if move.move not in ("K10", "pass"))
    assert explained.best
    assert explained.alternatives[0].move not in (best.move, *best.symmetric_moves)


@pytest.mark.parametrize("visits", [10, pytest.param(100, marks=pytest.mark.long)])
async def test_engines_choice_is_never_a_mistake(real: Site, visits: int) -> None:
    moves = [
        *(("B", "E5"), ("W", "E3"), ("B", "D3"), ("W", "E7"), ("B", "D4"), ("W", "G5"), ("B", "D2")),
        *(("W", "E2"), ("B", "A1"), ("W", "C7"), ("B", "D7"), ("W", "D8"), ("B", "C6"), ("W", "F6")),
    ]
    game = Position(board_x_size=9, board_y_size=9, moves=moves)
    async with rig(real, os.environ) as made:
        async with asyncio.timeout(START_SECONDS):
            await made.supervisor.wait_for("ready")
        request = ReviewRequest(game, max_visits=visits, all_moves=True, min_points_lost=0.1)
        review = await find_mistakes(made.analyst, request)
    best = [move for move in review.moves if move.best]
    assert best
    assert all(not move.mistake and move.points_lost <= 0 for move in best)
    assert {move.loss_class for move in best} == {"excellent"}
    assert 9 in review.mistakes
