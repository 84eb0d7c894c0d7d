"""Times that can be compared: the calls take turns in one process, and the best time of each counts."""

import gc
import time
from collections.abc import Callable

SECONDS_ENOUGH = 0.3
"""The calls are repeated until they have taken this long altogether, within these limits:"""

REPETITIONS_MIN, REPETITIONS_MAX = 2, 15


def best_times(*timed: Callable[[], None]) -> list[float]:
    """Make the calls in turns, more than once; return the best time of each, in seconds."""
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
    """Return a call's processor time, in seconds, without the collection of earlier calls' garbage."""
    gc.collect()
    start = time.process_time()
    call()
    return time.process_time() - start
