"""Property tests of the SGF reader: round trips, comparison with other readers, and noise."""

import contextlib
import random
import re
import string
from collections.abc import Callable

import pytest
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st
from pysgf import GoGame
from sgfmill import sgf as sgfmill

from katago_mcp.positions import Board, Colour, IllegalMove, Point, check, vertex
from katago_mcp.sgf import Limits, Record, Unreadable, read
from sgf_text import Tree, write
from support import expect_linear_time

IDENTIFIERS = st.sampled_from(
    ["C", "N", "B", "W", "AB", "AW", "AE", "PL", "KM", "HA", "RU", "SZ", "XYZ", "GN"]
)
VALUES = st.text(
    st.characters(codec="utf-8", exclude_characters="\r\n\t\v\f\x00\x1c\x1d\x1e\x85"), max_size=8
)


@st.composite
def trees(draw: st.DrawFn) -> Tree:
    """Trees of up to 40 nodes, each attached to an earlier node."""
    nodes = [Tree()]
    for _ in range(draw(st.integers(0, 39))):
        child = Tree(draw(st.dictionaries(IDENTIFIERS, st.lists(VALUES, min_size=1, max_size=3), max_size=3)))
        nodes[draw(st.integers(0, len(nodes) - 1))].children.append(child)
        nodes.append(child)
    return nodes[0]


def blanked(text: str) -> str:
    """A text without line breaks as the reader returns it: all white space becomes spaces."""
    return "".join(" " if character.isspace() else character for character in text)


def same(record: Record, root: Tree) -> bool:
    pending = [(0, root)]
    while pending:
        index, tree = pending.pop()
        node = record.nodes[index]
        for identifier, values in tree.properties.items():
            assert len(node.properties[identifier]) == len(values)
            assert node.text(identifier) == blanked(values[0])
        assert set(node.properties) == set(tree.properties)
        assert len(node.children) == len(tree.children)
        pending += zip(node.children, tree.children, strict=True)
    return True


@given(trees())
def test_written_records_are_read_back(root: Tree) -> None:
    assert same(read(write(root)), root)


@given(trees(), st.data())
def test_every_variation_listed_is_a_line(root: Tree, data: st.DataObject) -> None:
    record = read(write(root))
    for variation in record.variations():
        line = record.line(variation.name)
        assert variation.node in line.nodes
        assert line.nodes == record.line(f"#{variation.node}").nodes
        assert record.nodes[line.nodes[-1]].moves == variation.after_move + variation.moves


def game(seed: int, width: int, height: int, length: int) -> tuple[list[tuple[Colour, Point | None]], Board]:
    """A random game of legal moves, with captures and passes, and its last board."""
    dice = random.Random(seed)
    board = Board(width, height)
    moves: list[tuple[Colour, Point | None]] = []
    colour: Colour = "B"
    for _ in range(length):
        point = None if dice.random() < 0.02 else (dice.randrange(width), dice.randrange(height))
        try:
            board.play(colour, point)
        except IllegalMove:
            continue
        moves.append((colour, point))
        colour = "W" if colour == "B" else "B"
    return moves, board


def sgf_of(moves: list[tuple[Colour, Point | None]], width: int, height: int) -> str:
    letters = string.ascii_lowercase
    nodes = (
        f";{colour}[{letters[point[0]] + letters[height - 1 - point[1]] if point else ''}]"
        for colour, point in moves
    )
    return f"(;GM[1]FF[4]SZ[{width}:{height}]RU[Japanese]KM[6.5]{''.join(nodes)})"


@settings(max_examples=40)
@given(st.integers(0, 2**32), st.integers(2, 19), st.integers(2, 19))
def test_a_game_of_legal_moves_is_read_to_its_end(seed: int, width: int, height: int) -> None:
    moves, _ = game(seed, width, height, 200)
    record = read(sgf_of(moves, width, height))
    assert record.main.warnings == ()
    assert check(record.position()).moves == tuple((colour, vertex(point)) for colour, point in moves)


@settings(max_examples=40)
@given(st.integers(0, 2**32), st.integers(2, 19), st.integers(2, 19), st.integers(0, 100))
def test_empty_setup_keeps_the_stones(seed: int, width: int, height: int, at: int) -> None:
    """AE on an empty point starts a new history on the same board."""
    moves, _ = game(seed, width, height, 100)
    at = min(at, len(moves))
    board = Board(width, height)
    for colour, point in moves[:at]:
        board.play(colour, point)
    empty = next((x, y) for x in range(width) for y in range(height) if (x, y) not in board.stones)
    letters = string.ascii_lowercase
    head = sgf_of(moves[:at], width, height)[:-1]
    record = read(f"{head};AE[{letters[empty[0]]}{letters[height - 1 - empty[1]]}])")
    position = record.position()
    assert set(position.initial_stones) == {(colour, vertex(point)) for point, colour in board.stones.items()}
    assert position.moves == []


@settings(max_examples=100)
@given(st.integers(0, 2**32), st.data())
def test_of_a_file_cut_anywhere_all_complete_moves_are_read(seed: int, data: st.DataObject) -> None:
    moves, _ = game(seed, 9, 9, 30)
    text = sgf_of(moves, 9, 9).replace(";W", "C[a (b) [c\\]; d];W").replace("RU[", "PB[x]RU[")
    cut = text[: data.draw(st.integers(text.index("KM"), len(text)))]
    record = read(cut)
    complete = len(re.findall(r";[BW]\[[a-z]*\]", cut))
    assert [(move.colour, move.vertex) for move in record.main.moves] == [
        (colour, vertex(point)) for colour, point in moves[:complete]
    ]
    rest = re.sub(r"\[(?:[^\]\\]|\\.)*\]", "[]", cut).rpartition("[]")[2]
    assert record.partial == (rest not in ("", ";", ")"))
    if record.partial:
        assert any("is left out" in warning for warning in record.warnings)


class TestOracles:
    @settings(max_examples=30)
    @given(st.integers(0, 2**32), st.sampled_from([9, 13, 19]))
    def test_sgfmill_reads_the_same_game(self, seed: int, size: int) -> None:
        text = sgf_of(game(seed, size, size, 150)[0], size, size).replace(f"{size}:{size}", str(size))
        theirs = sgfmill.Sgf_game.from_bytes(text.encode())
        nodes = [node.get_move() for node in theirs.get_main_sequence()[1:]]
        moves = [(c.upper(), vertex((p[1], p[0]) if p else None)) for c, p in nodes]
        record = read(text)
        assert [(move.colour, move.vertex) for move in record.main.moves] == moves
        assert (record.komi, record.width) == (theirs.get_komi(), theirs.get_size())

    @settings(max_examples=30)
    @given(st.integers(0, 2**32), st.integers(2, 19), st.integers(2, 19))
    def test_pysgf_reads_the_same_game(self, seed: int, width: int, height: int) -> None:
        text = sgf_of(game(seed, width, height, 60)[0], width, height)
        node = GoGame.parse_sgf(text)
        moves = []
        while node.children:
            node = node.children[0]
            moves.append((node.move.player, node.move.gtp()))
        assert [(move.colour, move.vertex) for move in read(text).main.moves] == moves

    @given(trees())
    def test_sgfmill_reads_the_same_tree(self, root: Tree) -> None:
        text = write(root)
        theirs = sgfmill.Sgf_game.from_string("(;CA[UTF-8]SZ[19]" + text[2:])
        nodes = read(text).nodes
        pending = [(theirs.get_root(), nodes[0])]
        while pending:
            their, our = pending.pop()
            assert len(their) == len(our.children)
            if len(our.properties.get("C", ())) == 1:
                # sgfmill does not convert rarer white space.
                assert blanked(their.get("C")) == our.text("C")
            pending += zip(their, (nodes[child] for child in our.children), strict=True)

    def test_sgfmill_agrees_on_setups(self) -> None:
        text = "(;FF[4]SZ[9]AB[aa:cc][ee]AW[gg:hi]AE[bb];AE[aa]AW[ab])"
        theirs = sgfmill.Sgf_game.from_string(text)
        black, white, empty = theirs.get_root().get_setup_stones()
        ours = read("(;FF[4]SZ[9]AB[aa:cc][ee]AW[gg:hi]AE[bb])").position().initial_stones
        assert set(ours) == {("B", vertex((c, r))) for r, c in black - empty} | {
            ("W", vertex((c, r))) for r, c in white
        }


CHARSETS = {
    "gb18030": "GB18030",
    "big5": "Big5",
    "shift_jis": "Shift_JIS",
    "euc_kr": "EUC-KR",
    "utf-8": "UTF-8",
}
UNSTABLE = "\xa5\u203e\u3164"
"""Characters that some codecs do not read back."""

PLACES = (
    "(;GM[1]{ca}SZ[19]KM[6.5]RU[Japanese]PB[@];B[pd];W[dd](;B[pp];W[dp])(;B[qq]))",
    "(;GM[1]{ca}SZ[19]PB[@]KM[6.5]RU[Japanese];B[pd];W[dd](;B[pp];W[dp])(;B[qq]))",
    "(;GM[1]{ca}SZ[19]KM[6.5]RU[Japanese];B[pd]C[@]N[x];W[dd](;B[pp];W[dp])(;B[qq]))",
    "(;GM[1]{ca}SZ[19]KM[6.5]RU[Japanese];B[pd];W[dd]C[@](;B[pp];W[dp])(;B[qq]))",
    "(;GM[1]{ca}SZ[19]KM[6.5]RU[Japanese];B[pd];W[dd](;B[pp];W[dp]C[@])(;B[qq]))",
    "(;GM[1]{ca}SZ[19]KM[6.5]RU[Japanese];B[pd];W[dd](;B[pp];W[dp])(;B[qq]C[@]))",
)
"""A record with the place of a damaged value."""


@st.composite
def damaged(draw: st.DrawFn) -> tuple[bytes, str]:
    """A record with a value that is cut at any byte, or lacks one byte, and the charset."""
    charset = draw(st.sampled_from(sorted(CHARSETS)))
    text = draw(
        st.text(
            st.characters(codec=charset, min_codepoint=0x80, exclude_characters=UNSTABLE),
            min_size=1,
            max_size=12,
        )
    )
    text = draw(st.sampled_from(["", "a", "(1) "])) + text
    value = text.replace("\\", "\\\\").replace("]", "\\]").encode(charset)
    at = draw(st.integers(0, len(value)))
    cut = value[:at] if draw(st.booleans()) else value[: max(0, at - 1)] + value[at:]
    declared = f"CA[{CHARSETS[charset]}]" if draw(st.booleans()) else ""
    record = draw(st.sampled_from(PLACES)).format(ca=declared).encode()
    return record.replace(b"@", cut), charset


@settings(max_examples=1000)
@given(damaged())
@example(
    (PLACES[3].format(ca="CA[gb2312]").encode().replace(b"@", "好形状".encode("gb2312") + b"\xb5"), "gb18030")
)
@example((PLACES[3].format(ca="CA[Big5]").encode().replace(b"@", "許功".encode("big5")), "big5"))
@example(
    (PLACES[0].format(ca="CA[Shift_JIS]").encode().replace(b"@", "ソ表".encode("shift_jis")), "shift_jis")
)
def test_damaged_text_never_costs_a_move(record_and_charset: tuple[bytes, str]) -> None:
    data, _ = record_and_charset
    record = read(data)
    moves = [(move.colour, move.vertex) for move in record.main.moves]
    assert moves == [("B", "Q16"), ("W", "D16"), ("B", "Q4"), ("W", "D4")]
    assert len(record.line("2").moves) == 3
    assert (record.komi, record.rules) == (6.5, "japanese")


@settings(max_examples=300)
@given(st.sampled_from(sorted(CHARSETS)), st.data())
def test_a_warning_names_text_that_is_cut_inside_a_character(charset: str, data: st.DataObject) -> None:
    text = data.draw(
        st.text(
            st.characters(
                codec=charset, min_codepoint=0x3041, max_codepoint=0xD7A3, exclude_characters=UNSTABLE
            ),
            min_size=4,
        )
    )
    last = text[-1].encode(charset)
    assume(len(last) <= 4)  # EUC-KR spells rare syllables with four characters of two bytes.
    cut = text[:-1].encode(charset) + last[: data.draw(st.integers(1, len(last) - 1))]
    for place in PLACES:
        record = read(place.format(ca=f"CA[{CHARSETS[charset]}]").encode().replace(b"@", cut))
        name = "PB" if "PB[@]" in place else "C"
        assert any(f"the text of {name} is damaged" in warning for warning in record.warnings)


SEEDS = [
    b"(;GM[1]FF[4]CA[UTF-8]SZ[9:13]KM[3.75]HA[2]AB[aa:cc]AW[dd]PL[W];B[ee]C[a\\]b];W[](;B[tt])(;W[ff]))",
    "(;CA[GB2312]PB[柯洁]KM[375]AP[foxwq];AddBlack[aa])".encode("gb2312"),
    "(;PB[小林光一]RU[日本])".encode("shift_jis"),
    b"junk (;SZ[19](;B[aa](;W[bb](;B[cc",
    b"(\nTE[x]\nKO[6.5]\nHD[3]\n;W[dd]C[see [1] here];B[pp;W[pd])",
    "(;CA[Big5]HA[2]RU[Japanese rules (1989)]C[許功".encode("big5") + b"\xb5];W[pd])(;B[aa])",
]


def mutated(seed: bytes, dice: random.Random) -> bytes:
    data = bytearray(seed)
    for _ in range(dice.randint(1, 8)):
        at = dice.randrange(len(data) + 1)
        kind = dice.randrange(4)
        if kind == 0:
            data[at : at + dice.randint(0, 5)] = b""
        elif kind == 1:
            data[at:at] = dice.choice([b"(", b")", b"[", b"]", b";", b"\\", b":", b"AB[zz:aa]", b"PL[B]"])
        elif kind == 2:
            data[at : at + 1] = bytes([dice.randrange(256)])
        else:
            data[at:at] = data[: dice.randrange(len(data) + 1)][:200]
    return bytes(data)


def survives(data: bytes | str) -> None:
    try:
        record = read(data)
    except Unreadable as error:
        assert error.line >= 1 and error.column >= 1
        assert error.accepted
        return
    for name in ("main", *(variation.name for variation in record.variations(5))):
        try:
            line = record.line(name)
        except Unreadable as error:
            # Only setup stones without liberties before the first move leave no position.
            assert error.code == "invalid_stone"
            continue
        for number in range(len(line.moves) + 1):
            check(line.position(number))
        assert [move for history in line.histories() for move in check(history).moves] == [
            (move.colour, move.vertex) for move in line.moves
        ]


@given(st.binary(max_size=200))
@example(b"\\" * 50)
@example(b"(;C[\\")
def test_noise_is_read_or_rejected(data: bytes) -> None:
    survives(data)
    survives(b"(;" + data + b")")


@given(st.text(st.sampled_from(list("();[]\\:BWAEaett \n")), max_size=60))
def test_noise_of_sgf_characters_is_read_or_rejected(text: str) -> None:
    survives(text)
    survives("(;SZ[9]" + text)


@pytest.mark.parametrize("seed", range(400))
def test_mutated_records_are_read_or_rejected(seed: int) -> None:
    dice = random.Random(seed)
    survives(mutated(dice.choice(SEEDS), dice))


@pytest.mark.parametrize(
    ("pieces", "text"),
    [
        (2_000_000, lambda n: "(" * n),
        (4_000_000, lambda n: "(;" + " " * n),
        (2_000_000, lambda n: "( " * n),
        (1_500_000, lambda n: "(;C" + "[]" * n),
        (1_000_000, lambda n: "(;" + "C[]" * n),
        (2_000_000, lambda n: "(;C[" + "\\]" * n),
        (4_000_000, lambda n: "(;C[" + "x" * n),
        (400_000, lambda n: "(;SZ[19]" + "AB[aa:ss]" * n + ")"),
        (40_000, lambda n: "(;SZ[19]" + ";AB[aa:ss]" * n + ")"),
        (2_000, lambda n: "(;SZ[19]" + ";AB[aa]W[]" * n + ")"),
        (900, lambda n: "(;" + "B[aa]W[bb]" * n + ")"),
        (1_999, lambda n: "(;" + ";B[aa]AW[zz]PL[x]" * n),
        (4_000_000, lambda n: "(;" + "\n" * n + "?"),
        (1_000_000, lambda n: "(;KM[" + "9" * n + "]HA[" + "9" * n + "]RU[" + "9" * n + "])"),
        (1_000_000, lambda n: "(;SZ[" + "1" * n + "])"),
        (4_000_000, lambda n: "(;C[" + "]" * n),
        (1_300_000, lambda n: "(;C[" + "] x" * n),
        (1_300_000, lambda n: "(;C[" + "]) " * n + ";B[aa])"),
        (200_000, lambda n: "(;" + "C[a]x " * n),
        (200_000, lambda n: "(;" + "C[a]x;" * n),
        (300_000, lambda n: "(;PB[" + "PW[" * n + "])"),
        (1_000_000, lambda n: "(;C[" + "((" * n + "[" + ")" * n + "])"),
        (200_000, lambda n: "(;SZ[9])" * n),
        (1_900_000, lambda n: b"(;CA[gb18030]C[" + b"\xb5]" * n),
        (1_300_000, lambda n: b"(;CA[gb18030]C[" + b"\xb5] " * n),
        (4_000_000, lambda n: b"(;CA[Big5]C[" + b"\x81" * n),
        (200_000, lambda n: b"(;CA[Shift_JIS]" + b"C[\x95]" * n),
    ],
    ids=lambda value: repr(value(2)[:16]) if callable(value) else "",
)
def test_any_input_is_read_in_time_that_grows_with_its_length(
    pieces: int, text: Callable[[int], str | bytes]
) -> None:
    def attempt(count: int) -> None:
        with contextlib.suppress(Unreadable):
            assert read(text(count)).main.record.nodes

    expect_linear_time(attempt, pieces)


def test_the_names_of_deep_variations_are_listed_in_time_that_grows_with_their_number() -> None:
    def names(depth: int) -> None:
        text = "(;SZ[9]" + "(;C[x])(;C[y]" * depth + ")" * depth + ")"
        assert len(read(text, Limits()).variations()) == 100

    expect_linear_time(names, 4000)
