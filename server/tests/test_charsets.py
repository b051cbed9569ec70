"""Detection of the charset of a record."""

import codecs

import pytest
from hypothesis import given
from hypothesis import strategies as st

from katago_mcp.charsets import decode
from katago_mcp.sgf import read
from support import expect_linear_time

CHINESE = ("柯洁", "第二十八届三星杯世界围棋大师赛决赛")
TRADITIONAL = ("張栩", "臺灣職業圍棋對局紀錄與講解")
JAPANESE = ("井山裕太", "第七十八期 名人戦のタイトル マッチ")
KANJI = ("小林光一", "第十七期名人戦挑戦手合七番勝負")
KOREAN = ("신진서", "제이십팔회 삼성화재배 결승 첫째 판")
GERMAN = ("Jörg Müller", "Über größere Moyos in der Eröffnung")


def record(names: tuple[str, str], declared: str | None = None) -> str:
    charset = f"CA[{declared}]" if declared else ""
    return f"(;GM[1]{charset}PB[{names[0]}]PW[White]GN[{names[1]}];B[pd])"


@pytest.mark.parametrize(
    ("names", "charset"),
    [
        (CHINESE, "gb2312"),
        (CHINESE, "gb18030"),
        (TRADITIONAL, "big5"),
        (JAPANESE, "shift_jis"),
        (JAPANESE, "euc_jp"),
        (JAPANESE, "iso2022_jp"),
        (KANJI, "shift_jis"),
        (KOREAN, "euc_kr"),
        (GERMAN, "iso-8859-1"),
        (GERMAN, "windows-1252"),
    ],
)
class TestLegacy:
    def test_is_read_as_declared(self, names: tuple[str, str], charset: str) -> None:
        text = record(names, charset)
        decoded = decode(text.encode(charset))
        assert (decoded.text, decoded.warning) == (text, None)

    def test_is_recognised_when_none_is_declared(self, names: tuple[str, str], charset: str) -> None:
        if charset == "iso2022_jp":
            pytest.skip("seven-bit text is ASCII unless it says what else")
        text = record(names)
        decoded = decode(text.encode(charset))
        assert decoded.text == text
        assert "no charset is declared" in str(decoded.warning)

    def test_is_recognised_when_utf8_is_declared(self, names: tuple[str, str], charset: str) -> None:
        if charset == "iso2022_jp":
            pytest.skip("seven-bit text is valid UTF-8")
        text = record(names, "UTF-8")
        decoded = decode(text.encode(charset))
        assert decoded.text == text
        assert "CA[UTF-8] does not fit" in str(decoded.warning)


@pytest.mark.parametrize(
    ("mark", "charset"),
    [
        (codecs.BOM_UTF8, "utf-8"),
        (codecs.BOM_UTF16_LE, "utf-16-le"),
        (codecs.BOM_UTF16_BE, "utf-16-be"),
        (codecs.BOM_UTF32_LE, "utf-32-le"),
        (codecs.BOM_UTF32_BE, "utf-32-be"),
    ],
)
def test_a_byte_order_mark_decides(mark: bytes, charset: str) -> None:
    text = record(CHINESE, "GB2312")
    decoded = decode(mark + text.encode(charset))
    assert (decoded.text, decoded.charset) == (text, charset)


@pytest.mark.parametrize("charset", ["utf-16-le", "utf-16-be"])
def test_utf_16_needs_no_mark(charset: str) -> None:
    text = record(JAPANESE)
    assert decode(text.encode(charset)).text == text


@pytest.mark.parametrize("declared", [None, "UTF-8", "utf8"])
def test_utf_8_needs_no_declaration(declared: str | None) -> None:
    decoded = decode(record(KOREAN, declared).encode())
    assert (decoded.charset, decoded.warning) == ("utf-8", None)


def test_utf_8_declared_as_another_charset_gives_a_warning() -> None:
    decoded = decode(record(CHINESE, "GB2312").encode())
    assert decoded.text == record(CHINESE, "GB2312")
    assert decoded.warning == "CA[GB2312] is wrong: the text is UTF-8"


def test_latin_1_that_is_chinese_is_recognised() -> None:
    text = record(CHINESE, "ISO-8859-1")
    assert decode(text.encode("gb2312")).text == text


def test_truncated_character_costs_only_that_character() -> None:
    data = record(CHINESE).encode()
    broken = data.replace("洁".encode(), "洁".encode()[:2])
    decoded = decode(broken)
    assert (decoded.charset, decoded.text.count("\ufffd")) == ("utf-8", 1)
    assert "damaged" in str(decoded.warning)


@pytest.mark.parametrize(
    "name", ["unicode_escape", "hex", "idna", "punycode", "utf-7", "x" * 40, "undefined"]
)
def test_codecs_that_are_not_charsets_are_never_used(name: str) -> None:
    assert decode(f"(;CA[{name}]C[\\u0041+AEE-])".encode()).text == f"(;CA[{name}]C[\\u0041+AEE-])"


def test_undetectable_charset_is_read_with_a_warning() -> None:
    decoded = decode(b"(;C[\x81\x8d\xff\x81\xff\xff\x90\x81])")
    assert decoded.charset == "latin-1"
    assert "not known" in str(decoded.warning)


def test_record_has_a_warning_about_the_assumed_charset() -> None:
    game = read(record(CHINESE).encode("gb2312"))
    assert (game.black.name, game.charset) == ("柯洁", "gb18030")
    assert "gb18030" in game.warnings[0]


@pytest.mark.parametrize("data", [b"\xb0\xa1", b"\xe9 ", b"\x88\xea", "棋\u00e9".encode()[:-1]])
def test_any_input_is_read_in_time_that_grows_with_its_length(data: bytes) -> None:
    def attempt(size: int) -> None:
        assert decode(b"(;C[" + data * (size // len(data)) + b"\xff\xff])").text

    expect_linear_time(attempt, 4_000_000)


@given(
    st.binary(max_size=300),
    st.sampled_from(["", "UTF-8", "GB2312", "Shift_JIS", "EUC-KR", "Big5", "iso-2022-jp", "hz", "latin1"]),
)
def test_any_bytes_are_decoded(noise: bytes, declared: str) -> None:
    assert decode(f"(;CA[{declared}]C[".encode() + noise + b"])").text.startswith("(;")
