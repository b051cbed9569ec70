"""How far KataGo's OpenCL tuner is, by the lines that it writes, and about how long it will still take."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

# The steps of the tuner in their order (tuner.cpp, v1.18.1), by what its lines call them, each with its share
# of the work: measured on a processor, which skips what needs 16-bit arithmetic.
STEPS: tuple[tuple[str, float], ...] = (
    ("xGemmDirect for", 40),
    ("xGemm for convolutions", 16),
    ("hGemmWmma for", 3),
    ("hGemmWmmaNCHW for", 2),
    ("xGemm for convolutions - trying with FP16", 3),
    ("winograd transform", 5),
    ("winograd untransform", 11),
    ("global pooling", 15),
    ("pointWise", 1),
    ("addChannelBiasesNCHW", 1),
    ("spatialRMSNorm", 3),
)
# Too little to tell from.
LEAST_SHARE = 0.03

_BEGINS = re.compile(r"(?:\S+ \S+: )?Tuning (?P<what>[A-Za-z].+)")
_AT = re.compile(r"(?:\S+ \S+: )?Tuning (?P<done>\d+)/(?P<all>\d+)")


@dataclass(frozen=True)
class Progress:
    """Which step it is at, counted from 1, and its name; how much of the work is done, 0 to 1."""

    step: int
    name: str
    share: float

    def sentence(self, elapsed: float, since: float = 0) -> str:
        """For people: how far it is, and about how long it will still take.

        `elapsed`: seconds until the line that says how far it is; `since`: seconds since then.
        """
        words = f"tuning, kernel {self.step} of {len(STEPS)} ({self.name}), {100 * self.share:.0f} %"
        if self.share < LEAST_SHARE:
            return words
        left = elapsed * (1 - self.share) / self.share - since
        return f"{words}, about {span(max(0.0, left))} left"


def of_lines(lines: Sequence[str]) -> Progress | None:
    """How far the tuner is by its lines; None before its first step."""
    step, inside, is_known = -1, 0.0, True
    for line in lines:
        if (found := _AT.match(line)) and is_known:
            inside = int(found["done"]) / max(1, int(found["all"]))
        elif found := _BEGINS.match(line):
            # The names of some begin with those of others, which come before.
            named = [index for index, (name, _) in enumerate(STEPS) if found["what"].startswith(name)]
            is_known = bool(named) and named[-1] >= step
            # Another version may have steps of its own; the last one that is known is over then.
            step, inside = (named[-1], 0.0) if is_known else (step, 1.0)
    if step < 0:
        return None
    done = sum(weight for _, weight in STEPS[:step]) + inside * STEPS[step][1]
    name = STEPS[step][0].removesuffix(" for").replace(" for convolutions - trying with", ",")
    name = name.removesuffix(" for convolutions")
    return Progress(step + 1, name, done / sum(weight for _, weight in STEPS))


def span(seconds: float) -> str:
    """A time for people, no more exact than an estimate is."""
    if seconds < 100:
        return f"{max(10, round(seconds / 10) * 10):d} s"
    return f"{round(seconds / 60):d} min"
