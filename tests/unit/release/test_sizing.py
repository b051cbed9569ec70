"""Sizes grow with the host and stay within what the engine accepts."""

from hypothesis import given
from hypothesis import strategies as st

from ansible_collections.katago.fleet.plugins.module_utils.release import sizing


@given(st.integers(1, 512), st.integers(512, 1 << 21), st.booleans())
def test_sizes_stay_within_bounds(processors: int, memory_mb: int, gpu: bool) -> None:
    size = sizing.size(processors=processors, memory_mb=memory_mb, gpu=gpu)
    assert size.num_analysis_threads >= 1
    assert size.num_search_threads_per_analysis_thread >= 1
    assert 8 <= size.nn_max_batch_size <= 256
    entries = 2**size.nn_cache_size_power_of_two
    assert 14 <= size.nn_cache_size_power_of_two <= 23
    assert size.nn_cache_size_power_of_two == 14 or entries * 3072 <= memory_mb * (1 << 20) / 10


def test_engine_uses_every_core_of_a_cpu_host_and_no_more() -> None:
    size = sizing.size(processors=8, memory_mb=16384, gpu=False)
    assert size.num_analysis_threads * size.num_search_threads_per_analysis_thread == 8


def test_larger_network_needs_more_memory() -> None:
    assert sizing.memory_needed_mb(400 << 20) > sizing.memory_needed_mb(4 << 20)
