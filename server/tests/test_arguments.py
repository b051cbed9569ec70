"""Arguments in other forms: accepted if they have one meaning, else explained with a whole example."""

import json
from typing import Any

import pytest
from pydantic import ValidationError

from katago_mcp.arguments import EXAMPLES, explained, normalized
from katago_mcp.positions import Position
from rig import Rig, asking
from support import Site

BOTH = [["B", "D4"], ["W", "Q16"]]


def position(**parts: Any) -> dict[str, Any]:
    """The position after conversion."""
    converted: dict[str, Any] = normalized({"position": parts})["position"]
    return converted


@pytest.mark.parametrize(
    "moves",
    [
        ["D4", "Q16"],
        "D4 Q16",
        "B D4, W Q16",
        ["B D4", "W Q16"],
        [["D4"], ["Q16"]],
        [["black", "D4"], ["White", "Q16"]],
        [{"player": "B", "vertex": "D4"}, {"color": "w", "move": "Q16"}],
        [{"vertex": "D4"}, {"vertex": "Q16"}],
        '[["B", "D4"], ["W", "Q16"]]',
        [["B", "D4"], "Q16"],
        ["bD4", "wQ16"],
        "BD4 WQ16",
        ["B: D4", "W: Q16"],
        "Black: D4\nWhite: Q16",
        "1. D4 2. Q16",
        ["1. D4", "2) W Q16"],
        ["B[dp]", "W[pd]"],
        ";B[dp];W[pd]",
        ["B", "D4", "W", "Q16"],
        ["D4", "B", "Q16", "W"],
        [["D4", "B"], ["Q16", "White"]],
        [{"B": "D4"}, {"white": "Q16"}],
        [{"player": "B", "coordinate": "D4"}, {"player": "W", "coordinate": "Q16"}],
    ],
)
def test_moves_in_any_form_are_the_same_game(moves: Any) -> None:
    assert position(moves=moves)["moves"] == BOTH


@pytest.mark.parametrize(
    ("text", "move"),
    [
        ("B4", ["B", "B4"]),
        ("BB4", ["B", "B4"]),
        ("wpass", ["W", "pass"]),
        ("W[]", ["W", "pass"]),
        ("B Z99", ["B", "Z99"]),
        ("W[tt]", ["W", "pass"]),
    ],
)
def test_the_letter_of_a_colour_is_not_that_of_a_column(text: str, move: list[str]) -> None:
    assert position(moves=[text])["moves"] == [move]


def test_move_with_too_many_parts_is_explained() -> None:
    with pytest.raises(ValidationError) as caught:
        Position.model_validate(position(moves=[["B", "D4", "Q16"]]))
    assert "moves[0]: it has 3 items: at most 2 are accepted" in str(explained(caught.value))


def test_moves_in_the_notation_of_sgf_count_rows_from_the_top_of_the_board() -> None:
    assert position(moves="B[cc]", boardSize=9)["moves"] == [["B", "C7"]]
    assert position(moves="B[cc]", boardSize="9x13")["moves"] == [["B", "C11"]]


@pytest.mark.parametrize(
    "stones",
    [
        {"B": ["D4", "Q16"], "W": ["D16"]},
        {"black": "D4, Q16", "white": "D16"},
        '{"B": ["D4", "Q16"], "W": ["D16"]}',
        "B: D4 Q16 W: D16",
        ["B D4", "bQ16", "W[dd]"],
        [{"B": "D4"}, ["Q16", "B"], {"color": "white", "point": "D16"}],
    ],
)
def test_setup_stones_in_any_form_are_the_same_stones(stones: Any) -> None:
    assert position(initialStones=stones)["initialStones"] == [["B", "D4"], ["B", "Q16"], ["W", "D16"]]


def test_stones_of_one_colour_may_be_missing() -> None:
    assert position(initialStones={"B": ["D4"], "W": None})["initialStones"] == [["B", "D4"]]


@pytest.mark.parametrize("komi", ["6,5", "6.5", "\uff16\uff0e\uff15", "6.5 points", "6目半", " 6.5 "])
def test_komi_may_be_a_text_with_one_meaning(komi: str) -> None:
    assert position(komi=komi)["komi"] == 6.5


@pytest.mark.parametrize("komi", ["375", "65", "reverse 5.5", "6.5 or 7.5", "none"])
def test_komi_that_could_mean_something_else_stays_as_it_is(komi: str) -> None:
    assert position(komi=komi)["komi"] == komi


@pytest.mark.parametrize(
    ("rules", "name"),
    [("JPN", "japanese"), ("Japanese rules", "japanese"), ("KOR", "korean"), ("日本", "japanese")],
)
def test_rules_may_be_named_as_in_records(rules: str, name: str) -> None:
    assert position(rules=rules)["rules"] == name


@pytest.mark.parametrize(
    "rules", ["Fox", "Japanese 1989", "koSIMPLEscoreAREAkomi5", '{"ko": "SIMPLE", "komi": 5}']
)
def test_rules_that_say_more_or_less_than_a_rule_set_stay_as_they_are(rules: str) -> None:
    assert position(rules=rules)["rules"] == rules


@pytest.mark.parametrize(
    ("parts", "first"),
    [
        ({}, "B"),
        ({"initialPlayer": "white"}, "W"),
        ({"initialStones": [["B", "C3"], ["B", "G7"]]}, "W"),
        ({"initialStones": [["B", "C3"], ["W", "G7"]]}, "B"),
    ],
)
def test_moves_without_colours_alternate_from_the_first_player(parts: dict[str, Any], first: str) -> None:
    moves = position(moves=["D4", "E5"], **parts)["moves"]
    assert [move[0] for move in moves] == [first, "W" if first == "B" else "B"]


@pytest.mark.parametrize("value", [["B", "D4"], "B D4", [["B", "D4"]], {"moves": [["B", "D4"]]}])
def test_one_move_is_a_list_of_one_move(value: Any) -> None:
    moves = value["moves"] if isinstance(value, dict) else value
    assert position(moves=moves)["moves"] == [["B", "D4"]]


@pytest.mark.parametrize(
    ("size", "expected"),
    [(9, (9, 9)), ("13", (13, 13)), ("9x13", (9, 13)), ([9, 13], (9, 13)), ([19], (19, 19))],
)
def test_one_board_size_is_both(size: Any, expected: tuple[int, int]) -> None:
    for name in ("boardSize", "board_size", "BOARDSIZE"):
        converted = position(**{name: size})
        assert converted == dict(zip(("boardXSize", "boardYSize"), expected, strict=True))


def test_contradicting_board_sizes_stay_for_the_refusal() -> None:
    assert position(boardSize=9, boardXSize=13) == {"boardSize": 9, "boardXSize": 13}


def test_nulls_are_absent_everywhere() -> None:
    arguments = {
        "position": {"moves": BOTH, "komi": None, "boardXSize": None, "rules": None},
        "sgf": None,
        "variation": None,
        "picture": None,
        "maxVisits": None,
    }
    assert normalized(arguments) == {"position": {"moves": BOTH}}


def test_arguments_that_a_strict_schema_forces_a_model_to_fill_in_are_absent() -> None:
    filled = {"rules": "chinese", "boardXSize": 19, "moves": [], "initialStones": [], "komi": 7.5}
    arguments = {"sgf": "(;B[aa])", "sgfBase64": "", "position": filled, "variation": "", "player": ""}
    assert normalized(arguments) == {"sgf": "(;B[aa])"}
    arguments = {"sgf": "", "sgfBase64": "", "position": {"moves": BOTH}}
    assert normalized(arguments) == {"position": {"moves": BOTH}}


def test_an_empty_record_alone_is_still_refused_as_one() -> None:
    assert normalized({"sgf": ""}) == {"sgf": ""}


@pytest.mark.parametrize(
    ("given", "expected"), [("D4", ["D4"]), ("D4, C3:G7", ["D4", "C3:G7"]), (["D4"], ["D4"])]
)
def test_restrictions_may_be_one_text(given: Any, expected: list[str]) -> None:
    assert normalized({"allowMoves": given}) == {"allowMoves": expected}


@pytest.mark.parametrize("player", ["b", "B", "black", "Black", " BLACK "])
def test_colours_may_be_words(player: str) -> None:
    assert normalized({"player": player}) == {"player": "B"}
    assert position(initialPlayer=player) == {"initialPlayer": "B"}


@pytest.mark.parametrize("players", ["both", "Both", "all"])
def test_both_players_may_be_named(players: str) -> None:
    assert normalized({"player": players}) == {}


def test_rules_may_be_in_katagos_notation() -> None:
    rules = position(rules="koPOSITIONALscoreAREAtaxNONEsui0button1")["rules"]
    assert (rules.ko, rules.suicide, rules.has_button) == ("POSITIONAL", False, True)


def test_a_position_may_be_json_in_a_text_or_a_list_of_moves() -> None:
    assert normalized({"position": '{"moves": ["D4", "Q16"]}'}) == {"position": {"moves": BOTH}}
    assert normalized({"position": ["D4", "Q16"]}) == {"position": {"moves": BOTH}}


@pytest.mark.parametrize(
    "value", [7, "nonsense (;", {"moves": 3}, {"moves": [None, 3, {}, [[]], ["B", "D4", 1]]}, [[["B"]]]]
)
def test_what_has_no_meaning_stays_as_it_is(value: Any) -> None:
    converted = normalized({"position": value})["position"]
    assert converted == ({"moves": value} if isinstance(value, list) else value)


def test_the_arguments_of_the_caller_are_not_changed() -> None:
    arguments = {"position": {"moves": ["D4"], "boardSize": 9, "komi": None}}
    before = json.dumps(arguments)
    normalized(arguments)
    assert json.dumps(arguments) == before


WRONG: list[tuple[str, dict[str, Any], str, str]] = [
    ("analyzePosition", {"position": {"moves": [5]}}, "position.moves[0]", "5 is not a list"),
    ("analyzePosition", {"position": {"size": 9}}, "position.size", "did you mean"),
    ("analyzePosition", {"position": {"boardWidth": 9}}, "position.boardWidth", "there is no such key"),
    ("analyzePosition", {"position": {"initialStones": ["D4"]}}, "position.initialStones[0]", "not a list"),
    (
        "analyzePosition",
        {"position": {"initialStones": {"red": ["D4"]}}},
        "position.initialStones",
        "not a list",
    ),
    (
        "analyzePosition",
        {"position": {"moves": {"B": ["D4"], "W": ["Q16"]}}},
        "position.moves",
        "an object is not a list",
    ),
    ("analyzePosition", {"position": {"moves": ["D4 ?"]}}, "position.moves[0]", "of colour and vertex"),
    (
        "analyzePosition",
        {"position": {"komi": "6.5 or 7.5"}},
        "position.komi",
        "'6.5 or 7.5' is not a number",
    ),
    ("analyzePosition", {"position": 5}, "position", "5 is not an object"),
    ("analyzePosition", {"sgf": ["(;)"]}, "sgf", "a list is not a text"),
    ("analyzePosition", {"position": {}, "maxVisits": "many"}, "maxVisits", "'many' is not an integer"),
    ("analyzePosition", {"position": {}, "allowMoves": 5}, "allowMoves", "5 is not a list"),
    ("analyzePosition", {"position": {}, "picture": "maybe"}, "picture", "'maybe' is not true or false"),
    ("findMistakes", {"position": {}, "player": "green"}, "player", "'green' is not one of 'B' or 'W'"),
    ("explainMove", {"position": {}}, "move", "is missing"),
]


@pytest.mark.anyio
@pytest.mark.parametrize(("tool", "arguments", "field", "text"), WRONG)
async def test_refusals_name_the_value_and_have_a_whole_example(
    site: Site, tool: str, arguments: dict[str, Any], field: str, text: str
) -> None:
    async with asking(Rig(site, {})) as ask:
        error = await ask(tool, **arguments)
    assert (error["code"], error["field"]) == ("invalid_arguments", field)
    assert text in error["message"]
    if field.partition(".")[0] in EXAMPLES:
        example = json.loads(error["accepted"].removeprefix("for example "))
        assert field.partition(".")[0] in example
        assert sum(name in example for name in ("position", "sgf", "sgfBase64")) == 1
        part = field.partition("position.")[2].partition("[")[0]
        assert part not in ("moves", "initialStones", "komi") or part in example["position"]
    else:
        assert error["accepted"]


@pytest.mark.anyio
async def test_nearest_tool_is_named(site: Site) -> None:
    async with asking(Rig(site, {})) as ask:
        error = await ask("analysePosition")
    assert error["message"].endswith("did you mean analyzePosition?")


def test_the_examples_have_the_documented_form() -> None:
    assert normalized(EXAMPLES) == EXAMPLES
    Position.model_validate(EXAMPLES["position"])
