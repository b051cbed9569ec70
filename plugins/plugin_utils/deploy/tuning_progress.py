"""The progress of KataGo's OpenCL tuner, computed from its log lines, and an estimate of the time left."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

# The tuner's steps in order (tuner.cpp, v1.18.1), named as in its log lines, with their shares of the work.
# The shares were measured on a CPU, which skips steps that need 16-bit arithmetic.
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
# Below this share, there is no estimate.
LEAST_SHARE = 0.03

_BEGINS = re.compile(r"(?:\S+ \S+: )?Tuning (?P<what>[A-Za-z].+)")
_AT = re.compile(r"(?:\S+ \S+: )?Tuning (?P<done>\d+)/(?P<all>\d+)")


@dataclass(frozen=True)
class Progress:
    """The current step, counted from 1, its name, and the finished share of the work, 0 to 1."""

    step: int
    name: str
    share: float

    def sentence(self, elapsed: float, since: float = 0) -> str:
        """The progress as a sentence, with an estimate of the time left.

        `elapsed`: seconds from the start to the last progress line. `since`: seconds since that line.
        """
        text = f"tuning, kernel {self.step} of {len(STEPS)} ({self.name}), {100 * self.share:.0f} %"
        if self.share < LEAST_SHARE:
            return text
        remaining = elapsed * (1 - self.share) / self.share - since
        return f"{text}, about {span(max(0.0, remaining))} left"


def of_lines(lines: Sequence[str]) -> Progress | None:
    """The tuner's progress, computed from its log lines; None before its first step."""
    step, inside, is_known = -1, 0.0, True
    for line in lines:
        if (match := _AT.match(line)) and is_known:
            inside = int(match["done"]) / max(1, int(match["all"]))
        elif match := _BEGINS.match(line):
            # Some names start with the name of an earlier step, so the last match counts.
            indexes = [index for index, (name, _) in enumerate(STEPS) if match["what"].startswith(name)]
            is_known = bool(indexes) and indexes[-1] >= step
            # Another version may have unknown steps. The last known step is then finished.
            step, inside = (indexes[-1], 0.0) if is_known else (step, 1.0)
    if step < 0:
        return None
    done = sum(weight for _, weight in STEPS[:step]) + inside * STEPS[step][1]
    name = STEPS[step][0].removesuffix(" for").replace(" for convolutions - trying with", ",")
    name = name.removesuffix(" for convolutions")
    return Progress(step + 1, name, done / sum(weight for _, weight in STEPS))


def span(seconds: float) -> str:
    """A rounded duration for people."""
    if seconds < 100:
        return f"{max(10, round(seconds / 10) * 10):d} s"
    return f"{round(seconds / 60):d} min"
