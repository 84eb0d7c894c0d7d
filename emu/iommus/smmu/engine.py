"""The agent that executes invalidations and synchronisations (IHI 0062, chapter 3.2.3 and chapter 10).

A synchronisation completes after all invalidations that were accepted before it, after the walks that could still fill
the TLB with what these drop, and, with `drain`, after the requests that were translated by it. Later invalidations may
begin before it has completed. So where the next request is accepted already, the strategy chooses whether the oldest
synchronisation completes first.

An invalidation completes at once, unless it must drain: then with the synchronisation behind it. A later completion
shows nothing more, because software learns of completions by synchronisations only: at a check before its completion an
invalidation is as good as not begun, and the engine may as well accept it later.

Not modelled: two invalidations that begin in another order than they were accepted in. The later one cannot begin
before it is asked for, and an earlier start of the first one drops less.
"""

from collections.abc import Iterator
from typing import Any

import attrs

from emu.engine import Choose, Operation
from emu.iommus.invalidation import Begin, Begun, Complete, Range, Remove
from emu.iommus.requests import Request
from emu.iommus.smmu.queue import ALL, SYNC, Accept, CompleteSync, LookAhead
from emu.iommus.smmu.state import SmmuState
from emu.units import Dfn


@attrs.define
class Segment:
    """A synchronisation, and the invalidations ahead of it that have not completed.

    Attributes:
        sync: the number of the synchronisation.
    """

    unit: SmmuState
    begun: list[Begun] = attrs.field(factory=list)
    sync: int = 0

    async def invalidate(self, covered: Range) -> None:
        """Execute an invalidation, or leave its completion to the synchronisation."""
        unit = self.unit
        # 1. It begins: it drops values replaced by stores that walks could see before this step.
        start = await Begin(unit.memory, {"iommu": unit.name, **covered.keys()})
        begun = Begun(unit, covered, start, self.drains)
        # 2. What is cached under the VMID is dropped; walks that could still fill with it are void.
        await begun.drop()
        # 3. Requests that were translated by it are drained before the synchronisation completes.
        if begun.to_drain:
            self.begun.append(begun)
        else:
            await begun.complete()

    def drains(self, request: Request) -> bool:
        """Whether an invalidation must drain the requests whose translation it drops."""
        return self.unit.settings.drain

    async def complete(self) -> None:
        """Complete the invalidations, and then the synchronisation."""
        for begun in self.begun:
            await begun.complete()
        await CompleteSync(self.unit.queue, self.sync)


async def engine(unit: SmmuState) -> None:
    """Execute what software asks for, for ever."""
    slot, segment = 0, Segment(unit)
    syncs: list[Segment] = []
    while True:
        await complete_syncs(unit, slot, syncs)
        accept = Accept(unit.queue, slot)
        await accept
        if accept.asked == SYNC:
            segment.sync = slot
            syncs.append(segment)
            segment = Segment(unit)
        else:
            await segment.invalidate(covered_range(slot, accept.asked))
        slot += 1


async def complete_syncs(unit: SmmuState, slot: int, syncs: list[Segment]) -> None:
    """Complete synchronisations in their order; where more is asked for, perhaps not yet."""
    while syncs:
        has_next = not unit.settings.synchronous and await LookAhead(unit.queue, slot)
        if has_next and await Choose("synchronisation or next request first", 2):
            return
        await syncs.pop(0).complete()


def covered_range(slot: int, asked: int) -> Range:
    """Return the range of an invalidation: all that is cached under a VMID, or everything."""
    return Range(slot, None if asked == ALL else asked, Dfn(0), None, leaf_only=False)


def operations(unit: SmmuState, slot: int, asked: int) -> Iterator[Operation[Any]]:
    """Yield the operations that execute a request, as if it were executed now."""
    if asked == SYNC:
        yield CompleteSync(unit.queue, slot)
        return
    covered = covered_range(slot, asked)
    yield Begin(unit.memory, {})
    yield Remove(unit, covered, 0)
    yield Complete(unit, covered, 0)
