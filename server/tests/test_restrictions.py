"""allowMoves, avoidMoves, ownership after moves, and profiles of human play."""

from typing import Any

import pytest

from katago_mcp import comparison
from katago_mcp.analysis import PositionAnalysis, Request
from katago_mcp.errors import Failure
from katago_mcp.positions import MAX_REGION, Position, read_region
from rig import Rig, rig
from support import Site

pytestmark = pytest.mark.anyio

POSITION = Position(board_x_size=9, board_y_size=9, moves=[("B", "C3")])


async def analyze(made: Rig, **fields: Any) -> PositionAnalysis:
    return await made.analyst.analyze(Request(POSITION, **{"max_visits": 10, **fields}))


async def refused(site: Site, **fields: Any) -> Failure:
    with pytest.raises(Failure) as caught:
        await analyze(Rig(site, {}), **fields)
    return caught.value


@pytest.mark.parametrize(
    ("entries", "vertices"),
    [
        (["d4", "PASS", "D4"], ["D4", "pass"]),
        (["C3:D4"], ["C3", "D3", "C4", "D4"]),
        (["D4:C3"], ["C3", "D3", "C4", "D4"]),
        (["A1:A1"], ["A1"]),
        (["H9:J9", "J9"], ["H9", "J9"]),
    ],
)
def test_vertices_and_rectangles_are_read(entries: list[str], vertices: list[str]) -> None:
    assert read_region(entries, 9, 9, "allowMoves") == vertices


def test_maximum_number_of_entries_is_read() -> None:
    assert read_region(["A1"] * MAX_REGION, 9, 9, "allowMoves") == ["A1"]


async def test_allowed_moves_are_sent_to_the_engine(site: Site) -> None:
    async with rig(site) as made:
        await made.reaches("ready")
        result = await analyze(made, allow_moves=("D4", "E5:F5"), restricted_depth=3)
        (query,) = site.queries()
    assert query["allowMoves"] == [{"player": "W", "moves": ["D4", "E5", "F5"], "untilDepth": 3}]
    assert [move.move for move in result.moves] == ["D4", "E5", "F5"]


async def test_named_moves_get_equal_visits(site: Site) -> None:
    """A search among some moves may never try the others."""
    site.behave(neglected=["E5", "pass"])
    async with rig(site) as made:
        await made.reaches("ready")
        result = await analyze(made, allow_moves=("D4", "e5", "pass"), max_visits=12)
        together, *alone = site.queries()
    assert together["allowMoves"][0]["moves"] == ["D4", "E5", "pass"]
    assert [query["allowMoves"][0]["moves"] for query in alone] == [["E5"], ["pass"]]
    assert [query["maxVisits"] for query in (together, *alone)] == [12, 4, 4]
    seconds = [query["overrideSettings"]["maxTime"] for query in (together, *alone)]
    assert sum(seconds) == pytest.approx(made.settings.config.katago.max_time)
    assert sorted(move.move for move in result.moves) == ["D4", "E5", "pass"]
    assert [move.order for move in result.moves] == [0, 1, 2]
    assert not result.partial
    assert made.value("katago_visits_total") == 20


async def test_named_moves_with_their_share_are_not_searched_again(site: Site) -> None:
    async with rig(site) as made:
        await made.reaches("ready")
        await analyze(made, allow_moves=("D4", "E5"))
        (query,) = site.queries()
    assert query["maxVisits"] == 10


@pytest.mark.parametrize(
    "fields",
    [
        {"allow_moves": ("D4:D5",)},
        {"allow_moves": ("D4", "E5"), "restricted_depth": 2},
        {"allow_moves": (*(f"A{row}" for row in range(1, 10)), "B1", "B2")},
    ],
)
async def test_a_region_is_searched_once(site: Site, fields: dict[str, Any]) -> None:
    site.behave(neglected=["D4", "A1"])
    async with rig(site) as made:
        await made.reaches("ready")
        await analyze(made, **fields)
        assert len(site.queries()) == 1


async def test_illegal_named_move_is_a_warning(site: Site) -> None:
    site.behave(neglected=["E5"])
    async with rig(site) as made:
        await made.reaches("ready")
        result = await analyze(made, allow_moves=("C3", "D4", "E5"))
        _, alone = site.queries()
    assert alone["allowMoves"][0]["moves"] == ["E5"]
    assert result.warnings == ["W C3 is not compared: the point is occupied"]


def test_compared_moves_are_ranked_for_the_player_to_move() -> None:
    searched = [
        {"move": "A1", "visits": 1, "winrate": 0.9, "scoreLead": 9.0, "order": 0},
        {"move": "B2", "visits": 9, "winrate": 0.501, "scoreLead": 1.0, "order": 1},
    ]
    alone = [
        {"move": "A1", "visits": 5, "winrate": 0.2, "scoreLead": -9.0, "order": 0},
        {"move": "C3", "visits": 5, "winrate": 0.503, "scoreLead": 0.5, "order": 0},
    ]
    for player, ranked in (("B", ["B2", "C3", "A1"]), ("W", ["A1", "C3", "B2"])):
        infos = comparison.merged(searched, alone, player)
        assert [info["move"] for info in infos] == ranked
        assert [info["order"] for info in infos] == [0, 1, 2]
    assert comparison.lacking(searched, ["A1", "B2", "C3"], 5) == ["A1", "C3"]
    mirror = [{"move": "A9", "visits": 1, "isSymmetryOf": "A1"}]
    assert comparison.lacking([*searched, *mirror], ["A9", "B2"], 5) == []


async def test_avoided_moves_are_sent_to_the_engine(site: Site) -> None:
    async with rig(site) as made:
        await made.reaches("ready")
        result = await analyze(made, avoid_moves=("A1",))
        (query,) = site.queries()
    assert query["avoidMoves"] == [{"player": "W", "moves": ["A1"], "untilDepth": 1}]
    assert [move.move for move in result.moves] == ["B1"]


@pytest.mark.parametrize(
    ("fields", "code", "field"),
    [
        ({"allow_moves": ("D4",), "avoid_moves": ("E5",)}, "invalid_region", "avoidMoves"),
        ({"allow_moves": ("D4", "pass:E5")}, "invalid_region", "allowMoves[1]"),
        ({"avoid_moves": ("Z9",)}, "invalid_move", "avoidMoves[0]"),
        ({"allow_moves": ("A1:K9",)}, "invalid_move", "allowMoves[0]"),
        ({"allow_moves": ("C3",)}, "illegal_move", "allowMoves"),
        ({"allow_moves": ("A1:J9",) * 401}, "limit_exceeded", "allowMoves"),
        ({"avoid_moves": ("A1",) * 401}, "limit_exceeded", "avoidMoves"),
        ({"allow_moves": ("D4",), "restricted_depth": 0}, "limit_exceeded", "restrictedDepth"),
        ({"human_profile": "rank_5k"}, "no_human_network", "humanSLProfile"),
    ],
)
async def test_invalid_restriction_is_rejected_with_its_field(
    site: Site, fields: dict[str, Any], code: str, field: str
) -> None:
    failure = await refused(site, **fields)
    assert (failure.code, failure.field) == (code, field)
    assert failure.accepted


async def test_region_may_contain_illegal_points(site: Site) -> None:
    async with rig(site) as made:
        await made.reaches("ready")
        assert await analyze(made, allow_moves=("C3:D3",))


async def test_each_move_has_its_ownership_if_requested(site: Site) -> None:
    async with rig(site) as made:
        await made.reaches("ready")
        plain = await analyze(made)
        full = await analyze(made, include_moves_ownership=True)
    assert [move.ownership for move in plain.moves] == [None, None]
    assert [len(move.ownership or []) for move in full.moves] == [81, 81]


async def test_restrictions_are_part_of_the_key(site: Site) -> None:
    async with rig(site, cached=True) as made:
        await made.reaches("ready")
        answers = [
            await analyze(made, **fields)
            for fields in (
                {},
                {"allow_moves": ("D4",)},
                {"avoid_moves": ("D4",)},
                {"avoid_moves": ("D4",), "restricted_depth": 2},
                {"include_moves_ownership": True},
                {"pv_length": 3},
                {"top_moves": 1},
                {},
            )
        ]
    assert [answer.cached for answer in answers] == [False] * 7 + [True]


@pytest.fixture
def human(site: Site) -> Site:
    (site.directory / "human.bin.gz").write_bytes(b"weights")
    site.write(katago={"humanModelPath": "human.bin.gz"})
    return site


async def test_human_profile_is_sent_if_there_is_a_human_network(human: Site) -> None:
    async with rig(human) as made:
        await made.reaches("ready")
        result = await analyze(made, human_profile="rank_5k", include_policy=True)
        record = next(record for record in human.records() if "maxVisits" in record["query"])
        assert made.supervisor.status().human_network == "fake-human"
        assert made.supervisor.status().network == "fake-b1c1"
    argv = record["argv"]
    assert argv[argv.index("-human-model") + 1] == str(human.directory / "human.bin.gz")
    assert record["query"]["overrideSettings"]["humanSLProfile"] == "rank_5k"
    assert {move.human_prior for move in result.moves} == {0.125}
    assert len(result.human_policy or []) == 82


@pytest.mark.parametrize("profile", ["rank_1d", "preaz_20k", "rank_5k_3d", "proyear_1800", "proyear_2023"])
async def test_valid_profiles_are_accepted(human: Site, profile: str) -> None:
    async with rig(human) as made:
        await made.reaches("ready")
        assert await analyze(made, human_profile=profile)


@pytest.mark.parametrize("profile", ["", "rank_21k", "rank_0d", "rank_5", "proyear_2024", "rank_5k,x=1"])
async def test_other_profiles_are_rejected(human: Site, profile: str) -> None:
    failure = await refused(human, human_profile=profile)
    assert (failure.code, failure.field) == ("invalid_profile", "humanSLProfile")
