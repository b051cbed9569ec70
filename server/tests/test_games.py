"""Calls with game records, and answers with pictures."""

import base64
import io
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from mcp import Client
from mcp.types import CallToolResult, ImageContent
from PIL import Image

from katago_mcp import tools
from katago_mcp.analysis import PositionAnalysis
from katago_mcp.auth import RateLimiter
from katago_mcp.config import RateLimit
from katago_mcp.illustrations import of_analysis, of_territory
from katago_mcp.positions import Position
from katago_mcp.territory import TerritoryEvaluation
from rig import rig
from support import Site

pytestmark = pytest.mark.anyio

MOVES = [["B", "E5"], ["W", "C3"], ["B", "G3"], ["W", "C7"]]
RECORD = "(;FF[4]GM[1]SZ[9]RU[Chinese]KM[7];B[ee];W[cg](;B[gg];W[cc])(;B[gc]))"


@asynccontextmanager
async def client(site: Site) -> AsyncIterator[Client]:
    async with rig(site) as made:
        await made.reaches("ready")
        service = tools.Service(
            supervisor=made.supervisor,
            analyst=made.analyst,
            metrics=made.metrics,
            limiter=RateLimiter(RateLimit),
            settings=made.settings,
            secured=False,
        )
        async with Client(tools.build(service, None)) as session:
            yield session


async def ask(session: Client, tool: str, **arguments: Any) -> tuple[dict[str, Any], CallToolResult]:
    result = await session.call_tool(tool, arguments)
    assert isinstance(result, CallToolResult)
    assert not result.is_error, result.content
    assert result.structured_content is not None
    return result.structured_content, result


def moves_sent(site: Site) -> list[list[str]]:
    moves: list[list[str]] = site.queries()[-1]["moves"]
    return moves


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ({}, MOVES),
        ({"moveNumber": 2}, MOVES[:2]),
        ({"variation": "2"}, [*MOVES[:2], ["B", "G7"]]),
    ],
)
async def test_record_reaches_the_engine_as_its_moves(
    site: Site, arguments: dict[str, Any], expected: list[list[str]]
) -> None:
    async with client(site) as session:
        answer, _ = await ask(session, "analyzePosition", sgf=RECORD, **arguments)
    assert moves_sent(site) == expected
    assert answer["komi"] == 7
    assert answer["turnNumber"] == len(expected)


async def test_assumptions_are_in_warnings(site: Site) -> None:
    async with client(site) as session:
        answer, result = await ask(session, "analyzePosition", sgf="(;SZ[9];B[ee])")
    assert any("RU" in warning for warning in answer["warnings"])
    assert "Warning: " in str(result.content[0])


async def test_file_of_another_charset_is_read_from_its_bytes(site: Site) -> None:
    # The second byte of the first character is the escape character of SGF.
    record = "(;FF[4]CA[Shift_JIS]SZ[9]RU[Chinese]KM[7]PB[ソ];B[ee];W[cg])".encode("shift_jis")
    async with client(site) as session:
        answer, _ = await ask(
            session, "analyzePosition", sgfBase64=base64.encodebytes(record).decode(), moveNumber=1
        )
    assert moves_sent(site) == MOVES[:1]
    assert answer["warnings"] == []


async def test_invalid_base64_is_rejected(site: Site) -> None:
    async with client(site) as session:
        result = await session.call_tool("findMistakes", {"sgfBase64": RECORD})
    assert isinstance(result, CallToolResult)
    assert result.is_error
    assert "[sgfBase64]" in str(result.content[0])
    assert site.queries() == []


@pytest.mark.parametrize(
    "arguments",
    [
        {},
        {"sgf": RECORD, "position": {"boardXSize": 9}},
        {"sgf": RECORD, "sgfBase64": base64.b64encode(RECORD.encode()).decode()},
    ],
)
async def test_call_must_pass_exactly_one_game(site: Site, arguments: dict[str, Any]) -> None:
    async with client(site) as session:
        result = await session.call_tool("analyzePosition", arguments)
    assert result.is_error
    assert "exactly one of position, sgf and sgfBase64" in str(result.content[0])


@pytest.mark.parametrize(
    ("tool", "arguments", "field", "expected_message"),
    [
        ("analyzePosition", {"moveNumber": 1}, "moveNumber", "moveNumber 1"),
        ("evaluateTerritory", {"moveNumber": 0}, "moveNumber", "moveNumber 0"),
        ("findMistakes", {"variation": "1.2"}, "variation", "'1.2'"),
        ("explainMove", {"gameNumber": 2, "move": "E5"}, "gameNumber", "gameNumber 2"),
        ("analyzePosition", {"visits": 5}, "visits", "did you mean maxVisits?"),
        ("analyzePosition", {"max_visits": 5}, "max_visits", "did you mean maxVisits?"),
        ("findMistakes", {"moveNumber": 3}, "moveNumber", "has no argument"),
        ("analyzePosition", {"komi": 5}, "komi", "has no argument"),
    ],
)
async def test_argument_without_effect_is_rejected(
    site: Site, tool: str, arguments: dict[str, Any], field: str, expected_message: str
) -> None:
    async with client(site) as session:
        result = await session.call_tool(tool, {"position": {"boardXSize": 9}, **arguments})
    assert result.is_error
    assert result.structured_content is not None
    error = result.structured_content["error"]
    assert (error["code"], error["field"]) == ("invalid_arguments", field)
    assert expected_message in error["message"]
    assert error["accepted"]
    assert site.queries() == []


@pytest.mark.parametrize(
    ("tool", "record", "code", "expected_message"),
    [
        ("findMistakes", "(;SZ[9]KM[7])", "no_moves", "has no moves"),
        ("analyzePosition", "(;SZ[9]KM[7]AB[Q16][D4])", "invalid_sgf", "AB[Q16] is not a point"),
        ("findMistakes", "(;SZ[9]KM[7];B[zz])", "no_moves", "line 1 column 13: 'zz' is not a point"),
        ("analyzePosition", "(;SZ[9]AB[aa]AW[ba][ab])", "invalid_stone", "line 1 column 2"),
        ("analyzePosition", "(;SZ[9]KM[7];B[ee])", "engine_refused", "Illegal move 0"),
    ],
)
async def test_error_in_a_record_names_the_record(
    site: Site, tool: str, record: str, code: str, expected_message: str
) -> None:
    async with client(site) as session:
        site.behave(analysis="refuse")
        result = await session.call_tool(tool, {"sgf": record})
    assert result.structured_content is not None
    error = result.structured_content["error"]
    assert (error["code"], error["field"]) == (code, "sgf")
    assert expected_message in error["message"]


TOOLS_WITH_POSITIONS = [("analyzePosition", {}), ("evaluateTerritory", {}), ("explainMove", {"move": "E4"})]
ALL_TOOLS = [*TOOLS_WITH_POSITIONS, ("findMistakes", {})]
CUT_RECORDS = [
    "(;SZ[9]KM[7]RU[Chinese];B[ee];W[cg];B[ee];W[cc])",
    "(;SZ[9]KM[7]RU[Chinese];B[ee];W[cg];B[Q16];W[cc])",
    "(;SZ[9]KM[7]RU[Chinese];B[ee];W[cg]C[a comment that was cut",
    "(;SZ[9]KM[7]RU[Chinese];B[ee];W[cg];B[g",
    "(;SZ[9]KM[7]RU[Chinese];B[ee];W[cg]C[see [1] here])",
    "(;SZ[9]KM[7]RU[Chinese];B[ee];W[cg];Move[gg];W[cc])",
]


@pytest.mark.parametrize(("tool", "arguments"), ALL_TOOLS)
@pytest.mark.parametrize("record", CUT_RECORDS)
async def test_answer_about_a_record_that_cannot_be_read_to_its_end_is_partial(
    site: Site, tool: str, arguments: dict[str, Any], record: str
) -> None:
    async with client(site) as session:
        answer, _ = await ask(session, tool, sgf=record, **arguments)
    assert answer["partial"]
    assert any("line 1 column" in warning for warning in answer["warnings"])


@pytest.mark.parametrize(("tool", "arguments"), TOOLS_WITH_POSITIONS)
@pytest.mark.parametrize("record", CUT_RECORDS)
async def test_answer_about_a_position_before_the_damage_is_complete(
    site: Site, tool: str, arguments: dict[str, Any], record: str
) -> None:
    async with client(site) as session:
        answer, _ = await ask(session, tool, sgf=record, moveNumber=1, **arguments)
    assert not answer["partial"]


@pytest.mark.parametrize(("tool", "arguments"), ALL_TOOLS)
@pytest.mark.parametrize(
    "record",
    [
        *("(;SZ[9];B[Q16])", "(;SZ[9];B[zz];W[aa])", "(;SZ[9];B[e", "(;SZ[9];B)", "(;SZ[9];W[aa"),
        *(
            "(;SZ[9];Move[ee])",
            "(;SZ[9];PLAY[b ee];PLAY[w cc])",
            "(;SZ[9]MOVES[ee][cc])",
            "(;SZ[9];X[5]Y[5])",
        ),
    ],
)
async def test_record_without_a_readable_move_is_rejected(
    site: Site, tool: str, arguments: dict[str, Any], record: str
) -> None:
    async with client(site) as session:
        result = await session.call_tool(tool, {"sgf": record, **arguments})
    assert result.is_error
    assert result.structured_content is not None
    error = result.structured_content["error"]
    assert (error["code"], error["field"]) == ("no_moves" if tool == "findMistakes" else "invalid_sgf", "sgf")
    assert "line 1 column" in error["message"]
    assert site.queries() == []


async def test_review_of_moves_before_the_end_of_the_readable_game_is_complete(site: Site) -> None:
    async with client(site) as session:
        answer, _ = await ask(session, "findMistakes", sgf=CUT_RECORDS[0], lastMove=2)
        result = await session.call_tool("findMistakes", {"sgf": CUT_RECORDS[0], "lastMove": 3})
    assert not answer["partial"]
    assert result.structured_content is not None
    error = result.structured_content["error"]
    assert (error["code"], error["field"]) == ("invalid_range", "lastMove")
    assert "the point is occupied" in error["message"]


@pytest.mark.parametrize(
    ("tool", "arguments", "player"),
    [
        ("analyzePosition", {}, "nextPlayer"),
        ("evaluateTerritory", {}, "nextPlayer"),
        ("explainMove", {"move": "C7"}, "player"),
    ],
)
async def test_handicap_stone_played_as_a_move_is_blacks(
    site: Site, tool: str, arguments: dict[str, Any], player: str
) -> None:
    record = "(;SZ[9]RU[Chinese]KM[0];B[gc];B[cc];W[gg];B[cg])"
    async with client(site) as session:
        answer, _ = await ask(session, tool, sgf=record, moveNumber=1, **arguments)
    assert (answer[player], answer["turnNumber"]) == ("B", 1)


async def test_game_information_is_in_answers(site: Site) -> None:
    record = (
        "(;SZ[9]RU[Chinese]KM[7]PB[Kuro]BR[5d]PW[Shiro]RE[B+2];B[ee])(;SZ[9]KM[7]RU[Chinese]PB[Two];B[cc])"
    )
    async with client(site) as session:
        answer, result = await ask(session, "analyzePosition", sgf=record)
        second, _ = await ask(session, "analyzePosition", sgf=record, gameNumber=2)
        listed, _ = await ask(session, "readRecord", sgf=record)
        of_position, _ = await ask(session, "analyzePosition", position={"boardXSize": 9, "boardYSize": 9})
    assert (answer["game"]["black"], answer["game"]["blackRank"], answer["game"]["games"]) == (
        "Kuro",
        "5d",
        2,
    )
    assert "Game 1 of 2: Kuro 5d (Black) - Shiro (White), result B+2" in str(result.content[0])
    assert second["game"]["black"] == "Two"
    assert [game["number"] for game in listed["gameList"]] == [1, 2]
    assert of_position["game"] is None


@pytest.mark.parametrize("arguments", [{}, {"sgf": RECORD, "sgfBase64": "KDs="}])
async def test_record_is_read_only_from_one_argument(site: Site, arguments: dict[str, Any]) -> None:
    async with client(site) as session:
        result = await session.call_tool("readRecord", arguments)
    assert result.is_error
    assert "exactly one of sgf and sgfBase64" in str(result.content[0])


async def test_position_may_come_with_default_values_of_record_arguments(site: Site) -> None:
    position = {"boardXSize": 9, "boardYSize": 9}
    async with client(site) as session:
        await ask(session, "analyzePosition", position=position, variation="main", moveNumber=None)


async def test_schemas_forbid_other_arguments(site: Site) -> None:
    async with client(site) as session:
        listed = (await session.list_tools()).tools
    assert listed
    assert all(tool.input_schema["additionalProperties"] is False for tool in listed)


@pytest.mark.parametrize(
    ("setup", "is_mid_game"),
    [
        (";B[ee];W[cc];B[gg];AB[aa];W[gc];B[cg]", True),
        (";B[ee];W[cc];B[gg];AE[gg];W[gc];B[cg]", True),
        (";B[ee];W[cc];B[gg];PL[B];B[gc];W[cg]", True),
        (";B[ee];W[cc];B[gg];W[gc];B[cg];AE[gg]", False),
        (";B[ee];W[cc];B[gg];W[gc];B[cg];AB[aa];AW[bb]", False),
    ],
)
async def test_all_moves_of_record_are_reviewed_despite_setups_between_them(
    site: Site, setup: str, is_mid_game: bool
) -> None:
    async with client(site) as session:
        answer, _ = await ask(session, "findMistakes", sgf=f"(;SZ[9]RU[Chinese]KM[7]{setup})", allMoves=True)
    assert [move["number"] for move in answer["moves"]] == [1, 2, 3, 4, 5]
    assert [move["move"] for move in answer["moves"]][:3] == ["E5", "C7", "G3"]
    assert any("stones were set up after move 3" in warning for warning in answer["warnings"]) == is_mid_game
    assert any("set up after the last move" in warning for warning in answer["warnings"]) != is_mid_game


@pytest.mark.parametrize("tool", ["analyzePosition", "evaluateTerritory", "findMistakes"])
async def test_answer_contains_a_picture_if_requested(site: Site, tool: str) -> None:
    async with client(site) as session:
        _, without = await ask(session, tool, sgf=RECORD)
        answer, result = await ask(session, tool, sgf=RECORD, picture=True)
    assert len(without.content) == 1
    picture = result.content[1]
    assert isinstance(picture, ImageContent)
    assert picture.mime_type == "image/png"
    data = base64.b64decode(picture.data)
    with Image.open(io.BytesIO(data)) as image:
        assert min(image.size) > 300
    shown = Position.model_validate({"boardXSize": 9, "boardYSize": 9, "moves": MOVES})
    if tool == "analyzePosition":
        assert data == of_analysis(shown, PositionAnalysis.model_validate(answer))
    elif tool == "evaluateTerritory":
        assert data == of_territory(shown, TerritoryEvaluation.model_validate(answer))


async def test_graph_does_not_lengthen_the_answer(site: Site) -> None:
    async with client(site) as session:
        without, _ = await ask(session, "findMistakes", sgf=RECORD)
        with_picture, _ = await ask(session, "findMistakes", sgf=RECORD, picture=True)
    assert [move["number"] for move in with_picture["moves"]] == [move["number"] for move in without["moves"]]
