"""Reading of game records: syntax, game information, lines and positions."""

from pathlib import Path

import pytest

from katago_mcp.errors import Invalid
from katago_mcp.positions import Position, check
from katago_mcp.rules import RULES, Rules, find
from katago_mcp.sgf import Limits, Move, Record, Unreadable, read

SHARED = Path(__file__).parents[3] / "shared" / "games"

FORKED = (
    "(;GM[1]FF[4]SZ[9]KM[7]RU[Chinese];B[ee];W[ec]"
    "(;B[ge];W[gc](;B[cc];W[cg])(;B[cg]C[the other corner]))"
    "(;B[cc];W[ce](;B[cd])(;B[de];W[dd];B[cd])(;B[be])))"
)
"""Forks after moves 2 and 4 on the main line, and after move 4 on the second line."""


def played(record: Record, variation: str = "main") -> str:
    return " ".join(f"{move.colour} {move.vertex}" for move in record.line(variation).moves)


def stones(position: Position) -> set[str]:
    return {f"{colour} {point}" for colour, point in position.initial_stones}


def refused(text: str | bytes, limits: Limits | None = None) -> Unreadable:
    with pytest.raises(Unreadable) as caught:
        read(text, limits)
    return caught.value


def warnings_of(record: Record) -> str:
    return "\n".join([*record.warnings, *record.main.warnings])


def test_record_has_players_moves_and_result() -> None:
    record = read(
        "(;FF[4]GM[1]SZ[19]KM[6.5]RU[Japanese]PB[Kuro]BR[5d]PW[Shiro]WR[6d]"
        "RE[W+0.5]DT[2024-01-02]EV[Cup]AP[Some:1];B[pd];W[dp])"
    )
    assert (record.black.name, record.black.rank, record.white.name) == ("Kuro", "5d", "Shiro")
    assert (record.result, record.date, record.event, record.application) == (
        "W+0.5",
        "2024-01-02",
        "Cup",
        "Some:1",
    )
    assert (record.rules, record.rules_text, record.komi, record.handicap) == ("japanese", "Japanese", 6.5, 0)
    assert (record.width, record.height) == (19, 19)
    assert record.warnings == ()


def test_rows_are_counted_from_the_top() -> None:
    record = read("(;SZ[19];B[pd];W[aa];B[ss])")
    assert played(record) == "B Q16 W A19 B T1"


def test_a_board_may_be_rectangular() -> None:
    record = read("(;SZ[9:13];B[aa];W[im])")
    assert (record.width, record.height) == (9, 13)
    assert played(record) == "B A13 W J1"
    assert check(record.position()).height == 13


@pytest.mark.parametrize("size", ["1", "20", "52", "9:20", "0"])
def test_unsupported_board_size_is_rejected(size: str) -> None:
    assert refused(f"(;SZ[{size}])").code == "invalid_board_size"


@pytest.mark.parametrize("size", ["x", "19x", "-9", "9:", "9.5"])
def test_invalid_size_is_rejected(size: str) -> None:
    assert refused(f"(;SZ[{size}])").code == "invalid_sgf"


def test_record_of_another_game_is_rejected() -> None:
    assert "is not Go" in refused("(;GM[2]SZ[8])").message


class TestMoves:
    @pytest.mark.parametrize("size", [9, 13, 19])
    @pytest.mark.parametrize("value", ["", "tt", " ", "pass"])
    def test_passes(self, size: int, value: str) -> None:
        assert played(read(f"(;SZ[{size}];B[{value}];W[aa])")) == f"B pass W A{size}"

    @pytest.mark.parametrize("value", ["zz", "jj", "PD", "a", "abc", "a1", "é"])
    def test_off_the_board_ends_the_game_there(self, value: str) -> None:
        record = read(f"(;SZ[9]\n;B[aa]\n;W[{value}];B[bb])")
        assert played(record) == "B A9"
        assert "only up to move 1: line 3 column 1" in record.main.warnings[0]

    def test_an_illegal_one_ends_the_game_there(self) -> None:
        record = read("(;SZ[9];B[aa];W[aa];B[bb])")
        assert played(record) == "B A9"
        assert "W A9: the point is occupied" in record.main.warnings[0]

    def test_rules_decide_whether_suicide_is_legal(self) -> None:
        text = "(;SZ[9]RU[{}]AB[aa]AW[ca][bb][ab];B[ba])"
        assert played(read(text.format("NZ"))) == "B B9"
        assert "suicide" in warnings_of(read(text.format("Japanese")))

    def test_a_repetition_under_superko_ends_the_line_and_counts_moves_as_the_line_does(self) -> None:
        kos = "AB[ba][ab][bc][fa][eb][fc][gb]AW[ca][db][cc][ga][hb][gc][bb]"
        moves = ";B[cb];W[fb];B[];W[bb];B[gb]"
        text = "(;SZ[9:3]RU[{}];B[ia];" + kos + moves + ")"
        assert len(read(text.format("Chinese")).main.moves) == 6
        record = read(text.format("Tromp-Taylor"))
        assert len(record.main.moves) == 5
        assert "B G2: it repeats the position before move 2" in record.main.warnings[0]

    def test_two_in_one_node_are_played_in_their_order(self) -> None:
        record = read("(;SZ[9];W[aa]B[bb])")
        assert played(record) == "W A9 B B8"
        assert "2 moves in one node" in warnings_of(record)

    def test_a_move_names_its_node(self) -> None:
        assert read("(;SZ[9];C[hello];B[aa])").main.moves == (Move(1, "B", "A9", 2),)


class TestText:
    def test_escapes_and_soft_line_breaks(self) -> None:
        record = read(r"(;C[a\]b\\c\:d" + "\\\ne\\\r\nf\r\ng\th])")
        assert record.nodes[0].text("C") == "a]b\\c:def\ng h"

    def test_names_are_on_one_line(self) -> None:
        assert read("(;PB[ Two\nlines ])").black.name == "Two lines"

    def test_empty_names_are_none(self) -> None:
        assert read("(;PB[]PW[ ])").white.name is None

    def test_brackets_and_parentheses_in_comments_are_text(self) -> None:
        record = read("(;C[(;B[aa\\];W[bb\\])];B[cc])")
        assert len(record.main.moves) == 1

    def test_lone_surrogates_become_replacements(self) -> None:
        assert read("(;PB[\ud800])").black.name == "\ufffd"


class TestSyntax:
    @pytest.mark.parametrize("text", ["see [a] and [b] here", "a[b] so x[y]", "[[a]] or [b]"])
    def test_words_and_brackets_in_a_comment_are_no_properties(self, text: str) -> None:
        record = read(f"(;SZ[9]C[{text}];B[ee];W[cc])")
        assert record.nodes[0].text("C") == text
        assert played(record) == "B E5 W C7"
        assert "in the value of C was read as text" in warnings_of(record)

    @pytest.mark.parametrize(
        ("text", "moves", "line", "column", "reason"),
        [
            ("(;SZ[9];B[aa]\n;W[bb];;B[cc\n", "B A9 W B8", 2, 10, "the value of B has no closing bracket"),
            ("(;SZ[9]\r\n;B[aa];B)", "B A9", 2, 8, "the property B has no value"),
            ("(;SZ[9]\n\r;B[aa]];W[bb])", "B A9 W B8", 2, 7, "']' after the value of B is left out"),
            (
                "(;SZ[9]\r;B[aa] [bb] ?;W[cc])",
                "B A9 B B8 W C7",
                2,
                13,
                "'?' after the value of B is left out",
            ),
            ("(;SZ[9];B[aa]C[half a com", "B A9", 1, 15, "the value of C has no closing bracket"),
            ("(;SZ[9];B[aa]C[see [1] here];W[bb])", "B A9 W B8", 1, 22, "in the value of C was read as text"),
            ("(;SZ[9];B[aa]C[(a [1]; b)];W[bb])", "B A9 W B8", 1, 21, "in the value of C was read as text"),
            (
                "(;SZ[9];B[aa]C[(see [1]) here];W[bb])",
                "B A9 W B8",
                1,
                23,
                "in the value of C was read as text",
            ),
            ("(;SZ[9]PB[Kuro [5d]]PW[x];B[aa])", "B A9", 1, 19, "in the value of PB was read as text"),
            ("(;SZ[9];B[aa]C[no end;W[bb];B[cc])", "B A9 W B8 B C7", 1, 15, "bracket of the value of C"),
            ("(;SZ[9];B[aa;W[bb];B[cc])", "B A9 W B8 B C7", 1, 10, "bracket of the value of B is missing"),
            ("(;PB[KuroPW[ShiroSZ[9];B[aa])", "B A9", 1, 5, "bracket of the value of PB is missing"),
        ],
    )
    def test_what_is_complete_is_read_and_the_rest_is_named(
        self, text: str, moves: str, line: int, column: int, reason: str
    ) -> None:
        record = read(text)
        assert played(record) == moves
        assert record.partial
        assert any(
            f"line {line} column {column}: " in warning and reason in warning for warning in record.warnings
        )

    @pytest.mark.parametrize("text", ["", "hello", "[B][W]"])
    def test_text_without_a_game_is_rejected_with_line_and_column(self, text: str) -> None:
        error = refused(text)
        assert (error.line, error.column, error.code) == (1, 1, "invalid_sgf")
        assert '"(;"' in str(error.accepted)
        assert "line 1 column 1" in str(error)

    @pytest.mark.parametrize(
        "text",
        [
            "(;SZ[9]C[a\\]b [x];B[aa];W[bb](;B[cc])(;B[dd]))",
            "(;SZ[9]C[(;B[aa\\];W[bb\\])];B[aa];W[bb];B[cc])",
            "(;SZ[9]C[set KM[6.5\\] and B[dd\\]];B[aa];W[bb];B[cc])",
            "(;SZ[9]GN[a (b) [c\\];];B[aa];W[bb];B[cc])",
        ],
    )
    def test_valid_text_with_brackets_is_not_partial(self, text: str) -> None:
        record = read(text)
        assert played(record) == "B A9 W B8 B C7"
        assert not record.partial

    @pytest.mark.parametrize(
        ("text", "missing"),
        [
            ("(SZ[9]PB[x];B[aa];W[bb])", '";" before a node'),
            ("(;SZ[9];B[aa](W[bb])(;W[cc]))", '";" before a node'),
            (";SZ[9];B[aa];W[bb]", '"(" before the game'),
        ],
    )
    def test_missing_signs_are_supplied(self, text: str, missing: str) -> None:
        record = read(text)
        assert played(record) == "B A9 W B8"
        assert f"{missing} is missing" in warnings_of(record)

    def test_junk_before_the_game_is_skipped(self) -> None:
        record = read("From: (a friend)\n\n(\n;SZ[9];B[aa])")
        assert played(record) == "B A9"
        assert "before the game" in warnings_of(record)

    def test_of_several_games_the_first_is_read(self) -> None:
        record = read("(;SZ[9];B[aa])(;SZ[13])")
        assert record.width == 9
        assert "several games" in warnings_of(record)

    def test_text_after_the_game_gives_a_warning(self) -> None:
        assert "after the game" in warnings_of(read("(;SZ[9])) bye"))
        assert "after the game" not in warnings_of(read("(;SZ[9])\r\n\x1a"))

    @pytest.mark.parametrize("text", ["(;SZ[9];B[aa]", "(;SZ[9](;B[aa])", "(;SZ[9](;B[aa](;W[bb]\n"])
    def test_missing_closing_parentheses_are_supplied(self, text: str) -> None:
        record = read(text)
        assert "missing at the end" in warnings_of(record)
        assert played(record).startswith("B A9")

    def test_identifiers_of_older_formats(self) -> None:
        record = read("(;GaMe[1]FileFormat[3]SiZe[9]PlayerBlack[x]AddBlack[aa][bb];White[cc])")
        assert record.black.name == "x"
        assert stones(record.position()) == {"B A9", "B B8"}
        assert played(record) == "W C7"

    def test_identifiers_in_lower_case(self) -> None:
        record = read("(;sz[9];b[aa])")
        assert played(record) == "B A9"
        assert "lower-case" in warnings_of(record)

    @pytest.mark.parametrize(
        "text",
        [
            "(;SZ[9]ADDBLACK[bb][aa];BLACK[cc];WHITE[dd];BLACK[])",
            "(;size[9]addblack[bb][aa];black[cc];white[dd];black[])",
            "(;SZ[9]AddBlack[bb][aa];Black[cc];White[dd];Black[])",
        ],
    )
    def test_long_names_in_any_case(self, text: str) -> None:
        record = read(text)
        assert played(record) == "B C7 W D6 B pass"
        assert stones(record.position(0)) == {"B A9", "B B8"}
        assert not record.partial

    @pytest.mark.parametrize(
        ("text", "place"),
        [
            ("(;SZ[9];B[aa];Move[bb])", "column 15: Move[bb]"),
            ("(;SZ[9];B[aa];BlackMove[bb])", "column 15: BlackMove[bb]"),
            ("(;SZ[9];B[aa];PLAY[w C7];B[dd])", "column 15: PLAY[w C7]"),
            ("(;SZ[9];B[aa];STONES[bb][cc])", "column 15: STONES[bb]"),
            ("(;SZ[9]MOVES[B Q16, W D4])", "column 8: MOVES[B Q16, W D4]"),
            ("(;SZ[9];STEP[1]XY[4,4])", "column 8: STEP[1]"),
        ],
    )
    def test_properties_that_may_be_moves_are_a_loss(self, text: str, place: str) -> None:
        record = read(text)
        assert record.partial
        assert f"line 1 {place} is not understood" in record.losses[0]

    @pytest.mark.parametrize(
        "text",
        [
            "(;SZ[9]LANG[en];B[aa]XX[bb])",
            "(;SZ[9];B[aa];KGSDE[bb]KGSSB[cc][dd])",
            "(;SZ[9];B[aa];TB[bb]TW[cc]N[is ok]C[aa])",
            "(;SZ[9];M[aa]C[mark])",
            "(;SZ[9];CR[aa])",
            "(;SZ[9];C[an empty board])",
            "(;SZ[9];B[aa];NOTE[see the corner])",
        ],
    )
    def test_other_properties_are_no_loss(self, text: str) -> None:
        assert not read(text).partial

    def test_white_space_may_stand_anywhere(self) -> None:
        record = read("\ufeff ( ; SZ [9]\n AB\t[aa]\n\n[bb] ; W\n[cc] ( ; B [dd] ) ) ")
        assert played(record) == "W C7 B D6"
        assert stones(record.position()) == {"B A9", "B B8"}

    def test_values_of_a_repeated_property_are_joined(self) -> None:
        assert stones(read("(;SZ[9]AB[aa]AB[bb])").position()) == {"B A9", "B B8"}


class TestLimits:
    @pytest.mark.parametrize(
        ("text", "limits", "what"),
        [
            (b"(;C[" + b"x" * 100 + b"])", Limits(size=100), "106 bytes"),
            ("(;C[" + "é" * 50 + "])", Limits(size=100), "106 bytes"),
            ("(;" * 4, Limits(depth=3), "deeper than 3"),
            ("(;;;;)", Limits(nodes=3), "more than 3 nodes"),
            ("(;;B[];W[];B[])", Limits(moves=2), "more than 2 moves"),
            ("(;B[][][])", Limits(moves=2), "more than 2 moves"),
        ],
    )
    def test_are_reported_with_line_and_column(self, text: str | bytes, limits: Limits, what: str) -> None:
        error = refused(text, limits)
        assert error.code == "limit_exceeded"
        assert what in error.message

    def test_a_hundred_thousand_nested_variations_are_refused_by_the_default_limits(self) -> None:
        error = refused("(;" * 100_000)
        assert (error.code, error.column) == ("limit_exceeded", 10_001)

    def test_deep_trees_are_read(self) -> None:
        depth = 100_000
        text = "(;C[x]" * depth + ")" * depth
        record = read(text, Limits(depth=depth, nodes=depth))
        assert len(record.main.nodes) == depth
        assert len(record.line(f"#{depth - 1}").nodes) == depth

    def test_moves_are_counted_by_line(self) -> None:
        assert len(read("(;;B[](;W[])(;W[])(;W[]))", Limits(moves=2)).nodes) == 5


class TestRules:
    @pytest.mark.parametrize("name", RULES)
    def test_names_of_katago_are_accepted(self, name: str) -> None:
        assert read(f"(;RU[{name}])").rules == name

    @pytest.mark.parametrize(
        ("text", "name"),
        [
            ("Japanese", "japanese"),
            ("JAPANESE RULES", "japanese"),
            ("jp", "japanese"),
            ("日本ルール", "japanese"),
            ("Korean", "korean"),
            ("한국룰", "korean"),
            ("Chinese", "chinese"),
            ("中国规则", "chinese"),
            ("中國規則", "chinese"),
            ("AGA", "aga"),
            ("NZ", "new-zealand"),
            ("New Zealand", "new-zealand"),
            ("Tromp-Taylor", "tromp-taylor"),
            ("Tromp/Taylor rules", "tromp-taylor"),
            ("Stone Scoring", "stone-scoring"),
        ],
    )
    def test_names_of_other_programs(self, text: str, name: str) -> None:
        record = read(f"(;KM[0]RU[{text}])")
        assert record.rules == name
        assert record.warnings == ()

    @pytest.mark.parametrize(
        ("text", "rules"),
        [
            ("koPOSITIONALscoreAREAtaxNONEsui1", "tromp-taylor"),
            ("koSIMPLEscoreTERRITORYtaxSEKIsui0", "japanese"),
            ("koSIMPLEscoreTERRITORYsui0", "japanese"),
            ("koSITUATIONALscoreAREAsui1fpok1", "new-zealand"),
            ("koSITUATIONALscoreAREAtaxNONEsui0button1whbN-1fpok1", "aga-button"),
            ("koSIMPLEscoreAREAtaxNONEsui0whbN", Rules(ko="SIMPLE", suicide=False, white_handicap_bonus="N")),
            ("koSIMPLEscoreAREAtaxSEKIsui1whb0", Rules(ko="SIMPLE", tax="SEKI")),
        ],
    )
    def test_katagos_notation_is_read_part_by_part(self, text: str, rules: str | Rules) -> None:
        record = read(f"(;KM[0]RU[{text}])")
        assert record.rules == rules
        assert record.warnings == ()
        assert check(record.position()).rules == find(rules)[1]

    @pytest.mark.parametrize(
        "text", ["Kyu", "Japanese or Chinese", "koSPIGHTscoreAREAtaxNONEsui0", "koSIMPLEscoreAREA or so"]
    )
    def test_others_are_replaced_with_a_warning(self, text: str) -> None:
        record = read(f"(;RU[{text}])")
        assert record.rules == "chinese"
        assert "chinese is assumed" in warnings_of(record)

    def test_missing_rules_give_a_warning(self) -> None:
        assert "has no rules" in warnings_of(read("(;SZ[9])"))


class TestKomi:
    @pytest.mark.parametrize(
        ("text", "komi"),
        [
            ("0", 0),
            ("7", 7),
            ("6.50", 6.5),
            ("-5.5", -5.5),
            ("6,5", 6.5),
            ("\uff17\uff0e\uff15", 7.5),
            ("6.5目", 6.5),
            ("6目半", 6.5),
            ("6집반", 6.5),
            ("5½", 5.5),
            ("7.5 points", 7.5),
            ("3.5", 3.5),
        ],
    )
    def test_is_read_as_written(self, text: str, komi: float) -> None:
        record = read(f"(;RU[Chinese]KM[{text}])")
        assert record.komi == komi
        assert record.warnings == ()

    @pytest.mark.parametrize(
        ("text", "komi"),
        [
            ("375", 7.5),
            ("750", 7.5),
            ("650", 6.5),
            ("325", 6.5),
            ("275", 5.5),
            ("550", 5.5),
            ("350", 7),
            ("3.75", 7.5),
            ("2.75", 5.5),
            ("3.75子", 7.5),
            ("3又3/4子", 7.5),
            ("3 3/4", 7.5),
            ("黑贴3.75子", 7.5),
            ("6.4", 6.5),
            ("7.25", 7),
        ],
    )
    def test_other_units_are_converted_to_points_with_a_warning(self, text: str, komi: float) -> None:
        record = read(f"(;RU[Chinese]KM[{text}])")
        assert record.komi == komi
        assert f"is read as {komi:g} points" in warnings_of(record)

    @pytest.mark.parametrize("text", ["x", "nan", "inf", "1e5", "6.5.1", "99999999", "1/0"])
    def test_invalid_komi_gives_the_default_with_a_warning(self, text: str) -> None:
        record = read(f"(;RU[Japanese]KM[{text}])")
        assert record.komi is None
        assert "is not a komi: 6.5 is assumed" in warnings_of(record)
        assert check(record.position()).komi == 6.5

    @pytest.mark.parametrize(("rules", "komi"), [("Chinese", 7.5), ("Japanese", 6.5)])
    def test_missing_komi_in_an_even_game_gives_the_default_with_a_warning(
        self, rules: str, komi: float
    ) -> None:
        record = read(f"(;RU[{rules}])")
        assert record.warnings == (f"the record has no komi (KM): {komi} is assumed",)
        assert check(record.position()).komi == komi

    def test_empty_is_missing(self) -> None:
        assert read("(;RU[Chinese]KM[])").warnings == read("(;RU[Chinese])").warnings

    def test_missing_komi_in_a_handicap_game_is_half_a_point(self) -> None:
        record = read("(;RU[Chinese]HA[2]AB[dd][pp])")
        assert record.komi == 0.5
        assert "0.5 is assumed" in warnings_of(record)

    @pytest.mark.parametrize(
        ("root", "komi", "warning"),
        [
            ("KM[375]HA[0]", 7.5, "read as 7.5"),
            ("KM[650]HA[0]", 6.5, "read as 6.5"),
            ("KM[50]HA[2]", 0.5, "read as 0.5"),
            ("KM[375]HA[4]", 0.5, "0.5 is assumed"),
            ("KM[0]HA[0]", 0, "may be wrong"),
        ],
    )
    def test_of_fox(self, root: str, komi: float, warning: str) -> None:
        record = read(f"(;RU[Chinese]{root}AP[GNU Go:3.8]TM[60]AP[foxwq];B[dd];W[pp])")
        assert record.komi == komi
        assert warning in warnings_of(record)


class TestSetup:
    def test_stones_are_placed_before_the_first_move(self) -> None:
        position = read("(;SZ[9]AB[aa]AW[bb][cc]AE[cc];B[dd])").position()
        assert stones(position) == {"B A9", "W B8"}
        assert position.moves == [("B", "D6")]

    def test_compressed_point_lists(self) -> None:
        position = read("(;SZ[9]AB[aa:cb]AW[ii:hh]AE[ba:bb])").position(0)
        assert stones(position) == {"B A9", "B A8", "B C9", "B C8", "W J1", "W H1", "W J2", "W H2"}

    def test_a_later_stone_replaces_an_earlier_one(self) -> None:
        assert stones(read("(;SZ[9]AB[aa]AW[aa])").position()) == {"W A9"}

    def test_points_off_the_board_are_left_out(self) -> None:
        record = read("(;SZ[9]AB[aa][jj][hh:zz][x][:])")
        assert stones(record.position()) == {"B A9", "B H2", "B J2", "B H1", "B J1"}
        assert "AB[jj] has points off the board, which are ignored" in warnings_of(record)
        assert "and 1 more of this kind" in warnings_of(record)

    @pytest.mark.parametrize("setup", ["AB[Q16]", "AW[jj]", "AB[aa][hh:zz]", "AW[16-4]"])
    def test_a_stone_that_cannot_be_read_makes_the_line_partial(self, setup: str) -> None:
        line = read(f"(;SZ[9];B[ee];{setup};W[cc])").line()
        assert line.is_partial()
        assert not line.is_partial(0)

    @pytest.mark.parametrize("setup", ["AB[aa]AW[]", "AE[zz]", "AB[tt]", "AB[aa]AE[Q16]"])
    def test_a_value_without_a_stone_loses_none(self, setup: str) -> None:
        assert not read(f"(;SZ[9]{setup};B[ee];W[cc])").line().is_partial()

    def test_setup_in_the_second_node_belongs_to_the_start(self) -> None:
        record = read("(;SZ[9]HA[2];AB[cg][gc];W[ee])")
        assert stones(record.position(0)) == {"B C3", "B G7"}
        assert record.position(0).initial_player == "W"

    def test_setup_between_moves_starts_a_new_history(self) -> None:
        record = read("(;SZ[9];B[ba];W[aa];B[ab];W[ee]AE[ba]AW[cc];B[dd])")
        assert record.position(2).moves == [("B", "B9"), ("W", "A9")]
        after = record.position(3)
        assert (stones(after), after.moves, after.initial_player) == ({"B A8", "W C7"}, [], "W")
        assert record.position(5).moves == [("W", "E5"), ("B", "D6")]
        assert stones(record.position(5)) == {"B A8", "W C7"}

    def test_setup_after_the_last_move_belongs_to_its_position(self) -> None:
        position = read("(;SZ[9];B[aa];AW[bb])").position()
        assert stones(position) == {"B A9", "W B8"}
        assert position.initial_player == "W"

    @pytest.mark.parametrize(
        ("root", "player"),
        [("", "B"), ("AB[aa]", "W"), ("AB[aa]AW[bb]", "B"), ("PL[W]", "W"), ("AB[aa]PL[black]", "B")],
    )
    def test_who_plays_first_without_moves(self, root: str, player: str) -> None:
        assert read(f"(;SZ[9]{root})").position().initial_player == player

    def test_first_move_determines_the_player_even_before_it_is_played(self) -> None:
        assert read("(;SZ[9]AB[aa];B[bb])").position(0).initial_player == "B"

    def test_pl_that_changes_the_turn_starts_a_new_history(self) -> None:
        position = read("(;SZ[9];B[aa];PL[B])").position()
        assert (stones(position), position.initial_player) == ({"B A9"}, "B")

    def test_redundant_pl_changes_nothing(self) -> None:
        assert read("(;SZ[9];B[aa];PL[W];W[bb])").position().moves == [("B", "A9"), ("W", "B8")]

    def test_invalid_pl_gives_a_warning(self) -> None:
        assert "PL[x] is not a colour" in warnings_of(read("(;PL[x])"))


class TestHandicap:
    @pytest.mark.parametrize(
        ("count", "points"),
        [
            (2, "D4 Q16"),
            (3, "D4 Q16 D16"),
            (5, "D4 Q16 D16 Q4 K10"),
            (6, "D4 Q16 D16 Q4 D10 Q10"),
            (7, "D4 Q16 D16 Q4 D10 Q10 K10"),
            (9, "D4 Q16 D16 Q4 D10 Q10 K4 K16 K10"),
        ],
    )
    def test_without_stones_is_set_on_the_star_points(self, count: int, points: str) -> None:
        record = read(f"(;HA[{count}];W[qf])")
        assert stones(record.position(0)) == {f"B {point}" for point in points.split()}
        assert "star points" in warnings_of(record)

    def test_played_by_black_is_left_as_moves(self) -> None:
        record = read("(;HA[2]KM[0];B[dd];B[pp];W[qf])")
        assert played(record) == "B D16 B Q4 W R14"
        assert record.main.warnings == ()

    def test_of_fox_is_black_playing_several_moves_first(self) -> None:
        record = read("(;RU[Chinese]KM[375]HA[0]AP[foxwq];B[pd];B[dp];B[pp];W[dd])")
        assert (record.handicap, record.komi) == (3, 0.5)
        assert "Black's first 3 moves" in warnings_of(record)
        assert record.position(0).initial_stones == []

    def test_mismatch_with_the_stones_gives_a_warning(self) -> None:
        assert "does not match the 1 black setup stones" in warnings_of(read("(;HA[2]AB[dd];W[pp])"))

    def test_handicap_without_customary_points_gives_a_warning(self) -> None:
        assert "does not contain the positions" in warnings_of(read("(;SZ[10]HA[2];W[aa])"))

    def test_invalid_handicap_gives_a_warning(self) -> None:
        assert read("(;HA[many])").handicap == 0
        assert "HA[many]" in warnings_of(read("(;HA[many])"))


class TestVariations:
    @pytest.mark.parametrize(
        ("name", "moves"),
        [
            ("main", "B E5 W E7 B G5 W G7 B C7 W C3"),
            ("1", "B E5 W E7 B G5 W G7 B C7 W C3"),
            ("1.2", "B E5 W E7 B G5 W G7 B C3"),
            ("2", "B E5 W E7 B C7 W C5 B C6"),
            ("2.2", "B E5 W E7 B C7 W C5 B D5 W D6 B C6"),
            ("2.3", "B E5 W E7 B C7 W C5 B B5"),
            ("#0", "B E5 W E7 B G5 W G7 B C7 W C3"),
            ("#8", "B E5 W E7 B C7 W C5 B C6"),
            ("#9", "B E5 W E7 B C7 W C5 B C6"),
            (" #11 ", "B E5 W E7 B C7 W C5 B D5 W D6 B C6"),
        ],
    )
    def test_are_named_by_branches_or_by_a_node(self, name: str, moves: str) -> None:
        assert played(read(FORKED), name) == moves

    def test_are_listed_with_their_names(self) -> None:
        record = read(FORKED)
        listed = record.variations()
        assert [(v.name, v.after_move, v.first_move, v.moves) for v in listed] == [
            ("1.2", 4, "B C3", 1),
            ("2", 2, "B C7", 3),
            ("2.2", 4, "B D5", 3),
            ("2.3", 4, "B B5", 1),
        ]
        assert listed[0].comment == "the other corner"
        for variation in listed:
            assert variation.node in record.line(variation.name).nodes
            assert record.line(f"#{variation.node}").moves == record.line(variation.name).moves

    def test_are_listed_up_to_a_number(self) -> None:
        assert len(read(FORKED).variations(2)) == 2

    def test_without_a_move_are_listed_too(self) -> None:
        record = read("(;SZ[9];B[aa](;W[bb])(;C[x])(;W[zz]))")
        assert [v.first_move for v in record.variations()] == [None, "W off the board"]

    @pytest.mark.parametrize(
        ("name", "accepted"),
        [
            ("3", "branch 1 to 2 at this fork"),
            ("0", "branch 1 to 2 at this fork"),
            ("1.3", "branch 1 to 2 at this fork"),
            ("1.1.1", "at most 2 numbers"),
            ("2.1.1.1", "at most 2 numbers"),
            ("x", '"main"'),
            ("1..2", '"main"'),
            ("-1", '"main"'),
            ("#99", "#0 to #14"),
            ("#", "#0 to #14"),
            ("#²", "#0 to #14"),
        ],
    )
    def test_missing_variations_are_rejected(self, name: str, accepted: str) -> None:
        with pytest.raises(Invalid) as caught:
            read(FORKED).line(name)
        assert (caught.value.code, caught.value.field) == ("invalid_variation", "variation")
        assert accepted in str(caught.value.accepted)


class TestPosition:
    def test_is_what_the_engine_accepts(self) -> None:
        checked = check(read(FORKED).position(3, "2"))
        assert checked.moves == (("B", "E5"), ("W", "E7"), ("B", "C7"))
        assert (checked.rules_name, checked.komi, checked.width) == ("chinese", 7, 9)

    def test_default_is_the_end_of_the_line(self) -> None:
        assert len(read(FORKED).position().moves) == 6

    @pytest.mark.parametrize("number", [-1, 7])
    def test_missing_move_number_is_rejected(self, number: int) -> None:
        with pytest.raises(Invalid) as caught:
            read(FORKED).position(number)
        assert caught.value.code == "invalid_move_number"
        assert "to 6" in str(caught.value.accepted)


@pytest.mark.skipif(not SHARED.is_dir(), reason=f"{SHARED} is not here")
class TestSharedGames:
    @pytest.mark.parametrize(
        ("name", "moves", "end"),
        [
            ("9x9_endgame.sgf", 27, "'fj' is not a point of the 9x9 board"),
            ("ogs-76393597.sgf", 227, None),
            ("simple_opening.sgf", 8, None),
        ],
    )
    def test_are_read(self, name: str, moves: int, end: str | None) -> None:
        line = read((SHARED / name).read_bytes()).main
        assert len(check(line.position()).moves) == moves
        assert [end in warning for warning in line.warnings if end] == ([True] if end else [])


def test_setup_stones_without_liberties_are_rejected_with_line_and_column() -> None:
    with pytest.raises(Unreadable) as caught:
        read("(;SZ[9]RU[Chinese]KM[7]\n;AB[aa]AW[ba][ab];B[ee])").position()
    assert (caught.value.code, caught.value.field) == ("invalid_stone", "sgf")
    assert caught.value.message == "line 2 column 1: the stone at A9 has no liberty"


def test_line_ends_before_an_invalid_setup() -> None:
    record = read("(;SZ[9]RU[Chinese]KM[7];B[ee];W[cc];AB[aa]AW[ba][ab];B[gg])")
    assert played(record) == "B E5 W C7"
    assert "read only up to move 2: line 1 column 36: the stone at A9 has no liberty" in str(
        record.main.warnings
    )
    assert check(record.position()).stones == ()


def test_error_about_a_move_after_an_early_end_of_the_line_gives_the_reason() -> None:
    with pytest.raises(Invalid) as caught:
        read("(;SZ[9]RU[Chinese]KM[7];B[ee];W[ee];B[cc])").position(3)
    assert caught.value.code == "invalid_move_number"
    assert "line 1 column 30: W E5: the point is occupied" in caught.value.message
