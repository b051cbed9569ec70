"""Fails on retired terms of docs/glossary.md in text that people read.

python tests/glossary.py [FILE ...]   checks the files, or all tracked ones; exits 1 when it finds a term

The tables of the glossary are the only list. The first table has retired terms in backquotes in its last
column, and the term to use in its first. The second table has the exceptions: term, files, reason.
"""

from __future__ import annotations

import io
import re
import subprocess
import sys
import tokenize
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
GLOSSARY = "docs/glossary.md"
READ = ("*.md", "*.py", "*.yml", "*.yaml", "*.j2", "*.toml", "*.cfg", "bin/*", ".ci/run")
"""Patterns of files with text that people read."""
GENERATED = ("docs/reference/*", "*/golden/*")

# Between two words of a phrase: a line may end there, also in a comment or between two parts of a string.
_GAP = r"[\s#\"']+"
# A term is no part of a name, a path or an option.
_BEFORE, _AFTER = r"(?<![\w/.$-])", r"(?![\w/(=-]|\.\w)"
# Text that is code: between backquotes or in C(...) of a module's documentation; a single word in quotes.
_CODE = re.compile(r"`[^`\n]+`|\bC\([^)\n]*\)|\"[^\s\"']+\"|'[^\s\"']+'")
_PLACEHOLDER = re.compile(r"\{[^{}\n]*\}")
# Python 3.12 splits an f-string into its parts; earlier versions have no token for them.
_TEXT_TOKENS = {tokenize.COMMENT, tokenize.STRING, getattr(tokenize, "FSTRING_MIDDLE", tokenize.STRING)}


@dataclass(frozen=True)
class Retired:
    """A retired phrase, and the term to use instead."""

    phrase: str
    term: str

    def matches(self, text: str) -> Iterator[int]:
        """Offsets at which the text has the phrase, except within the term itself ("load balancer")."""
        allowed = [match.span() for match in _pattern(self.term).finditer(text)]
        for match in _pattern(self.phrase).finditer(text):
            if not any(start <= match.start() and match.end() <= end for start, end in allowed):
                yield match.start()


@dataclass(frozen=True)
class Allowed:
    """A retired phrase that files of a pattern may have."""

    phrase: str
    files: str


@dataclass(frozen=True)
class Glossary:
    """The retired phrases and the exceptions."""

    retired: tuple[Retired, ...]
    allowed: tuple[Allowed, ...]

    def problems(self, texts: Iterable[tuple[str, str]]) -> Iterator[str]:
        """One line for every retired phrase, and for every exception that no file needs.

        `texts`: pairs of path and content.
        """
        needed: set[Allowed] = set()
        paths: list[str] = []
        for path, content in texts:
            paths.append(path)
            text = readable(path, content)
            found = sorted(
                (offset, retired.phrase, retired.term)
                for retired in self.retired
                for offset in retired.matches(text)
            )
            for offset, phrase, term in found:
                exceptions = [
                    each for each in self.allowed if each.phrase == phrase and fnmatchcase(path, each.files)
                ]
                needed.update(exceptions)
                if not exceptions:
                    line = text.count("\n", 0, offset) + 1
                    yield f"{path}:{line}: {phrase!r} is retired, use {term!r}"
        for each in self.allowed:
            if each not in needed and any(fnmatchcase(path, each.files) for path in paths):
                yield f"{GLOSSARY}: the exception of {each.phrase!r} in {each.files} is not needed, remove it"


def read(text: str) -> Glossary:
    """Read the tables of the glossary.

    Raises:
        ValueError: if a table is missing, or an exception names a phrase that is not retired.
    """
    terms, _, exceptions = text.partition("\n## Exceptions\n")
    retired = tuple(
        Retired(phrase, cells[0])
        for cells in _rows(terms)
        if len(cells) == 3
        for phrase in re.findall(r"`([^`]+)`", cells[2])
    )
    allowed = tuple(
        Allowed(cells[0].strip("`"), cells[1].strip("`")) for cells in _rows(exceptions) if len(cells) == 3
    )
    if not retired or not exceptions:
        raise ValueError(f"{GLOSSARY} needs a table of terms and a table of exceptions")
    phrases = {each.phrase for each in retired}
    for each in allowed:
        if each.phrase not in phrases:
            raise ValueError(f"{GLOSSARY} has an exception for {each.phrase!r}, which is not retired")
    return Glossary(retired, allowed)


def readable(path: str, content: str) -> str:
    """The text of a file that people read, with its lines and columns; blanks replace everything else."""
    if path.endswith(".py"):
        content = _comments_and_strings(content)
    return _blank(_CODE, content)


def files(arguments: Sequence[str]) -> list[str]:
    """The files to check: those of the arguments, or all tracked ones that people read."""
    if arguments:
        return list(arguments)
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=True)
    return [
        path
        for path in listed.stdout.split("\0")
        if any(fnmatchcase(path, pattern) for pattern in READ)
        and not any(fnmatchcase(path, pattern) for pattern in GENERATED)
        and (ROOT / path).is_file()
    ]


def _pattern(phrase: str) -> re.Pattern[str]:
    words = _GAP.join(re.escape(word) for word in phrase.split())
    return re.compile(_BEFORE + words + _AFTER, re.IGNORECASE)


def _rows(text: str) -> Iterator[list[str]]:
    """The cells of every row below the header of a table."""
    below = False
    for line in text.splitlines():
        if not line.startswith("|"):
            below = False
        elif line.startswith("|---"):
            below = True
        elif below:
            yield [cell.strip() for cell in line.strip("|").split("|")]


def _blank(pattern: re.Pattern[str], text: str) -> str:
    return pattern.sub(lambda match: " " * len(match[0]), text)


def _comments_and_strings(source: str) -> str:
    lines = source.splitlines(keepends=True)
    kept = [[character if character in "\r\n" else " " for character in line] for line in lines]
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        # A string of one word is a value that code compares.
        if token.type not in _TEXT_TOKENS or len(token.string.split()) < 2:
            continue
        (row, column), (last_row, last_column) = token.start, token.end
        for number in range(row - 1, last_row):
            start = column if number == row - 1 else 0
            end = last_column if number == last_row - 1 else len(lines[number])
            kept[number][start:end] = lines[number][start:end]
    return _blank(_PLACEHOLDER, "".join("".join(line) for line in kept))


def main(arguments: Sequence[str]) -> int:
    """Print the problems; exit status 1 when there are any."""
    glossary = read((ROOT / GLOSSARY).read_text())
    texts = ((path, (ROOT / path).read_text()) for path in files(arguments))
    problems = list(glossary.problems(texts))
    for problem in problems:
        print(problem)
    if problems:
        print(f"{len(problems)} problems. The terms are in {GLOSSARY}.", file=sys.stderr)
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
