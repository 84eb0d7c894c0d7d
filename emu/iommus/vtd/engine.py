"""The invalidation engine (section 6.5.2): it takes descriptors from the queue and executes them, as one agent.

A *segment* is a wait descriptor with the invalidations since the wait before it. The manual requires (sections 6.5.2.8,
6.5.2.12 and 6.5.4):

* A wait completes after all invalidations in its segment, and after the requests that these drain. Draining delays
  nothing else.
* Behind a wait that fences (FN) no descriptor begins before the wait has completed. Behind a wait that does not fence,
  every descriptor, even another wait, may complete before it.
* An IOTLB invalidation executes after all earlier context invalidations. No other order is required.

So the engine may leave a wait that does not fence, with the incomplete invalidations of its segment, and go on. Before
each fetch the strategy chooses one of the left waits to complete, or none. If no descriptor is posted, one of them
completes: a unit does not hold a fetched descriptor for ever.

Why no other order shows more. The other agents may take any number of steps before a step of the engine, so only the
order of the engine's own steps matters. To the ledger an invalidation has not completed, or it counts from its start;
the earlier the start, the less it has dropped.

* The engine begins descriptors in order. An invalidation cannot begin earlier: all descriptors ahead of it were posted
  before it.
* A late completion does harm. If the wait behind an invalidation is posted when the invalidation is fetched, and does
  not fence, the invalidation completes with its wait and not before; the strategy chooses whether its entries are
  dropped then or at once. If that wait is not posted, or fences, the invalidation completes at once, unless it drains.
  Only early starts need this case: at a check before its completion an invalidation is as good as not begun, and the
  engine may as well fetch it when the wait is posted. Both orders are explored: a fetch reads the object of the slot,
  and posting a wait that does not fence writes the objects of its whole segment.
* A status that is written late is seen late, just as by a CPU that takes its next step late.

Not modelled: the order in which two invalidations of one kind drop entries, and context entries that are dropped and do
not count as dropped yet; both change the entries that devices happen to find cached, not those that they may use.

Not architectural: an engine that executes descriptors in the step that posts them treats every wait as a fencing one.
"""

from collections.abc import Iterator
from functools import partial
from typing import Any

import attrs

from emu.engine import Choose, Operation
from emu.iommus.formats import base_of_order
from emu.iommus.invalidation import Begin, Begun, Complete, Range, Remove
from emu.iommus.requests import Request
from emu.iommus.ring import Look
from emu.iommus.status import WriteStatus
from emu.iommus.vtd.formats import ContextInvalidation, Descriptor, Granularity, IotlbInvalidation, WaitDescriptor
from emu.iommus.vtd.invalidation import RemoveContexts
from emu.iommus.vtd.queue import FetchDescriptor
from emu.iommus.vtd.state import VtdState
from emu.units import Dfn


@attrs.define
class Segment:
    """The incomplete descriptors of one segment.

    Attributes:
        contexts: the context invalidations that have begun.
        iotlb: the IOTLB invalidations that have begun.
        wait: the wait descriptor behind them, once it is fetched, and the step that posted it.
    """

    unit: VtdState
    contexts: list[RemoveContexts] = attrs.field(factory=list)
    iotlb: list[Begun] = attrs.field(factory=list)
    wait: tuple[WaitDescriptor, int] | None = None

    async def invalidate_contexts(self, slot: int, descriptor: ContextInvalidation, *, is_unfenced: bool) -> None:
        """Execute one context invalidation (section 6.5.2.1); only begin it if its wait does not fence."""
        keys = {"iommu": self.unit.name, "slot": slot, "descriptor": "context"}
        self.contexts.append(RemoveContexts(self.unit, descriptor, await Begin(self.unit.memory, keys)))
        if not is_unfenced:
            await self.complete_contexts()

    async def complete_contexts(self) -> None:
        """Complete the context invalidations."""
        while self.contexts:
            await self.contexts.pop(0)

    async def invalidate_iotlb(self, slot: int, descriptor: IotlbInvalidation, *, is_unfenced: bool) -> None:
        """Execute one IOTLB invalidation (sections 6.5.2.3, 6.5.3.3, 6.5.4), or leave its completion to its wait."""
        unit = self.unit
        covered = covered_range(unit, slot, descriptor)
        # 1. It begins: it drops values replaced by stores that walkers could see before this step (section 6.5.3.6).
        start = await Begin(unit.memory, {"iommu": unit.name, **covered.keys()})
        begun = Begun(unit, covered, start, partial(drains, unit, descriptor))
        # 2. Cached entries in its range are dropped, and walks that could still fill with one are void (section
        #    6.5.3.3).
        if not is_unfenced or await Choose("drop with the wait", 2) == 0:
            await begun.drop()
        # 3. Requests that were translated by such an entry are drained if DR or DW asks for it (section 6.5.4).
        if is_unfenced or begun.to_drain:
            self.iotlb.append(begun)
        else:
            # 4. It has completed: a wait descriptor behind it may complete now (section 6.5.2.12).
            await begun.complete()

    async def complete(self) -> None:
        """Complete the invalidations, and then the wait: write its status (section 6.5.2.8)."""
        await self.complete_contexts()
        for begun in self.iotlb:
            await begun.complete()
        if self.wait is not None and self.wait[0].status_write:
            await write_status(self.unit, *self.wait)


def drains(unit: VtdState, descriptor: IotlbInvalidation, request: Request) -> bool:
    """Whether an invalidation must drain a request that it took the translation of (section 6.5.4)."""
    return unit.settings.drain and (descriptor.drain_writes if request.is_write else descriptor.drain_reads)


async def engine(unit: VtdState) -> None:
    """Execute descriptors for ever; stop at one that is not valid (FSTS.IQE, section 6.5.2.14)."""
    slot, segment = 0, Segment(unit)
    left: list[Segment] = []
    while True:
        await complete_left(unit, slot, left)
        fetch = FetchDescriptor(unit.queue, slot)
        await fetch
        match fetch.command:
            case IotlbInvalidation() as descriptor:
                # It executes after all earlier context invalidations (section 6.5.2.12).
                for earlier in (*left, segment):
                    await earlier.complete_contexts()
                await segment.invalidate_iotlb(slot, descriptor, is_unfenced=fetch.is_unfenced)
            case ContextInvalidation() as descriptor:
                await segment.invalidate_contexts(slot, descriptor, is_unfenced=fetch.is_unfenced)
            case WaitDescriptor() as wait:
                segment.wait = wait, unit.queue.latch(slot).set_at
                if fetch.is_unfenced:
                    left.append(segment)
                else:
                    await segment.complete()
                segment = Segment(unit)
            case None:
                for earlier in left:
                    await earlier.complete()
                return
        slot += 1


async def complete_left(unit: VtdState, slot: int, left: list[Segment]) -> None:
    """Complete some of the segments that were left, in any order: at least one while the next slot is not posted."""
    while left:
        has_next = await Look(unit.queue, slot)
        count = len(left) + has_next
        chosen = await Choose("wait to complete", count) if count > 1 else 0
        if chosen == len(left):
            return
        await left.pop(chosen).complete()


def operations(unit: VtdState, slot: int, descriptor: Descriptor | None) -> Iterator[Operation[Any]]:
    """Yield the operations that execute a descriptor, as if it were executed now."""
    match descriptor:
        case IotlbInvalidation():
            covered = covered_range(unit, slot, descriptor)
            yield Begin(unit.memory, {})
            yield Remove(unit, covered, 0)
            yield Complete(unit, covered, 0)
        case ContextInvalidation():
            yield Begin(unit.memory, {})
            yield RemoveContexts(unit, descriptor, 0)
        case WaitDescriptor():
            if descriptor.status_write:
                yield write_status(unit, descriptor, 0)


def write_status(unit: VtdState, wait: WaitDescriptor, posted: int) -> WriteStatus:
    """Return the store of a wait's status; `posted` is the step that posted the wait."""
    queue = unit.queue
    return WriteStatus(unit.name, unit.memory, wait.status_address, wait.status_data, 32, posted, queue.status_watcher)


def covered_range(unit: VtdState, slot: int, descriptor: IotlbInvalidation) -> Range:
    """Return the range of an invalidation: the whole domain if its address mask is too wide for the unit."""
    if descriptor.granularity is Granularity.GLOBAL:
        return Range(slot, None, Dfn(0), None, descriptor.leaf_only)
    if descriptor.granularity is Granularity.DOMAIN or descriptor.address_mask > unit.settings.mamv:
        return Range(slot, descriptor.did, Dfn(0), None, descriptor.leaf_only)
    order = descriptor.address_mask
    return Range(slot, descriptor.did, base_of_order(descriptor.dfn, order), order, descriptor.leaf_only)
