"""The lint of retired terms: it finds them in text that people read, and nowhere else."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests import glossary

ROOT = Path(__file__).resolve().parents[2]
TABLES = """\
# Glossary

| Term | Meaning | Retired |
|---|---|---|
| water pump | moves water | `pump`, `old squirter`; tap |
| valve | | `flap` |

## Exceptions

| Word | Files | Why |
|---|---|---|
| `flap` | birds/* | wings |
"""


def problems(content: str, path: str = "docs/page.md") -> list[str]:
    return list(glossary.read(TABLES).problems([(path, content)]))


def test_retired_term_is_reported_with_file_line_and_the_term_to_use() -> None:
    assert problems("The\nflap is open.\n") == ["docs/page.md:2: 'flap' is retired, use 'valve'"]


def test_term_to_use_may_contain_the_retired_one() -> None:
    assert problems("The water pump runs. A water\npump runs.") == []
    assert len(problems("The water pump runs, the Pump stops.")) == 1


def test_word_without_backquotes_is_not_checked() -> None:
    assert problems("The tap drips.") == []


@pytest.mark.parametrize(
    "text", ["`flap`", "'flap'", "C(flap)", "open_flap", "/run/flap", "--flap", "flap.yml", "flapping"]
)
def test_names_and_values_are_not_checked(text: str) -> None:
    assert problems(f"See {text} here.") == []


@pytest.mark.parametrize(
    ("content", "line"),
    [
        ('"""One.\n\nThe flap opens.\n"""\n', 3),
        ("x = 1\n# the flap opens\n", 2),
        ('x = "the flap opens"\n', 1),
        ('x = f"{1} flap opens"\n', 1),
        ('x = (\n    "an old "\n    "squirter is here"\n)\n', 2),
    ],
)
def test_comments_docstrings_and_messages_of_python_are_checked(content: str, line: int) -> None:
    assert [problem.split(": ")[0] for problem in problems(content, "a.py")] == [f"a.py:{line}"]


@pytest.mark.parametrize("content", ["flap = 1\n", 'x = {"flap": 1}\n', 'x = f"in {flap} now"\n'])
def test_code_of_python_is_not_checked(content: str) -> None:
    assert problems(content, "a.py") == []


def test_phrase_is_found_across_lines_of_a_comment() -> None:
    assert problems("# an old\n# squirter\n", "a.yml") == [
        "a.yml:1: 'old squirter' is retired, use 'water pump'"
    ]


def test_exception_allows_the_word_in_its_files_only() -> None:
    assert problems("They flap.", "birds/swan.md") == []
    assert len(problems("They flap.", "plants/oak.md")) == 1


def test_exception_that_is_not_needed_is_reported() -> None:
    (problem,) = problems("They sing.", "birds/swan.md")
    assert "the exception of 'flap' in birds/* is not needed" in problem


def test_exception_of_a_word_that_is_not_retired_is_an_error() -> None:
    with pytest.raises(ValueError, match="exception for 'wing', which is not retired"):
        glossary.read(TABLES + "| `wing` | birds/* | wings |\n")


def test_glossary_without_tables_is_an_error() -> None:
    with pytest.raises(ValueError, match="needs a table"):
        glossary.read("# Glossary\n")


def test_planted_term_fails_the_lint(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    retired = glossary.read((ROOT / glossary.GLOSSARY).read_text()).retired
    page = tmp_path / "page.md"
    page.write_text("Nothing to report.\n")
    assert glossary.main([str(page)]) == 0
    page.write_text(f"It has a {retired[0].phrase}.\n")
    assert glossary.main([str(page)]) == 1
    assert f"{page}:1: {retired[0].phrase!r} is retired" in capsys.readouterr().out


def test_glossary_fits_on_a_page() -> None:
    assert len((ROOT / glossary.GLOSSARY).read_text().splitlines()) <= 70
