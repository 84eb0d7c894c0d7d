"""How many cycles steps take: a table, which a user may replace, and the clock that follows from it.

The emulator's only clock is the step; cycles say how steps of different sorts compare. Each agent has a clock of its
own, so time in which an agent was merely not chosen does not count. An agent that waited goes on no
earlier than the end of the step that ended its wait; an invalidation begins no earlier than the end of each table store
before it.
"""

from collections.abc import Mapping
from typing import Any

import attrs
import orjson

from emu.engine import Trace
from emu.errors import ScenarioError
from emu.files.bounded import read_bounded

OTHER = "other"

TABLE_STORES = {"pte.write", "pte.clear", "pte.track", "line.write_back", "buffer.drain"}
"""Events after which a walker may read a new value."""

CYCLES: Mapping[str, int] = {
    # A whole IOTLB invalidation, from the first write to the queue to the status that the CPU sees, took 2,127 cycles,
    # the update of a page-table entry on an unmap 438, on a map 588 (Malka et al., rIOMMU, ASPLOS 2015, table 1). How
    # that is split over the steps is not measured: MMIO reads and writes get most of the CPU's part.
    "queue.tail": 500,
    "queue.write": 50,
    "queue.post": 500,
    "queue.fetch": 150,
    "queue.status": 150,
    "queue.complete": 150,
    "queue.active": 500,
    "cpu_tlb.flush": 500,
    "stream.write": 500,
    "flush.done": 147,
    "invalidate.begin": 50,
    "iotlb.invalidate": 300,
    "invalidate.complete": 27,
    "context.invalidate": 300,
    "device_entry.invalidate": 300,
    "queue.head": 500,
    "register.clear": 500,
    "pte.read": 40,
    "pte.write": 150,
    "pte.clear": 150,
    "pte.track": 150,
    "line.write_back": 150,
    "buffer.drain": 700,
    # A walk reads memory; a hit in the IOTLB costs 3 cycles, one in a small cache of a device 1 (gem5, SMMUv3.py).
    "walk.root": 100,
    "walk.context": 100,
    "walk.device_entry": 100,
    "walk.read": 100,
    "iotlb.hit": 3,
    "iotlb.miss": 3,
    "dma.read": 100,
    "dma.write": 100,
    # Any other step: an access to a cache line that the CPU holds.
    OTHER: 20,
}
"""Cycles by event; not measured unless a source is named."""

BYTES_MAX = 1 << 16
CYCLES_MAX = 1 << 32


def read_cycles(path: str) -> dict[str, int]:
    """Return the table of cycles, in which a JSON file replaces the events that it names.

    Raises:
        ScenarioError: if the file cannot be read, or is no object of event names and whole numbers.
    """
    try:
        replaced: Any = orjson.loads(read_bounded(path, BYTES_MAX, "the table of cycles"))
    except orjson.JSONDecodeError as error:
        raise ScenarioError(f"the cycles in {path!r} cannot be read: {error}") from None
    if not isinstance(replaced, dict) or not all(
        isinstance(cycles, int) and not isinstance(cycles, bool) and 0 <= cycles < CYCLES_MAX
        for cycles in replaced.values()
    ):
        raise ScenarioError(f'{path!r} holds no cycles: write a JSON object, {{"queue.post": 250, "{OTHER}": 20}}')
    if unknown := sorted(set(replaced) - set(CYCLES)):
        raise ScenarioError(f"{path!r} names {unknown[0]!r}, which has no cycles: name one of {', '.join(CYCLES)}")
    return {**CYCLES, **replaced}


@attrs.frozen
class Clock:
    """When each step ended, in cycles on the clock of its agent.

    Attributes:
        ended: the end of each step, by number; 0 at index 0.
    """

    ended: list[int]

    @property
    def last(self) -> int:
        """When the last step ended."""
        return max(self.ended)

    @classmethod
    def of(cls, trace: Trace, cycles: Mapping[str, int]) -> "Clock":
        """Return the clock of an execution."""
        costs = [0] * (trace.step + 1)
        stores, begins = set(), set()
        for event in trace.events():
            costs[event.step] += cycles.get(event.name, 0 if event.is_note else cycles[OTHER])
            if event.name in TABLE_STORES:
                stores.add(event.step)
            elif event.name == "invalidate.begin":
                begins.add(event.step)
        ended, stored = [0], 0
        now: dict[str, int] = {}
        for step, (agent, operation) in enumerate(trace.performed(), 1):
            waited = operation.waits_for
            start = max(now.get(agent.name, 0), ended[waited.set_at] if waited is not None else 0)
            if step in begins:
                start = max(start, stored)
            ended.append(start + costs[step])
            now[agent.name] = ended[step]
            if step in stores:
                stored = max(stored, ended[step])
        return cls(ended)
