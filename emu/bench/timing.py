"""Times that can be compared: taken in turns, in one process, the best of each."""

import gc
import time
from collections.abc import Callable

SECONDS_ENOUGH = 0.3
"""A timing is repeated until it has taken so long altogether, within these limits:"""

REPETITIONS_MIN, REPETITIONS_MAX = 2, 15


def best_times(*timed: Callable[[], None]) -> list[float]:
    """Call each of these in turns, more than once; return what each took at best, in seconds."""
    best = [float("inf")] * len(timed)
    spent, repetitions = 0.0, 0
    while repetitions < REPETITIONS_MIN or (spent < SECONDS_ENOUGH and repetitions < REPETITIONS_MAX):
        repetitions += 1
        for number, call in enumerate(timed):
            seconds = time_of(call)
            spent += seconds
            best[number] = min(best[number], seconds)
    return best


def time_of(call: Callable[[], None]) -> float:
    """Return what a call takes of the processor, in seconds; it does not pay for the garbage of others."""
    gc.collect()
    start = time.process_time()
    call()
    return time.process_time() - start
