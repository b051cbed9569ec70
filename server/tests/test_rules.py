"""Rules by name and by parts: accepted values, errors, and the effect of the parts."""

import asyncio
import json
from typing import Any, get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from katago_mcp.analysis import Request
from katago_mcp.errors import Invalid
from katago_mcp.positions import Position, check
from katago_mcp.rules import RULES, Ko, Rules, find, read_notation
from rig import Rig, rig, until
from support import PATIENCE, Site

RULE_SETS = st.builds(
    Rules,
    ko=st.sampled_from(get_args(Ko)),
    scoring=st.sampled_from(["AREA", "TERRITORY"]),
    tax=st.sampled_from([None, "NONE", "SEKI", "ALL"]),
    suicide=st.booleans(),
    has_button=st.booleans(),
    white_handicap_bonus=st.sampled_from(["0", "N-1", "N"]),
    friendly_pass_ok=st.booleans(),
)


def refused(rules: object) -> Invalid:
    with pytest.raises(Invalid) as caught:
        check(Position.model_validate({"rules": rules}))
    return caught.value


@pytest.mark.parametrize("name", RULES)
def test_parts_of_a_rule_set_are_the_same_as_its_name(name: str) -> None:
    spelled = check(Position.model_validate({"rules": RULES[name].parts()}))
    named = check(Position(rules=name))
    assert spelled.rules == named.rules
    assert RULES[spelled.rules_name] == RULES[name]


def test_missing_parts_default_to_tromp_taylor() -> None:
    position = check(Position.model_validate({"rules": {}}))
    assert (position.rules_name, position.rules.suicide, position.komi) == ("tromp-taylor", True, 7.5)


@pytest.mark.parametrize(
    ("parts", "tax", "komi"),
    [
        ({"scoring": "TERRITORY"}, "SEKI", 6.5),
        ({"scoring": "TERRITORY", "tax": "NONE"}, "NONE", 6.5),
        ({"scoring": "AREA", "hasButton": True}, "NONE", 7),
    ],
)
def test_tax_and_komi_follow_from_the_scoring(parts: dict[str, Any], tax: str, komi: float) -> None:
    position = check(Position.model_validate({"rules": parts}))
    assert (position.rules.tax, position.komi) == (tax, komi)


@pytest.mark.parametrize(
    ("rules", "field", "accepted"),
    [
        ({"ko": "SPIGHT"}, "position.rules.ko", '"SIMPLE", "POSITIONAL", "SITUATIONAL"'),
        ({"scoring": "STONES"}, "position.rules.scoring", '"AREA", "TERRITORY"'),
        ({"tax": 2}, "position.rules.tax", '"NONE", "SEKI", "ALL"'),
        ({"suicide": "yes"}, "position.rules.suicide", "true, false"),
        ({"hasButton": 1}, "position.rules.hasButton", "true, false"),
        ({"whiteHandicapBonus": 0}, "position.rules.whiteHandicapBonus", '"0", "N-1", "N"'),
        ({"friendlyPassOk": []}, "position.rules.friendlyPassOk", "true, false"),
        ({"komi": 7}, "position.rules.komi", "ko, scoring, tax, suicide, hasButton"),
        (["chinese"], "position.rules", "an object"),
        (None, "position.rules", "a name"),
        ("go!", "position.rules", "tromp-taylor, chinese"),
    ],
)
def test_error_names_the_wrong_part_and_its_accepted_values(rules: object, field: str, accepted: str) -> None:
    failure = refused(rules)
    assert (failure.code, failure.field) == ("invalid_rules", field)
    assert failure.accepted is not None
    assert accepted in failure.accepted


@given(RULE_SETS)
def test_the_notation_of_any_rules_is_read_back(rules: Rules) -> None:
    name = rules.name
    if name in RULES:
        assert RULES[name] == rules
    else:
        assert read_notation(name) == rules


@given(RULE_SETS)
def test_any_rules_can_be_read_back_from_their_query(rules: Rules) -> None:
    sent = json.loads(json.dumps(rules.parts()))
    assert check(Position.model_validate({"rules": sent})).rules == rules


@pytest.mark.parametrize(
    ("rules", "name"),
    [
        ("goe", "ing"),
        ("NZ", "new-zealand"),
        ("french", "french"),
        ("tromp_taylor", "tromp-taylor"),
        ("ancient area", "stone-scoring"),
        ("koPOSITIONALscoreAREAtaxNONEsui1", "tromp-taylor"),
        ('{"ko": "SIMPLE", "scoring": "TERRITORY", "suicide": false}', "japanese"),
    ],
)
def test_names_that_the_engine_accepts_are_accepted(rules: str, name: str) -> None:
    checked = check(Position(rules=rules))
    assert (checked.rules_name, checked.rules) == (name, RULES[name])


@pytest.mark.parametrize(
    "rules",
    [
        {"ko": "SIMPLE", "score": "TERRITORY", "suicide": False},
        {"ko": "simple", "scoring": "Territory", "suicide": False},
        {"koRule": "SIMPLE", "scoringRule": "TERRITORY", "multiStoneSuicideLegal": False},
        {"KO": "SIMPLE", "Score": "territory", "sui": False},
        {"ko": "SIMPLE", "scoring": "TERRITORY", "suicide": False, "white_handicap_bonus": "0"},
        '{"ko": "simple", "score": "territory", "suicide": false}',
        "koSIMPLEscoreTERRITORYsui0",
        "ko SIMPLE score TERRITORY tax SEKI sui 0",
        "kosimplescoringterritorytaxsekisui0",
        "ko: simple, scoring: territory, suicide: 0",
    ],
)
def test_parts_are_accepted_in_every_spelling(rules: object) -> None:
    checked = check(Position.model_validate({"rules": rules}))
    assert (checked.rules_name, checked.komi) == ("japanese", 6.5)


def test_handicap_bonus_in_lower_case() -> None:
    rules = check(Position.model_validate({"rules": {"whb": "n-1"}})).rules
    assert rules.white_handicap_bonus == "N-1"
    assert read_notation("koPOSITIONAL whb n-1") == Rules(white_handicap_bonus="N-1")


@pytest.mark.parametrize(
    ("rules", "field"),
    [
        ({"score": "AREA", "scoring": "TERRITORY"}, "position.rules.score"),
        ({"score": "AREA", "scoringRule": "TERRITORY"}, "position.rules.scoringRule"),
        ('{"ko": "SIMPLE", "komi": 5}', "position.rules.komi"),
        ("koSIMPLEscoreAREAkomi5", "position.rules"),
        ("ko SIMPLE score", "position.rules"),
    ],
)
def test_parts_that_would_be_lost_are_refused(rules: object, field: str) -> None:
    failure = refused(rules)
    assert (failure.code, failure.field) == ("invalid_rules", field)


def test_unknown_name_is_rejected_first() -> None:
    with pytest.raises(Invalid, match="invalid_rules"):
        find("chinese rules")


@pytest.mark.parametrize("suicide", [True, False])
def test_part_suicide_decides_whether_suicide_is_legal(suicide: bool) -> None:
    moves = [["W", "A3"], ["W", "B2"], ["W", "C1"], ["B", "A1"], ["B", "B1"], ["B", "A2"]]
    position = {"rules": {"ko": "SIMPLE", "suicide": suicide}, "moves": moves}
    if suicide:
        assert len(check(Position.model_validate(position)).moves) == 6
    else:
        with pytest.raises(Invalid, match="suicide"):
            check(Position.model_validate(position))


async def ask(made: Rig, *rules: str | Rules) -> list[str]:
    """The names of the rules in concurrent answers about one position."""
    games = [Position(rules=name, moves=[("B", "D4")], komi=7.5) for name in rules]
    async with asyncio.timeout(PATIENCE):
        answers = await asyncio.gather(*(made.analyst.analyze(Request(game)) for game in games))
    return [answer.rules for answer in answers]


@pytest.mark.anyio
async def test_same_rules_share_one_search_and_each_caller_gets_its_own_name(site: Site) -> None:
    async with rig(site, cached=True) as made:
        await made.reaches("ready")
        together = await ask(made, "korean", "japanese", RULES["korean"])
        cached = await ask(made, "korean")
        assert (together, cached) == (["korean", "japanese", "japanese"], ["korean"])
        (query,) = site.queries()
        assert query["rules"] == RULES["japanese"].parts()


@pytest.mark.anyio
async def test_rules_that_differ_in_one_part_are_separate_searches(site: Site) -> None:
    other = RULES["japanese"].model_copy(update={"friendly_pass_ok": True})
    async with rig(site, cached=True) as made:
        await made.reaches("ready")
        names = await ask(made, "japanese", other)
        await until(lambda: len(site.queries()) == 2)
    assert names == ["japanese", "koSIMPLEscoreTERRITORYtaxSEKIsui0fpok1"]
