"""Coverage-guided fuzzing of the SGF reader: it must play what it reads, and reject the rest with a code.

    bin/test fuzz
    PYTHONPATH=.lab/fuzz/lib python server/tests/fuzz/sgf.py [libFuzzer's options] [a directory for a corpus]

Without options, it runs for one minute. It starts with the records of the tests, and stops at the first
record that violates the property of test_sgf_properties. It writes that record to a file `crash-*`.
"""

import sys
import tempfile
from pathlib import Path

import atheris

TESTS = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(TESTS.parent / "src"), str(TESTS)]

INSTRUMENTED = ("sgf", "sgftree", "charsets", "gameinfo", "komi", "lines", "numerals", "rules")
with atheris.instrument_imports(include=[f"katago_mcp.{module}" for module in INSTRUMENTED]):
    from test_sgf_properties import SEEDS, survives

MAX_BYTES = 600
"""Every position of a record is checked, so long records are slow and show nothing new."""


def main() -> None:
    """Fuzz with the options of the command line."""
    options = sys.argv[1:]
    if not any(option.startswith(("-max_total_time", "-runs")) for option in options):
        options.append("-max_total_time=60")
    games = TESTS.parents[2] / "shared" / "games"
    with tempfile.TemporaryDirectory() as seeds:
        records = [*SEEDS, *(path.read_bytes() for path in games.glob("*.sgf"))]
        for number, seed in enumerate(records):
            (Path(seeds) / str(number)).write_bytes(seed)
        corpus = [] if any(not option.startswith("-") for option in options) else [seeds]
        atheris.Setup(
            [sys.argv[0], f"-max_len={MAX_BYTES}", "-timeout=10", *options, *corpus, seeds], survives
        )
        atheris.Fuzz()


if __name__ == "__main__":
    main()
