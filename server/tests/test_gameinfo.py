"""Game information that programs and servers write in their own ways: rules, komi, handicap, players."""

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from katago_mcp import gameinfo
from katago_mcp.komi import read_komi
from katago_mcp.positions import check
from katago_mcp.sgf import Record, Unreadable, read
from katago_mcp.sgftree import WORDS
from support import expect_linear_time


def played(record: Record) -> str:
    return " ".join(f"{move.colour} {move.vertex}" for move in record.main.moves)


def stones(record: Record) -> set[str]:
    return {point for _, point in record.position(0).initial_stones}


def warnings_of(record: Record) -> str:
    return "\n".join([*record.warnings, *record.main.warnings])


class TestRules:
    @pytest.mark.parametrize(
        ("text", "name"),
        [
            ("GOE", "ing"),
            ("Ing Goe", "ing"),
            ("应氏规则", "ing"),
            ("French", "french"),
            ("FFG", "french"),
            ("tromptaylor", "tromp-taylor"),
            ("newzealand", "new-zealand"),
            ("ancient territory", "ancient-territory"),
            ("ancient_area", "stone-scoring"),
            ("Chinese (OGS)", "chinese-ogs"),
            ("American Go Association", "aga"),
            ("日本棋院", "japanese"),
            ('{"ko": "POSITIONAL", "suicide": true}', "tromp-taylor"),
            ('{"ko":"SIMPLE","scoring":"TERRITORY","suicide":false,"komi":6.5}', "japanese"),
            ("scoreAREAkoPOSITIONAL", "tromp-taylor"),
            ("ko simple score territory sui 0", "japanese"),
            ("koSIMPLEscoreTERRITORYtaxSEKIsui0komi6.5", "japanese"),
            ('{"ko":"simple","score":"territory","suicide":false}', "japanese"),
            ("JPN", "japanese"),
            ("CHN", "chinese"),
            ("KOR", "korean"),
            ("NZL", "new-zealand"),
        ],
    )
    def test_are_known_by_many_names(self, text: str, name: str) -> None:
        record = read(f"(;KM[0]RU[{text}])")
        assert record.rules == name
        assert record.warnings == ()

    @pytest.mark.parametrize(
        ("text", "name"),
        [
            ("Japanese rules (1989)", "japanese"),
            ("Japanese1989", "japanese"),
            ("Nihon Ki-in 1989", "japanese"),
            ("Règles japonaises", "japanese"),
            ("AGA rules 1991", "aga"),
            ("Chinese, area", "chinese"),
            ("Chinese area scoring 2002", "chinese"),
            ("中国围棋规则2002", "chinese"),
            ("Simplified Ing 1996", "ing"),
            ("New Zealand, area", "new-zealand"),
            ("Area scoring", "chinese"),
            ("territory", "japanese"),
            ("Pandanet", "japanese"),
            ("IGS", "japanese"),
            ("Tygem", "korean"),
            ("Fox", "chinese"),
            ("野狐", "chinese"),
            ("WMSG", "chinese"),
        ],
    )
    def test_versions_and_remarks_are_ignored_with_a_warning(self, text: str, name: str) -> None:
        record = read(f"(;KM[0]RU[{text}])")
        assert record.rules == name
        assert record.warnings == (f"RU[{text}] is read as {name}",)

    @pytest.mark.parametrize(
        "text", ["Hausregeln", '{"ko":"SPIGHT"}', "koSPIGHTscoreAREA", "Fox, territory", "7"]
    )
    def test_that_are_unknown_are_named(self, text: str) -> None:
        record = read(f"(;KM[0]RU[{text}])")
        assert record.rules == "chinese"
        assert record.warnings == (f"RU[{text}] is not one of KataGo's rule sets: chinese is assumed",)

    @pytest.mark.parametrize(
        "rules", ["ing", "goe", "nz", "koPOSITIONALscoreAREAtaxNONEsui1", '{"suicide":true}']
    )
    def test_suicide_that_they_allow_does_not_end_the_line(self, rules: str) -> None:
        record = read(f"(;SZ[9]KM[7]RU[{rules}]AB[aa]AW[ca][bb][ab];B[ba];W[ee])")
        assert played(record) == "B B9 W E5"


class TestKomi:
    @pytest.mark.parametrize(
        ("text", "komi"),
        [
            ("65", 6.5),
            ("75", 7.5),
            ("55", 5.5),
            ("-65", -6.5),
            ("0.65", 6.5),
            ("0.75", 7.5),
            ("6500", 6.5),
            ("\u22126.4", -6.5),
            ("375", 7.5),
            ("3.75子", 7.5),
            ("3又3/4子", 7.5),
            ("黑贴3又四分之三子", 7.5),
            ("reverse 5.5", -5.5),
            ("Reverse komi: 5.5", -5.5),
            ("white gives 5.5", -5.5),
            ("5.5 for Black", -5.5),
            ("B+5.5", -5.5),
            ("逆コミ5目半", -5.5),
            ("倒贴5.5", -5.5),
            ("白贴六目半", -6.5),
            ("6.5 (by the club)", 6.5),
        ],
    )
    def test_in_another_unit_is_converted_with_a_warning(self, text: str, komi: float) -> None:
        record = read(f"(;RU[Chinese]KM[{text}])")
        assert record.komi == komi
        assert f"is read as {komi:g} points" in warnings_of(record)

    @pytest.mark.parametrize(
        ("text", "komi"),
        [
            *[
                ("\u22126.5", -6.5),
                ("-6.5", -6.5),
                ("6.5 points", 6.5),
                ("6,5", 6.5),
                ("15", 15),
                ("-0.5", -0.5),
            ],
            *[
                ("6目半", 6.5),
                ("6.5目", 6.5),
                ("貼6目半", 6.5),
                ("六目半", 6.5),
                ("コミ半目", 0.5),
                ("덤 6집반", 6.5),
            ],
            *[("\uff15\uff0e\uff15", 5.5), ("black gives 6.5", 6.5), ("W+6.5", 6.5), ("6.5 for White", 6.5)],
        ],
    )
    def test_that_is_plausible_is_read_as_written(self, text: str, komi: float) -> None:
        record = read(f"(;RU[Chinese]KM[{text}])")
        assert (record.komi, record.warnings) == (komi, ())

    @pytest.mark.parametrize("text", ["none", "6.5 or 7.5", "white -5.5", "reverse -5.5", "無し"])
    def test_without_one_meaning_is_named_and_not_used(self, text: str) -> None:
        record = read(f"(;RU[Chinese]KM[{text}])")
        assert record.komi is None
        assert record.warnings == (f"KM[{text}] is not a komi: 7.5 is assumed",)

    @pytest.mark.parametrize(("text", "komi"), [("40", 40), ("-23.5", -23.5), ("16", 16), ("4000", 40)])
    def test_that_is_unusual_is_used_only_with_a_warning(self, text: str, komi: float) -> None:
        record = read(f"(;RU[Chinese]KM[{text}])")
        assert record.komi == komi
        assert f"komi {komi:g} is unusual" in warnings_of(record)
        assert any("is unusual" in warning for warning in check(record.position()).warnings)

    @pytest.mark.parametrize("hundredths", ["65", "75"])
    def test_of_fox_in_tenths_is_converted(self, hundredths: str) -> None:
        record = read(f"(;RU[Chinese]KM[{hundredths}]AP[foxwq];B[dd];W[pp])")
        assert record.komi == int(hundredths) / 10


class TestHandicap:
    @pytest.mark.parametrize(
        ("text", "moves", "placed"),
        [
            ("(;SZ[19]HA[3];W[dd];B[pp])", "W D16 B Q4", ""),
            ("(;SZ[19]HA[3];W[dd];B[cc])", "W D16 B C17", "D4 Q16 Q4"),
            ("(;SZ[19]HA[3];W[dp];B[cc])", "W D4 B C17", "D16 Q16 Q4"),
            ("(;SZ[19]HA[2];W[pd])", "W Q16", "D16 Q4"),
            ("(;SZ[19]HA[2];W[pd];B[dd])", "W Q16 B D16", ""),
            ("(;SZ[19]HA[4];W[qf];B[dd];W[cc])", "W R14 B D16 W C17", ""),
            ("(;SZ[19]HA[6];W[dj];B[pj])", "W D10 B Q10", "D4 D16 Q4 Q16 K4 K16"),
            ("(;SZ[9]HA[9];W[ee])", "W E5", ""),
            ("(;SZ[13]HA[5];W[cc];B[gg](;W[dd])(;W[jj]))", "W C11 B G7 W D10", ""),
        ],
    )
    def test_assumed_stones_never_cost_a_move(self, text: str, moves: str, placed: str) -> None:
        record = read(text)
        assert played(record) == moves
        assert stones(record) == set(placed.split())
        assert "without stones" in warnings_of(record)

    @pytest.mark.parametrize(
        ("text", "stones"),
        [
            ("2.0", 2),
            ("2 stones", 2),
            ("二子", 2),
            ("\uff12", 2),
            ("让2子", 2),
            ("十", 10),
            ("九", 9),
            ("H4", 4),
            ("2점", 2),
            ("0子", 0),
        ],
    )
    def test_is_the_only_number_in_the_text(self, text: str, stones: int) -> None:
        record = read(f"(;KM[0]RU[Chinese]HA[{text}])")
        assert record.handicap == stones
        said = () if text == "2.0" else (f"HA[{text}] is read as handicap {stones}",)
        assert record.warnings == said

    @pytest.mark.parametrize("text", ["2.5", "-2", "many", "2 to 4", "5子 6.5"])
    def test_that_is_no_count_is_named(self, text: str) -> None:
        record = read(f"(;KM[0]RU[Chinese]HA[{text}])")
        assert record.handicap == 0
        assert record.warnings == (f"HA[{text}] is not a number of stones: handicap 0 is assumed",)

    def test_an_illegal_move_elsewhere_keeps_the_customary_stones(self) -> None:
        record = read("(;SZ[19]HA[2];W[qf];B[qf];W[cc])")
        assert played(record) == "W R14"
        assert stones(record) == {"D4", "Q16"}

    def test_fewer_stones_played_than_stated_give_a_warning(self) -> None:
        record = read("(;SZ[19]HA[3];B[dd];W[pp])")
        assert "HA[3] does not match the 1 moves of Black" in warnings_of(record)


class TestSize:
    @pytest.mark.parametrize(
        "text",
        [
            *(
                "19路",
                "19.0",
                "19,0",
                "19,19",
                "19x19",
                "19*19",
                "19\u00d719",
                "19 X 19",
                "19 by 19",
                "19路x19路",
            ),
            *("\uff11\uff19", "十九路", "19路盘", "19줄", "19 lines", "19 19"),
        ],
    )
    def test_in_other_spellings(self, text: str) -> None:
        record = read(f"(;KM[0]RU[Chinese]SZ[{text}])")
        assert (record.width, record.height, record.warnings) == (19, 19, ())

    def test_of_columns_and_rows(self) -> None:
        record = read("(;SZ[9,13])")
        assert (record.width, record.height) == (9, 13)

    @pytest.mark.parametrize("text", ["big", "19.5", "-19", "1e1", "19x19x19", "9 or 13"])
    def test_that_is_no_size_is_refused(self, text: str) -> None:
        with pytest.raises(Unreadable, match=rf"SZ\[{text[:12]}\] is not a board size"):
            read(f"(;SZ[{text}])")


class TestOtherSpellings:
    def test_players_under_the_names_of_the_colours(self) -> None:
        record = read("(;SZ[9]BLACK[Kuro]WHITE[Shiro];B[ee];W[cc])")
        assert (record.black.name, record.white.name) == ("Kuro", "Shiro")
        assert played(record) == "B E5 W C7"

    def test_export_without_semicolon_and_with_other_names(self) -> None:
        record = read(
            "(\nTE[Cup]\nRD[2005-11-10]\nPC[Seoul]\nKO[7.5]\nHD[0]\nRE[B+R]PB[Kuro]BR[9d]\n;B[pd];W[dd])"
        )
        assert played(record) == "B Q16 W D16"
        assert (record.komi, record.handicap, record.event, record.date) == (7.5, 0, "Cup", "2005-11-10")
        assert (record.place, record.result, record.black.name) == ("Seoul", "B+R", "Kuro")
        assert "KO[7.5] is read as KM" in warnings_of(record)

    @pytest.mark.parametrize("names", ["Komi Handicap Size", "komi handicap size", "KOMI HANDICAP SIZE"])
    def test_whole_words_count_in_any_case(self, names: str) -> None:
        komi, handicap, size = names.split()
        record = read(f"(;{komi}[6.5]{handicap}[2]{size}[9];W[ee])")
        assert (record.komi, record.handicap, record.width) == (6.5, 2, 9)
        assert "KOMI[6.5] is read as KM" in warnings_of(record)

    def test_properties_before_the_first_semicolon_of_a_file_without_brackets_count(self) -> None:
        record = read("SZ[9]\nKM[6.5]PB[Kuro]\n;B[ee];W[cc]")
        assert (record.width, record.komi, record.black.name) == (9, 6.5, "Kuro")
        assert played(record) == "B E5 W C7"

    def test_handicap_in_another_property(self) -> None:
        record = read("(HD[2]KO[0.5]SZ[9]AB[cg][gc];W[ee])")
        assert (record.handicap, record.komi) == (2, 0.5)

    def test_ko_and_tesuji_of_a_move_are_no_game_information(self) -> None:
        record = read("(;SZ[9]RU[Chinese]KM[7]TE[1]KO[];B[ee]KO[]TE[2])")
        assert (record.komi, record.event, record.warnings) == (7, None, ())

    def test_game_information_may_follow_the_root(self) -> None:
        record = read("(;FF[4]GM[1];SZ[9]KM[6.5]RU[Japanese]PB[Kuro];B[ee];W[cc])")
        assert (record.width, record.komi, record.rules, record.black.name) == (9, 6.5, "japanese", "Kuro")


def test_every_word_is_an_alias() -> None:
    aliases = {alias for names in gameinfo._ALIASES.values() for alias in names}
    assert aliases >= WORDS


@given(
    identifier=st.sampled_from(["HA", "KM", "RU", "SZ"]),
    text=st.text('0123456789.,+-/:x*½²٣ 一二十拾百半又分之子目路贴白逆黑bwrevko{}"'),
)
def test_any_text_is_read_or_named(identifier: str, text: str) -> None:
    with contextlib.suppress(Unreadable):
        record = read(f"(;{identifier}[{text}];B[aa])")
        assert played(record) == "B A" + str(record.height)


@pytest.mark.parametrize(
    ("before", "piece", "after"), [("", " ", "6 6 6"), ("", "x", "6 6"), ("19", " ", "? 9")]
)
def test_long_text_is_read_in_time_that_grows_with_its_length(before: str, piece: str, after: str) -> None:
    def attempt(count: int) -> None:
        text = before + piece * count + after
        assert read_komi(text)[0] is None
        with pytest.raises(Unreadable, match="is not a board size"):
            read(f"(;SZ[{text}])")

    expect_linear_time(attempt, 20_000)
