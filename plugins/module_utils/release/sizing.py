"""Sizes the engine for a host: threads, batches and caches, from its processors and memory."""

from __future__ import annotations

import math
from dataclasses import dataclass

# An entry of the neural-net cache holds the policy of a 19x19 board, about 1.5 kB, or about 3 kB together
# with its ownership map (KataGo's analysis_example.cfg, nnCacheSizePowerOfTwo).
_CACHE_ENTRY_BYTES = 3072
_CACHE_SHARE_OF_MEMORY = 0.10
_CACHE_POWER = range(14, 24)
# Memory of the engine and the server: measured 190 MB and 70 MB with the smallest network. Weights are
# held about four times over (host, device, workspace).
_BASE_MEMORY_MB = 400
_COPIES_OF_NETWORK = 4


@dataclass(frozen=True)
class Sizing:
    """Values for analysis.cfg, under KataGo's own names in snake case."""

    num_analysis_threads: int
    num_search_threads_per_analysis_thread: int
    nn_max_batch_size: int
    nn_cache_size_power_of_two: int


def size(*, processors: int, memory_mb: int, gpu: bool) -> Sizing:
    """Size the engine for a host with `processors` (1 or more) and `memory_mb` (MB).

    On a CPU a single query uses every core, so few queries run at once. On a GPU many searches at once
    fill the batches.
    """
    analysis = 16 if gpu else max(1, min(4, processors))
    search = 8 if gpu else max(1, processors // analysis)
    entries = memory_mb * (1 << 20) * _CACHE_SHARE_OF_MEMORY / _CACHE_ENTRY_BYTES
    power = max(_CACHE_POWER.start, min(_CACHE_POWER.stop - 1, int(math.log2(max(entries, 1)))))
    return Sizing(
        num_analysis_threads=analysis,
        num_search_threads_per_analysis_thread=search,
        nn_max_batch_size=min(256, max(8, analysis * search)),
        nn_cache_size_power_of_two=power,
    )


def memory_needed_mb(network_bytes: int) -> int:
    """Memory (MB) for the server and an engine; `network_bytes` is the size of the compressed network."""
    return _BASE_MEMORY_MB + _COPIES_OF_NETWORK * math.ceil(network_bytes / (1 << 20))
