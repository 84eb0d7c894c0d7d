"""The invalidation of a device's cached entry, and the commands that a wait completes, whatever the vendor."""

from collections.abc import Iterable, Mapping
from typing import Any, Generic, TypeVar

import attrs

from emu.engine import Access, Kind, Operation, Wait
from emu.iommus.device_entries import HasEntries
from emu.iommus.invalidation import Begin, Begun, Range
from emu.iommus.iotlb import DFN_MAX
from emu.iommus.requests import Request

DEVICE_ID_MAX = 0xFFFF


def sources(source_id: int | None) -> tuple[int, int]:
    """Return the first and the last device id of an invalidation; None is every device."""
    return (0, DEVICE_ID_MAX) if source_id is None else (source_id, source_id)


def keys_of(unit: HasEntries, source_id: int | None) -> dict[str, Any]:
    """Return the unit and the device of an invalidation as keys of an event."""
    return {"iommu": unit.name, "source_id": "all" if source_id is None else source_id}


class RemoveDeviceEntry(Operation[list[Request]]):
    """Drop a device's cached entry, or all entries, void the lookups and walks that hold one, and return what to drain.

    These are the requests that were let through by such an entry and are not yet committed. If there are none, or the
    unit has no agent that could wait for them, the invalidation has completed.
    """

    __slots__ = ("draining", "removed", "source_id", "start", "unit")

    event = "device_entry.invalidate"

    def __init__(self, unit: HasEntries, source_id: int | None, start: int) -> None:
        self.unit = unit
        self.source_id = source_id
        self.start = start
        self.removed = self.draining = 0

    def accesses(self) -> Iterable[Access]:
        table, iotlb = self.unit.device_table, self.unit.iotlb
        yield table.access(Kind.COMMUTE, *sources(self.source_id))
        yield Access(table.completions, *sources(self.source_id), Kind.COMMUTE)
        yield Access.to(iotlb.walk_space(self.unit.format.device_level), 0, Kind.COMMUTE)
        yield iotlb.access(0, DFN_MAX, Kind.COMMUTE)

    def perform(self, step: int) -> list[Request]:
        unit = self.unit
        self.removed = unit.device_table.remove(self.source_id, self.start)
        in_flight = unit.requests.in_flight.values()
        translated = [one for one in in_flight if one.is_translated and self.source_id in {None, one.source_id}]
        self.draining = len(translated)
        if not translated or unit.settings.synchronous:
            unit.device_table.complete(self.source_id, self.start, step)
        return sorted(translated, key=lambda one: one.number)

    def describe(self) -> tuple[str, Mapping[str, Any]]:
        done = {"removed": self.removed, "began": self.start, "draining": self.draining}
        return self.event, {**keys_of(self.unit, self.source_id), **done}


class CompleteDeviceEntry(Operation[None]):
    """Complete an invalidation of a device's entry that had to drain requests."""

    __slots__ = ("source_id", "start", "unit")

    event = "device_entry.complete"

    def __init__(self, unit: HasEntries, source_id: int | None, start: int) -> None:
        self.unit = unit
        self.source_id = source_id
        self.start = start

    def accesses(self) -> Iterable[Access]:
        return (Access(self.unit.device_table.completions, *sources(self.source_id), Kind.COMMUTE),)

    def perform(self, step: int) -> None:
        self.unit.device_table.complete(self.source_id, self.start, step)

    def describe(self) -> tuple[str, Mapping[str, Any]]:
        return self.event, {**keys_of(self.unit, self.source_id), "began": self.start}


UnitT = TypeVar("UnitT", bound=HasEntries)


@attrs.define
class CommandsAhead(Generic[UnitT]):
    """The commands ahead of a wait that have not completed.

    Attributes:
        devices: the invalidations of devices' entries that must be drained: the requests, and what completes each.
        begun: the invalidations of translations that wait for their own requests.
    """

    unit: UnitT
    devices: list[tuple[list[Request], CompleteDeviceEntry]] = attrs.field(factory=list)
    begun: list[Begun] = attrs.field(factory=list)

    async def invalidate(self, covered: Range) -> None:
        """Execute an invalidation of translations, or leave its completion to the wait."""
        unit = self.unit
        # 1. It begins: it drops values replaced by stores before this step.
        start = await Begin(unit.memory, {"iommu": unit.name, **covered.keys()})
        begun = Begun(unit, covered, start, lambda _: True)
        # 2. Cached entries in its range are dropped; walks that could still fill with one are void.
        await begun.drop()
        # 3. Requests that were translated by such an entry are drained before the wait completes.
        if begun.to_drain:
            self.begun.append(begun)
        else:
            await begun.complete()

    async def invalidate_device(self, slot: int, source_id: int | None) -> None:
        """Execute an invalidation of a device's entry, or of all entries."""
        unit = self.unit
        keys = {"iommu": unit.name, "slot": slot, "descriptor": "device"}
        start = await Begin(unit.memory, keys)
        let_through = await RemoveDeviceEntry(unit, source_id, start)
        if not unit.settings.synchronous and let_through:
            self.devices.append((let_through, CompleteDeviceEntry(unit, source_id, start)))
            return
        for request in let_through:
            request.recall()

    async def complete(self) -> None:
        """Complete the commands ahead of the wait, after the requests that they drain."""
        for to_drain, completion in self.devices:
            for request in to_drain:
                await Wait(request.committed)
            await completion
        for begun in self.begun:
            await begun.complete()
