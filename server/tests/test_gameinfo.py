"""Game information that programs and servers write in their own ways: rules, komi, handicap, players."""

import pytest

from katago_mcp.positions import check
from katago_mcp.sgf import Record, read


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
        ],
    )
    def test_versions_and_remarks_are_ignored_with_a_warning(self, text: str, name: str) -> None:
        record = read(f"(;KM[0]RU[{text}])")
        assert record.rules == name
        assert record.warnings == (f"RU[{text}] is read as {name}",)

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
        ],
    )
    def test_in_another_unit_is_converted_with_a_warning(self, text: str, komi: float) -> None:
        record = read(f"(;RU[Chinese]KM[{text}])")
        assert record.komi == komi
        assert f"is read as {komi:g} points" in warnings_of(record)

    @pytest.mark.parametrize(
        ("text", "komi"), [("\u22126.5", -6.5), ("-6.5", -6.5), ("6.5 points", 6.5), ("6,5", 6.5), ("15", 15)]
    )
    def test_that_is_plausible_is_read_as_written(self, text: str, komi: float) -> None:
        record = read(f"(;RU[Chinese]KM[{text}])")
        assert (record.komi, record.warnings) == (komi, ())

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

    def test_an_illegal_move_elsewhere_keeps_the_customary_stones(self) -> None:
        record = read("(;SZ[19]HA[2];W[qf];B[qf];W[cc])")
        assert played(record) == "W R14"
        assert stones(record) == {"D4", "Q16"}

    def test_fewer_stones_played_than_stated_give_a_warning(self) -> None:
        record = read("(;SZ[19]HA[3];B[dd];W[pp])")
        assert "HA[3] does not match the 1 moves of Black" in warnings_of(record)


class TestOtherSpellings:
    def test_export_without_semicolon_and_with_other_names(self) -> None:
        record = read(
            "(\nTE[Cup]\nRD[2005-11-10]\nPC[Seoul]\nKO[7.5]\nHD[0]\nRE[B+R]PB[Kuro]BR[9d]\n;B[pd];W[dd])"
        )
        assert played(record) == "B Q16 W D16"
        assert (record.komi, record.handicap, record.event, record.date) == (7.5, 0, "Cup", "2005-11-10")
        assert (record.place, record.result, record.black.name) == ("Seoul", "B+R", "Kuro")
        assert "KO[7.5] is read as KM" in warnings_of(record)

    def test_handicap_in_another_property(self) -> None:
        record = read("(HD[2]KO[0.5]SZ[9]AB[cg][gc];W[ee])")
        assert (record.handicap, record.komi) == (2, 0.5)

    def test_ko_and_tesuji_of_a_move_are_no_game_information(self) -> None:
        record = read("(;SZ[9]RU[Chinese]KM[7]TE[1]KO[];B[ee]KO[]TE[2])")
        assert (record.komi, record.event, record.warnings) == (7, None, ())

    def test_game_information_may_follow_the_root(self) -> None:
        record = read("(;FF[4]GM[1];SZ[9]KM[6.5]RU[Japanese]PB[Kuro];B[ee];W[cc])")
        assert (record.width, record.komi, record.rules, record.black.name) == (9, 6.5, "japanese", "Kuro")
